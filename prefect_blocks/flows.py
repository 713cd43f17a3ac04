"""Lineage specs as Prefect flows: `flights = flow_from_spec("flights.yaml")`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from copy import copy
from datetime import UTC, date, datetime
from importlib import import_module
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner
from pydantic import Field

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Param, Plan, Scope
from dataset_tasks.spec.windows import Window, window_at
from prefect_blocks.batches import batched
from prefect_blocks.plan_run import PlanRun
from prefect_blocks.running import Catalog, Json
from prefect_blocks.schedules import schedule_of, triggers_of

_TYPES: Final[Mapping[str, Any]] = {  # Any: types, some of them generic
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list[Any],
    "dict": dict[str, Any],
    "date": date,
}
_SCHEDULES: Final = ("interval", "cron", "rrule", "schedule", "schedules")
#: Short names of task runners, and where they are.
_RUNNERS: Final[Mapping[str, str]] = {
    "threads": "prefect.task_runners:ThreadPoolTaskRunner",
    "processes": "prefect.task_runners:ProcessPoolTaskRunner",
    "dask": "prefect_dask:DaskTaskRunner",
}


class SpecFlow(Flow[..., dict[str, Json]]):
    """The flow of a lineage spec. It knows when the spec is to run.

    Attributes:
        plan: The compiled spec.
    """

    def __init__(self, *given: Any, plan: Plan, **options: Any) -> None:  # Any: as Prefect's `Flow`
        super().__init__(*given, **options)
        self.plan = plan

    def with_options(self, **options: Any) -> SpecFlow:  # Any: as in Prefect's
        """The same flow with other options; see Prefect's `Flow.with_options`."""
        changed = copy(self)
        changed.__dict__.update(super().with_options(**options).__dict__)
        return changed

    if not TYPE_CHECKING:  # for type checkers the signatures of Prefect's own methods stand

        def to_deployment(self, name: str, **options: Any) -> Any:  # Any: as Prefect's
            """A deployment that runs when the spec says; see Prefect's `Flow.to_deployment`."""
            return super().to_deployment(name, **self._scheduled(options))

        async def ato_deployment(self, name: str, **options: Any) -> Any:  # Any: as Prefect's
            """As `to_deployment`, for coroutines."""
            return await super().ato_deployment(name, **self._scheduled(options))

    def _scheduled(self, options: dict[str, Any]) -> dict[str, Any]:  # Any: as Prefect's
        if not any(options.get(name) for name in _SCHEDULES):
            schedule = schedule_of(self.plan)
            options["schedules"] = [schedule] if schedule is not None else None
        if not options.get("triggers"):
            options["triggers"] = triggers_of(self.plan) or None
        return options


def flow_from_spec(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    variable: str | None = None,
    profile: str | None = None,
    catalog: Catalog = None,
    tags: Collection[str] = (),
    batch: int | None = None,
    task_runner: TaskRunner[PrefectFuture[Any]] | str | None = None,  # Any: results of any task
) -> SpecFlow:
    """The flow of a lineage spec: one task run per step of its plan, the spec's parameters as those of the flow.

    A step is submitted once all it needs has ended well. Where something failed, all below it ends as `Skipped` with the
    reason, the rest goes on, and the flow fails with the first error. A dataset that stays as it was ends as `Unchanged`.
    A run of a schedule stands for the schedule's window; a run by hand has none.

    Assign it to a variable of a module to serve or deploy it: Prefect finds it there again, by `variable`. Its deployments
    have the spec's schedule, unless they are given one: `after` starts a run on each published version.

    Args:
        path: The spec. Relative to the working folder; `Path(__file__).with_name("flights.yaml")` holds everywhere.
        name: Of the flow; default the spec's.
        variable: Name of the variable it is assigned to; default the spec's name, `_` for what can't be in a variable.
        profile: Of `dataset-tasks.yaml`; default `DATASET_TASKS_PROFILE`.
        catalog: For all steps: a block, or the name of a saved one; default the `connection` of the spec, else what the
            environment names.
        tags: Of all task runs, beside those of the spec.
        batch: With `granularity: operation`, how many adds (or links) of a dataset one task run takes; 1: each has its own.
            Default the spec's, else 50.
        task_runner: One, or its name as in a spec: `threads`, `processes`, `dask` or `module:name`. Default the spec's, else
            Prefect's threads.

    Returns:
        The flow; called, it gives the result of each dataset by key.

    Raises:
        SpecError: The spec has problems; `problems` holds all of them.
        InvalidArgumentError: The `task_runner` can't be found or is none, or `batch` is less than 1.
    """
    plan = compile_spec(path, profile=profile, check_sources=False)  # a parse of this file needs no data
    batched(plan, batch)  # so that a wrong size is refused here
    all_tags = frozenset({*tags, *cast("Collection[str]", plan.prefect.get("tags") or ())})

    def run(**params: Any) -> dict[str, Json]:  # Any: values of the spec's types, which Prefect has checked
        return PlanRun(plan, catalog, all_tags, scope_of_run(plan, params), batch).run()

    run.__name__ = run.__qualname__ = variable or re.sub(r"\W", "_", plan.name)
    run.__module__ = sys._getframe(1).f_globals.get("__name__", __name__)  # noqa: SLF001  # as collections.namedtuple does
    run.__doc__ = _docstring(plan)
    run.__signature__ = Signature([_parameter(param) for param in plan.params])  # type: ignore[attr-defined]  # for inspect
    return SpecFlow(
        run,
        plan=plan,
        name=name or plan.name,
        version=plan.digest[:12],
        description=plan.description or None,
        task_runner=_task_runner(plan, task_runner),
    )


