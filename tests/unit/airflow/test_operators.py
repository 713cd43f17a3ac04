"""Operators: arguments to a request, a request to the session, its result to XCom, its errors to Airflow."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, task

from airflow_provider import operators
from airflow_provider.assets import dataset_asset
from airflow_provider.compat import AirflowFailException, AirflowSkipException
from airflow_provider.operators.base import DatasetOperator
from airflow_provider.running import LISTED
from dataset_tasks.errors import ConflictError, IntegrityError, StateError, WrongCatalogError
from dataset_tasks.model import Input
from dataset_tasks.ops.requests import (
    OPERATIONS,
    AddFiles,
    Build,
    Check,
    Create,
    Finalize,
    Request,
    Squash,
    Stage,
    TableCheck,
    Upload,
)
from dataset_tasks.ops.wire import to_json

CATALOG, VERSION = "c" * 32, "a" * 32
ALL = [getattr(operators, name) for name in operators.__all__]
#: The arguments that an operator can't do without, by verb.
NEEDED: dict[str, dict[str, Any]] = {
    "create": {"name": "orders"},
    "add": {"ref": VERSION, "path": "/data"},
    "external": {"ref": VERSION, "urls": "file:///data"},
    "sync": {"ref": VERSION, "path": "/data"},
    "remove": {"ref": VERSION, "patterns": "*.tmp"},
    "build": {"stages": [Stage(id="o.create", request=Create(name="orders"))]},
    "gc": {},
    "repack": {},
    "repair": {},
    "squash": {"name": "orders", "refs": [VERSION]},
}

#: Arguments that are no fields of the request.
OF_THE_OPERATOR = ("fail_on_difference", "fail_on_loss", "partition_events")

each = pytest.mark.parametrize("operator", ALL, ids=lambda cls: cls.__name__)


def make(operator: type[DatasetOperator], **arguments: Any) -> DatasetOperator:
    return operator(task_id="t", **NEEDED.get(operator.operation.verb, {"ref": VERSION}) | arguments)


def defaults(request: type[Request]) -> dict[str, object]:
    return {spec.name: spec.default for spec in dataclasses.fields(request)}


@each
def test_the_arguments_are_the_fields_of_the_request(operator: type[DatasetOperator]) -> None:
    own = [name for name in inspect.signature(operator.__init__).parameters if name not in ("self", "kwargs")]
    fields = [operator.renamed.get(spec.name, spec.name) for spec in dataclasses.fields(operator.operation)]
    assert [name for name in own if name not in OF_THE_OPERATOR] == fields
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for n, p in _parameters(operator).items() if n != "self")


@each
def test_no_argument_hides_one_of_airflows(operator: type[DatasetOperator]) -> None:
    plain = BaseOperator(task_id="plain")
    assert [name for name in operator.template_fields if hasattr(plain, name)] == []


@each
def test_every_argument_is_templated_and_assigned_as_it_is(operator: type[DatasetOperator]) -> None:
    task = make(operator)
    names = [operator.renamed.get(spec.name, spec.name) for spec in dataclasses.fields(operator.operation)]
    assert list(operator.template_fields) == ["conn_id", *names]
    assert all(hasattr(task, name) for name in names)
    assert set(operator.template_fields_renderers) <= set(names)


@each
def test_without_arguments_the_request_has_its_own_defaults(operator: type[DatasetOperator]) -> None:
    task = make(operator)
    given = NEEDED.get(operator.operation.verb, {"ref": VERSION})
    request = task.request(CATALOG)
    assert type(request) is operator.operation
    assert set(to_json(request)) == {"verb", *given}


@each
def test_each_operation_runs_once_under_the_tasks_key(
    operator: type[DatasetOperator], session: Any, context: dict[str, Any]
) -> None:
    payload = make(operator).work(context)
    (call,) = session.calls
    assert type(call.request) is operator.operation
    assert call.key == "airflow/shop/manual__1/create/-1"
    assert call.origin == {
        "runner": "airflow", "dag_id": "shop", "run_id": "manual__1", "task_id": "create", "try_number": 2,
        "map_index": -1,
    }  # fmt: skip
    assert json.loads(json.dumps(payload)) == payload
    assert set(payload) == {spec.name for spec in dataclasses.fields(OPERATIONS[operator.operation.verb][1])}


def test_all_operators_serialize_with_their_dag(serialized: Any) -> None:
    with DAG("all", schedule=None) as dag:
        for operator in ALL:
            arguments = NEEDED.get(operator.operation.verb, {"ref": VERSION})
            operator(task_id=operator.operation.verb, **arguments)
    again = serialized(dag)
    assert sorted(again.task_ids) == sorted(OPERATIONS)


def test_every_operator_maps_over_keywords_that_are_known_only_in_the_run(serialized: Any) -> None:
    with DAG("mapped", schedule=None) as dag:

        @task
        def arguments() -> list[dict[str, object]]:
            return []

        for operator in ALL:
            verb = operator.operation.verb
            given = arguments.override(task_id=f"for_{verb}")()
            operator.partial(task_id=verb, pool="default_pool", retries=1).expand_kwargs(given)
    assert set(OPERATIONS) < set(serialized(dag).task_ids)
    for operator in ALL:
        needed = NEEDED.get(operator.operation.verb, {"ref": VERSION})
        one = dag.task_dict[operator.operation.verb].unmap(dict(needed))
        assert one.request(CATALOG) == make(operator).request(CATALOG)
        assert one.retries == 1


def test_an_operator_maps_over_its_arguments(serialized: Any) -> None:
    with DAG("mapped", schedule=None) as dag:
        create = operators.DatasetCreateOperator(task_id="create", name="orders", project="crm")
        add = operators.DatasetAddOperator.partial(task_id="add", ref=create.output["version_id"]).expand(
            path=["/data/a", "/data/b"]
        )
    assert dag.task_dict["add"].upstream_task_ids == {"create"}
    one = add.unmap({"path": "/data/b"})
    one.ref = VERSION
    assert one.request(CATALOG) == AddFiles(ref=VERSION, path="/data/b")
    assert one.multiple_outputs
    serialized(dag)


def test_each_field_of_a_result_can_be_referred_to() -> None:
    with DAG("wired", schedule=None) as dag:
        create = operators.DatasetCreateOperator(task_id="create", name="orders")
        upload = operators.DatasetUploadOperator(task_id="upload", ref=create.output["version_id"])
        operators.DatasetFinalizeOperator(task_id="finalize", ref=upload.output)
    assert create.multiple_outputs
    assert dag.task_dict["upload"].upstream_task_ids == {"create"}
    assert dag.task_dict["finalize"].upstream_task_ids == {"upload"}


def test_arguments_become_the_request() -> None:
    create = operators.DatasetCreateOperator(
        task_id="t", name="features", project="crm", parents={"version_id": VERSION, "catalog_id": CATALOG},
        inputs={"orders": "crm/orders@prod", "old": {"ref": "crm/orders@1.0.0", "files": "2026/*"}}, tags=["x"],
        metadata={"a": 1}, previous=True,
    )  # fmt: skip
    assert create.request(CATALOG) == Create(
        name="features", project="crm", parents=(VERSION,), previous=True, tags=("x",), metadata={"a": 1},
        inputs=(Input(name="orders", ref="crm/orders@prod"), Input(name="old", ref="crm/orders@1.0.0", files=("2026/*",))),
    )  # fmt: skip
    upload = operators.DatasetUploadOperator(task_id="t", ref=VERSION, store_retries=7, retries=2)
    assert upload.request(CATALOG) == Upload(ref=VERSION, retries=7)
    assert upload.retries == 2
    add = operators.DatasetAddOperator(task_id="t", ref=VERSION, path="/d", wildcard="*.csv", exclude=("a", "b"))
    assert add.request(CATALOG) == AddFiles(ref=VERSION, path="/d", wildcard=("*.csv",), exclude=("a", "b"))
    check = operators.DatasetCheckOperator(
        task_id="t", ref=VERSION, max_change=1, tables=[{"files": "*.csv", "schema": "s.yaml"}]
    )
    assert check.request(CATALOG) == Check(
        ref=VERSION, max_change=1.0, tables=(TableCheck(files="*.csv", schema="s.yaml"),)
    )
    squash = operators.DatasetSquashOperator(task_id="t", name="flat", refs="crm/orders")
    assert squash.request(CATALOG) == Squash(name="flat", refs=("crm/orders",))


@each
def test_one_text_is_taken_where_several_may_stand(operator: type[DatasetOperator]) -> None:
    for name, parameter in inspect.signature(operator.__init__).parameters.items():
        if "Sequence[str] | str" in str(parameter.annotation):
            assert getattr(make(operator, **{name: "ana"}).request(CATALOG), name) == ("ana",)


def test_a_build_takes_stages_as_values_and_as_json() -> None:
    stages = (
        Stage(id="o.create", request=Create(name="orders", project="crm")),
        Stage(id="o.finalize", request=Finalize(ref="step:o.create")),
    )
    as_json = [stages[0], {"id": "o.finalize", "request": {"verb": "finalize", "ref": "step:o.create"}}]
    assert operators.DatasetBuildOperator(task_id="t", stages=as_json).request(CATALOG) == Build(stages=stages)


def test_templates_reach_into_arguments() -> None:
    task = operators.DatasetCreateOperator(task_id="t", name="{{ kind }}", inputs={"o": "crm/{{ kind }}"})
    task.render_template_fields({"kind": "orders"})
    assert task.request(CATALOG) == Create(name="orders", inputs=(Input(name="o", ref="crm/orders"),))


def test_a_version_of_another_catalog_is_refused_without_a_retry(session: Any, context: dict[str, Any]) -> None:
    task = operators.DatasetFinalizeOperator(task_id="t", ref={"version_id": VERSION, "catalog_id": "d" * 32})
    with pytest.raises(AirflowFailException, match="was made in catalog dddd") as caught:
        task.work(context)
    assert isinstance(caught.value.__cause__, WrongCatalogError)
    assert session.calls == []


def test_what_a_retry_does_not_mend_fails_at_once_with_message_and_hint(session: Any, context: dict[str, Any]) -> None:
    session.errors["finalize"] = StateError("crm/orders@1.0.0: 3 files are not stored", hint="Upload them first.")
    with pytest.raises(AirflowFailException) as caught:
        operators.DatasetFinalizeOperator(task_id="t", ref=VERSION).work(context)
    assert str(caught.value) == "crm/orders@1.0.0: 3 files are not stored\nhint: Upload them first."


def test_what_a_retry_may_mend_stays_as_it_is(session: Any, context: dict[str, Any]) -> None:
    session.errors["publish"] = ConflictError("somebody was faster")
    with pytest.raises(ConflictError):
        operators.DatasetPublishOperator(task_id="t", ref=VERSION).work(context)


def test_an_argument_of_the_wrong_type_is_named(session: Any, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"check\.min_files: expected int, found '12'"):
        operators.DatasetCheckOperator(task_id="t", ref=VERSION, min_files="12").work(context)  # type: ignore[arg-type]


def test_a_cleared_task_and_a_mapped_one_have_keys_of_their_own(session: Any, context: dict[str, Any]) -> None:
    ti = context["ti"]
    ti.map_index = 3
    for ti.try_number, ti.max_tries in ((1, 2), (2, 2), (3, 4)):  # a retry, then cleared after two tries
        operators.DatasetFinalizeOperator(task_id="t", ref=VERSION).work(context)
    first, tried_again, cleared = (call.key for call in session.calls)
    assert first == tried_again == "airflow/shop/manual__1/create/3/2"
    assert cleared == "airflow/shop/manual__1/create/3/4"


def test_a_task_keeps_its_key_when_another_of_its_run_is_cleared(session: Any, context: dict[str, Any]) -> None:
    for context["dag_run"].clear_number in (0, 1, 2):
        operators.DatasetFinalizeOperator(task_id="t", ref=VERSION).work(context)
    assert len({call.key for call in session.calls}) == 1


def test_a_run_that_was_deleted_and_made_again_has_keys_of_its_own(session: Any, context: dict[str, Any]) -> None:
    for begun in ("2026-01-02T03:04:05+00:00", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.000001+00:00"):
        context["dag_run"] = SimpleNamespace(start_date=datetime.fromisoformat(begun))
        operators.DatasetFinalizeOperator(task_id="t", ref=VERSION).work(context)
    first, same, again = (call.key for call in session.calls)
    assert first == same == "airflow/shop/manual__1/create/-1/20260102T030405.000000"
    assert again == "airflow/shop/manual__1/create/-1/20260102T030405.000001"


def test_unchanged_is_a_result_or_a_skip_as_the_dag_wants_it(session: Any, context: dict[str, Any]) -> None:
    session.answers["finalize"] = {"unchanged": True, "why": "same content as 1.0.0"}
    assert operators.DatasetFinalizeOperator(task_id="t", ref=VERSION).work(context)["unchanged"] is True
    task = operators.DatasetFinalizeOperator(task_id="t", ref=VERSION, skip_when_unchanged=True)
    with pytest.raises(AirflowSkipException, match=r"unchanged: crm/orders@1\.0\.0 \(same content as 1\.0\.0\)"):
        task.work(context)
    pushed = context["ti"].xcom
    assert pushed["create", "return_value"]["version_id"] == VERSION
    assert pushed["create", "version_id"] == VERSION


def test_a_publish_emits_once_and_not_again(session: Any, context: dict[str, Any]) -> None:
    asset = dataset_asset("crm/orders")
    task = operators.DatasetPublishOperator(task_id="t", ref=VERSION, outlets=[asset])
    task.work(context)
    assert context["outlet_events"][asset].extra["version_id"] == VERSION
    session.answers["publish"] = {"unchanged": True}
    task.work(context)
    assert task.outlets == []


def test_files_that_differ_fail_a_verify_unless_they_are_asked_for(session: Any, context: dict[str, Any]) -> None:
    session.answers["verify"] = {"bad": ("a.csv", "b.csv"), "files": 9}
    with pytest.raises(AirflowFailException, match=r"2 of 9 files differ: a\.csv, b\.csv") as caught:
        operators.DatasetVerifyOperator(task_id="t", ref=VERSION).work(context)
    assert isinstance(caught.value.__cause__, IntegrityError)
    told = operators.DatasetVerifyOperator(task_id="t", ref=VERSION, fail_on_difference=False).work(context)
    assert told["bad"] == ["a.csv", "b.csv"]


def test_long_lists_do_not_go_through_xcom(session: Any, context: dict[str, Any]) -> None:
    session.answers["add"] = {"skipped": tuple(f"{n}.csv" for n in range(LISTED + 1))}
    payload = operators.DatasetAddOperator(task_id="t", ref=VERSION, path="/d").work(context)
    assert len(payload["skipped"]) == LISTED


def test_sigterm_interrupts_the_work_and_nothing_else(session: Any, context: dict[str, Any]) -> None:
    task = operators.DatasetFinalizeOperator(task_id="t", ref=VERSION)
    task.on_kill()  # before and after the work: Airflow's own business
    cleaned = []

    def killed_while_running(*args: object, **kwargs: object) -> None:
        try:
            task.on_kill()
        finally:
            task.on_kill()  # a second signal, during the cleaning up
            cleaned.append(True)

    session.run = killed_while_running
    with pytest.raises(SystemExit) as caught:
        task.execute(context)
    assert caught.value.code == 143
    assert cleaned == [True]
    task.on_kill()


def _parameters(operator: type[DatasetOperator]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(operator.__init__).parameters)


def test_a_run_that_publishes_nothing_leaves_the_outlets_of_the_dags_task(
    session: Any, context: dict[str, Any]
) -> None:
    """`dag.test()` runs copies of the tasks of one DAG, as often as it is asked to."""
    session.answers["publish"] = {"unchanged": True}
    published = operators.DatasetPublishOperator(task_id="t", ref=VERSION, outlets=[dataset_asset("crm/orders")])
    running = copy.copy(published)
    running.execute(context)
    assert running.outlets == []
    assert published.outlets == [dataset_asset("crm/orders")]
