"""The tasks: one per operation, same fields, keys, retries, results."""

from __future__ import annotations

import dataclasses
import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

import prefect_blocks
from dataset_tasks.errors import ConflictError, IntegrityError, InvalidArgumentError, NotFoundError, WrongCatalogError
from dataset_tasks.model import Input
from dataset_tasks.ops.requests import (
    OPERATIONS,
    AddFiles,
    Build,
    Create,
    Finalize,
    Publish,
    RemoveFiles,
    Request,
    Stage,
    VerifyResult,
)
from dataset_tasks.ops.wire import request_from_json, to_json
from prefect_blocks import running, tasks
from prefect_blocks.plan_run import task_of
from tests.unit.prefect.conftest import CATALOG, FLOW_RUN, VERSION, FakeSession, InTask

RESULT = {"version_id": VERSION, "catalog_id": CATALOG, "project": "crm", "name": "orders", "version": "1.0.0"}
COMMON = ("catalog", "step", "origin")
#: The least that each request needs.
LEAST: dict[str, dict[str, Any]] = {
    "create": {"name": "orders", "project": "crm"},
    "add": {"ref": VERSION, "path": "data"},
    "external": {"ref": VERSION, "urls": ["file:///data"]},
    "sync": {"ref": VERSION, "path": "data"},
    "build": {"stages": [{"id": "raw.create", "request": {"verb": "create", "name": "raw"}}]},
    "squash": {"name": "flat", "refs": [VERSION]},
    "gc": {},
    "repack": {},
    "repair": {},
}
#: Verbs that a plan may hold.
PLANNED = {
    "create",
    "add",
    "external",
    "sync",
    "remove",
    "transform",
    "check",
    "upload",
    "finalize",
    "build",
    "approve",
} | {
    "publish",
    "squash",
    "verify",
    "get",
    "delete",
}
#: Parameters that a task has beside the fields of its request.
MORE = {"verify": ("fail_on_difference",), "approve": ("wait",), "repair": ("fail_on_loss",)}


def least(verb: str) -> Request:
    return request_from_json({"verb": verb, **LEAST.get(verb, {"ref": VERSION})})


def task_for(verb: str) -> Any:
    (found,) = (task for name in tasks.__all__ if verb in (task := getattr(tasks, name)).tags)
    return found


@pytest.mark.parametrize("verb", OPERATIONS)
def test_every_operation_has_a_task_whose_parameters_are_the_fields_of_its_request(verb: str) -> None:
    task = task_for(verb)
    assert task.name in prefect_blocks.__all__
    assert getattr(prefect_blocks, task.name) is task
    parameters = inspect.signature(task.fn).parameters
    assert [*parameters] == [
        *(one.name for one in dataclasses.fields(OPERATIONS[verb][0])),
        *MORE.get(verb, ()),
        *COMMON,
    ]
    documented = set(inspect.getdoc(task.fn).split("Args:")[1].split("Returns:")[0].split())
    assert {f"{name}:" for name in parameters} <= documented


@pytest.mark.parametrize("verb", sorted(PLANNED))
def test_a_step_of_a_plan_is_run_by_the_task_of_its_verb(verb: str) -> None:
    assert task_of(cast("Any", least(verb))) is task_for(verb)


@pytest.mark.parametrize("verb", OPERATIONS)
def test_every_task_passes_its_arguments_on_to_the_request(verb: str, session: FakeSession) -> None:
    if verb == "approve":
        session.answers[verb] = {"state": "approved"}
    task_for(verb).fn(**LEAST.get(verb, {"ref": VERSION}))
    assert session.request == least(verb)


@pytest.mark.parametrize("verb", OPERATIONS)
def test_no_task_is_cached_or_retried_by_anything_but_the_kind_of_its_error(verb: str) -> None:
    task = task_for(verb)
    assert task.cache_policy == NO_CACHE
    assert task.retry_condition_fn is running.may_retry
    assert task.tags == {"dataset-tasks", verb}
    assert task.retries == (0 if verb in ("transform", "check", "build") else 2)


def test_one_text_stands_for_a_list_of_one(session: FakeSession) -> None:
    tasks.remove_files.fn(VERSION, "*.tmp")
    assert session.request == RemoveFiles(ref=VERSION, patterns=("*.tmp",))
    tasks.add_files.fn(VERSION, "data", wildcard="*.csv", exclude=["a", "b"])
    assert session.request == AddFiles(ref=VERSION, path="data", wildcard=("*.csv",), exclude=("a", "b"))


def test_results_of_tasks_are_references(session: FakeSession) -> None:
    tasks.create_dataset.fn("features", parents=RESULT, inputs=[RESULT, "crm/visits"])
    assert session.request == Create(
        name="features",
        parents=(VERSION,),
        inputs=(Input(name="orders", ref=VERSION), Input(name="visits", ref="crm/visits")),
    )


def test_a_result_from_another_catalog_is_refused(session: FakeSession) -> None:
    with pytest.raises(WrongCatalogError, match="other") as caught:
        tasks.finalize_dataset.fn(RESULT | {"catalog_id": "other"})
    assert "same catalog" in caught.value.hint
    assert not session.calls


def test_stages_of_a_build_come_as_values_or_as_json(session: FakeSession) -> None:
    stage = Stage(id="raw.create", request=Create(name="raw"))
    tasks.build_dataset.fn([stage, {"id": "raw.finalize", "request": to_json(Finalize(ref="step:raw.create"))}])
    assert session.request == Build(stages=(stage, Stage(id="raw.finalize", request=Finalize(ref="step:raw.create"))))
    with pytest.raises(InvalidArgumentError, match="is not a stage"):
        tasks.build_dataset.fn([{"request": {}}])


