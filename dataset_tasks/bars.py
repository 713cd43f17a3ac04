"""Progress bars on a terminal: one line for each piece of work that is under way. Needs rich."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from dataset_tasks.paths import show
from dataset_tasks.progress import LogLines, Progress


@dataclass(slots=True)
class Running:
    """One task: counters that workers move; the display reads them when it draws, so that moving them is cheap."""

    title: str
    id: TaskID
    total_files: int | None = None
    total_bytes: int | None = None
    files: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        """Adds to what is done."""
        with self._lock:
            self.files += files
            self.bytes += bytes

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        """Sets what there is to do."""
        with self._lock:
            self.total_files = files if files is not None else self.total_files
            self.total_bytes = bytes if bytes is not None else self.total_bytes


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Bars on stderr while the block runs when that is a terminal, else log lines."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield LogLines()
        return
    with Bars(console) as bars:
        yield bars


class Bars:
    """`dataset_tasks.progress.Progress` drawn by rich; use it as a context manager around the work.

    Args:
        console: The terminal; log lines printed to it while bars are shown appear above them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: dict[TaskID, Running] = {}
        self._ending = threading.Lock()
        self._display = _Display(self, console)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    @contextmanager
    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> Iterator[Running]:
        """A line that stands while the work goes on and goes with it."""
        number = self._display.add_task(show(title), total=None)
        running = Running(title, number, files, bytes)
        with self._ending:
            self._running[number] = running
        try:
            yield running
        finally:
            with self._ending:
                del self._running[number]
                self._display.remove_task(number)

    def note(self, text: str) -> None:
        """A line above the bars that stays."""
        self._console.print(Text(show(text)))

    def push(self) -> None:
        """Hands the counters to the display; no task ends meanwhile."""
        with self._ending:
            for running in self._running.values():
                if running.total_bytes:
                    self._display.update(running.id, completed=running.bytes, total=running.total_bytes)
                else:
                    self._display.update(running.id, completed=running.files, total=running.total_files)

    def find(self, number: TaskID) -> Running | None:
        """The task of that line, while it is under way."""
        return self._running.get(number)


class _Display(RichProgress):
    """Takes the counters over each time it draws: ten times a second, however often workers count."""

    def __init__(self, bars: Bars, console: Console) -> None:
        self._bars = bars
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Done(bars),
            _Rate(bars),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        self._bars.push()
        return super().get_renderables()


class _Done(ProgressColumn):
    """`12/340 files  1.2/45.0 MB`."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        super().__init__()

    def render(self, task: Task) -> Text:
        running = self._bars.find(task.id)
        return Text(amount(running), style="progress.download") if running else Text("")


class _Rate(ProgressColumn):
    """Bytes a second, or files where no bytes are counted."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        super().__init__()

    def render(self, task: Task) -> Text:
        running = self._bars.find(task.id)
        if running is None or not task.speed:
            return Text("")
        shown_rate = f"{decimal(int(task.speed))}/s" if running.total_bytes else f"{task.speed:,.0f} files/s"
        return Text(shown_rate, style="progress.data.speed")


def amount(running: Running) -> str:
    """What is done of what there is to do, as far as both are known."""
    files = f"{running.files:,}" + (f"/{running.total_files:,}" if running.total_files is not None else "") + " files"
    if not running.bytes and not running.total_bytes:
        return files if running.files or running.total_files else ""
    size = decimal(running.bytes) + (f" of {decimal(running.total_bytes)}" if running.total_bytes else "")
    return f"{files}  {size}" if running.files or running.total_files else size
