"""How long work reports itself. Core code calls a `Progress`; the CLI draws bars, workers write log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

_log = logging.getLogger("dataset_tasks")

#: What lines are written to: a logger, or the adapter that an orchestrator puts around one.
Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"


class Task(Protocol):
    """One piece of long work that is under way."""

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        """Adds to what is done."""

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        """Sets what there is to do, as soon as that is known."""


class Progress(Protocol):
    """Makes tasks; `title` is what the user reads, such as `nyc/raw: upload`."""

    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> AbstractContextManager[Task]:
        """A context manager that yields a `Task`; totals may be unknown (None)."""

    def note(self, text: str) -> None:
        """One line that should stand in the log, such as a file left out."""


class _SilentTask:
    def advance(self, *, files: int = 0, bytes: int = 0) -> None: ...

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None: ...


class Silent:
    """Reports nothing but notes, which go to the log."""

    @contextmanager
    def task(  # noqa: D102  # as the protocol says
        self, title: str, *, files: int | None = None, bytes: int | None = None
    ) -> Iterator[Task]:
        yield _SilentTask()

    def note(self, text: str) -> None:  # noqa: D102  # as the protocol says
        _log.warning("%s", text)


class _LogTask:
    def __init__(self, log: Log, title: str, files: int | None, bytes: int | None, every: float) -> None:
        self.log = log
        self.title, self.files, self.bytes, self.every = title, files, bytes, every
        self.done_files = self.done_bytes = 0
        self.started = self.said = time.monotonic()

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        self.done_files += files
        self.done_bytes += bytes
        now = time.monotonic()
        if now - self.said >= self.every:
            self.said = now
            self.say("…")

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        self.files = files if files is not None else self.files
        self.bytes = bytes if bytes is not None else self.bytes

    def say(self, tail: str) -> None:
        seconds = max(time.monotonic() - self.started, 1e-9)
        of = f" of {self.files}" if self.files is not None else ""
        size, rate = _megabytes(self.done_bytes), _megabytes(int(self.done_bytes / seconds))
        moved = f", {size}, {rate}/s" if self.done_bytes else ""  # none where an earlier step has moved them already
        word = "file" if (self.files or self.done_files) == 1 else "files"
        self.log.info("%s: %d%s %s%s, %.1f s%s", self.title, self.done_files, of, word, moved, seconds, tail)


def _megabytes(count: int) -> str:
    """Bytes as people read them in a log: small numbers exactly."""
    return f"{count:,} B" if count < 100_000 else f"{count / 1e6:,.1f} MB"


class LogLines:
    """Writes a log line every `every` seconds and one at the end: for workers and pipes."""

    def __init__(self, every: float = 10.0, log: Log = _log) -> None:
        self.every = every
        self.log = log

    @contextmanager
    def task(  # noqa: D102  # as the protocol says
        self, title: str, *, files: int | None = None, bytes: int | None = None
    ) -> Iterator[Task]:
        running = _LogTask(self.log, title, files, bytes, self.every)
        yield running
        if running.done_files:
            running.say("")

    def note(self, text: str) -> None:  # noqa: D102  # as the protocol says
        self.log.warning("%s", text)


class Watched:
    """A progress that looks at a checkpoint each time it is told something; what that raises stops the work there.

    Args:
        inner: Is told all the same.
        checkpoint: Raises when the work is to stop.
    """

    def __init__(self, inner: Progress, checkpoint: Callable[[], None]) -> None:
        self._inner, self._checkpoint = inner, checkpoint

    @contextmanager
    def task(  # noqa: D102  # as the protocol says
        self, title: str, *, files: int | None = None, bytes: int | None = None
    ) -> Iterator[Task]:
        self._checkpoint()
        with self._inner.task(title, files=files, bytes=bytes) as task:
            yield _WatchedTask(task, self._checkpoint)

    def note(self, text: str) -> None:  # noqa: D102  # as the protocol says
        self._checkpoint()
        self._inner.note(text)


class _WatchedTask:
    def __init__(self, inner: Task, checkpoint: Callable[[], None]) -> None:
        self._inner, self._checkpoint = inner, checkpoint

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        self._checkpoint()
        self._inner.advance(files=files, bytes=bytes)

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        self._checkpoint()
        self._inner.total(files=files, bytes=bytes)


SILENT = Silent()
