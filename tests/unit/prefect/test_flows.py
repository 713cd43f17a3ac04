"""A spec as a flow, before it runs: name, parameters, place, time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.context import FlowRunContext
from prefect.exceptions import ParameterTypeError
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from dataset_tasks.errors import InvalidArgumentError, SpecError
from dataset_tasks.spec.plan import Param, Plan, Schedule
from prefect_blocks import flow_from_spec
from prefect_blocks.flows import scope_of_run

SPEC = """
version: 1
name: nightly-orders
project: crm
description: Orders of the night
prefect: {task_runner: "prefect.task_runners:ThreadPoolTaskRunner"}
params:
  day: {type: date, default: "2026-01-31", description: Which day}
  top: {type: int, default: 10}
  note: {type: str}
  only: {type: list, default: [a]}
datasets:
  orders:
    add: [{path: data}]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "nightly.yaml"
    file.write_text(SPEC)
    return file


def test_parameters_of_the_spec_are_those_of_the_flow_with_types_defaults_and_descriptions(spec: Path) -> None:
    schema = flow_from_spec(spec).parameters.model_dump()
    shown = {
        name: (one.get("type"), one.get("format"), one.get("default")) for name, one in schema["properties"].items()
    }
    assert shown == {
        "day": ("string", "date", "2026-01-31"),
        "top": ("integer", None, 10),
        "note": ("string", None, None),
        "only": ("array", None, ["a"]),
    }
    assert schema["required"] == ["note"]
    assert schema["properties"]["day"]["description"] == "Which day"


def test_prefect_knows_what_the_fields_take_that_a_parameter_fills_in(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "version: 1\nname: x\nproject: p\nparams: {top: {type: int}, share: {type: float, default: 0.5}}\ndatasets:\n"
        "  d: {previous: true, upload: {max_workers: '${params.top}'}, check: {max_change: '${params.share}'}}\n"
    )
    flow = flow_from_spec(file)

    schema = flow.parameters.model_dump()["properties"]
    assert (schema["top"]["type"], schema["top"]["minimum"]) == ("integer", 1)
    assert (schema["share"]["minimum"], schema["share"]["maximum"]) == (0, 1)
    assert flow.validate_parameters({"top": 1, "share": 0.5}) == {"top": 1, "share": 0.5}
    with pytest.raises(ParameterTypeError, match="greater than or equal to 1"):
        flow.validate_parameters({"top": 0, "share": 0.5})


def test_the_flow_is_found_again_by_the_variable_it_is_assigned_to(spec: Path) -> None:
    flow = flow_from_spec(spec)
    assert (flow.fn.__name__, flow.fn.__qualname__, flow.fn.__module__) == ("nightly_orders",) * 2 + (__name__,)
    assert flow_from_spec(spec, variable="mine").fn.__qualname__ == "mine"


def test_name_description_and_version_come_from_the_spec(spec: Path) -> None:
    flow = flow_from_spec(spec)
    assert (flow.name, flow.description) == ("nightly-orders", "Orders of the night")
    assert flow.version == flow_from_spec(spec).version
    spec.write_text(SPEC + "    tags: [x]\n")
    assert flow_from_spec(spec).version != flow.version
    assert flow_from_spec(spec, name="other").name == "other"


def test_the_task_runner_is_the_one_given_else_the_specs(spec: Path) -> None:
    mine = ThreadPoolTaskRunner(max_workers=1)
    assert flow_from_spec(spec, task_runner=mine).task_runner is mine
    assert isinstance(flow_from_spec(spec).task_runner, ThreadPoolTaskRunner)
    spec.write_text(SPEC.replace("prefect.task_runners:ThreadPoolTaskRunner", "prefect.task_runners:Threads"))
    with pytest.raises(InvalidArgumentError, match="can't be found"):
        flow_from_spec(spec)
    spec.write_text(SPEC.replace("prefect.task_runners:ThreadPoolTaskRunner", "builtins:dict"))
    with pytest.raises(InvalidArgumentError, match="is a dict, expected a TaskRunner"):
        flow_from_spec(spec)


def test_a_task_runner_is_given_by_name_or_class_too(spec: Path) -> None:
    for given in ("processes", "prefect.task_runners:ProcessPoolTaskRunner", ProcessPoolTaskRunner):
        runner = flow_from_spec(spec, task_runner=given).task_runner  # type: ignore[arg-type]  # as users may
        assert isinstance(runner, ProcessPoolTaskRunner)
    with pytest.raises(InvalidArgumentError, match=r"^task_runner: 'process' can't be found") as caught:
        flow_from_spec(spec, task_runner="process")
    assert "threads, processes, dask" in str(caught.value.hint)
    with pytest.raises(InvalidArgumentError, match=r"^task_runner: 4 is a int, expected a TaskRunner"):
        flow_from_spec(spec, task_runner=4)  # type: ignore[arg-type]  # as users may


def test_a_bad_spec_is_refused_with_all_its_problems(spec: Path) -> None:
    spec.write_text(SPEC + "    parnts: [x]\n  other:\n    parents: [ordres]\n")
    with pytest.raises(SpecError) as caught:
        flow_from_spec(spec)
    assert len(caught.value.problems) == 2


def plan(schedule: Schedule | None = None) -> Plan:
    params = (Param(name="day", type="date", default="2026-01-31"),)
    return Plan(name="p", source="/p.yaml", digest="d", steps=(), datasets=(), params=params, schedule=schedule)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The flow run that the code believes to be in."""
    due = datetime(2026, 2, 3, 6, 0, 2, tzinfo=UTC)
    flow_run = SimpleNamespace(id=UUID(int=9), auto_scheduled=False, expected_start_time=due)
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda cls: SimpleNamespace(flow_run=flow_run)))
    return flow_run


def test_a_scheduled_run_stands_for_the_window_of_its_schedule(run: Any) -> None:
    daily = plan(Schedule(cron="0 6 * * *", start="2026-01-01"))
    assert scope_of_run(daily, {}).interval_start is None, "a run by hand has no window"
    run.auto_scheduled = True
    scope = scope_of_run(daily, {})
    assert scope.interval_start == datetime(2026, 2, 2, 6, tzinfo=UTC)
    assert scope.interval_end == datetime(2026, 2, 3, 6, tzinfo=UTC)
    assert scope_of_run(plan(Schedule(after=("crm/orders",))), {}).interval_start is None


@pytest.mark.parametrize("schedule", [Schedule(cron="0 6 * * *"), Schedule(every=86_400.0)])
def test_the_instant_of_a_run_may_be_of_the_kind_prefect_gives(run: Any, schedule: Schedule) -> None:
    pendulum = pytest.importorskip("pendulum", reason="Prefect brings it on Python below 3.13")
    run.auto_scheduled = True
    run.expected_start_time = pendulum.datetime(2026, 2, 3, 6, tz="UTC")
    scope = scope_of_run(plan(schedule), {})
    assert scope.interval_end is not None
    assert scope.interval_end.date() == date(2026, 2, 3)


def test_parameters_of_a_run_are_json_and_checked(run: Any) -> None:
    scope = scope_of_run(plan(), {"day": date(2026, 3, 1)})
    assert scope.params == {"day": "2026-03-01"}
    assert scope.run_id == str(UUID(int=9))
    with pytest.raises(InvalidArgumentError, match="no parameter 'dya'"):
        scope_of_run(plan(), {"dya": "2026-03-01"})
