"""Artifacts that are written again while their content grows: progress bars, series of numbers, lines of text."""

from __future__ import annotations

import json
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from dataset_tasks.progress import Log, LogLines, Task
from prefect_blocks.reports import artifact_key, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = get_logger("dataset_tasks")

#: Seconds between two writes of one artifact, and how long work must take before it gets a progress bar.
EVERY: Final = 2.0
#: Seconds that one write may take.
TIMEOUT: Final = 30.0
Kind: TypeAlias = Literal["progress", "table", "markdown"]


@dataclass(frozen=True, slots=True)
class Run:
    """The run that an artifact belongs to."""

    flow_run_id: UUID | None
    task_run_id: UUID | None

    @classmethod
    def current(cls) -> Run | None:
        """The run that is going on here; None outside of one."""
        task, flow = TaskRunContext.get(), FlowRunContext.get()
        if task is not None:
            return cls(task.task_run.flow_run_id, task.task_run.id)
        if flow is not None and flow.flow_run is not None:
            return cls(flow.flow_run.id, None)
        return None


class LiveArtifact:
    """One artifact, made by the first write. Threads may share it.

    When Prefect's API does not take a write, that is logged, and no other is tried: the work goes on.

    Args:
        run: Whose it is.
        key: Of the artifact.
        kind: How the UI shows it.
        description: Shown above it, Markdown.
    """

    def __init__(self, run: Run, *, key: str, kind: Kind, description: str) -> None:
        self.items: list[Any] = []  # Any: lines or rows, for whoever lets it grow
        self._run, self._key, self._kind, self._description = run, key, kind, description
        self._id: UUID | None = None
        self._data: Any = None  # Any: what an artifact of its kind holds
        self._written: Any = None
        self._is_lost = False
        self._next = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def put(self, data: Any, *, last: bool = False) -> None:  # Any: as above
        """Takes new content. It is written now, or within `EVERY` seconds.

        Args:
            data: All of the content.
            last: Whether it is written now in any case.
        """
        self._data = json.dumps(data) if self._kind == "table" else data
        if last or time.monotonic() >= self._next:
            self.write()
        elif self._timer is None:
            context = copy_context()  # Prefect's settings are in it
            self._timer = threading.Timer(EVERY, context.run, args=(self.write,))
            self._timer.start()  # no daemon: a process that ends waits for what it has not shown yet

    def write(self) -> None:
        """Writes what was put last, if it is not written yet."""
        with self._lock:
            self._timer = None
            data = self._data
            if data is self._written or self._is_lost:
                return
            self._next = time.monotonic() + EVERY
            try:
                self._send(data)
            except (httpx.HTTPError, PrefectException) as error:
                self._is_lost = True  # each try may take a while, and the end of the process waits for it
                _log.warning("the artifact %s could not be written: %s", self._key, error)
            self._written = data

    def _send(self, data: Any) -> None:  # Any: as above
        # With settings of its own it is another client than the run's, which may be closed by the time a timer is up.
        with get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT}) as client:
            if self._id is None:
                artifact = ArtifactCreate(
                    type=self._kind,
                    key=self._key,
                    description=self._description,
                    data=data,
                    flow_run_id=self._run.flow_run_id,
                    task_run_id=self._run.task_run_id,
                )
                self._id = client.create_artifact(artifact).id
            else:
                client.update_artifact(self._id, ArtifactUpdate(data=data))


_open: dict[tuple[Run, str, Kind], LiveArtifact] = {}
_MOST_OPEN: Final = 1000


def live_artifact(run: Run, *, key: str, kind: Kind, description: str) -> LiveArtifact:
    """The artifact of that key and kind of a run, made when it is asked for first in this process."""
    slot = (run, key, kind)
    if slot not in _open:
        while len(_open) >= _MOST_OPEN:
            _open.pop(next(iter(_open))).write()
        _open[slot] = LiveArtifact(run, key=key, kind=kind, description=description)
    return _open[slot]


class RunProgress:
    """Progress of long work as lines of the run's log and as an artifact: work that is done soon gets no artifact.

    Args:
        log: The run's log.
        run: Whose artifacts they are.
    """

    def __init__(self, log: Log, run: Run) -> None:
        self._lines = LogLines(log=log)
        self._run = run

    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> AbstractContextManager[Task]:
        """As the protocol `dataset_tasks.progress.Progress` says."""
        return self._both(title, files, bytes)

    @contextmanager
    def _both(self, title: str, files: int | None, bytes: int | None) -> Iterator[Task]:
        with self._lines.task(title, files=files, bytes=bytes) as lines:
            bar = _Bar(self._run, title, files, bytes, lines)
            yield bar
            bar.finish()

    def note(self, text: str) -> None:
        """One line of the log."""
        self._lines.note(text)


class _Bar:
    """One piece of work. Its artifact is written by whichever thread finds that it is time."""

    def __init__(self, run: Run, title: str, files: int | None, bytes: int | None, lines: Task) -> None:
        self._lines = lines
        self._artifact = LiveArtifact(run, key=artifact_key(title), kind="progress", description=markdown(title))
        self._files, self._bytes = files, bytes
        self._done_files = self._done_bytes = 0
        self._due = time.monotonic() + EVERY
        self._is_shown = False
        self._lock = threading.Lock()

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        self._lines.advance(files=files, bytes=bytes)
        with self._lock:
            self._done_files += files
            self._done_bytes += bytes
            if time.monotonic() < self._due or not (self._bytes or self._files):
                return
            self._due = time.monotonic() + EVERY
            self._is_shown = True
            share = self._done_bytes / self._bytes if self._bytes else self._done_files / (self._files or 1)
        self._artifact.put(round(min(share, 1.0) * 100, 1), last=True)

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        self._lines.total(files=files, bytes=bytes)
        self._files = files if files is not None else self._files
        self._bytes = bytes if bytes is not None else self._bytes

    def finish(self) -> None:
        if self._is_shown:
            self._artifact.put(100.0, last=True)
