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


class StepStoppedError(BaseException):
    """Raised inside a step that is to stop, as KeyboardInterrupt is in the main thread: builds drop their draft."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A try that is over: exactly one of `result` and `error` is set; `seconds` it took."""

    step: str
    result: Result | None
    error: BaseException | None
    seconds: float


Endings: TypeAlias = "SimpleQueue[Ended]"


class Worker:
    """One try of one step, running from the start.

    Args:
        step: Its id; the thread is named after it.
        work: Runs it; what it raises ends in the queue.
        endings: Where the ending goes.
        now: The clock, in seconds.
    """

    def __init__(self, step: str, work: Callable[[], Result], endings: Endings, now: Callable[[], float]) -> None:
        self._step, self._work, self._endings, self._now = step, work, endings, now
        self._lock = threading.Lock()
        self._over = False
        self.began = now()
        self._thread = threading.Thread(target=self._run, name=f"step {step}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Raises `StepStoppedError` in the thread, at the next instruction that is Python's own.

        A step that waits in C (for a program, a lock, the network) stops when that returns.
        """
        with self._lock:
            if not self._over and self._thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident), ctypes.py_object(StepStoppedError)
                )

    def _run(self) -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            try:
                result = self._work()
            finally:
                with self._lock:  # from here on nothing is raised into this thread
                    self._over = True
        except BaseException as raised:  # noqa: BLE001  # it goes to the thread that runs the plan, which judges it
            result, error = None, raised
        self._endings.put(Ended(self._step, result, error, self._now() - self.began))
