"""Runs the windows of a schedule that were missed, or failed: each once, those that are done are passed over."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dataset_tasks.errors import DatasetError, InvalidArgumentError
from dataset_tasks.model import JsonValue, State, Version
from dataset_tasks.ops.requests import Build, Create
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.spec.interrupts import Follower, Interrupts, Wake
from dataset_tasks.spec.outcome import UNOBSERVED, Observer, RunInterruptedError, RunReport
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, filled
from dataset_tasks.spec.preview import standing
from dataset_tasks.spec.run import new_run_id, run_window
from dataset_tasks.spec.runner import Clock
from dataset_tasks.spec.windows import Window, moment, windows_between, zone

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: Most windows of one call: a slip of the year asks for more.
MOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOutcome:
    """What came of one window: its report, the error that ended it before it began, or neither: it was done before."""

    window: Window
    report: RunReport | None = None
    error: BaseException | None = None

    @property
    def status(self) -> str:
        """`done` (before), `made`, `unchanged`, `waits` or `failed`."""
        if self.report is None:
            return "failed" if self.error is not None else "done"
        if self.report.ok:
            return "made" if self.report.changed else "unchanged"
        return "waits" if self.report.waits else "failed"

    def to_json(self) -> dict[str, JsonValue]:
        """The outcome as JSON; times in ISO 8601."""
        return {
            "interval_start": self.window.start.isoformat(),
            "interval_end": self.window.end.isoformat(),
            "status": self.status,
            "error": str(self.error) if self.error is not None else None,
            "run": self.report.to_json() if self.report is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """A backfill that is over; `outcomes` by window, those that Ctrl-C left out are not in it."""

    outcomes: tuple[WindowOutcome, ...]
    interrupted: bool = False

    def count(self, status: str) -> int:
        """How many windows ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)


@dataclass(slots=True)
class _Backfill:
    plan: Plan
    session: Session
    params: Mapping[str, JsonValue]
    progress: Progress
    observer: Observer
    clock: Clock | None
    wakes: list[Wake] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_done(self, window: Window) -> bool:
        """Whether a run of the window came to its end, here or elsewhere, and what it made still stands."""
        catalog = self.session.catalog
        ended = catalog.recorded(self.key(window))
        if ended is not None and catalog.version(ended.version_id).state.is_final:
            return True
        scope = self.scope(window)
        return all(self._stands(dataset, scope) for dataset in self.plan.datasets)

    def _stands(self, dataset: PlannedDataset, scope: Scope) -> bool:
        """Whether a dataset has a good version of the window or, with partitions, of its partition."""
        if dataset.partition is not None:
            partition = filled(dataset.partition, scope)
            found = self.session.catalog.previous(dataset.project, dataset.name, partition)
            return found is not None and _is_out(dataset, found)
        return any(
            version.state.is_final and not version.quarantined and _is_out(dataset, version)
            for version in _of_window(self.session, dataset, scope)
        )

    def key(self, window: Window) -> str:
        """What the end of a window's run is recorded under: the same for the same params, whatever became of the spec."""
        facts = json.dumps([self.plan.name, self.plan.project, self.plan.profile, self.params], sort_keys=True)
        start = window.start.astimezone(UTC).isoformat()
        return f"window/{hashlib.sha256(facts.encode()).hexdigest()[:32]}/{start}"

    def scope(self, window: Window) -> Scope:
        return Scope(
            run_id="",
            params=self.params,
            interval_start=window.start,
            interval_end=window.end,
            profile=self.plan.profile,
        )

    def run(self, window: Window, jobs: int, interrupts: Callable[[Wake], Interrupts]) -> WindowOutcome:
        try:
            report = run_window(
                self.plan,
                self.session,
                window,
                params=self.params,
                jobs=jobs,
                progress=self.progress,
                observer=_Serial(self.observer, self.lock),
                run_id=new_run_id(),
                clock=self.clock,
                interrupts=interrupts,
                standing=standing_in_window(self.plan, self.session, self.scope(window)),
            )
        except DatasetError as error:
            return WindowOutcome(window=window, error=error)
        if report.ok:
            self._remember(window, report)
        return WindowOutcome(window=window, report=report)

    def _remember(self, window: Window, report: RunReport) -> None:
        from dataset_tasks.catalog.writes import Record  # pulls in SQLAlchemy

        last = next((outcome.result for outcome in reversed(report.outcomes) if outcome.result is not None), None)
        if last is None:
            return  # all that the window makes was there, and none of it is published
        record = Record(
            key=self.key(window), verb="window", digest=self.plan.digest, result=lambda _: {"run_id": report.run_id}
        )
        self.session.catalog.remember(record, self.session.catalog.version(last.version_id))


class _Serial:
    """An observer that several runs tell at once, one after the other."""

    def __init__(self, inner: Observer, lock: threading.Lock) -> None:
        self._inner, self._lock = inner, lock

    def __getattr__(self, name: str) -> Callable[..., None]:
        told = getattr(self._inner, name)

        def tell(*given: object) -> None:
            with self._lock:
                told(*given)

        return tell


