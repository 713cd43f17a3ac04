"""Makes `.venv` with everything this project needs, bytecode compiled; does next to nothing when nothing changed.

Runs under any Python 3.11+ with the standard library only: it is what `make venv` calls before anything is installed.
Packages come through uv: the one on PATH where there is one, else one that pip puts into the environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "made-from"
PACKAGES = ("dataset_tasks", "airflow_provider", "prefect_blocks", "example_flows")
OLDEST = (3, 11)


def main() -> int:
    """Brings `.venv` up to date and returns the exit code."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"dataset-tasks needs Python 3.11 or newer, found {found} ({sys.executable})", file=sys.stderr)
        print("hint: name another one with `make venv PYTHON=python3.12`.", file=sys.stderr)
        return 2
    try:
        if STAMP.is_file() and STAMP.read_text() == wanted() and works(PYTHON):
            compile_own_packages()
            return 0
        install()
        compile_own_packages()
    except subprocess.CalledProcessError as error:
        print(f"making {VENV.name} failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        print("hint: what it printed stands above; run `make venv` again once it is mended.", file=sys.stderr)
        return 1
    STAMP.write_text(wanted())
    return 0


def wanted() -> str:
    """What the environment is made from, as a digest: its stamp is equal when there is nothing to do."""
    parts = [sys.version.encode(), str(ROOT).encode()]
    parts += [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "scripts/venv.py")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def works(program: Path | str) -> bool:
    """Whether a program starts at all: an interpreter may be gone, a shim may point nowhere."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def install() -> None:
    """Makes the environment where there is none and installs the pinned packages and the project itself."""
    uv = shutil.which("uv")
    if not (uv and works(uv)):
        uv = None
    if not works(PYTHON):
        make_environment(uv)
    if uv is None:
        uv = str(VENV / "bin" / "uv")
        if not works(uv):
            run(PYTHON, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "uv")
    run(uv, "pip", "install", "--python", PYTHON, "--compile-bytecode", "-c", "constraints.txt", "-e", ".[all,dev]")


def make_environment(uv: str | None) -> None:
    """An empty environment; Debian ships Python without the module that puts pip in, and then uv has to do it."""
    print(f"making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    if VENV.is_dir():
        shutil.rmtree(VENV)
    if uv is not None:
        run(uv, "venv", "--quiet", "--python", sys.executable, VENV)
        return
    try:
        run(sys.executable, "-m", "venv", VENV)
    except subprocess.CalledProcessError:
        shutil.rmtree(VENV, ignore_errors=True)
        print("hint: on Debian and Ubuntu, `apt-get install python3-venv` brings what is missing.", file=sys.stderr)
        raise


def compile_own_packages() -> None:
    """Compiles the project's own modules, also where PYTHONDONTWRITEBYTECODE keeps imports from doing it."""
    run(PYTHON, "-m", "compileall", "-q", *(name for name in PACKAGES if (ROOT / name).is_dir()))


def run(*command: Path | str) -> None:
    """Runs a program in the project's folder, its output shown."""
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "VIRTUAL_ENV": str(VENV)})


if __name__ == "__main__":
    sys.exit(main())
