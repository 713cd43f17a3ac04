"""Work in the threads of a task runner ends soon after its flow run was told to stop."""

from __future__ import annotations

import signal
import sys
import threading

from prefect.exceptions import TerminationSignal


class Stop:
    """Raises `TerminationSignal` in a thread once the main thread is on its way out of the flow because of SIGTERM.

    Prefect turns the signal into that exception of the main thread, and the task runner then waits for its threads, which
    nothing interrupts. We have no handler of our own: what is looked at is the exception that Prefect raised.
    """

    def __init__(self) -> None:
        self._raised = False

    def look(self) -> None:
        """Raises, once: what cleans up behind the work reports progress too.

        Raises:
            TerminationSignal: As Prefect raised it in the main thread; to Prefect the task run has crashed.
        """
        if not self._raised and threading.current_thread() is not threading.main_thread() and is_ending():
            self._raised = True
            raise TerminationSignal(signal=signal.SIGTERM)


def is_ending() -> bool:
    """Whether the main thread handles a `TerminationSignal` just now: flows and task runners are being left."""
    held: object = sys._current_exceptions().get(threading.main_thread().ident or 0)  # noqa: SLF001  # documented so
    error = held[1] if isinstance(held, tuple) else held  # before Python 3.12 as of `sys.exc_info`
    while isinstance(error, BaseException):
        if isinstance(error, TerminationSignal):
            return True
        error = error.__context__
    return False