def standing_in_window(plan: Plan, session: Session, scope: Scope) -> dict[str, str]:
    """What an earlier run of the scope's window made and nothing has changed for since: version ids by version step."""
    begun = (_of_window(session, dataset, scope) for dataset in plan.datasets)
    if not any(version.state.is_final for versions in begun for version in versions):
        return {}
    try:
        return standing(plan, session, scope)
    except DatasetError:
        return {}  # what is wrong ends the run itself, at the step that it belongs to


def _of_window(session: Session, dataset: PlannedDataset, scope: Scope) -> list[Version]:
    return session.catalog.versions(project=dataset.project, name=dataset.name, window=scope.interval_start)


def windows_to_fill(plan: Plan, first: str | None, last: str | None, now: datetime) -> list[Window]:
    """The windows from one day or instant to another (its end, not included), as far as they are over.

    Args:
        plan: Whose schedule.
        first: Default the schedule's `start`.
        last: Default now.
        now: The present moment.

    Raises:
        InvalidArgumentError: The plan has no schedule with windows, a date can't be read, or no window lies between.
    """
    schedule = plan.schedule
    if schedule is None or schedule.after:
        raise InvalidArgumentError(
            f"{plan.name} has no windows to fill: it {'runs by hand' if schedule is None else 'runs after another dataset'}",
            hint="Give it a schedule with cron or every.",
        )
    begin = first or schedule.start
    if begin is None:
        raise InvalidArgumentError("nothing says where to begin", hint="Give --from, or the schedule a start.")
    where = zone(schedule.timezone)
    until = min(moment(last, where), now) if last is not None else now
    found: list[Window] = []
    for window in windows_between(schedule, moment(begin, where), until):
        found.append(window)
        if len(found) > MOST:
            raise InvalidArgumentError(f"there are more than {MOST:,} windows since {begin}", hint="Begin later.")
    if not found:
        raise InvalidArgumentError(
            f"no window of {plan.name} begins at {begin} or later and ends by {until.isoformat()}",
            hint="Give another --from or --to.",
        )
    return found


def run_backfill(
    plan: Plan,
    session: Session,
    *,
    first: str | None = None,
    last: str | None = None,
    jobs: int = 2,
    params: Mapping[str, JsonValue] | None = None,
    progress: Progress = SILENT,
    observer: Observer = UNOBSERVED,
    clock: Clock | None = None,
) -> BackfillReport:
    """Runs the missing windows of a plan, the oldest first; run again it goes on with those that are missing still.

    A window is done when its run came to its end here, or when every dataset has a good version of it (published, where
    the spec publishes). In one that is missing still, versions that an earlier run of it made are left alone as long as they
    would be made the same again: what waits for an answer is not asked about twice. Several windows run at one time, unless a dataset starts from its own last version: then they go
    one after the other. A window that fails keeps no other from running.

    Args:
        plan: What to run.
        session: Where versions are made.
        first: As in `windows_to_fill`.
        last: As in `windows_to_fill`.
        jobs: How many windows run at one time; of windows that go one by one, how many steps.
        params: As in `run_plan`.
        progress: Is told about long work inside steps.
        observer: Is told how the runs go on; from several threads, one at a time.
        clock: For tests.

    Raises:
        InvalidArgumentError: A parameter or a date is wrong, or there are no windows; nothing was made.
    """
    if jobs < 1:
        raise InvalidArgumentError(f"jobs is {jobs}; at least one window must run at a time")
    values = check_params(plan, params)
    wanted = windows_to_fill(plan, first, last, session.clock())
    work = _Backfill(plan, session, values, progress, observer, clock)
    done = {window for window in wanted if work.is_done(window)}
    missing = [window for window in wanted if window not in done]
    outcomes = {window: WindowOutcome(window=window) for window in done}
    at_once, inside = (1, jobs) if _goes_on(plan) else (jobs, 1)
    interrupts = Interrupts(all_of(work.wakes))
    with interrupts, ThreadPoolExecutor(at_once, thread_name_prefix="dataset-tasks-window") as pool:

        def one(window: Window) -> WindowOutcome | None:
            if interrupts.came:
                return None
            try:
                return work.run(window, inside, lambda wake: Follower(interrupts, work.wakes, wake))
            except RunInterruptedError as stopped:
                return WindowOutcome(window=window, report=stopped.report)

        for outcome in pool.map(one, missing):
            if outcome is not None:
                outcomes[outcome.window] = outcome
    found = tuple(outcomes[window] for window in wanted if window in outcomes)
    return BackfillReport(outcomes=found, interrupted=interrupts.came)


def all_of(wakes: Sequence[Wake]) -> Wake:
    """Wakes all that wait; safe in a signal handler."""

    def wake() -> None:
        for each in list(wakes):
            each()

    return wake


def _creates(plan: Plan, step_id: str) -> Iterator[Create]:
    request = plan.step(step_id).request
    for each in (stage.request for stage in request.stages) if isinstance(request, Build) else (request,):
        if isinstance(each, Create):
            yield each


def _goes_on(plan: Plan) -> bool:
    """Whether a window builds on what the one before it made."""
    return any(
        create.previous and create.partition is None for step in plan.steps for create in _creates(plan, step.id)
    )


def _is_out(dataset: PlannedDataset, version: Version) -> bool:
    return dataset.publish_step is None or version.state is State.PUBLISHED
