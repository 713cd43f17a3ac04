"""The loop of a local run: what is ready begins, what ends lets others begin. One thread decides, workers work."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from dataset_tasks.errors import DatasetError, InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests import Approve, ApproveResult, Publish, Result, VerifyResult
from dataset_tasks.progress import Progress
from dataset_tasks.spec.interrupts import Interrupts, Wake
from dataset_tasks.spec.outcome import Observer, RunInterruptedError, RunReport, Status, StepOutcome
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, Step, bind
from dataset_tasks.spec.problems import listed
from dataset_tasks.spec.worker import Ended, Endings, StepStoppedError, Worker

if TYPE_CHECKING:
    from dataset_tasks.session import Session

_log = logging.getLogger("dataset_tasks")

#: Seconds a step that was asked to stop has for it; then for stopping where it stands; then it is given up.
ASKED: Final = 2.0
FORCED: Final = 10.0


class Clock(Protocol):
    """Time, and waiting in it: tests bring their own, in which nothing sleeps."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def wait(self, endings: Endings, seconds: float | None, running: int) -> Ended | None:
        """The next ending, or None when there is none for so many seconds (None: wait for ever).

        `running` steps are under way; with none, nothing can end.
        """


class RealClock:
    """The computer's clock."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def wait(self, endings: Endings, seconds: float | None, running: int) -> Ended | None:
        """The next ending, or None when the time is up."""
        try:
            return endings.get(timeout=seconds)
        except Empty:
            return None


@dataclass(slots=True)
class _Tries:
    """What is known of a step that was begun."""

    count: int = 0
    seconds: float = 0.0
    worker: Worker | None = None
    deadline: float | None = None
    asked: bool = False
    forced: bool = False


@dataclass(slots=True)
class Runner:
    """One run; everything in it belongs to the calling thread, but for the queue of endings.

    Args:
        plan: What is run.
        session: Where versions are made.
        scope: What the run knows before it begins.
        steps: Those to run, in the plan's order.
        taken: Version ids that stand for datasets which are read but not run, by version step.
        jobs: How many steps run at one time.
        progress: Is told about long work inside steps.
        observer: Is told how the run goes on.
        clock: The time.
        interrupts: What notes Ctrl-C; given what wakes this run.
    """

    plan: Plan
    session: Session
    scope: Scope
    steps: tuple[Step, ...]
    taken: Mapping[str, str]
    jobs: int
    progress: Progress
    observer: Observer
    clock: Clock
    interrupts: Callable[[Wake], Interrupts] = Interrupts
    endings: Endings = field(default_factory=SimpleQueue)
    outcomes: dict[str, StepOutcome] = field(default_factory=dict)
    tries: dict[str, _Tries] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    ready: list[int] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    later: list[tuple[float, int]] = field(default_factory=list)
    running: dict[str, Step] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)
    datasets: dict[str, PlannedDataset] = field(default_factory=dict)

    def run(self) -> RunReport:
        """Runs all steps.

        Raises:
            InvalidArgumentError: The steps wait for each other.
            RunInterruptedError: Ctrl-C.
        """
        started, begin = datetime.now(UTC), self.clock.now()
        self._prepare()
        with self.interrupts(lambda: self.endings.put(None)) as interrupts:
            try:
                while len(self.outcomes) < len(self.steps) and not interrupts.came:
                    self._start_what_can()
                    if len(self.outcomes) < len(self.steps):
                        self._take_next()
            except KeyboardInterrupt:
                interrupts.came = True
            if interrupts.came:
                self._interrupt()
        report = RunReport(
            run_id=self.scope.run_id,
            plan=self.plan.name,
            spec=self.plan.source,
            spec_digest=self.plan.digest,
            started=started,
            seconds=self.clock.now() - begin,
            outcomes=tuple(self.outcomes[step.id] for step in self.steps),
            params=self.scope.params,
            taken={
                dataset.key: self.taken[dataset.version_step]
                for dataset in self.plan.datasets
                if dataset.version_step in self.taken
            },
            interval_start=self.scope.interval_start,
            interval_end=self.scope.interval_end,
            interrupted=interrupts.came,
        )
        if interrupts.came:
            raise RunInterruptedError(report)
        return report

    def _prepare(self) -> None:
        self.results.update(self.taken)
        self.place = {step.id: place for place, step in enumerate(self.steps)}
        self.below = {step.id: [] for step in self.steps}
        self.datasets = {dataset.key: dataset for dataset in self.plan.datasets}
        for step in self.steps:
            needs = [need for need in step.needs if need in self.place]
            self.waiting[step.id] = len(needs)
            for need in needs:
                self.below[need].append(step.id)
            if not needs:
                heapq.heappush(self.ready, self.place[step.id])

    # --- beginning ----------------------------------------------------------------------------------------------

    def _start_what_can(self) -> None:
        """Begins what is ready, the first of the plan first, as far as there is room."""
        while self.later and self.later[0][0] <= self.clock.now():
            heapq.heappush(self.ready, heapq.heappop(self.later)[1])
        while self.ready and len(self.running) < self.jobs:
            step = self.steps[heapq.heappop(self.ready)]
            stands = self._standing(step)
            if stands is not None:
                self._done(step, stands, 0.0)
            else:
                self._begin(step)

    def _standing(self, step: Step) -> Result | None:
        """The result that found this step's dataset unchanged: there is no draft left to work on."""
        if isinstance(step.request, Approve | Publish):
            return None
        for earlier in self.datasets[step.dataset].steps:
            outcome = self.outcomes.get(earlier)
            if outcome is not None and outcome.status is Status.UNCHANGED:
                return outcome.result
        return None

    def _begin(self, step: Step) -> None:
        tries = self.tries.setdefault(step.id, _Tries())
        tries.count += 1
        tries.asked = tries.forced = False
        self.running[step.id] = step
        self.observer.started(step, tries.count)

        def work(progress: Progress) -> Result:
            result = self.session.run(
                bind(step.request, self._scope()),
                key=f"run/{self.scope.run_id}/{step.id}",
                origin=self._origin(step),
                progress=progress,
            )
            _must_be_good(result)
            return result

        tries.worker = Worker(step.id, work, self.progress, self.endings, self.clock.now)
        tries.worker.start()
        tries.deadline = None if step.timeout is None else tries.worker.began + step.timeout

    def _scope(self) -> Scope:
        return Scope(
            run_id=self.scope.run_id,
            params=self.scope.params,
            interval_start=self.scope.interval_start,
            interval_end=self.scope.interval_end,
            profile=self.scope.profile,
            results=dict(self.results),
        )

    def _origin(self, step: Step) -> dict[str, JsonValue]:
        return {
            "runner": "local",
            "run_id": self.scope.run_id,
            "step": step.id,
            "spec": self.plan.name,
            "spec_digest": self.plan.digest,
            **self.scope.facts,
        }

    # --- ending -------------------------------------------------------------------------------------------------

    def _take_next(self) -> None:
        """Waits for a step to end, a time to be up, or a retry to be due."""
        if not self.running and not self.later:
            stuck = [step.id for step in self.steps if step.id not in self.outcomes]
            raise InvalidArgumentError(f"the plan {self.plan.name} can't go on: {listed(stuck)} wait for each other")
        moments = [tries.deadline for tries in map(self.tries.__getitem__, self.running) if tries.deadline is not None]
        moments += [due for due, _ in self.later[:1] if len(self.running) < self.jobs]
        until = min(moments) - self.clock.now() if moments else None
        ended = self.clock.wait(self.endings, until if until is None else max(until, 0.0), len(self.running))
        if ended is not None:
            self._take(ended)
        now = self.clock.now()
        for step in list(self.running.values()):
            deadline = self.tries[step.id].deadline
            if deadline is not None and deadline <= now:
                self._time_is_up(step)

    def _take(self, ended: Ended) -> None:
        step = self.running.pop(ended.step, None)
        if step is None:
            return  # given up on earlier: its time was up and it did not stop
        tries = self.tries[step.id]
        tries.seconds += ended.seconds
        tries.deadline = None
        if ended.result is not None:
            self._done(step, ended.result, tries.seconds)
            return
        assert ended.error is not None
        error = ended.error
        if tries.asked and isinstance(error, StepStoppedError):
            error = _timed_out(step, stopped=True)
        if tries.count <= step.retries and _may_retry(error):
            self.observer.retrying(step, error, step.retry_delay)
            heapq.heappush(self.later, (self.clock.now() + step.retry_delay, self.place[step.id]))
        else:
            self._failed(step, error)

    def _time_is_up(self, step: Step) -> None:
        """Asks a step to stop, then makes it, then gives it up."""
        tries = self.tries[step.id]
        assert tries.worker is not None
        if not tries.asked:
            tries.asked = True
            tries.deadline = self.clock.now() + ASKED
            tries.worker.stop()
            return
        if not tries.forced:
            tries.forced = True
            tries.deadline = self.clock.now() + FORCED
            tries.worker.force()
            return
        del self.running[step.id]
        tries.seconds += self.clock.now() - tries.worker.began
        self._failed(step, _timed_out(step, stopped=False))

    def _done(self, step: Step, result: Result, seconds: float) -> None:
        if isinstance(result, ApproveResult) and result.state != "approved":
            self._held_back(step, result, seconds)
            return
        self.results[step.id] = result.version_id
        status = Status.UNCHANGED if result.unchanged else Status.MADE
        self._conclude(step, status, result.why, seconds=seconds, result=result)
        for other in self.below[step.id]:
            self.waiting[other] -= 1
            if not self.waiting[other] and other not in self.outcomes:
                heapq.heappush(self.ready, self.place[other])

    def _held_back(self, step: Step, result: ApproveResult, seconds: float) -> None:
        """An answer is missing, or was no: nothing below goes on in this run."""
        what = f"{step.dataset} {result.version}"
        if result.state == "open":
            self._conclude(step, Status.WAITS, result.why, seconds=seconds, result=result)
            self._skip_below(step.id, f"{what} waits for approval", Status.WAITS)
        else:
            self._conclude(step, Status.REJECTED, result.why, seconds=seconds, result=result)
            self._skip_below(step.id, f"{what} {result.why}")

    def _failed(self, step: Step, error: BaseException) -> None:
        message = error.message if isinstance(error, DatasetError) else f"{type(error).__name__}: {error}"
        _log.debug("step %s failed", step.id, exc_info=error)
        self._conclude(step, Status.FAILED, message, seconds=self.tries[step.id].seconds, error=error)
        self._skip_below(step.id, f"{step.id} failed")

    def _skip_below(self, failed: str, why: str, status: Status = Status.SKIPPED) -> None:
        todo = [failed]
        while todo:
            for other in self.below[todo.pop()]:
                if other not in self.outcomes:
                    self._conclude(self.steps[self.place[other]], status, why)
                    todo.append(other)

    def _conclude(
        self,
        step: Step,
        status: Status,
        why: str,
        *,
        seconds: float = 0.0,
        result: Result | None = None,
        error: BaseException | None = None,
    ) -> None:
        tries = self.tries.get(step.id)
        outcome = StepOutcome(
            step=step.id,
            dataset=step.dataset,
            status=status,
            why=why,
            seconds=seconds,
            tries=tries.count if tries else 0,
            result=result,
            error=error,
        )
        self.outcomes[step.id] = outcome
        self.observer.finished(outcome)

    # --- interrupting -------------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """Stops what runs, waits until it has cleaned up (a second Ctrl-C ends the waiting), passes over the rest."""
        try:
            for act, seconds in ((Worker.stop, ASKED), (Worker.force, FORCED)):
                for step_id in self.running:
                    worker = self.tries[step_id].worker
                    if worker is not None:
                        act(worker)
                self._take_stopped(self.clock.now() + seconds)
        except KeyboardInterrupt:
            _log.warning("interrupted again: %s may leave a draft behind", ", ".join(self.running))
        for step in self.steps:
            if step.id not in self.outcomes:
                self._conclude(step, Status.SKIPPED, "interrupted")

    def _take_stopped(self, until: float) -> None:
        while self.running and self.clock.now() < until:
            ended = self.clock.wait(self.endings, until - self.clock.now(), len(self.running))
            step = self.running.pop(ended.step, None) if ended is not None else None
            if step is not None and ended is not None and ended.result is not None:
                self._done(step, ended.result, self.tries[step.id].seconds + ended.seconds)


def _must_be_good(result: Result) -> None:
    if isinstance(result, VerifyResult) and result.bad:
        from dataset_tasks.ops.build import differing  # pulls in pyarrow

        raise differing(result)


def _may_retry(error: BaseException) -> bool:
    """Whether another try may help: not where the error knows better, nor where somebody wants an end."""
    if isinstance(error, DatasetError):
        return error.retryable
    return isinstance(error, Exception)


class StepTimeoutError(DatasetError):
    """A step took longer than its time-out."""

    default_kind = "timeout"
    retryable = True


def _timed_out(step: Step, *, stopped: bool) -> StepTimeoutError:
    more = "" if stopped else "; it did not stop when told to, and goes on until the program ends"
    return StepTimeoutError(
        f"{step.id} took longer than {step.timeout:g} seconds{more}", hint="Raise its timeout, or give it less to do."
    )
