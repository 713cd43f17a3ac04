"""Runs a plan here: steps in threads, each as soon as what it needs is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.spec.interrupts import Interrupts, Wake
from dataset_tasks.spec.outcome import UNOBSERVED, Observer, RunReport
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, Step, filled, lookup, placeholders_of
from dataset_tasks.spec.runner import Clock, RealClock, Runner
from dataset_tasks.spec.select import select as select_datasets
from dataset_tasks.spec.windows import Window, window_at, window_for

if TYPE_CHECKING:
    from dataset_tasks.session import Session


def run_plan(
    plan: Plan,
    session: Session,
    *,
    params: Mapping[str, JsonValue] | None = None,
    date: str | datetime | None = None,
    jobs: int = 2,
    select: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    progress: Progress = SILENT,
    observer: Observer = UNOBSERVED,
    run_id: str | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Runs a plan in this process.

    A step that fails leaves what is below it skipped; the rest goes on. A step is tried again as often as its
    `retries` say, unless its error says that trying again can't help. Running the plan once more, under the same run
    id or another, goes on where it stopped.

    Args:
        plan: What to run.
        session: Where versions are made.
        params: Values of parameters by name.
        date: The instant, or the day, that the run stands for; see `windows`. Without it the run has no window.
        jobs: How many steps run at one time.
        select: Datasets to run, as `select.select` reads them; all others are taken as they are in the catalog.
        exclude: Datasets not to run.
        progress: Is told about long work inside steps; from several threads.
        observer: Is told how the run goes on; from the calling thread.
        run_id: Names the run, and its operation keys `run/<run id>/<step id>`; a new one by default.
        clock: For tests.

    Raises:
        InvalidArgumentError: A parameter, the date or a selection is wrong, or a placeholder has no value in this
            run; nothing was made.
        NotFoundError: A dataset that was not selected has no version to be read; nothing was made.
        RunInterruptedError: Ctrl-C: steps under way were stopped, their drafts dropped; it holds the report.
    """
    if jobs < 1:
        raise InvalidArgumentError(f"jobs is {jobs}; at least one step must run at a time")
    return run_window(
        plan,
        session,
        _window(plan, date),
        params=params,
        jobs=jobs,
        select=select,
        exclude=exclude,
        progress=progress,
        observer=observer,
        run_id=run_id,
        clock=clock,
    )


def run_window(
    plan: Plan,
    session: Session,
    window: Window | None,
    *,
    params: Mapping[str, JsonValue] | None = None,
    jobs: int = 2,
    select: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    progress: Progress = SILENT,
    observer: Observer = UNOBSERVED,
    run_id: str | None = None,
    clock: Clock | None = None,
    interrupts: Callable[[Wake], Interrupts] = Interrupts,
    standing: Mapping[str, str] | None = None,
) -> RunReport:
    """As `run_plan`, for a window that is known; `interrupts` notes Ctrl-C.

    `standing` are versions that need not be made again, by version step: of their datasets only approval and publishing
    are run.

    Raises:
        InvalidArgumentError, NotFoundError, RunInterruptedError: As `run_plan`.
    """
    scope = Scope(
        run_id=run_id or new_run_id(),
        params=check_params(plan, params),
        interval_start=window.start if window else None,
        interval_end=window.end if window else None,
        profile=plan.profile,
    )
    keys = frozenset(select_datasets(plan, select, exclude))
    made = {
        step
        for dataset in plan.datasets
        if dataset.version_step in (standing or {})
        for step in dataset.steps
        if step not in (dataset.approve_step, dataset.publish_step)
    }
    steps = tuple(step for step in plan.steps if step.dataset in keys and step.id not in made)
    _check_placeholders(steps, scope)
    taken = {**_taken(plan, keys, session, scope), **(standing or {})}
    return Runner(
        plan, session, scope, steps, taken, jobs, progress, observer, clock or RealClock(), interrupts=interrupts
    ).run()


def new_run_id() -> str:
    """A name for a run that no other has: the time, so that runs sort, and chance."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _window(plan: Plan, date: str | datetime | None) -> Window | None:
    if date is None:
        return None
    if isinstance(date, str):
        return window_for(plan.schedule, date)
    if plan.schedule is None:
        return window_for(None, date.isoformat())
    return window_at(plan.schedule, date)


def _check_placeholders(steps: Sequence[Step], scope: Scope) -> None:
    """Raises for the first placeholder without a value, before anything is made."""
    for step in steps:
        for name in sorted(placeholders_of(step.request)):
            lookup(name, scope)


def _taken(plan: Plan, keys: frozenset[str], session: Session, scope: Scope) -> dict[str, str]:
    """The versions that stand for datasets which are read but not run, by version step; of this run's partition."""
    read = {
        reference.removeprefix("step:")
        for dataset in plan.datasets
        if dataset.key in keys
        for reference in (*dataset.parents, *dataset.inputs)
        if reference.startswith("step:")
    }
    taken: dict[str, str] = {}
    for dataset in plan.datasets:
        if dataset.key not in keys and dataset.version_step in read:
            taken[dataset.version_step] = _standing(dataset, session, scope).id
    return taken


def _standing(dataset: PlannedDataset, session: Session, scope: Scope) -> Version:
    """The version of a dataset that is read but not run: the latest, in a window none of a later one."""
    part = f"[{filled(dataset.partition, scope)}]" if dataset.partition is not None else ""
    hint = f"Run it too: select +{dataset.key}, or leave the selection out."
    try:
        newest = session.catalog.resolve(f"{dataset.project}/{dataset.name}@latest{part}")
    except NotFoundError as error:
        raise NotFoundError(
            f"{dataset.key!r} is read but was not selected, and has no finished version yet", hint=hint
        ) from error
    window = scope.interval_start
    if window is None or newest.window is None or newest.window <= window:
        return newest
    found = session.catalog.previous(dataset.project, dataset.name, newest.partition, until=window)
    if found is None:
        raise NotFoundError(
            f"{dataset.key!r} is read but was not selected, and all its finished versions are of later windows than "
            f"{window.isoformat()}",
            hint=hint,
        )
    return found
