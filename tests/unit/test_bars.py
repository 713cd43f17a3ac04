"""Progress bars: what a terminal shows, with workers counting from several threads."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from dataset_tasks.bars import Bars, Running, amount, clock, shown_progress
from dataset_tasks.progress import LogLines


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def drawn(bars: Bars) -> list[str]:
    """The lines as they stand now, without trailing blanks."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    for renderable in bars._display.get_renderables():
        console.print(renderable)
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]


def test_a_line_shows_what_is_done_of_what_there_is(terminal: Console) -> None:
    with Bars(terminal) as bars:
        with bars.task("nyc/raw: upload", files=4, bytes=2_000_000) as task:
            task.advance(files=1, bytes=500_000)
            (line,) = drawn(bars)
            assert "nyc/raw: upload" in line
            assert "1/4 files" in line
            assert "500.0 kB of 2.0 MB" in line
        assert drawn(bars) == []


def test_totals_may_come_later(terminal: Console) -> None:
    with Bars(terminal) as bars, bars.task("nyc/raw: scan") as task:
        task.advance(files=3)
        assert "3 files" in drawn(bars)[0]
        task.total(files=9, bytes=10)
        task.total(bytes=20)
        assert "3/9 files" in drawn(bars)[0]
        assert "of 20 bytes" in drawn(bars)[0]


def test_work_on_a_dataset_that_runs_is_shown_on_its_line(terminal: Console) -> None:
    with Bars(terminal) as bars:
        bars.begin("nyc/raw")
        bars.begin("nyc/weather")
        assert [line.split()[1] for line in drawn(bars)] == ["nyc/raw", "nyc/weather"]
        with bars.task("nyc/raw: upload", files=2) as task:
            task.advance(files=1)
            assert ["upload" in line for line in drawn(bars)] == [True, False]
            with bars.task("nyc/raw: scan"), bars.task("nyc/other: copy"):
                assert len(drawn(bars)) == 4
        assert "upload" not in drawn(bars)[0]
        assert "1/2" not in drawn(bars)[0]
        bars.end("nyc/raw")
        bars.end("nyc/raw")
        assert [line.split()[1] for line in drawn(bars)] == ["nyc/weather"]


def test_a_line_that_ends_before_its_work_goes_with_the_work(terminal: Console) -> None:
    with Bars(terminal) as bars:
        bars.begin("nyc/raw")
        with bars.task("nyc/raw: upload"):
            bars.end("nyc/raw")
            assert len(drawn(bars)) == 1
        assert drawn(bars) == []


def test_work_that_fails_takes_its_line_with_it(terminal: Console) -> None:
    with Bars(terminal) as bars:
        with pytest.raises(RuntimeError), bars.task("nyc/raw: upload"):
            raise RuntimeError
        assert drawn(bars) == []


def test_no_count_is_lost_between_threads(terminal: Console) -> None:
    with Bars(terminal) as bars, bars.task("nyc/raw: upload", files=8000) as task, ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [task.advance(files=1, bytes=2) for _ in range(1000)])
        pool.shutdown()
        assert (task.files, task.bytes) == (8000, 16000)


def test_many_tasks_come_and_go_while_the_display_draws(terminal: Console) -> None:
    def work(number: int) -> None:
        bars.begin(f"d/{number}")
        for _ in range(20):
            with bars.task(f"d/{number}: copy", files=1) as task:
                task.advance(files=1)
                bars.push()
        bars.end(f"d/{number}")

    with Bars(terminal) as bars, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [None] * 16
        assert drawn(bars) == []


def test_names_are_no_markup_and_move_no_cursor(terminal: Console) -> None:
    with Bars(terminal) as bars, bars.task("a/[red]x\x1b[2J: copy"):
        assert "a/[red]x\\x1b[2J: copy" in drawn(bars)[0]
        bars.note("left out: \x1b[31m[bold]")
    assert isinstance(terminal.file, io.StringIO)
    assert "left out: \\x1b[31m[bold]" in terminal.file.getvalue()


def test_without_a_terminal_there_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as progress:
        assert isinstance(progress, LogLines)


def test_amounts_and_times_read_well() -> None:
    assert amount(Running()) == ""
    assert amount(Running(files=1)) == "1 file"
    assert amount(Running(bytes=1500)) == "1.5 kB"
    assert amount(Running(total_files=1200, files=1000, bytes=1500, total_bytes=3000)) == (
        "1,000/1,200 files  1.5 kB of 3.0 kB"
    )
    assert [clock(s) for s in (0.4, 75, 3675)] == ["0:00", "1:15", "1:01:15"]
