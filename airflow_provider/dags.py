"""Lineage specs as DAGs: `dag_from_spec(path)` for one, `load_dags(folder)` for all of a folder.

Airflow parses a DAG file again for every task, so nothing here touches a catalog, a store or the network, or loads what
would: the plan holds plain data, and the work is in `DatasetStepOperator`, which is imported light too.
"""

from __future__ import annotations

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

from airflow_provider.assets import dataset_asset
from airflow_provider.compat import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID
from airflow_provider.operators.step import BrokenSpecOperator, DatasetStepOperator
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
from dataset_tasks.spec.windows import moment, zone

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.spec.plan import Param, Plan, PlannedDataset, Schedule, Step

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

    Raises:
        SpecError: The spec has problems: Airflow shows them, each with line and column, as this file's import error.
        InvalidArgumentError: The path is relative.
    """
    if not Path(path).is_absolute():
        raise InvalidArgumentError(
            f"the path of the spec is relative: {os.fspath(path)!r}",
            hint="Airflow runs DAG files from anywhere; write Path(__file__).with_name(...).",
        )
    plan = compile_spec(path, profile=profile, check_sources=False)
    return dag_from_plan(
        plan,
        dag_id=dag_id,
        conn_id=conn_id,
        tags=tags,
        max_active_runs=max_active_runs,
        dagrun_timeout=dagrun_timeout,
        is_paused_upon_creation=is_paused_upon_creation,
    )


def load_dags(
    folder: str | os.PathLike[str],
    *,
    profile: str | None = None,
    conn_id: str | None = None,
    tags: Collection[str] = (),
    on_error: Literal["dag", "raise"] = "dag",
) -> dict[str, DAG]:
    """The DAGs of all specs (`*.yaml`, `*.yml`) of a folder, by id: `globals().update(load_dags(...))`.

    In a worker only the DAG of the task at hand is built.

    Args:
        folder: Absolute; folders in it are not looked into.
        profile: As in `dag_from_spec`.
        conn_id: As in `dag_from_spec`.
        tags: As in `dag_from_spec`.
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
            dag = dag_from_spec(path, profile=profile, conn_id=conn_id, tags=tags)
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
) -> DAG:
    """The DAG of a plan that is compiled already; see `dag_from_spec`."""
    schedule = plan.schedule
    at_once = max_active_runs or _lowest(plan, "max_active_runs") or 1
    dag = DAG(
        dag_id or plan.name,
        description=plan.description or None,
        schedule=_schedule(schedule),
        start_date=_start(schedule),
        catchup=schedule is not None and schedule.catchup,
        params={param.name: _param(param) for param in plan.params},
        tags=sorted({*tags, *_listed(plan, "tags")}),
        max_active_runs=at_once,
        dagrun_timeout=dagrun_timeout,
        is_paused_upon_creation=is_paused_upon_creation,
        doc_md=_doc(plan),
    )
    task_ids = {step.id: step.id for step in plan.steps}  # a group's id is its dataset's key, as in the plan
    steps = {step.id: step for step in plan.steps}
    tasks: dict[str, DatasetStepOperator] = {}
    for dataset in plan.datasets:
        group = TaskGroup(group_id=dataset.key, tooltip=dataset.description, dag=dag)
        for step_id in dataset.steps:
            step = steps[step_id]
            tasks[step_id] = _task(plan, dataset, step, task_ids, dag=dag, group=group, conn_id=conn_id)
            for need in step.needs:
                tasks[need] >> tasks[step_id]
    return dag


def _task(
    plan: Plan,
    dataset: PlannedDataset,
    step: Step,
    task_ids: Mapping[str, str],
    *,
    dag: DAG,
    group: TaskGroup,
    conn_id: str | None,
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
        conn_id=conn_id or dataset.connection or plan.connection or DEFAULT_CONN_ID,
        trigger_rule="none_failed",  # each decides by itself whether it is unchanged; see DatasetStepOperator
        outlets=_outlets(cast("AnyRequest", step.request), dataset),
        retries=step.retries,
        retry_delay=timedelta(seconds=step.retry_delay),
        execution_timeout=None if step.timeout is None else timedelta(seconds=step.timeout),
        doc_md=dataset.doc or None,
        on_failure_callback=partial(_call_back, callback) if isinstance(callback, str) else None,
        **_chosen(options, "owner", "pool", "queue", "priority_weight"),
    )


def _chosen(options: Mapping[str, JsonValue], *names: str) -> dict[str, Any]:  # Any: typed by the spec's schema
    return {name: options[name] for name in names if name in options}


def _outlets(request: AnyRequest, dataset: PlannedDataset) -> list[Asset]:
    """What a step declares to emit: the dataset's asset on publish, and on nothing before it."""
    match request:
        case Publish():
            return [dataset_asset(f"{dataset.project}/{dataset.name}")]
        case Create() | AddFiles() | AddExternal() | SyncFolder() | RemoveFiles() | Transform() | Check():
            return []
        case Upload() | Finalize() | Build() | Approve() | Squash() | Verify() | GetCopy() | Delete():
            return []
        case _:
            assert_never(request)


def _schedule(schedule: Schedule | None) -> Any:  # Any: Airflow takes timetables, assets, text and None here
    if schedule is None:
        return None
    if schedule.cron is not None:
        # A cron text alone would give Airflow's trigger timetable, in which a run has no data interval.
        return CronDataIntervalTimetable(schedule.cron, timezone=schedule.timezone)
    if schedule.every is not None:
        return DeltaDataIntervalTimetable(timedelta(seconds=schedule.every))
    return [dataset_asset(dataset) for dataset in schedule.after]


def _start(schedule: Schedule | None) -> datetime | None:
    """The DAG's start date: only where the scheduler needs it, to catch up from or to wait for.

    Airflow makes no tasks for a run dated before it, and calls such a run a success; without it the tasks run, and say
    that the window begins before the spec's `start`.
    """
    if schedule is None or schedule.start is None:
        return None
    start = moment(schedule.start, zone(schedule.timezone))
    return start if schedule.catchup or start > datetime.now(UTC) else None


def _param(param: Param) -> DagParam:
    schema: dict[str, Any] = dict(_PARAM_SCHEMAS[param.type])  # Any: JSON Schema
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