def test_the_same_request_of_a_flow_run_has_one_key_and_another_has_another(
    session: FakeSession, in_task: InTask
) -> None:
    with in_task(task_run=1):
        tasks.publish_dataset.fn(VERSION)
    first = session.how["key"]
    with in_task(task_run=2):  # another try of the whole flow run, or another worker
        tasks.publish_dataset.fn(VERSION)
    assert session.how["key"] == first
    assert first.startswith(f"prefect/{FLOW_RUN}/publish-")
    with in_task():
        tasks.publish_dataset.fn(VERSION, alias="prod")
    assert session.how["key"] != first


def test_a_step_names_the_operation_within_the_flow_run(session: FakeSession, in_task: InTask) -> None:
    with in_task():
        tasks.publish_dataset.fn(VERSION, step="orders.publish")
    assert session.how["key"] == f"prefect/{FLOW_RUN}/orders.publish"


def test_a_task_outside_of_a_flow_has_the_key_of_its_run(session: FakeSession, in_task: InTask) -> None:
    with in_task(flow_run=None, task_run=5):
        tasks.publish_dataset.fn(VERSION)
    assert session.how["key"] == "prefect/task/00000000-0000-0000-0000-000000000005"


def test_calls_outside_of_any_run_are_new_operations_each(session: FakeSession) -> None:
    for _ in range(2):
        tasks.publish_dataset.fn(VERSION)
    assert len({how["key"] for _, how in session.calls}) == 2


def test_versions_know_the_run_that_made_them(session: FakeSession, in_task: InTask) -> None:
    with in_task():
        tasks.create_dataset.fn("orders", step="orders.create", origin={"commit": "abc"})
    assert session.how["origin"] == {
        "runner": "prefect",
        "flow": "nightly",
        "run_id": str(FLOW_RUN),
        "task_run_id": "00000000-0000-0000-0000-000000000001",
        "step": "orders.create",
        "commit": "abc",
    }


def test_an_unchanged_result_is_a_completed_state_of_that_name(session: FakeSession) -> None:
    session.answers["finalize"] = {"unchanged": True, "why": "same content"}
    state: Any = tasks.finalize_dataset.fn(VERSION)
    assert isinstance(state, State)
    assert (state.name, state.message) == ("Unchanged", "same content")
    assert state.is_completed()
    assert state.data["version_id"] == VERSION


def test_a_result_holds_every_field_and_long_lists_only_in_part() -> None:
    facts = {"catalog_id": CATALOG, "version_id": VERSION, "project": "crm", "name": "orders", "version": "1.0.0"}
    payload = running.result_json(VerifyResult(**facts, bad=tuple(f"f{i}" for i in range(130)), files=200))
    assert payload["unchanged"] is False
    assert len(cast("list[str]", payload["bad"])) == 100
    assert payload["left_out"] == {"bad": 30}


def test_verify_fails_the_task_when_files_differ_unless_told_not_to(session: FakeSession) -> None:
    session.answers["verify"] = {"bad": tuple(f"f{i}" for i in range(130)), "files": 200}
    with pytest.raises(IntegrityError, match="of 200 files these differ: f0, f1") as caught:
        tasks.verify_dataset.fn(VERSION)
    assert "and 120 more" in str(caught.value)
    assert tasks.verify_dataset.fn(VERSION, fail_on_difference=False)["files"] == 200


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConflictError("moved"), True),
        (NotFoundError("none"), False),
        (OSError("network"), True),
    ],
)
def test_an_error_says_itself_whether_it_is_worth_another_try(error: Exception, again: bool) -> None:
    state = Failed(data=error)
    assert running.may_retry(cast("Any", SimpleNamespace()), cast("Any", SimpleNamespace()), state) is again


def test_other_options_leave_a_task_what_it_is() -> None:
    changed = tasks.build_dataset.with_options(retries=3, name="mine", tags={"x"})
    assert isinstance(changed, running.DatasetTask)
    assert (changed.retries, changed.name, changed.tags) == (3, "mine", {"x"})
    assert (tasks.build_dataset.retries, tasks.build_dataset.name) == (0, "build_dataset")
    assert changed.retry_condition_fn is running.may_retry


@pytest.mark.parametrize(
    ("task", "parameters", "name"),
    [
        (tasks.create_dataset, {"name": "orders", "project": "crm"}, "create crm/orders"),
        (tasks.add_files, {"ref": RESULT, "path": "x"}, "add crm/orders@1.0.0"),
        (tasks.get_copy, {"ref": "crm/orders@published"}, "get crm/orders@published"),
        (tasks.build_dataset, {"stages": [Stage(id="c", request=Create(name="raw", project="crm"))]}, "build crm/raw"),
        (tasks.publish_dataset, {}, "publish"),
    ],
)
def test_runs_are_named_after_what_is_done_to_what(task: Any, parameters: dict[str, Any], name: str) -> None:
    assert task.task_run_name(parameters=parameters) == name


def test_publish_is_passed_on_as_asked(session: FakeSession) -> None:
    tasks.publish_dataset.fn("crm/orders@latest", alias="prod")
    assert session.request == Publish(ref="crm/orders@latest", alias="prod")
