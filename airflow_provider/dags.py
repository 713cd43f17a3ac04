"""Lineage specs as DAGs: `dag_from_spec(path)` for one, `load_dags(folder)` for all of a folder, or as part of a DAG.

Airflow parses a DAG file again for every task, so nothing here touches a catalog, a store or the network, or loads what
would: the plan holds plain data, and the work is in `DatasetStepOperator`, which is imported light too.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast

from airflow.sdk import DAG, Asset, TaskGroup, get_parsing_context
from airflow.sdk import Param as DagParam

from airflow_provider.assets import asset_of, watched_asset
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID
from airflow_provider.operators.step import BrokenSpecOperator, DatasetStepOperator
from airflow_provider.schedules import schedule_of
from dataset_tasks.errors import InvalidArgumentError, SpecError
from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    AnyRequest,
    Approve,
    Build,
    Check,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Squash,
    SyncFolder,
    Transform,
    Upload,
    Verify,
)
from dataset_tasks.spec.compiler import compile_spec

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.spec.plan import Param, Plan, PlannedDataset, Step

#: JSON Schema of a parameter, by its type in the spec.
_PARAM_SCHEMAS: Mapping[str, Mapping[str, str]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "date": {"type": "string", "format": "date"},
}
#: The start date of a DAG that catches up, as Airflow wants it to have one; where it begins is in its timetable.
LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)
_SETTINGS_FILE = "dataset-tasks.yaml"
_NAME_LINE = re.compile(r"^name:\s*[\"']?([\w.-]+)", re.MULTILINE)


def dag_from_spec(
    path: str | os.PathLike[str],
    *,
    dag_id: str | None = None,
    profile: str | None = None,
    conn_id: str | None = None,
    tags: Collection[str] = (),
    max_active_runs: int | None = None,
    dagrun_timeout: timedelta | None = None,
    is_paused_upon_creation: bool | None = None,
    partition_events: bool = False,
    watched: Collection[str | Asset] = (),
) -> DAG:
    """The DAG of a lineage spec. Assign it to a variable of the DAG file, as Airflow looks for DAGs there.

    Task ids are the plan's step ids, such as `training.build` and `training.publish`; each dataset is a task group.

    Args:
        path: The YAML file, absolute: `Path(__file__).with_name("flights.yaml")`.
        dag_id: Default the spec's name.
        profile: Of `dataset-tasks.yaml`; default DATASET_TASKS_PROFILE.
        conn_id: Airflow connection of all tasks; default what the spec says, else `dataset_tasks_default`.
        tags: Beside those of the spec.
        max_active_runs: How many runs at once; default the spec's, else one: the versions of a dataset follow each
            other.
        dagrun_timeout: After which a run fails.
        is_paused_upon_creation: Whether a new DAG waits to be switched on; default Airflow's setting.
        partition_events: The asset events of datasets with a `partition` carry it as their partition key (Airflow 3.2).
            They then start DAGs with a partitioned timetable only, and no others.
        watched: Datasets that are published outside of this Airflow too: in outlets and schedule they are assets with a
            watcher, as `watched_asset` makes them, or the very assets that are given here.

    Raises:
        SpecError: The spec has problems: Airflow shows them, each with line and column, as this file's import error.
        InvalidArgumentError: The path is relative, or something watched is no dataset.
    """
    return dag_from_plan(
        _compiled(path, profile),
        dag_id=dag_id,
        conn_id=conn_id,
        tags=tags,
        max_active_runs=max_active_runs,
        dagrun_timeout=dagrun_timeout,
        is_paused_upon_creation=is_paused_upon_creation,
        partition_events=partition_events,
        watched=watched,
    )


def dataset_task_group(
    path: str | os.PathLike[str],
    *,
    group_id: str | None = None,
    params: Mapping[str, object] | None = None,
    profile: str | None = None,
    conn_id: str | None = None,
    partition_events: bool = False,
    watched: Collection[str | Asset] = (),
) -> TaskGroup:
    """The tasks of a lineage spec as one task group of the DAG at hand, to put between others with `>>`.

    Task ids are the plan's step ids below the group's. The DAG's schedule holds, and the spec's own is left out: where its
    runs have a data interval, that is the window of `${run.date}`.

    Args:
        path: The YAML file, absolute.
        group_id: Default the spec's name.
        params: Values of the spec's params for each run; templates are rendered. What is missing is taken from the DAG's
            params of the same name, then from the spec's defaults.
        profile: As in `dag_from_spec`.
        conn_id: As in `dag_from_spec`.
        partition_events: As in `dag_from_spec`.
        watched: As in `dag_from_spec`.

    Raises:
        SpecError: The spec has problems.
        InvalidArgumentError: The path is relative, a param is unknown, or there is no DAG at hand.
    """
    plan = dataclasses.replace(_compiled(path, profile), schedule=None)
    unknown = sorted(set(params or ()) - {param.name for param in plan.params})
    if unknown:
        raise InvalidArgumentError(
            f"the spec {plan.name!r} has no param {', '.join(unknown)}",
            hint=f"It has {', '.join(param.name for param in plan.params) or 'none'}.",
        )
    try:
        group = TaskGroup(group_id=group_id or plan.name, tooltip=plan.description)
    except RuntimeError as error:
        raise InvalidArgumentError(
            "dataset_task_group was called outside of a DAG", hint="Call it in `with DAG(...):`, or in a @dag function."
        ) from error
    choices = _Choices(conn_id, dict(params or {}), partition_events, _assets(plan, watched, conn_id))
    _add_tasks(plan, group.dag, group, choices)
    return group


def _compiled(path: str | os.PathLike[str], profile: str | None) -> Plan:
    if not Path(path).is_absolute():
        raise InvalidArgumentError(
            f"the path of the spec is relative: {os.fspath(path)!r}",
            hint="Airflow runs DAG files from anywhere; write Path(__file__).with_name(...).",
        )
    return compile_spec(path, profile=profile, check_sources=False)


def load_dags(
    folder: str | os.PathLike[str],
    *,
    profile: str | None = None,
    conn_id: str | None = None,
    tags: Collection[str] = (),
    watched: Collection[str | Asset] = (),
    on_error: Literal["dag", "raise"] = "dag",
) -> dict[str, DAG]:
    """The DAGs of all specs (`*.yaml`, `*.yml`) of a folder, by id: `globals().update(load_dags(...))`.

    In a worker only the DAG of the task at hand is built.

    Args:
        folder: Absolute; folders in it are not looked into.
        profile: As in `dag_from_spec`.
        conn_id: As in `dag_from_spec`.
        tags: As in `dag_from_spec`.
        watched: As in `dag_from_spec`.
        on_error: A spec with problems becomes a DAG that shows them and can't run (`dag`), so that the others stay; or
            they are this file's import error (`raise`), which hides the others too.

    Raises:
        SpecError: A spec has problems, and `on_error` is `raise`.
        InvalidArgumentError: The folder does not exist or is relative, or two specs have the same name.
    """
    place = Path(folder)
    if not place.is_absolute() or not place.is_dir():
        raise InvalidArgumentError(
            f"{os.fspath(folder)!r} is not the absolute path of a folder", hint='Write Path(__file__).parent / "specs".'
        )
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for path in _specs(place, wanted):
        try:
            dag = dag_from_spec(path, profile=profile, conn_id=conn_id, tags=tags, watched=watched)
        except SpecError as error:
            if on_error == "raise":
                raise
            dag = _broken(path, error, tags)
        if dag.dag_id in dags:
            raise InvalidArgumentError(
                f"two specs of {place} have the name {dag.dag_id!r}", hint="Each becomes a DAG: name them apart."
            )
        dags[dag.dag_id] = dag
        if dag.dag_id == wanted:
            return {wanted: dag}
    return dags


def dag_from_plan(
    plan: Plan,
    *,
    dag_id: str | None = None,
    conn_id: str | None = None,
    tags: Collection[str] = (),
    max_active_runs: int | None = None,
    dagrun_timeout: timedelta | None = None,
    is_paused_upon_creation: bool | None = None,
    partition_events: bool = False,
    watched: Collection[str | Asset] = (),
) -> DAG:
    """The DAG of a plan that is compiled already; see `dag_from_spec`."""
    schedule = plan.schedule
    catchup = schedule is not None and schedule.catchup
    choices = _Choices(conn_id, None, partition_events, _assets(plan, watched, conn_id))
    at_once = max_active_runs or _lowest(plan, "max_active_runs") or 1
    dag = DAG(
        dag_id or plan.name,
        description=plan.description or None,
        schedule=schedule_of(schedule, choices.assets),
        start_date=LONG_AGO if catchup else None,
        catchup=catchup,
        params={param.name: _param(param) for param in plan.params},
        tags=sorted({*tags, *_listed(plan, "tags")}),
        max_active_runs=at_once,
        dagrun_timeout=dagrun_timeout,
        is_paused_upon_creation=is_paused_upon_creation,
        doc_md=_doc(plan),
    )
    _add_tasks(plan, dag, None, choices)
    return dag


@dataclasses.dataclass(frozen=True, slots=True)
class _Choices:
    """What whoever made the DAG has chosen for its tasks; values of params where it is a DAG of somebody's own."""

    conn_id: str | None
    given: Mapping[str, object] | None
    partition_events: bool
    assets: Mapping[str, Asset]


