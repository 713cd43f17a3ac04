"""What a local run says about its steps, while it goes on and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from dataset_tasks.errors import DatasetError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests import Result
from dataset_tasks.ops.wire import to_json
from dataset_tasks.spec.plan import Step


class Status(StrEnum):
    """How a step ended."""

    MADE = "made"
    UNCHANGED = "unchanged"
    WAITS = "waits"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How one step ended, and why; `seconds` over all its tries, waiting between them not included.

    `result` is set when the step was made or is unchanged, waits or was rejected; `error` (with its traceback) when it
    failed. A step below a question that is open waits too, without a result.
    """

    step: str
    dataset: str
    status: Status
    why: str = ""
    seconds: float = 0.0
    tries: int = 0
    result: Result | None = None
    error: BaseException | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """The outcome as JSON; an error as its message, hint and kind."""
        return {
            "step": self.step,
            "dataset": self.dataset,
            "status": str(self.status),
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "tries": self.tries,
            "result": None if self.result is None else to_json(self.result),
            "error": None if self.error is None else _error_json(self.error),
        }


def _error_json(error: BaseException) -> dict[str, JsonValue]:
    if isinstance(error, DatasetError):
        return {
            "error": error.kind,
            "message": error.message,
            "hint": error.hint,
            "retryable": error.retryable,
        }
    return {"error": type(error).__name__, "message": str(error), "hint": "", "retryable": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run of a plan that is over; `outcomes` are in the plan's order, of every step that was selected.

    `taken` holds, for datasets that were not selected but are read, the id of the version that was read, by key.
    `interval_start` and `interval_end` bound the run's window, where it has one.
    """

    run_id: str
    plan: str
    spec: str
    spec_digest: str
    started: datetime
    seconds: float
    outcomes: tuple[StepOutcome, ...]
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step was made or is unchanged."""
        return not self.interrupted and all(
            outcome.status in (Status.MADE, Status.UNCHANGED) for outcome in self.outcomes
        )

    @property
    def waits(self) -> bool:
        """Whether the run did all it could, and somebody's answer is what is missing."""
        ended = {outcome.status for outcome in self.outcomes}
        return not self.interrupted and Status.WAITS in ended and not ended & {Status.FAILED, Status.REJECTED}

    @property
    def changed(self) -> bool:
        """Whether any step made something."""
        return any(outcome.status is Status.MADE for outcome in self.outcomes)

    def with_status(self, status: Status) -> tuple[StepOutcome, ...]:
        """The outcomes that ended so, in the plan's order."""
        return tuple(outcome for outcome in self.outcomes if outcome.status is status)

    def to_json(self) -> dict[str, JsonValue]:
        """The report as JSON; times in ISO 8601, durations in seconds."""
        return {
            "run_id": self.run_id,
            "plan": self.plan,
            "spec": self.spec,
            "spec_digest": self.spec_digest,
            "started": self.started.isoformat(),
            "seconds": round(self.seconds, 3),
            "ok": self.ok,
            "changed": self.changed,
            "waits": self.waits,
            "interrupted": self.interrupted,
            "params": dict(self.params),
            "taken": dict(self.taken),
            "interval_start": self.interval_start.isoformat() if self.interval_start else None,
            "interval_end": self.interval_end.isoformat() if self.interval_end else None,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }


class RunInterruptedError(KeyboardInterrupt):
    """Ctrl-C ended a run; `report` says what was done before. Nothing is half done: drafts were dropped."""

    def __init__(self, report: RunReport) -> None:
        super().__init__(f"the run {report.run_id} was interrupted")
        self.report = report


class Observer(Protocol):
    """Is told what happens in a run, always from the thread that called `run_plan`."""

    def started(self, step: Step, attempt: int) -> None:
        """A try of the step begins; `attempt` counts from 1."""

    def retrying(self, step: Step, error: BaseException, delay: float) -> None:
        """The step failed and is tried again in `delay` seconds."""

    def finished(self, outcome: StepOutcome) -> None:
        """The step ended, or was passed over."""


class Unobserved:
    """Listens to nothing."""

    def started(self, step: Step, attempt: int) -> None:
        """Does nothing."""

    def retrying(self, step: Step, error: BaseException, delay: float) -> None:
        """Does nothing."""

    def finished(self, outcome: StepOutcome) -> None:
        """Does nothing."""


UNOBSERVED = Unobserved()
