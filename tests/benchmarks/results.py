"""What a benchmark found, kept as data in `results/NAME.json`: `docs/performance.md` is made of these, never by hand."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; `caption` says what is counted, in which unit."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def machine() -> str:
    """Processor, cores, Python and version of this project, in a line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores; Python {platform.python_version()}; dataset-tasks {version('dataset-tasks')}"


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one benchmark run. `order` is the place on the page; `command` makes them again."""

    name: str
    order: int
    title: str
    text: str
    command: str
    tables: Sequence[Table]
    made: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    machine: str = field(default_factory=machine)

    def keep(self) -> Path:
        """Writes them to their file, in place of those of an earlier run."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path


def load_all() -> list[Results]:
    """Every kept result, in the order of the page."""
    read = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    found = [Results(**(each | {"tables": [Table(**table) for table in each["tables"]]})) for each in read]
    return sorted(found, key=lambda each: (each.order, each.name))


def markdown(table: Table) -> str:
    """A table as Markdown; numbers to the right."""
    numeric = [all(not isinstance(row[at], str) for row in table.rows) for at in range(len(table.columns))]
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
        *("| " + " | ".join(shown(cell) for cell in row) + " |" for row in table.rows),
    ]
    return "\n".join(lines)


def shown(cell: Cell) -> str:
    """A cell as text: three figures that count, nothing where there is none."""
    match cell:
        case None:
            return ""
        case float() if abs(cell) < 100:
            return f"{cell:.3g}" if abs(cell) >= 0.01 else f"{cell:.4f}"
        case float() | int():
            return f"{round(cell):,}"
    return cell
