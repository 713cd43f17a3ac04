"""Ctrl-C at a place of our choosing: noted when it comes, acted on by the loop that asks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self, TypeAlias

#: Ends the waiting of a loop; called in a signal handler, so it must be reentrant.
Wake: TypeAlias = Callable[[], None]


class Interrupts:
    """While it is entered, the first SIGINT only sets `came` and calls `wake`; the second raises KeyboardInterrupt.

    Outside the main thread, and where the program has a handler of its own, it does nothing: that handler's exception
    comes as it comes.

    Args:
        wake: Ends the waiting of the loop that looks at `came`; called in a signal handler, so it must be reentrant.
    """

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._ours = False
        self.came = False

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_signal)
            self._ours = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True
        self._wake()


class Follower(Interrupts):
    """The interrupts of a loop in another thread than the main one: they come when those of `leader` come.

    Args:
        leader: Entered in the main thread.
        wakes: What the leader calls; holds our `wake` while this is entered.
        wake: Ends the waiting of our loop.
    """

    def __init__(self, leader: Interrupts, wakes: list[Wake], wake: Wake) -> None:
        self._leader, self._wakes = leader, wakes
        super().__init__(wake)

    @property
    def came(self) -> bool:
        """Whether the leader's came."""
        return self._leader.came

    @came.setter
    def came(self, value: bool) -> None:
        """Ours alone never come."""

    def __enter__(self) -> Self:
        self._wakes.append(self._wake)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wakes.remove(self._wake)
