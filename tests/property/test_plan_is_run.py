"""What `plan` says is what `run` does: over random specs, changes of files, edits of the spec, damage, and windows
in any order.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dataset_tasks.ops.requests import BuildResult
from dataset_tasks.session import Session, open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import RunReport, Status
from dataset_tasks.spec.plan import Plan, Scope
from dataset_tasks.spec.preview import DatasetPreview, preview
from dataset_tasks.spec.run import run_plan
from dataset_tasks.spec.windows import window_for

FILES = ["a.csv", "b.csv", "sub/a.csv", "sub/c.txt"]
WORK = """\
def joined(inputs, output):
    texts = sorted(file.read_text() for folder in inputs.values() for file in folder.rglob("*") if file.is_file())
    (output / "joined.txt").write_text("".join(texts))
"""


@dataclass
class Shape:
    """One dataset of a random spec, by the keys of the language."""

    number: int
    keys: dict[str, Any] = field(default_factory=dict)


@st.composite
def shapes(draw: st.DrawFn, number: int) -> Shape:
    above = [f"d{other}" for other in range(number)]
    some = st.lists(st.sampled_from(above), unique=True, max_size=2) if above else st.just([])
    kinds = ["sync", "add", *(["parents", "transform", "squash", "both"] if above else [])]
    kind = draw(st.sampled_from(kinds))
    keys: dict[str, Any] = {}
    if kind == "squash":
        keys["squash"] = [draw(st.sampled_from(above))]
    if kind in ("sync", "both"):
        keys["sync"] = {"path": f"s{number}", "dataset_path": "in"} if kind == "both" else {"path": f"s{number}"}
    if kind == "add":
        keys["add"] = [{"path": f"s{number}"}]
        keys["previous"] = draw(st.booleans())
    if kind in ("parents", "both"):
        keys["parents"] = draw(some) or [above[0]]
    if kind == "transform":
        keys["inputs"] = draw(some) or [above[0]]
        keys["transform"] = {"call": "MODULE:joined"}
    if kind != "squash" and draw(st.booleans()):
        keys["remove"] = draw(st.sampled_from(["*.txt", "sub", "nothing"]))
    if draw(st.integers(0, 3)) == 0:
        keys["publish"] = {"approval": True} if draw(st.booleans()) else {"alias": "prod"}
    if draw(st.integers(0, 3)) == 0:
        keys["verify"] = True
    if draw(st.integers(0, 4)) == 0:
        keys["on_unchanged"] = "version"
    if kind != "squash" and draw(st.integers(0, 3)) == 0:
        keys["granularity"] = "operation"
    return Shape(number, keys)


specs = st.integers(1, 4).flatmap(lambda size: st.tuples(*(shapes(number) for number in range(size))))
acts = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.sampled_from(FILES), st.sampled_from(["1", "22", ""])),
    st.tuples(st.just("delete"), st.integers(0, 3), st.sampled_from(FILES), st.none()),
    st.tuples(st.just("damage"), st.integers(0, 3), st.none(), st.none()),
    st.tuples(st.just("answer"), st.integers(0, 3), st.booleans(), st.none()),
    st.tuples(st.just("nothing"), st.integers(0, 3), st.none(), st.none()),
)


DAILY = {"cron": "0 0 * * *", "start": "2026-01-01"}
#: Windows come in any order, and runs by hand between them.
days = st.one_of(st.none(), st.integers(1, 4).map(lambda day: f"2026-01-0{day}"))


def scope(plan: Plan, day: str | None) -> Scope:
    window = window_for(plan.schedule, day) if day is not None else None
    if window is None:
        return Scope(run_id="plan")
    return Scope(run_id="plan", interval_start=window.start, interval_end=window.end)


def act(folder: Path, session: Session, what: tuple[str, int, Any, Any]) -> None:
    verb, number, which, text = what
    path = folder / f"s{number}" / str(which)
    if verb == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif verb == "delete":
        path.unlink(missing_ok=True)
    elif verb == "damage":
        last = session.catalog.previous("p", f"d{number}")
        if last is not None:
            session.change(last.id, lambda _: {"quarantined": "verify failed: 1 files differ"})
    elif verb == "answer":
        for question in session.catalog.approvals(states=("open",)):
            if session.catalog.version(question.version_id).name == f"d{number}":
                session.catalog.answer(question.version_id, which, "ana")


def expected(report: RunReport, plan: Plan, key: str) -> str:
    """What came of a dataset in a run, in the words of a preview."""
    planned = next(dataset for dataset in plan.datasets if dataset.key == key)
    outcomes = {outcome.step: outcome for outcome in report.outcomes}
    making = outcomes[planned.version_step]
    if making.status in (Status.WAITS, Status.SKIPPED):
        return "blocked"
    assert making.status in (Status.MADE, Status.UNCHANGED), making
    return "unchanged" if making.status is Status.UNCHANGED else "made"


def said(each: DatasetPreview) -> str:
    if each.blocked:
        return "blocked"
    return "unchanged" if each.status == "unchanged" else "made"


def compare(plan: Plan, session: Session, found: tuple[DatasetPreview, ...], report: RunReport) -> None:
    assert {each.key: said(each) for each in found} == {each.key: expected(report, plan, each.key) for each in found}
    outcomes = {outcome.step: outcome for outcome in report.outcomes}
    for each, planned in zip(found, plan.datasets, strict=True):
        result = outcomes[planned.version_step].result
        if each.blocked or result is None:
            continue
        version = session.catalog.version(result.version_id)
        if each.files is not None:
            assert (each.key, each.files, each.bytes) == (each.key, version.files, version.bytes)
        if each.added is not None and isinstance(result, BuildResult) and not result.unchanged:
            counts = result.added, result.modified, result.removed
            assert (each.key, (each.added, each.modified, each.removed)) == (each.key, counts)
        if planned.publish_step is not None:
            publishing = outcomes[planned.publish_step].status
            assert (each.key, each.publishes) == (each.key, publishing is Status.MADE)
            assert (each.key, bool(each.waits)) == (each.key, publishing in (Status.WAITS, Status.SKIPPED))


@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    specs, st.lists(st.tuples(st.lists(acts, max_size=3), st.integers(0, 3), shapes(0), days), min_size=1, max_size=4)
)
def test_what_plan_says_is_what_run_does(datasets: tuple[Shape, ...], rounds: list[Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="plan-is-run-") as place:
        folder = Path(place)
        module = f"work_{folder.name.replace('-', '_')}"
        (folder / f"{module}.py").write_text(WORK)
        for number in range(4):
            (folder / f"s{number}").mkdir()
            (folder / f"s{number}" / "a.csv").write_text(f"start {number}")
        keys = {f"d{shape.number}": shape.keys for shape in datasets}
        with open_session(home=folder / "home") as session:
            for changes, edited, shape, day in rounds:
                for change in changes:
                    act(folder, session, change)
                if edited == 3:
                    keys["d0"] = shape.keys
                document = {"version": 1, "name": "n", "project": "p", "schedule": DAILY, "datasets": keys}
                (folder / "s.yaml").write_text(json.dumps(document).replace("MODULE", module))
                plan = compile_spec(folder / "s.yaml", environ={})
                before = session.catalog.events()
                found = preview(plan, session, scope(plan, day))
                assert session.catalog.events() == before
                compare(plan, session, found, run_plan(plan, session, date=day, jobs=1))
