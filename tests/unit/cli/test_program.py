"""The console script as users run it: start, pipes, signals, tracebacks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tasks.cli.main import app
from dataset_tasks.session import open_session

from .conftest import Command

PROGRAM = [sys.executable, "-m", "dataset_tasks"]
HEAVY = {"sqlalchemy", "pyarrow", "pandas", "numpy", "boto3", "alembic", "obstore", "pandera"}


def program(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


def imported_by(*arguments: str) -> set[str]:
    """The top-level modules that a call imports."""
    code = (
        "import sys; from dataset_tasks.cli.main import run; run(sys.argv[1:]);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(ran.stderr.splitlines()[-1].split())


def commands() -> list[str]:
    import typer

    group = typer.main.get_command(app())
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # a group, as typer's click has it
        found += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    return found


def test_help_imports_nothing_heavy_and_no_spec_compiler() -> None:
    assert imported_by("--help") & (HEAVY | {"pydantic", "yaml"}) == set()


def test_the_library_alone_imports_nothing_heavy() -> None:
    code = "import sys, dataset_tasks; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & (HEAVY | {"pydantic", "yaml", "typer", "rich"}) == set()


def test_a_spec_is_checked_without_a_catalog(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text("version: 1\nname: s\nproject: p\ndatasets:\n  a: {add: [{path: .}]}\n")
    assert imported_by("lint", str(spec)) & HEAVY == set()
    assert imported_by("graph", str(spec)) & HEAVY == set()


@pytest.mark.parametrize("command", ["list", "log demo/raw", "lineage demo/raw@latest"])
def test_looking_into_the_catalog_reads_no_columns(command: str) -> None:
    program("catalog", "init")
    program("create", "demo/raw")
    assert imported_by(*command.split()) & HEAVY == {"sqlalchemy"}


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_and_the_common_options(
    command: str, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = call(*command.split(), "--help")
    assert ran.code == 0
    missing = [o for o in ("--json", "--quiet", "--debug", "--home", "--catalog", "--store") if o not in ran.out]
    assert missing == []
    assert "bool" not in ran.out  # behind a flag it reads as if a value came there


def test_help_breaks_its_paragraphs_by_the_width_of_the_terminal_alone(
    call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert "Drafts and the records of operations are not in a journal." in call("catalog", "rebuild", "--help").out


def test_the_version_is_told() -> None:
    assert program("--version").stdout.startswith("dataset-tasks ")


def test_without_arguments_there_is_help_and_exit_code_2() -> None:
    ran = program()
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Usage: dataset-tasks" in ran.stderr


def test_an_error_has_a_traceback_only_on_demand() -> None:
    program("catalog", "init")
    ran = program("get", "demo/none")
    assert (ran.returncode, ran.stdout, "Traceback" in ran.stderr) == (1, "", False)
    assert ran.stderr.splitlines()[0].startswith("error: there is no dataset 'demo/none'")
    assert ran.stderr.splitlines()[1].startswith(" hint: ")
    assert "Traceback" in program("get", "demo/none", "--debug").stderr


def test_an_error_of_the_system_is_told_in_words(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("a file where a folder should be")
    ran = program("create", "demo/raw")
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False)
    assert str(home) in ran.stderr


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(flag: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3000):
        (data / f"{number:064}").touch()
    assert program("build", "demo/raw", "--add", data).returncode == 0
    with subprocess.Popen(
        [*PROGRAM, "ls", "demo/raw@latest", *flag], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 141


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_output_to_a_full_disk_is_told_in_words(flag: list[str]) -> None:
    program("create", "demo/x")
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([*PROGRAM, "list", *flag], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False)
    assert ran.stderr.startswith("error: No space left on device")


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_command(closed: str) -> None:
    subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, "create", "demo/x"], check=True)
    with open_session() as session:
        assert [version.label for version in session.catalog.versions()] == ["demo/x@1.0.0"]


def test_ctrl_c_while_the_program_loads_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ran = program("list", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "command", [["build", "demo/x", "--call", "hanging:forever"], ["run", "hanging.yaml"]], ids=["build", "run"]
)
def test_ctrl_c_ends_with_130_and_leaves_no_draft(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        "import time\n"
        "def forever(inputs, output):\n"
        "    (output / 'x').write_text('x')\n"
        "    print('BEGUN', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
    )
    (tmp_path / "hanging.yaml").write_text(
        "version: 1\nname: h\nproject: demo\ndatasets:\n  x: {transform: {call: 'hanging:forever'}}\n"
    )
    with subprocess.Popen(
        [*PROGRAM, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "BEGUN\n"
        running.send_signal(signal.SIGINT)
        told = running.stderr.read()
        running.stdout.read()
    assert running.returncode == 130
    assert told.splitlines()[-2:] == [
        "error: interrupted",
        " hint: Nothing is left half done: run the same command again to go on.",
    ]
    with open_session() as session:
        assert session.catalog.versions() == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
def test_reading_a_draft_starts_no_thread_that_a_short_program_could_die_of(done: Command, data: Path) -> None:
    done("create", "demo/draft")
    done("add", data)  # its pack is small: what is kept of it is read as a Python file
    code = (
        "import os; from dataset_tasks.session import open_session; session = open_session();"
        "manifest = session.manifest(session.catalog.versions()[0]);"
        "before = len(os.listdir('/proc/self/task'));"
        "print(sum(map(len, manifest.batches())), len(os.listdir('/proc/self/task')) - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "3 0\n"


def test_output_to_an_ascii_pipe_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Zürich").touch()
    program("build", "demo/raw", "--add", tmp_path / "data")
    ran = program("ls", "demo/raw@latest", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert ran.stdout == "Z\\xfcrich\n"
    assert json.loads(program("ls", "demo/raw@latest", "--json", PYTHONIOENCODING="ascii").stdout)["files"][0][
        "path"
    ] == ("Zürich")


def offered(*words: str, **env: str) -> set[str]:
    """What the program tells a shell that wants the last word completed."""
    line = {"_DATASET_TASKS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": " ".join(("dataset-tasks", *words))}
    ran = program(**line, **env)
    assert ran.stderr == ""
    return set(re.findall(r'"([^"]*)"', ran.stdout))


def test_shells_complete_datasets_and_after_an_at_their_versions_and_aliases(done: Command, data: Path) -> None:
    done("build", "demo/raw", "--add", data)
    done("build", "demo/rare", "--add", data)
    done("build", "other/raw", "--add", data)
    done("alias", "set", "prod", "demo/raw@latest")
    assert offered("get", "demo/") == {"demo/raw", "demo/rare"}
    assert offered("verify", "--id", "o") == {"other/raw"}
    assert offered("create", "demo/new", "--parent", "demo/raw@") == {
        "demo/raw@1.0.0", "demo/raw@prod", "demo/raw@latest", "demo/raw@published",
    }  # fmt: skip
    assert offered("alias", "list", "demo/rar") == {"demo/rare"}
    assert offered("alias", "list", "demo/raw@") == set()
    assert offered("get", "demo/none@") == set()


def test_completion_is_silent_and_makes_nothing_where_there_is_no_catalog_or_a_broken_one(tmp_path: Path) -> None:
    assert offered("get", "d", DATASET_TASKS_HOME=str(tmp_path / "none")) == set()
    assert not (tmp_path / "none").exists()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "catalog.db").write_bytes(b"no database" * 100)
    assert offered("get", "d", DATASET_TASKS_HOME=str(broken)) == set()
    assert offered("get", "--home", str(broken), "d") == set()


def test_bash_completes_with_the_script_that_the_program_shows(done: Command, data: Path, tmp_path: Path) -> None:
    done("build", "demo/raw", "--add", data)
    script = program("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    (tmp_path / "dataset-tasks").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dataset_tasks "$@"\n')
    (tmp_path / "dataset-tasks").chmod(0o755)
    typed = f"""{script}
    COMP_WORDS=(dataset-tasks get de) COMP_CWORD=2
    _dataset_tasks_completion {tmp_path}/dataset-tasks
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("demo/raw\n", "")