def scope_of_run(plan: Plan, params: Mapping[str, Any]) -> Scope:  # Any: as Prefect hands them over
    """What the present flow run knows: its id, its parameters, the window it stands for.

    Raises:
        InvalidArgumentError: A parameter has a value that the spec does not allow, or the run has no window though a
            schedule started it.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    window: Window | None = None
    due = context.flow_run.expected_start_time
    if context.flow_run.auto_scheduled and due is not None and plan.schedule is not None and not plan.schedule.after:
        window = window_at(plan.schedule, datetime.fromtimestamp(due.timestamp(), UTC))  # Prefect's is one of pendulum
    given: dict[str, JsonValue] = {
        name: value.isoformat() if isinstance(value, date) else value for name, value in params.items()
    }
    return Scope(
        run_id=str(context.flow_run.id),
        params=check_params(plan, given),
        interval_start=window.start if window else None,
        interval_end=window.end if window else None,
        profile=plan.profile,
    )


def _parameter(param: Param) -> Parameter:
    kind = _TYPES[param.type]
    if ends := param.ends:
        kind = Annotated[kind, Field(ge=ends.get("minimum"), le=ends.get("maximum"), gt=ends.get("exclusiveMinimum"))]
    if param.required:
        return Parameter(param.name, Parameter.KEYWORD_ONLY, annotation=kind)
    default = param.default
    if param.type == "date" and isinstance(default, str):
        default = date.fromisoformat(default)  # type: ignore[assignment]  # a date is what the annotation says
    annotation = kind | None if default is None else kind
    return Parameter(param.name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _docstring(plan: Plan) -> str:
    """What Prefect reads descriptions of the flow and its parameters from."""
    lines = [plan.description or f"The datasets of {os.path.basename(plan.source)}."]
    if plan.params:
        lines += ["", "Args:", *(f"    {one.name}: {' '.join(one.description.split())}" for one in plan.params)]
    return "\n".join(lines)


def _task_runner(
    plan: Plan,
    given: object,  # the types of arguments are not checked in users' code
) -> TaskRunner[PrefectFuture[Any]] | None:  # Any: results of any task
    what = "task_runner" if given is not None else f"{plan.source}: prefect: task_runner"
    named = given if given is not None else plan.prefect.get("task_runner")
    if named is None:
        return None
    found = _runner_of_name(what, named) if isinstance(named, str) else named
    runner = found() if isinstance(found, type) else found
    if not isinstance(runner, TaskRunner):
        raise InvalidArgumentError(
            f"{what}: {named!r} is a {type(runner).__name__}, expected a TaskRunner",
            hint=f"Write {', '.join(_RUNNERS)}, or `module:name` of a task runner or a class of them.",
        )
    return runner


def _runner_of_name(what: str, name: str) -> object:
    module, _, attribute = _RUNNERS.get(name, name).partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{what}: {name!r} can't be found: {error}",
            hint=f"Write {', '.join(_RUNNERS)}, or `module:name` of a task runner or a class of them, and install it.",
        ) from error
