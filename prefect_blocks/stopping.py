"""Work in the threads of a task runner ends soon after its flow run was told to stop."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from types import TracebackType
from typing import Final, Self

from prefect.exceptions import TerminationSignal

#: Seconds between two looks at the main thread.
LOOK: Final = 0.5
#: Seconds in which work can stop at a piece of its own, before it is stopped where it stands.
ASKED: Final = 2.0


class ToldToEndError(TerminationSignal):
    """What is raised in a thread: to Prefect the task run has crashed, as with its own."""

    def __init__(self) -> None:
        super().__init__(signal=signal.SIGTERM)


class Stop:
    """Raises `TerminationSignal` in a thread once the main thread is on its way out of the flow because of SIGTERM.

    Prefect turns the signal into that exception of the main thread, and the task runner then waits for its threads, which
    nothing interrupts. We have no handler of our own: what is looked at is the exception that Prefect raised.

    While it is entered, work that reports nothing, such as a user's function, is stopped too: at its next instruction that
    is Python's own. That may hit code that holds a lock, so it comes after `asked` seconds. A thread that waits in C, for a
    lock, a query or `time.sleep`, stops when that returns.

    Args:
        look: Seconds between two looks at the main thread.
        asked: Seconds between the first sight of its end and being stopped where it stands.
    """

    def __init__(self, look: float = LOOK, asked: float = ASKED) -> None:
        self._look, self._asked = look, asked
        self._raised = False
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            watch = threading.Thread(
                target=self._watch, args=(threading.get_ident(),), daemon=True, name="dataset-stop"
            )
            watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:  # from here on nothing is raised into this thread
            self._over.set()

    def _watch(self, thread: int) -> None:
        while not self._over.wait(self._look):
            if is_ending():
                break
        if self._over.wait(self._asked):
            return
        with self._lock:
            if not self._over.is_set() and not self._raised:
                self._raised = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(ToldToEndError))

    def look(self) -> None:
        """Raises, once: what cleans up behind the work reports progress too.

        Raises:
            TerminationSignal: As Prefect raised it in the main thread; to Prefect the task run has crashed.
        """
        if not self._raised and threading.current_thread() is not threading.main_thread() and is_ending():
            self._raised = True
            raise ToldToEndError


def is_ending() -> bool:
    """Whether the main thread handles a `TerminationSignal` just now: flows and task runners are being left."""
    held: object = sys._current_exceptions().get(threading.main_thread().ident or 0)  # noqa: SLF001  # documented so
    error = held[1] if isinstance(held, tuple) else held  # before Python 3.12 as of `sys.exc_info`
    while isinstance(error, BaseException):
        if isinstance(error, TerminationSignal):
            return True
        error = error.__context__
    return False