def _assets(plan: Plan, watched: Collection[str | Asset], conn_id: str | None) -> dict[str, Asset]:
    """The assets with watchers, by URI: in outlets and schedule alike, as Airflow keeps the watchers of the one read last."""
    made = (
        one if isinstance(one, Asset) else watched_asset(one, conn_id=conn_id or plan.connection or DEFAULT_CONN_ID)
        for one in watched
    )
    return {asset.uri: asset for asset in made}


def _add_tasks(plan: Plan, dag: DAG, parent: TaskGroup | None, choices: _Choices) -> None:
    """The tasks of a plan, each dataset a group; ids are the plan's step ids, below the parent's where there is one."""
    prefix = "" if parent is None else f"{parent.group_id}."
    task_ids = {step.id: f"{prefix}{step.id}" for step in plan.steps}
    steps = {step.id: step for step in plan.steps}
    tasks: dict[str, DatasetStepOperator] = {}
    for dataset in plan.datasets:
        group = TaskGroup(group_id=dataset.key, tooltip=dataset.description, dag=dag, parent_group=parent)
        for step_id in dataset.steps:
            step = steps[step_id]
            task = tasks[step_id] = _task(plan, dataset, step, task_ids, choices, dag=dag, group=group)
            for need in step.needs:
                # What `>>` comes down to; it hashes the whole DAG for each edge, to see that there is only one.
                task.upstream_task_ids.add(task_ids[need])
                tasks[need].downstream_task_ids.add(task.task_id)


