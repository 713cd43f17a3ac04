"""Progress bars on a terminal: a line for each dataset that is being worked on. Needs rich."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from dataset_tasks.paths import show
from dataset_tasks.progress import LogLines, Progress


@dataclass(slots=True)
class Running:
    """One piece of work: counters that workers move; the display reads them when it draws, so moving them is cheap."""

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

    A task titled `nyc/raw: upload` is shown on the line that was begun for `nyc/raw`, where there is one and it is
    free, else on a line of its own.

    Args:
        console: The terminal; what is printed to it while bars are shown appears above them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._work: dict[TaskID, Running] = {}
        self._standing: dict[str, TaskID] = {}
        self._lock = threading.Lock()  # never held while rich may draw: drawing takes it
        self._display = _Display(self, console)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def begin(self, name: str) -> None:
        """Opens a line that stands until `end`, with the time since then while no task is shown on it."""
        number = self._display.add_task(show(name), total=None)
        with self._lock:
            self._standing[name] = number

    def end(self, name: str) -> None:
        """Takes the line of that name away, if there is one."""
        with self._lock:
            number = self._standing.pop(name, None)
            if number is not None and number not in self._work:
                self._display.remove_task(number)

    @contextmanager
    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> Iterator[Running]:
        """Shows a piece of work while it goes on."""
        name = title.partition(": ")[0]
        running = Running(files, bytes)
        with self._lock:
            number = self._standing.get(name)
            reused = number is not None and number not in self._work
            if number is not None and reused:
                self._work[number] = running
        if number is None or not reused:
            number = self._display.add_task(show(title), total=None)
            with self._lock:
                self._work[number] = running
        else:
            self._display.reset(number, total=None, description=show(title))
        try:
            yield running
        finally:
            with self._lock:
                del self._work[number]
                stands = number in self._standing.values()
                if not stands:
                    self._display.remove_task(number)
            if stands:
                self._display.reset(number, total=None, description=show(name))

    def note(self, text: str) -> None:
        """A line above the bars that stays."""
        self._console.print(Text(show(text)))

    def push(self) -> None:
        """Hands the counters to the display; no task ends meanwhile."""
        with self._lock:
            for number, running in self._work.items():
                if running.total_bytes:
                    self._display.update(number, completed=running.bytes, total=running.total_bytes)
                else:
                    self._display.update(number, completed=running.files, total=running.total_files)

    def find(self, number: TaskID) -> Running | None:
        """The work that is shown on that line now."""
        return self._work.get(number)


class _Display(RichProgress):
    """Takes the counters over each time it draws: ten times a second, however often workers count."""

    def __init__(self, bars: Bars, console: Console) -> None:
        self._bars = bars
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _Done(bars),
            _Rate(bars),
            _Time(),
            console=console,
            transient=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        self._bars.push()
        return super().get_renderables()


class _Done(ProgressColumn):
    """`12/340 files  1.2 MB of 45.0 MB`."""

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
        rate = f"{decimal(int(task.speed))}/s" if running.total_bytes else f"{task.speed:,.0f} files/s"
        return Text(rate, style="progress.data.speed")


class _Time(ProgressColumn):
    """The time left where it is known, else the time since the line was begun."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining if task.total else None
        if left is not None:
            return Text(f"{clock(left)} left", style="progress.remaining")
        return Text(clock(task.elapsed or 0.0), style="progress.elapsed")


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are some.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(running: Running) -> str:
    """What is done of what there is to do, as far as both are known."""
    of = f"/{running.total_files:,}" if running.total_files is not None else ""
    files = f"{running.files:,}{of} {'file' if (running.total_files or running.files) == 1 else 'files'}"
    if not running.bytes and not running.total_bytes:
        return files if running.files or running.total_files else ""
    size = decimal(running.bytes) + (f" of {decimal(running.total_bytes)}" if running.total_bytes else "")
    return f"{files}  {size}" if running.files or running.total_files else size
