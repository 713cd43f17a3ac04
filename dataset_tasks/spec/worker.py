"""Runs one step in a thread of its own, which can be told to stop.

The threads are daemons and not a pool's: a pool waits for its threads when the program ends, so a step that hangs in
somebody's code would hold Ctrl-C up for good.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

from dataset_tasks.ops.requests import Result
from dataset_tasks.progress import Progress, Watched


class StepStoppedError(BaseException):
    """Raised inside a step that is to stop, as KeyboardInterrupt is in the main thread: builds drop their draft."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A try that is over: exactly one of `result` and `error` is set; `seconds` it took."""

    step: str
    result: Result | None
    error: BaseException | None
    seconds: float


#: None wakes whoever waits.
Endings: TypeAlias = "SimpleQueue[Ended | None]"


class Worker:
    """One try of one step; `start` begins it.

    Args:
        step: Its id; the thread is named after it.
        work: Runs it with the progress it is given; what it raises ends in the queue.
        progress: Is told about the work.
        endings: Where the ending goes.
        now: The clock, in seconds.
    """

    def __init__(
        self,
        step: str,
        work: Callable[[Progress], Result],
        progress: Progress,
        endings: Endings,
        now: Callable[[], float],
    ) -> None:
        self._step, self._work, self._endings, self._now = step, work, endings, now
        self._progress = Watched(progress, self._checkpoint)
        self._lock = threading.Lock()
        self._over = self._wanted = self._raised = False
        self.began = 0.0
        self._thread = threading.Thread(target=self._run, name=f"step {step}", daemon=True)

    def start(self) -> None:
        """Begins the work; `began` is its moment."""
        self.began = self._now()
        self._thread.start()

    def stop(self) -> None:
        """Asks the step to stop: `StepStoppedError` is raised where it next reports progress, never inside a commit."""
        self._wanted = True

    def force(self) -> None:
        """Raises `StepStoppedError` in the thread at its next instruction that is Python's own.

        For steps that report nothing, such as a transform inside the user's code. It may hit code that holds a lock, so
        it comes after asking. A step that waits in C, for a program or the network, stops when that returns.
        """
        with self._lock:
            self._wanted = self._raised = True
            if not self._over and self._thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident), ctypes.py_object(StepStoppedError)
                )

    def _checkpoint(self) -> None:
        # Raised once: what cleans up behind the step reports progress too.
        if self._wanted and not self._raised:
            self._raised = True
            raise StepStoppedError

    def _run(self) -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            try:
                self._checkpoint()
                result = self._work(self._progress)
            finally:
                with self._lock:  # from here on nothing is raised into this thread
                    self._over = True
        except BaseException as raised:  # noqa: BLE001  # it goes to the thread that runs the plan, which judges it
            result, error = None, raised
        self._endings.put(Ended(self._step, result, error, self._now() - self.began))
