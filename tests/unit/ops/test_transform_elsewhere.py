"""Transforms in a process of their own: another interpreter, an environment, scripts beside the spec."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError, TransformError
from dataset_tasks.session import Session, open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import StepOutcome
from dataset_tasks.spec.run import run_plan

HEAD = "version: 1\nname: shop\nproject: shop\ndatasets:\n  raw: {sync: {path: data}}\n"
WORK = """\
import os, sys

def work(inputs, output, suffix=""):
    (output / "out.txt").write_text((inputs["raw"] / "a").read_text() + suffix)
    (output / "env.txt").write_text("\\n".join(sorted(os.environ)) + "\\n" + os.environ.get("GREETING", ""))
    (output / "pid.txt").write_text(str(os.getpid()))
    return {"seen": len(inputs)}

def fails(inputs, output):
    raise ValueError("disk on fire")
"""


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "work", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("A")
    (tmp_path / "work.py").write_text(WORK)
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\nexport UNDER=other\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    return tmp_path


def run(shop: Path, session: Session, transform: str) -> StepOutcome:
    (shop / "spec.yaml").write_text(f"{HEAD}  made: {{inputs: [raw], transform: {transform}}}\n")
    report = run_plan(compile_spec(shop / "spec.yaml", environ={}), session)
    return report.outcomes[-1]


def read(session: Session, name: str) -> str:
    from dataset_tasks import Dataset

    version = session.catalog.resolve("shop/made@latest")
    return (Path(Dataset(version.id, session=session).get_local_copy() or "") / name).read_text()


def test_a_function_runs_under_another_interpreter_and_its_dict_is_metadata(shop: Path, session: Session) -> None:
    outcome = run(shop, session, '{call: "work:work", python: ./other-python, with: {suffix: "!"}}')

    assert outcome.error is None
    assert read(session, "out.txt") == "A!"
    assert "UNDER" in read(session, "env.txt")
    assert session.catalog.resolve("shop/made@latest").metadata == {"seen": 1}
    assert (
        str(run(shop, session, '{call: "work:work", python: ./other-python, with: {suffix: "!"}}').status)
        == "unchanged"
    )


def test_a_change_of_its_file_is_seen_though_it_is_not_imported_here(shop: Path, session: Session) -> None:
    run(shop, session, '{call: "work:work", python: ./other-python}')
    (shop / "work.py").write_text(WORK.replace("+ suffix", "* 2"))

    assert str(run(shop, session, '{call: "work:work", python: ./other-python}').status) == "made"
    assert read(session, "out.txt") == "AA"


def test_code_that_lies_elsewhere_needs_a_version(shop: Path, session: Session) -> None:
    outcome = run(shop, session, '{call: "json:dumps", python: ./other-python}')

    assert isinstance(outcome.error, InvalidArgumentError)
    assert "code_version" in outcome.error.hint


def test_with_an_environment_a_function_sees_nothing_else_of_ours(
    shop: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("TOKEN", "t0ken")
    outcome = run(shop, session, '{call: "work:work", env: {GREETING: hello}, env_from: [TOKEN]}')
    assert outcome.error is None, outcome.error

    names = read(session, "env.txt").splitlines()
    assert {"GREETING", "TOKEN", "PATH"} <= set(names)
    assert "SECRET" not in names
    assert names[-1] == "hello"
    assert "t0ken" not in str(session.catalog.resolve("shop/made@latest"))
    assert read(session, "pid.txt") != str(os.getpid())


@pytest.mark.parametrize("more", ["python: ./other-python", "env: {GREETING: hello}"])
def test_modules_of_ours_and_above_the_spec_are_in_nobodys_way(shop: Path, session: Session, more: str) -> None:
    (shop / "random.py").write_text("raise ImportError('not mine')\n")
    (shop / "specs" / "mine").mkdir(parents=True)
    (shop / "specs" / "mine" / "main.py").write_text(
        "import copy, random\nfrom mine import helper\n\ndef work(inputs, output):\n"
        "    (output / 'out.txt').write_text(copy.copy(random.choice([helper.WORD])))\n"
    )
    (shop / "specs" / "mine" / "helper.py").write_text("WORD = 'mine'\n")
    (shop / "specs" / "other-python").symlink_to(shop / "other-python")
    (shop / "specs" / "data").symlink_to(shop / "data")
    outcome = run(shop / "specs", session, f'{{call: "mine.main:work", {more}}}')

    assert outcome.error is None, outcome.error
    assert read(session, "out.txt") == "mine"


def test_what_is_importable_here_is_so_there(
    shop: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "only_here.py").write_text(
        "def work(inputs, output):\n    (output / 'out.txt').touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    outcome = run(shop, session, '{call: "only_here:work", env: {GREETING: hello}}')

    assert outcome.error is None, outcome.error


def test_what_the_function_raises_there_is_told(shop: Path, session: Session) -> None:
    outcome = run(shop, session, '{call: "work:fails", python: ./other-python}')

    assert isinstance(outcome.error, TransformError)
    assert "ValueError: disk on fire" in outcome.why


def test_what_was_passed_on_is_masked_in_what_a_program_said(
    shop: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    (shop / "says.py").write_text("import os\nprint('with', os.environ['TOKEN'])\nraise SystemExit(3)\n")
    outcome = run(shop, session, "{run: [python, says.py], env_from: [TOKEN]}")

    assert "exit code 3; its last output:\nwith ***" in outcome.why


@pytest.mark.parametrize(
    "transform",
    [
        "{run: [python, made.py]}",
        "{run: [python3, scripts/made.py]}",
        "{run: [made.py], python: ./other-python}",
        "{run: [python, made.py], python: ./other-python}",
        "{run: [./made.sh]}",
    ],
)
def test_a_script_is_looked_up_beside_the_spec_though_the_working_folder_is_another(
    shop: Path, session: Session, transform: str
) -> None:
    (shop / "scripts").mkdir()
    script = "import os, pathlib\npathlib.Path('out.txt').write_text('made in ' + os.path.basename(os.getcwd())[:9])\n"
    for name in ("made.py", "scripts/made.py"):
        (shop / name).write_text(script)
    (shop / "made.sh").write_text("#!/bin/sh\necho -n 'made in transform' > out.txt\n")
    (shop / "made.sh").chmod(0o755)
    outcome = run(shop, session, transform)

    assert outcome.error is None, outcome.why
    assert read(session, "out.txt") == "made in transform"
