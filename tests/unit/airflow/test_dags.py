"""Specs as DAGs: shape, schedule, params, problems, and what a parse costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AssetAlias
from airflow.timetables.base import TimeRestriction

from airflow_provider import dags
from airflow_provider.assets import dataset_asset, watched_asset
from airflow_provider.compat import AirflowFailException, AirflowSkipException
from airflow_provider.dags import LONG_AGO, dag_from_spec, dataset_task_group, load_dags
from airflow_provider.operators.step import DatasetStepOperator, pinned
from dataset_tasks.errors import InvalidArgumentError, SpecError
from dataset_tasks.ops.requests import AddFiles, Build, Create, Publish, Squash, Upload
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.windows import window_at

CATALOG, VERSION = "c" * 32, "a" * 32

SPEC = """
version: 1
name: shop
project: crm
description: Orders and what is made from them
datasets:
  orders:
    add: [{path: /data/orders}]
    doc: Straight from the till.
  features:
    inputs: [orders]
    transform: {call: "shop.transforms:features"}
    publish: {alias: prod}
  flat:
    squash: [features]
"""
PER_OPERATION = SPEC.replace("datasets:", "defaults: {granularity: operation}\ndatasets:")


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    def write(text: str = SPEC, name: str = "shop.yaml", *, top: str = "") -> Path:
        path = tmp_path / name
        path.write_text(text.replace("datasets:", f"{top}\ndatasets:") if top else text)
        return path

    return write


def step(dag: DAG, task_id: str) -> DatasetStepOperator:
    found = dag.task_dict[task_id]
    assert isinstance(found, DatasetStepOperator)
    return found


def test_task_ids_are_the_plans_step_ids_in_a_group_a_dataset(spec: Any) -> None:
    dag = dag_from_spec(spec())
    assert dag.dag_id == "shop"
    assert dag.task_ids == ["orders.build", "features.build", "features.publish", "flat.squash"]
    assert sorted(dag.task_group_dict) == ["features", "flat", "orders"]
    assert dag.task_dict["features.build"].upstream_task_ids == {"orders.build"}
    assert dag.task_dict["flat.squash"].upstream_task_ids == {"features.publish"}
    assert dag.task_dict["orders.build"].doc_md == "Straight from the till."


def watchers(dag: Any) -> dict[str, list[str]]:
    """The watchers of every asset that a serialized DAG names, by where it does."""
    outlets = [asset for task in dag.tasks for asset in task.outlets]
    scheduled = [asset for _, asset in dag.timetable.asset_condition.iter_assets()]
    return {
        f"{kind} {asset.uri}": [watcher.name for watcher in asset.watchers]
        for kind, assets in (("outlet", outlets), ("schedule", scheduled))
        for asset in assets
    }


def test_a_dataset_that_is_published_here_and_watched_has_its_watcher_in_outlets_and_schedule(
    spec: Any, serialized: Callable[[Any], Any]
) -> None:
    path = spec(top="schedule: {after: [crm/labels]}")
    dag = serialized(dag_from_spec(path, watched=["crm/features", "crm/labels"], conn_id="lake"))
    assert watchers(dag) == {
        "outlet dataset://crm/features": ["crm/features published"],
        "schedule dataset://crm/labels": ["crm/labels published"],
    }
    (one,) = next(asset for _, asset in dag.timetable.asset_condition.iter_assets()).watchers
    assert one.trigger["kwargs"]["conn_id"] == "lake"
    assert watchers(serialized(dag_from_spec(path))) == {
        "outlet dataset://crm/features": [], "schedule dataset://crm/labels": [],
    }  # fmt: skip


def test_an_asset_with_a_watcher_of_ones_own_is_the_outlet_of_a_compiled_task(spec: Any) -> None:
    own = watched_asset("crm/features", poll_interval=3)
    assert dag_from_spec(spec(), watched=[own]).task_dict["features.publish"].outlets == [own]
    with DAG("mine", schedule=None):
        group = dataset_task_group(spec(), watched=[own])
    assert group.dag.task_dict["shop.features.publish"].outlets[0].watchers == own.watchers
    (loaded,) = load_dags(spec().parent, watched=[own]).values()
    assert loaded.task_dict["features.publish"].outlets[0].watchers == own.watchers


def test_one_task_an_operation_where_the_spec_asks_for_it(spec: Any) -> None:
    dag = dag_from_spec(spec(PER_OPERATION))
    assert dag.task_ids[:4] == ["orders.create", "orders.add.0", "orders.upload", "orders.finalize"]
    assert dag.task_dict["orders.upload"].upstream_task_ids == {"orders.add.0"}


def test_only_the_publish_declares_the_asset(spec: Any) -> None:
    for text in (SPEC, PER_OPERATION):
        dag = dag_from_spec(spec(text))
        assert {task.task_id: task.outlets for task in dag.tasks if task.outlets} == {
            "features.publish": [dataset_asset("crm/features")]
        }


def test_every_step_runs_and_decides_for_itself(spec: Any) -> None:
    dag = dag_from_spec(spec(PER_OPERATION))
    assert {task.trigger_rule for task in dag.tasks} == {"none_failed"}
    assert {task.template_fields for task in dag.tasks} == {()}


def test_the_dag_serializes_without_its_requests(spec: Any, serialized: Any) -> None:
    task = serialized(dag_from_spec(spec())).task_dict["features.build"]
    assert task.operator_name == "dataset build"
    assert not hasattr(task, "plan")


@pytest.mark.parametrize(
    ("schedule", "timetable"),
    [
        ('{cron: "0 6 * * *", timezone: Europe/Berlin}', "CronDataIntervalTimetable"),
        ('{cron: "0 6 * * *", timezone: Europe/Berlin, start: "2024-01-01"}', "CronFromStartTimetable"),
        ('{every: 6h, start: "2024-01-01T01:00"}', "EveryFromStartTimetable"),
        ("{every: 6h}", "DeltaDataIntervalTimetable"),
        ("{after: [nyc/weather, nyc/raw]}", "AssetTriggeredTimetable"),
        (None, "NullTimetable"),
    ],
)
def test_the_schedule_is_airflows_own_with_data_intervals(
    spec: Any, schedule: str | None, timetable: str, serialized: Any
) -> None:
    dag = dag_from_spec(spec(top=f"schedule: {schedule}" if schedule else ""))
    assert type(dag.timetable).__name__ == timetable
    assert not dag.catchup
    serialized(dag)
    if schedule and "after" in schedule:
        assert list(dag.timetable.asset_condition.objects) == [dataset_asset("nyc/weather"), dataset_asset("nyc/raw")]


def test_a_run_before_the_start_is_not_passed_over_in_silence(spec: Any, session: Any, context: dict[str, Any]) -> None:
    dag = dag_from_spec(spec(top='schedule: {cron: "0 6 * * *", timezone: UTC, start: "2024-01-01"}'))
    assert [dag.start_date, *(task.start_date for task in dag.tasks)] == [None] * 5
    context |= {"data_interval_start": at(2023, 12, 30), "data_interval_end": at(2023, 12, 31)}
    with pytest.raises(AirflowFailException, match="before the schedule's start"):
        step(dag, "orders.build").work(context)
    assert session.calls == []


@pytest.mark.parametrize("ticks", ['cron: "0 0 * * *"', "every: 1d"])
def test_a_backfill_makes_a_run_for_each_window_from_the_start_on(spec: Any, serialized: Any, ticks: str) -> None:
    dag = serialized(dag_from_spec(spec(top=f'schedule: {{{ticks}, start: "2024-01-03"}}')))
    infos = dag.iter_dagrun_infos_between(pendulum.datetime(2024, 1, 1), pendulum.datetime(2024, 1, 5))
    windows = [(info.data_interval.start.day, info.data_interval.end.day) for info in infos]
    assert windows == [(3, 4), (4, 5), (5, 6)]


@pytest.mark.parametrize("catchup", [True, False])
@pytest.mark.parametrize("ticks", ['cron: "0 6 * * *"', "every: 24h"])
def test_the_scheduler_begins_at_the_start_without_a_start_date(
    spec: Any, serialized: Any, ticks: str, catchup: bool
) -> None:
    start = "2024-01-01T06:00"
    top = f'schedule: {{{ticks}, timezone: Europe/Berlin, start: "{start}", catchup: {str(catchup).lower()}}}'
    dag = serialized(dag_from_spec(spec(top=top)))
    assert {dag.start_date, *(task.start_date for task in dag.tasks)} <= {None, LONG_AGO}
    whole = TimeRestriction(earliest=dag.start_date, latest=None, catchup=catchup)
    first = dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=whole)
    second = dag.timetable.next_dagrun_info(last_automated_data_interval=first.data_interval, restriction=whole)
    if catchup:
        assert first.data_interval.start == datetime(2024, 1, 1, 5, tzinfo=UTC)
        assert second.data_interval.start == first.data_interval.end == datetime(2024, 1, 2, 5, tzinfo=UTC)
        ended = TimeRestriction(earliest=None, latest=pendulum.datetime(2024, 1, 1), catchup=True)
        assert dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=ended) is None
    by_hand = dag.timetable.infer_manual_data_interval(run_after=pendulum.datetime(2023, 6, 1, 12))
    assert by_hand.end <= datetime(2023, 6, 1, 12, tzinfo=UTC)


def test_windows_by_length_are_those_of_a_run_here(spec: Any, serialized: Any) -> None:
    path = spec(top='schedule: {every: 5h, timezone: America/New_York, start: "2024-01-01T02:00"}')
    timetable = serialized(dag_from_spec(path)).timetable
    schedule = compile_spec(path, check_sources=False).schedule
    assert schedule is not None
    for moment in (datetime(2024, 3, 10, 7, 30, tzinfo=UTC), datetime(2024, 3, 11, 7, tzinfo=UTC)):
        ours = window_at(schedule, moment)
        theirs = timetable.infer_manual_data_interval(run_after=pendulum.instance(moment))
        assert (theirs.start, theirs.end) == (ours.start, ours.end)


def test_a_start_in_the_future_waits(spec: Any, serialized: Any) -> None:
    dag = serialized(dag_from_spec(spec(top='schedule: {cron: "0 6 * * *", timezone: UTC, start: "2999-01-01"}')))
    restriction = TimeRestriction(earliest=None, latest=None, catchup=False)
    first = dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert first.data_interval.start == datetime(2999, 1, 1, 6, tzinfo=UTC)


def test_retries_timeouts_and_options_come_from_the_spec(spec: Any) -> None:
    top = (
        "defaults: {retries: 2, retry_delay: 5s, timeout: 1h}\n"
        "airflow: {owner: ana, tags: [daily], pool: lake, max_active_runs: 3}"
    )
    path = spec(top=top)
    dag = dag_from_spec(path, tags=["mine"])
    task = dag.task_dict["orders.build"]
    assert (task.retries, task.retry_delay, task.execution_timeout) == (2, timedelta(seconds=5), timedelta(hours=1))
    assert (task.owner, task.pool, dag.tags, dag.max_active_runs) == ("ana", "lake", {"daily", "mine"}, 3)
    assert dag_from_spec(path, max_active_runs=1, dag_id="other").max_active_runs == 1
    assert dag_from_spec(spec()).max_active_runs == 1


def test_a_failure_callback_is_imported_when_it_is_called(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = dag_from_spec(spec(top='airflow: {on_failure_callback: "shop_alerts:page"}'))
    (callback,) = dag.task_dict["orders.build"].on_failure_callback
    told: list[object] = []
    monkeypatch.setitem(sys.modules, "shop_alerts", SimpleNamespace(page=told.append))
    callback({"ti": 1})
    assert told == [{"ti": 1}]


def test_params_of_the_spec_are_params_of_the_dag(spec: Any) -> None:
    params = """params:
  day: {type: date, default: "2024-01-31", description: Which day}
  top: {type: int, default: 3}
  names: {type: list, default: [a]}
  who: {type: str}"""
    dag = dag_from_spec(spec(SPEC.replace("/data/orders", '"/data/${params.who}/${params.day}"'), top=params))
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert schemas == {
        "day": {"type": "string", "format": "date"},
        "top": {"type": "integer"},
        "names": {"type": "array"},
        "who": {"type": "string"},
    }
    assert dag.params["top"] == 3
    assert dag.params.get_param("day").description == "Which day"
    assert not dag.params.get_param("who").has_value


def test_the_form_of_a_run_knows_what_the_fields_take_that_a_param_fills_in(spec: Any) -> None:
    text = SPEC.replace("{path: /data/orders}", '{path: /data/orders, recursive: "${params.deep}"}').replace(
        "  orders:\n",
        '  orders:\n    upload: {max_workers: "${params.top}"}\n    check: {max_change: "${params.share}"}\n',
    )
    params = "params: {deep: {type: bool, default: true}, top: {type: int}, share: {type: float, default: 0.5}}"
    dag = dag_from_spec(spec(text, top=params))
    assert {name: dag.params.get_param(name).schema for name in dag.params} == {
        "deep": {"type": "boolean"},
        "top": {"type": "integer", "minimum": 1},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
    }


def test_a_value_that_a_field_can_not_take_fails_every_first_step_before_anything_is_made(
    spec: Any, session: Any, context: dict[str, Any]
) -> None:
    text = SPEC.replace("  orders:\n", '  orders:\n    upload: {max_workers: "${params.top}"}\n')
    dag = dag_from_spec(spec(text, top="params: {top: {type: int}}"))
    for value, message in (
        (0, "of at least 1 for datasets.orders.upload.max_workers, found 0"),
        ("2x", "expected int"),
    ):
        with pytest.raises(AirflowFailException, match=message):
            step(dag, "orders.build").work(context | {"params": {"top": value}})
    assert session.calls == []


def test_the_connection_is_the_callers_else_the_specs(spec: Any) -> None:
    assert step(dag_from_spec(spec()), "orders.build").conn_id == "dataset_tasks_default"
    path = spec(top="connection: lake")
    assert step(dag_from_spec(path), "orders.build").conn_id == "lake"
    assert step(dag_from_spec(path, conn_id="mine"), "orders.build").conn_id == "mine"


# --- running a step --------------------------------------------------------------------------------------------------


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 6, tzinfo=UTC)


def left(context: dict[str, Any], task_id: str, **fields: Any) -> None:
    context["ti"].xcom[task_id, "return_value"] = {"version_id": VERSION, "catalog_id": CATALOG} | fields


def test_a_step_fills_in_what_only_the_run_knows(spec: Any, session: Any, context: dict[str, Any]) -> None:
    text = SPEC.replace("/data/orders", '"/data/${run.date}/${params.who}/{{ ds }}"')
    top = 'schedule: {cron: "0 6 * * *", timezone: America/New_York}\nparams: {who: {type: str, default: ana}}'
    dag = dag_from_spec(spec(text, top=top))
    # 6 o'clock in New York is 11 in UTC; the day is the one the window begins on, there.
    context |= {
        "params": {"who": "bob"},
        "data_interval_start": datetime(2024, 1, 30, 11, tzinfo=UTC),
        "data_interval_end": datetime(2024, 1, 31, 11, tzinfo=UTC),
    }
    step(dag, "orders.build").work(context)
    (added,) = [stage.request for stage in session.build.stages if isinstance(stage.request, AddFiles)]
    assert added.path == "/data/2024-01-30/bob/{{ ds }}"
    assert session.calls[0].origin["step"] == "orders.build"
    assert len(session.calls[0].origin["spec_digest"]) == 64


def test_a_window_is_missing_where_the_run_has_none(spec: Any, session: Any, context: dict[str, Any]) -> None:
    dag = dag_from_spec(spec(SPEC.replace("/data/orders", '"/data/${run.date}"'), top='schedule: {cron: "0 6 * * *"}'))
    for task in dag.tasks:  # the first of them too, before anything is made
        for other in dag.task_ids:
            left(context, other)
        with pytest.raises(AirflowFailException, match="no window"):
            step(dag, task.task_id).work(context)
    assert session.calls == []


def test_a_step_reads_the_version_that_another_left(spec: Any, session: Any, context: dict[str, Any]) -> None:
    dag = dag_from_spec(spec())
    left(context, "orders.build", unchanged=True)
    left(context, "features.build")
    step(dag, "features.build").work(context)
    (create,) = [stage.request for stage in session.build.stages if isinstance(stage.request, Create)]
    assert [(one.name, one.ref) for one in create.inputs] == [("orders", VERSION)]
    step(dag, "features.publish").work(context)
    assert session.published == [Publish(ref=VERSION, alias="prod")]
    step(dag, "flat.squash").work(context)
    assert isinstance(session.calls[-1].request, Squash)
    assert session.calls[-1].request.refs == (VERSION,)


def test_a_step_works_on_the_draft_that_an_earlier_one_made(spec: Any, session: Any, context: dict[str, Any]) -> None:
    dag = dag_from_spec(spec(PER_OPERATION))
    left(context, "orders.create")
    left(context, "orders.add.0", added=3)
    step(dag, "orders.upload").work(context)
    assert session.calls[-1].request == Upload(ref=VERSION)


def test_steps_after_one_that_found_nothing_new_pass_its_result_on(
    spec: Any, session: Any, context: dict[str, Any]
) -> None:
    dag = dag_from_spec(spec(PER_OPERATION))
    left(context, "orders.add.0", unchanged=True, project="crm", name="orders", version="1.0.0")
    context["ti"].task_id = "orders.upload"
    with pytest.raises(AirflowSkipException):
        step(dag, "orders.upload").work(context)
    assert context["ti"].xcom["orders.upload", "return_value"]["unchanged"] is True
    assert session.calls == []
    left(context, "features.finalize", unchanged=True)
    step(dag, "features.publish").work(context)
    assert session.published == [Publish(ref=VERSION, alias="prod")]


def test_a_missing_result_names_the_task_to_clear(spec: Any, session: Any, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"Clear orders\.build"):
        step(dag_from_spec(spec()), "features.build").work(context)


def test_a_result_of_another_catalog_is_refused(spec: Any, session: Any, context: dict[str, Any]) -> None:
    left(context, "orders.build", catalog_id="d" * 32)
    with pytest.raises(AirflowFailException, match="was made in catalog dddd"):
        step(dag_from_spec(spec()), "features.build").work(context)


def test_an_unchanged_step_leaves_its_result_and_is_skipped(spec: Any, session: Any, context: dict[str, Any]) -> None:
    dag = dag_from_spec(spec())
    session.answers = {"build": {"unchanged": True, "why": "same files"}, "publish": {"unchanged": True}}
    context["ti"].task_id = "orders.build"
    with pytest.raises(AirflowSkipException, match="same files"):
        step(dag, "orders.build").work(context)
    assert context["ti"].xcom["orders.build", "return_value"]["version_id"] == VERSION
    left(context, "features.build")
    with pytest.raises(AirflowSkipException):
        step(dag, "features.publish").work(context)
    assert len(context["outlet_events"]) == 0


def test_a_publish_fills_in_its_event(spec: Any, session: Any, context: dict[str, Any]) -> None:
    session.answers["publish"] = {"name": "features", "files": 7}
    left(context, "features.build")
    step(dag_from_spec(spec()), "features.publish").work(context)
    assert context["outlet_events"][dataset_asset("crm/features")].extra["files"] == 7


def test_a_run_after_another_dataset_reads_the_version_that_triggered_it(
    spec: Any, session: Any, context: dict[str, Any]
) -> None:
    text = SPEC.replace("inputs: [orders]", "inputs: [orders, nyc/weather, other/weather2]")
    dag = dag_from_spec(spec(text, top="schedule: {after: [nyc/weather]}"))
    left(context, "orders.build")
    events = [SimpleNamespace(timestamp=at(2024, 1, day), extra={"version_id": str(day) * 32}) for day in (1, 2)]
    sources = (dataset_asset("nyc/weather"), dataset_asset("other/weather2"), AssetAlias("x"))
    context["triggering_asset_events"] = SimpleNamespace(items=lambda: [(source, events) for source in sources])
    # A run by hand at some instant has an interval without length there: still no window.
    context |= {"data_interval_start": at(2024, 1, 3), "data_interval_end": at(2024, 1, 3)}
    step(dag, "features.build").work(context)
    (create,) = [stage.request for stage in session.build.stages if isinstance(stage.request, Create)]
    assert [one.ref for one in create.inputs[:2]] == [VERSION, "2" * 32]
    assert create.inputs[2].ref.startswith("other/weather2")


def test_only_references_to_the_published_version_are_pinned() -> None:
    request = {
        "verb": "squash", "name": "nyc/weather", "description": "nyc/weather",
        "refs": ["nyc/weather", "nyc/weather@published", "nyc/weather@1.0.0", "step:weather.build", "id:" + VERSION],
    }  # fmt: skip
    assert pinned(request, {"nyc/weather": "9" * 32}) == request | {
        "refs": ["9" * 32, "9" * 32, "nyc/weather@1.0.0", "step:weather.build", "id:" + VERSION]
    }


# --- part of another DAG ---------------------------------------------------------------------------------------------

PART = SPEC.replace("/data/orders", '"/data/${params.who}/${params.top}"').replace(
    "datasets:", "params: {who: {type: str}, top: {type: int, default: 3}}\ndatasets:"
)


def test_a_spec_can_be_a_group_of_tasks_in_a_dag_of_ones_own(spec: Any, serialized: Any) -> None:
    with DAG("mine", schedule="@daily") as dag:
        before, after = EmptyOperator(task_id="before"), EmptyOperator(task_id="after")
        before >> dataset_task_group(spec(PART), params={"who": "{{ ds }}"}) >> after
        dataset_task_group(spec(PART, "again.yaml"), group_id="again", params={"who": "ana"})
    steps = ["orders.build", "features.build", "features.publish", "flat.squash"]
    assert sorted(dag.task_ids) == sorted(["before", "after", *(f"{g}.{s}" for g in ("shop", "again") for s in steps)])
    assert dag.task_dict["shop.orders.build"].upstream_task_ids == {"before"}
    assert dag.task_dict["after"].upstream_task_ids == {"shop.flat.squash"}
    assert dag.task_dict["shop.features.publish"].outlets == [dataset_asset("crm/features")]
    serialized(dag)


def test_a_group_takes_its_params_from_its_call_then_the_dag_then_the_spec(
    spec: Any, session: Any, context: dict[str, Any]
) -> None:
    with DAG("mine", schedule=None) as dag:
        dataset_task_group(spec(PART), params={"who": "{{ ti.task_id }}"})
    task = step(dag, "shop.orders.build")
    assert task.template_fields == ("given",)
    task.render_template_fields(context)
    for of_dag, path in (({}, "/data/create/3"), ({"top": 7, "who": "no"}, "/data/create/7")):
        session.calls.clear()
        task.work(context | {"params": of_dag})
        (added,) = [stage.request for stage in session.build.stages if isinstance(stage.request, AddFiles)]
        assert added.path == path
    left(context, "shop.orders.build")
    step(dag, "shop.features.build").work(context)
    assert session.build.verb == "build"


def test_the_window_of_a_group_is_the_runs_data_interval(spec: Any, session: Any, context: dict[str, Any]) -> None:
    path = spec(SPEC.replace("/data/orders", '"/data/${run.date}"'), top='schedule: {cron: "0 6 * * 1"}')
    with DAG("mine", schedule=None) as dag:
        dataset_task_group(path)
    with pytest.raises(AirflowFailException, match="no window"):
        step(dag, "shop.orders.build").work(context)
    step(dag, "shop.orders.build").work(
        context | {"data_interval_start": at(2024, 1, 3), "data_interval_end": at(2024, 1, 4)}
    )
    (added,) = [stage.request for stage in session.build.stages if isinstance(stage.request, AddFiles)]
    assert added.path == "/data/2024-01-03"


def test_a_group_without_a_dag_or_with_an_unknown_param_is_refused(spec: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="outside of a DAG"):
        dataset_task_group(spec())
    with DAG("mine", schedule=None), pytest.raises(InvalidArgumentError, match="no param whom"):
        dataset_task_group(spec(PART), params={"whom": 1})


# --- partitions ------------------------------------------------------------------------------------------------------


def test_the_event_of_a_partition_has_it_in_its_extra_and_as_its_key_only_where_asked(
    spec: Any, session: Any, context: dict[str, Any]
) -> None:
    session.partition = "2024-01-30"
    left(context, "features.build")
    session.answers["publish"] = {"name": "features"}
    for keyed in (False, True):
        dag = dag_from_spec(spec(), partition_events=keyed)
        step(dag, "features.publish").work(context)
        event = context["outlet_events"][dataset_asset("crm/features")]
        assert event.extra["partition"] == "2024-01-30"
        if hasattr(event, "partition_keys"):
            assert event.partition_keys == ({"2024-01-30"} if keyed else set())


# --- problems --------------------------------------------------------------------------------------------------------

BROKEN = SPEC.replace("inputs: [orders]", "inputs: [ordres]").replace("name: shop", "name: broken")


def test_a_spec_with_problems_is_the_import_error_of_its_file_alone(spec: Any, tmp_path: Path, dag_bag: Any) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    for name, text in (("shop", SPEC), ("broken", BROKEN)):
        path = spec(text, f"{name}.yaml")
        (folder / f"{name}.py").write_text(
            "from airflow_provider.dags import dag_from_spec  # a dag of airflow\n"
            f"{name} = dag_from_spec({str(path)!r})\n"
        )
    bag = dag_bag(folder)
    assert list(bag.dags) == ["shop"]
    assert bag.dags["shop"].fileloc == str(folder / "shop.py")
    (error,) = bag.import_errors.values()
    line = BROKEN.splitlines().index("    inputs: [ordres]") + 1
    assert f"broken.yaml:{line}:14: datasets.features.inputs[0]" in error
    assert "did you mean 'orders'?" in error


def test_a_broken_spec_hides_no_other_of_its_folder(
    spec: Any, tmp_path: Path, context: dict[str, Any], serialized: Any
) -> None:
    spec(SPEC)
    spec(BROKEN, "zz.yml")
    (tmp_path / "dataset-tasks.yaml").write_text("profiles: {}\n")
    found = load_dags(tmp_path)
    assert sorted(found) == ["broken", "shop"]
    broken = found["broken"]
    assert broken.tags == {"spec-error"}
    assert "did you mean 'orders'?" in (broken.doc_md or "")
    with pytest.raises(AirflowFailException, match=r"zz\.yml:\d+:14"):
        broken.tasks[0].execute(context)
    serialized(broken)
    with pytest.raises(SpecError):
        load_dags(tmp_path, on_error="raise")


def test_a_worker_builds_only_the_dag_of_its_task(spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        spec(SPEC.replace("name: shop", f"name: {name}"), f"{name}.yaml")
    spec(SPEC.replace("name: shop", "name: other"), "zz.yaml")
    read: list[str] = []

    def counted(path: Path, **options: Any) -> DAG:
        read.append(Path(path).name)
        return dag_from_spec(path, **options)

    monkeypatch.setattr(dags, "dag_from_spec", counted)
    monkeypatch.setattr(dags, "get_parsing_context", lambda: SimpleNamespace(dag_id="b", task_id="orders.build"))
    assert list(load_dags(tmp_path)) == ["b"]
    assert read == ["b.yaml"]
    monkeypatch.setattr(dags, "get_parsing_context", lambda: SimpleNamespace(dag_id="other", task_id=None))
    assert list(load_dags(tmp_path)) == ["other"]


def test_two_specs_of_one_name_are_refused(spec: Any, tmp_path: Path) -> None:
    spec(SPEC)
    spec(SPEC, "again.yaml")
    with pytest.raises(InvalidArgumentError, match="two specs"):
        load_dags(tmp_path)


def test_paths_must_not_depend_on_where_airflow_runs() -> None:
    with pytest.raises(InvalidArgumentError, match="relative") as caught:
        dag_from_spec("shop.yaml")
    assert "__file__" in caught.value.hint
    with pytest.raises(InvalidArgumentError, match="absolute"):
        load_dags("specs")


def test_data_that_this_machine_does_not_see_is_no_parse_error(spec: Any) -> None:
    assert dag_from_spec(spec(SPEC.replace("/data/orders", "no/such/folder"))).dag_id == "shop"


@pytest.mark.parametrize("top", ["", 'schedule: {cron: "0 6 * * *", start: "2024-01-01", catchup: true}'])
def test_a_parse_loads_nothing_that_works_on_data(spec: Any, top: str) -> None:
    code = f"""
import sys
from airflow.sdk import DAG
before = set(sys.modules)
from airflow_provider.dags import dag_from_spec
dag_from_spec({str(spec(top=top))!r})
new = set(sys.modules) - before
heavy = ("sqlalchemy", "alembic", "pyarrow", "pandas", "numpy", "boto3", "obstore")
print(sorted(name for name in new if name.split(".")[0] in heavy))
own = ("session", "catalog", "store", "manifest", "chunks", "cache", "scan", "ops.run", "dataset")
print(sorted(name for name in new if name.startswith(tuple(f"dataset_tasks.{{part}}" for part in own))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_a_build_is_one_task(spec: Any, session: Any, context: dict[str, Any]) -> None:
    step(dag_from_spec(spec()), "orders.build").work(context)
    assert [type(call.request) for call in session.calls] == [Build]
