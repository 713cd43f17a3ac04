"""Many like steps as one task run: what is put together, what is done again, what is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext

from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.ops.requests import AddFiles, Stage
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.plan import Plan, Scope, bind
from prefect_blocks import batches, flow_from_spec
from prefect_blocks.batches import Parts, batched, run_parts
from tests.unit.prefect.conftest import FLOW_RUN, VERSION, FakeSession, InTask

SPEC = """
version: 1
name: many
project: lab
defaults: {{granularity: {granularity}, timeout: 10s}}
{options}
datasets:
  raw:
    add: [{adds}]
    external: [{{url: "file:///a"}}, {{url: "file:///b"}}]
    publish: true
  below: {{parents: [raw]}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return tmp_path / "many.yaml"


def plan(spec: Path, adds: int, *, granularity: str = "operation", options: str = "") -> Plan:
    texts = ", ".join(f"{{path: p{i}, dataset_path: d{i}}}" for i in range(adds))
    spec.write_text(SPEC.format(adds=texts, granularity=granularity, options=options))
    return compile_spec(spec, check_sources=False)


def test_neighbouring_adds_become_steps_of_many_parts_and_all_else_stays_as_it_is(spec: Path) -> None:
    before = plan(spec, 7)
    after = batched(before, 3)
    assert [step.id for step in after.steps] == [
        "raw.create",
        "raw.add.0-2",
        "raw.add.3-5",
        "raw.add.6",
        "raw.external.0-1",
        "raw.upload",
        "raw.finalize",
        "raw.publish",
        "below.create",
        "below.upload",
        "below.finalize",
    ]
    needs = {step.id: step.needs for step in after.steps}
    assert needs["raw.add.0-2"] == ("raw.create",)
    assert needs["raw.add.3-5"] == ("raw.add.0-2",)
    assert needs["raw.upload"] == ("raw.external.0-1",)
    assert needs["below.create"] == ("raw.publish",)
    assert after.datasets[0].steps == tuple(step.id for step in after.steps if step.dataset == "raw")
    parts: Any = after.step("raw.add.3-5").request
    assert parts.stages == tuple(
        Stage(id=f"raw.add.{i}", request=before.step(f"raw.add.{i}").request) for i in (3, 4, 5)
    )
    verbs = [step.request.verb for step in after.steps if isinstance(step.request, Parts)]
    assert verbs == ["add", "add", "external"]
    assert (after.step("raw.add.0-2").timeout, after.step("raw.add.6").timeout) == (30, 10), "seconds of all its parts"


def test_references_and_placeholders_in_parts_are_filled_in(spec: Path) -> None:
    step = batched(plan(spec, 2), 2).step("raw.add.0-1")
    bound: Any = bind(step.request, Scope(results={"raw.create": VERSION}))
    assert [stage.request.ref for stage in bound.stages] == [VERSION, VERSION]


def test_two_hundred_adds_are_four_task_runs_unless_the_spec_or_the_call_says_otherwise(spec: Path) -> None:
    def adds(options: str = "", size: int | None = None) -> list[str]:
        found = batched(plan(spec, 200, options=options), size)
        return [step.id for step in found.steps if step.id.startswith("raw.add")]

    assert adds() == ["raw.add.0-49", "raw.add.50-99", "raw.add.100-149", "raw.add.150-199"]
    assert len(adds("prefect: {batch: 100}")) == 2
    assert len(adds("prefect: {batch: 100}", 1)) == 200
    with pytest.raises(InvalidArgumentError, match="a batch of 0 steps"):
        flow_from_spec(spec, batch=0)


def test_a_plan_of_one_step_a_dataset_has_no_batches(spec: Path) -> None:
    whole = plan(spec, 200, granularity="dataset")
    assert batched(whole) == whole


STAGES = tuple(Stage(id=f"raw.add.{i}", request=AddFiles(ref=VERSION, path=f"p{i}")) for i in range(4))


@contextmanager
def one_try(monkeypatch: pytest.MonkeyPatch, number: int, task_run: int = 1) -> Iterator[None]:
    """As in a try of a task run that may be tried again twice."""
    run = SimpleNamespace(id=UUID(int=task_run), flow_run_id=FLOW_RUN, run_count=number)
    context = SimpleNamespace(task_run=run, task=SimpleNamespace(retries=2))
    with monkeypatch.context() as patch:
        patch.setattr(TaskRunContext, "get", classmethod(lambda cls: context))
        yield


@pytest.fixture
def trouble(session: FakeSession, in_task: InTask, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors that the add of `p2` raises, one a time."""
    errors: list[Exception] = []
    answer = session.run

    def run(request: Any, **how: Any) -> Any:
        given = answer(request, **how)
        if request.path == "p2" and errors:
            raise errors.pop(0)
        return given

    monkeypatch.setattr(session, "run", run)
    return errors


def asked(session: FakeSession) -> list[str]:
    return [call.path for call, _ in session.calls]  # type: ignore[attr-defined]


def test_each_part_has_the_key_it_would_have_alone_and_its_counts_are_in_the_result(
    session: FakeSession, in_task: InTask
) -> None:
    session.answers["add"] = {"added": 2, "files": 9}
    with in_task():
        result = run_parts.fn(STAGES, step="raw.add.0-3")
    assert [how["key"] for _, how in session.calls] == [f"prefect/{FLOW_RUN}/raw.add.{i}" for i in range(4)]
    assert result["version_id"] == VERSION
    parts: Any = result["parts"]
    assert list(parts) == [stage.id for stage in STAGES]
    assert parts["raw.add.3"] == {"added": 2, "modified": 0, "files": 9, "bytes": 0}


def test_a_batch_that_is_tried_again_goes_on_with_the_part_that_failed(
    session: FakeSession, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble += [OSError("network"), OSError("again")]
    for number in (1, 2):
        with one_try(monkeypatch, number), pytest.raises(OSError) as caught:
            run_parts.fn(STAGES, step="raw.add.0-3")
        assert caught.value.__notes__ == ["raised by part raw.add.2 of raw.add.0-3"]
    with one_try(monkeypatch, 3):
        result: Any = run_parts.fn(STAGES, step="raw.add.0-3")
    assert asked(session) == ["p0", "p1", "p2", "p2", "p2", "p3"]
    assert list(result["parts"]) == [stage.id for stage in STAGES]
    assert batches._tries == {}


@pytest.mark.parametrize(("error", "number"), [(NotFoundError("none"), 1), (OSError("network"), 3)])
def test_what_a_batch_did_is_forgotten_when_there_is_no_other_try(
    session: FakeSession, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch, error: Exception, number: int
) -> None:
    trouble.append(error)
    with one_try(monkeypatch, number), pytest.raises(type(error)):
        run_parts.fn(STAGES, step="s")
    assert batches._tries == {}
    with one_try(monkeypatch, 1, task_run=2):  # the flow run is tried again: files may have changed
        run_parts.fn(STAGES, step="s")
    assert asked(session)[3:] == ["p0", "p1", "p2", "p3"]


def test_parts_of_a_draft_that_was_dropped_for_the_version_it_equals_are_unchanged(session: FakeSession) -> None:
    session.answers["add"] = {"unchanged": True, "why": "same content"}
    state: Any = run_parts.fn(STAGES, step="s")
    assert isinstance(state, State)
    assert state.name == "Unchanged"
