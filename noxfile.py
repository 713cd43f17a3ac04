"""What `make test` and its parts do. Static checks and tests run in `.venv`, isolated ones in environments of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = False

SHARED = {"venv_backend": "none"}
#: Extras of each isolated environment beside the test tools.
ISOLATED = {
    "core": "test,examples",
    "airflow": "airflow,test,examples",
    "oldest-airflow": "airflow,test,examples",
    "prefect": "prefect,test,examples",
    "newest-prefect": "prefect,test,examples",  # what pip takes today: Airflow holds the pinned one back
}
#: Packages beside those extras, and tests that need them.
MORE = {
    "newest-prefect": (
        ("prefect-aws", "prefect-azure", "prefect-gcp"),
        ("tests/unit/prefect", "tests/e2e/prefect/test_integrations.py"),
    )
}
PACKAGES = ("dataset_tasks", "airflow_provider", "prefect_blocks", "example_flows")


def tool(session: nox.Session, *command: str, **env: str) -> None:
    """Runs a module of the shared environment."""
    session.run(sys.executable, "-m", *command, env=env or None)


@nox.session(**SHARED)
def lint(session: nox.Session) -> None:
    """Style and format."""
    tool(session, "ruff", "check", ".")
    tool(session, "ruff", "format", "--check", ".")


@nox.session(**SHARED)
def types(session: nox.Session) -> None:
    """mypy, strict."""
    tool(session, "mypy")


@nox.session(**SHARED)
def imports(session: nox.Session) -> None:
    """The direction of imports."""
    session.run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo")


@nox.session(**SHARED)
def texts(session: nox.Session) -> None:
    """Spelling, and a docstring on everything public."""
    tool(session, "codespell_lib", ".")
    tool(session, "interrogate", "-q", *PACKAGES, "scripts")


@nox.session(**SHARED)
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    tool(session, "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(**SHARED)
def tests(session: nox.Session) -> None:
    """All tests but those with a real Airflow or Prefect; arguments after -- go to pytest."""
    tool(session, "pytest", *(session.posargs or ["-q", "-n", "auto", "--dist", "worksteal", "-m", "not e2e"]))


@nox.session(**SHARED)
def coverage(session: nox.Session) -> None:
    """The same with branch coverage."""
    tool(session, "pytest", "-q", "-n", "auto", "-m", "not e2e", "--cov", "--cov-report=term")


@nox.session(**SHARED)
def e2e(session: nox.Session) -> None:
    """Real Airflow and Prefect."""
    tool(session, "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-m", "e2e", *session.posargs)


@nox.session(**SHARED)
def faults(session: nox.Session) -> None:
    """Kills, cuts, full disks: every point; then every guard taken out; and the scorecard of both."""
    spread = ("-n", "auto", "--dist", "load", "--maxschedchunk", "1", "tests/faults")
    tool(session, "pytest", "-q", *spread, *session.posargs, FAULTS_SWEEP="full", FAULTS_KEEP="1")
    session.run(sys.executable, "tests/faults/guards.py", "--keep")
    session.run(sys.executable, "scripts/scorecard.py")


@nox.session(**SHARED)
def soak(session: nox.Session) -> None:
    """Random operations and random kills for an hour; arguments after -- go to the program."""
    session.run(sys.executable, "tests/faults/soak.py", *(session.posargs or ["--keep"]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Every reader against millions of bad inputs, guided by coverage; arguments after -- go to the program."""
    session.install("--compile-bytecode", "-c", "constraints.txt", "-e", ".[test,fuzz]")
    session.run("python", "tests/fuzz/fuzz.py", *session.posargs)


@nox.session(**SHARED)
def bench(session: nox.Session) -> None:
    """Measurements, one program after the other; arguments after -- pick them by a part of the name."""
    for program in sorted(Path("tests/benchmarks").glob("*_bench.py")):
        if not session.posargs or any(part in program.name for part in session.posargs):
            session.run(sys.executable, str(program))


@nox.session
@nox.parametrize("which", list(ISOLATED), ids=list(ISOLATED))
def isolated(session: nox.Session, which: str) -> None:
    """The core without orchestrators, and each plug-in without the other."""
    own = Path(f"tests/isolated/{which}.txt")
    pins = () if which.startswith("newest") else ("-c", str(own) if own.exists() else "constraints.txt")
    packages, tests = MORE.get(which, ((), ()))
    session.install("--compile-bytecode", *pins, "-e", f".[{ISOLATED[which]}]", *packages)
    name = which.rpartition("-")[2]
    env = {"DATASET_TASKS_TEST_ENVIRONMENT": name}
    session.run("pytest", "-q", f"tests/isolated/test_{name}_alone.py", *tests, env=env)