def _task(
    plan: Plan,
    dataset: PlannedDataset,
    step: Step,
    task_ids: Mapping[str, str],
    choices: _Choices,
    *,
    dag: DAG,
    group: TaskGroup,
) -> DatasetStepOperator:
    options = dataset.airflow
    callback = options.get("on_failure_callback")
    return DatasetStepOperator(
        task_id=step.id.removeprefix(f"{dataset.key}."),
        dag=dag,
        task_group=group,
        plan=plan,
        step=step,
        task_ids=task_ids,
        given=choices.given,
        partition_events=choices.partition_events,
        conn_id=choices.conn_id or dataset.connection or plan.connection or DEFAULT_CONN_ID,
        trigger_rule="none_failed",  # each decides by itself whether it is unchanged; see DatasetStepOperator
        outlets=_outlets(cast("AnyRequest", step.request), dataset, choices.assets),
        retries=step.retries,
        retry_delay=timedelta(seconds=step.retry_delay),
        execution_timeout=None if step.timeout is None else timedelta(seconds=step.timeout),
        doc_md=dataset.doc or None,
        on_failure_callback=partial(_call_back, callback) if isinstance(callback, str) else None,
        **_chosen(options, "owner", "pool", "queue", "priority_weight"),
    )


def _chosen(options: Mapping[str, JsonValue], *names: str) -> dict[str, Any]:  # Any: typed by the spec's schema
    return {name: options[name] for name in names if name in options}


def _outlets(request: AnyRequest, dataset: PlannedDataset, known: Mapping[str, Asset]) -> list[Asset]:
    """What a step declares to emit: the dataset's asset on publish, and on nothing before it."""
    match request:
        case Publish():
            plain = asset_of(dataset.project, dataset.name)
            return [known.get(plain.uri, plain)]
        case Create() | AddFiles() | AddExternal() | SyncFolder() | RemoveFiles() | Transform() | Check():
            return []
        case Upload() | Finalize() | Build() | Approve() | Squash() | Verify() | GetCopy() | Delete():
            return []
        case _:
            assert_never(request)


def _param(param: Param) -> DagParam:
    schema: dict[str, Any] = {**_PARAM_SCHEMAS[param.type], **param.ends}  # Any: JSON Schema
    if param.required:
        return DagParam(description=param.description or None, **schema)
    if param.default is None:
        schema["type"] = ["null", schema["type"]]
    return DagParam(param.default, description=param.description or None, **schema)


def _doc(plan: Plan) -> str:
    parts = [plan.description, *(f"### {one.key}\n{one.doc}" for one in plan.datasets if one.doc)]
    parts.append(f"Compiled from `{Path(plan.source).name}`, SHA-256 `{plan.digest[:12]}`.")
    return "\n\n".join(part for part in parts if part)


def _listed(plan: Plan, option: str) -> set[str]:
    options = (plan.airflow, *(dataset.airflow for dataset in plan.datasets))
    return {str(item) for held in options for item in cast("Collection[str]", held.get(option) or ())}


def _lowest(plan: Plan, option: str) -> int | None:
    options = (plan.airflow, *(dataset.airflow for dataset in plan.datasets))
    return min((held[option] for held in options if isinstance(held.get(option), int)), default=None)  # type: ignore[type-var,return-value]  # ints, as asked


def _call_back(named: str, context: Context) -> None:
    """Calls the `module:function` that a spec names; imported only when it is needed."""
    module, _, name = named.partition(":")
    function: Callable[[Context], None] = getattr(import_module(module), name)
    function(context)


def _specs(folder: Path, wanted: str | None) -> list[Path]:
    """The specs of a folder by name; the one that is likely to be the wanted DAG first."""
    found = (path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.name != _SETTINGS_FILE)
    return sorted(found, key=lambda path: (path.stem != wanted, path.name))


def _broken(path: Path, error: SpecError, tags: Collection[str]) -> DAG:
    """A DAG in the place of one whose spec has problems: it shows them, and its only task fails with them."""
    named = _NAME_LINE.search(path.read_text(encoding="utf-8", errors="replace"))
    problems = "\n".join(error.problems)
    dag = DAG(
        named[1] if named else path.stem,
        schedule=None,
        description=f"{path.name}: {len(error.problems)} problems",
        tags=sorted({*tags, "spec-error"}),
        doc_md=f"**{path.name} can't be compiled**\n\n```\n{problems}\n```",
    )
    BrokenSpecOperator(task_id="spec_error", problems=str(error), dag=dag)
    return dag
