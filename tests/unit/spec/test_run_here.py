"""Plans run in a real session: embedded catalog, local store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dataset_tasks.errors import IntegrityError
from dataset_tasks.model import State
from dataset_tasks.ops import verify
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import Status
from dataset_tasks.spec.run import run_plan

SPEC = """\
version: 1
name: shop
project: shop
params: {factor: {type: int, default: 2}}
datasets:
  orders: {sync: {path: data}}
  totals: {inputs: [orders], transform: {call: "MODULE:totals", with: {factor: "${params.factor}"}}, verify: true, publish: {alias: prod}}
  copy: {parents: [orders, totals], remove: ["b.txt"]}
  flat: {squash: [copy]}
"""
WORK = """\
from pathlib import Path

def totals(inputs, output, factor):
    if Path(__file__).with_name("fire").exists():
        raise OSError("disk on fire")
    numbers = [int(file.read_text()) for file in sorted(inputs["orders"].iterdir())]
    (output / "total.txt").write_text(str(sum(numbers) * factor))
"""


def module(folder: Path) -> str:
    """A name of its own for the module of each test: all of them are imported into one process."""
    return f"work_{folder.name}"


def change(spec: Path, old: str, new: str) -> None:
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("1")
    (tmp_path / "data" / "b.txt").write_text("2")
    (tmp_path / f"{module(tmp_path)}.py").write_text(WORK)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("MODULE", module(tmp_path)))
    return tmp_path / "spec.yaml"


@pytest.fixture
def session(home: Path):
    with open_session(home=home) as opened:
        yield opened


def statuses(report):
    return {outcome.step: str(outcome.status) for outcome in report.outcomes}


def labels(session):
    return sorted(version.label for version in session.catalog.versions() if version.state.is_final)


def test_a_second_run_makes_nothing(spec, session):
    first = run_plan(compile_spec(spec), session)
    second = run_plan(compile_spec(spec), session)

    assert set(statuses(first).values()) == {"made"}
    assert set(statuses(second).values()) == {"unchanged"}
    assert labels(session) == ["shop/copy@1.0.0", "shop/flat@1.0.0", "shop/orders@1.0.0", "shop/totals@1.0.0"]
    assert session.catalog.resolve("shop/totals@prod").state is State.PUBLISHED


def test_a_change_makes_again_exactly_what_depends_on_it(spec, session):
    run_plan(compile_spec(spec), session)
    (spec.parent / "data" / "c.txt").write_text("10")

    report = run_plan(compile_spec(spec), session)

    assert set(statuses(report).values()) == {"made"}
    change(spec, '["b.txt"]', '["c.txt"]')
    report = run_plan(compile_spec(spec), session)
    assert statuses(report) == {
        "orders.build": "unchanged", "totals.build": "unchanged", "totals.publish": "unchanged", "copy.build": "made",
        "flat.squash": "made",
    }  # fmt: skip


def test_a_param_that_a_transform_uses_makes_it_again_and_no_cosmetic_edit_does(spec, session):
    run_plan(compile_spec(spec), session)
    change(spec, "sync: {path: data}", "sync: {path: ./data}, tags: [t], doc: d, retries: 3")

    assert not run_plan(compile_spec(spec), session).changed
    report = run_plan(compile_spec(spec), session, params={"factor": 3})
    assert statuses(report)["orders.build"] == "unchanged"
    assert statuses(report)["totals.build"] == "made"


@pytest.mark.parametrize("granularity", ["dataset", "operation"])
def test_both_granularities_make_the_same_versions(granularity, spec, session):
    change(spec, "params:", f"defaults: {{granularity: {granularity}}}\nparams:")
    first = run_plan(compile_spec(spec), session)
    second = run_plan(compile_spec(spec), session)

    assert first.ok, first.to_json()
    assert second.ok
    assert {version.dataset: version.files for version in session.catalog.versions()} == {
        "shop/orders": 2, "shop/totals": 1, "shop/copy": 2, "shop/flat": 2,
    }  # fmt: skip


def test_a_transform_that_raises_leaves_no_version_and_the_next_run_goes_on_from_there(spec, session):
    (spec.parent / "fire").touch()
    report = run_plan(compile_spec(spec), session)

    (failed,) = report.with_status(Status.FAILED)
    assert "disk on fire" in failed.why
    assert isinstance(failed.error.__cause__, OSError)
    assert [outcome.step for outcome in report.with_status(Status.SKIPPED)] == [
        "totals.publish",
        "copy.build",
        "flat.squash",
    ]
    assert labels(session) == ["shop/orders@1.0.0"]

    (spec.parent / "fire").unlink()
    report = run_plan(compile_spec(spec), session)
    assert report.ok
    assert statuses(report)["orders.build"] == "unchanged"


def test_a_version_that_can_not_be_read_back_reaches_nobody(spec, session, monkeypatch):
    real = verify.run

    def spoiled(context, request):
        for chunk in context.session.settings.home.rglob("*.zip"):
            chunk.chmod(0o644)
            chunk.write_bytes(bytes(len(chunk.read_bytes())))
        return real(context, request)

    monkeypatch.setattr(verify, "run", spoiled)
    report = run_plan(compile_spec(spec), session)

    (failed,) = report.with_status(Status.FAILED)
    assert failed.step == "totals.build"
    assert isinstance(failed.error, IntegrityError)
    assert failed.error.paths == ("total.txt",)
    assert statuses(report)["copy.build"] == "skipped"


def test_what_was_not_selected_is_read_as_it_is_in_the_catalog(spec, session):
    run_plan(compile_spec(spec), session)
    (spec.parent / "data" / "c.txt").write_text("10")

    report = run_plan(compile_spec(spec), session, select=["totals"])

    assert report.taken == {"orders": session.catalog.resolve("shop/orders@latest").id}
    assert set(statuses(report).values()) == {"unchanged"}


def test_each_version_tells_which_run_and_step_made_it(spec, session):
    report = run_plan(compile_spec(spec), session, run_id="r1")

    origin = session.catalog.resolve("shop/orders@latest").origin
    assert {key: origin[key] for key in ("runner", "run_id", "step", "spec", "spec_digest")} == {
        "runner": "local", "run_id": "r1", "step": "orders.build", "spec": "shop", "spec_digest": report.spec_digest,
    }  # fmt: skip


def test_the_same_run_id_goes_on_where_the_run_stopped(spec, session):
    (spec.parent / "fire").touch()
    run_plan(compile_spec(spec), session, run_id="r1")
    (spec.parent / "fire").unlink()

    report = run_plan(compile_spec(spec), session, run_id="r1")

    assert report.ok
    assert labels(session) == ["shop/copy@1.0.0", "shop/flat@1.0.0", "shop/orders@1.0.0", "shop/totals@1.0.0"]


PROGRAM = """\
import json, sys
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import RunInterruptedError
from dataset_tasks.spec.run import run_plan
with open_session() as session:
    try:
        run_plan(compile_spec(sys.argv[1]), session)
    except RunInterruptedError as error:
        states = [str(version.state) for version in session.catalog.versions()]
        print(json.dumps([error.report.to_json()["outcomes"], states]))
"""


def test_ctrl_c_in_the_middle_of_a_transform_leaves_no_draft(spec, home):
    """The transform says that it runs through a pipe, and would go on for ever."""
    pipe = spec.parent / "running"
    os.mkfifo(pipe)
    (spec.parent / f"{module(spec.parent)}.py").write_text(
        f"def totals(inputs, output, factor):\n    open({str(pipe)!r}, 'w').close()\n    while True:\n        pass\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(spec)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        pipe.read_text()
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate()
        guard.cancel()

    outcomes, states = json.loads(said)
    assert {outcome["step"]: outcome["status"] for outcome in outcomes} == {
        "orders.build": "made", "totals.build": "skipped", "totals.publish": "skipped", "copy.build": "skipped",
        "flat.squash": "skipped",
    }  # fmt: skip
    assert "in_progress" not in states, states
    assert "Traceback" not in errors
    with open_session(home=home) as session:
        assert session.catalog.resolve("shop/orders@latest").version == "1.0.0"
