"""What it takes until something happens: the import, the help, the list of a small catalog.

    python tests/benchmarks/start_bench.py [--repeat 7] [--keep]

Each is a process of its own, the start of Python included. The median of the repeats, and the best: on a shared machine the
median is mostly that of the neighbours.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import Cell, Results, Table, markdown

PROGRAM = [sys.executable, "-m", "dataset_tasks.cli"]
#: Name, command, aim in seconds.
CALLS: list[tuple[str, list[str], float | None]] = [
    ("python", [sys.executable, "-c", ""], None),
    ("import dataset_tasks", [sys.executable, "-c", "import dataset_tasks"], 0.15),
    ("dataset-tasks --help", [*PROGRAM, "--help"], 0.3),
    ("dataset-tasks list", [*PROGRAM, "list"], 0.5),
]


def measure(command: list[str], home: Path) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"DATASET_TASKS_HOME": str(home)})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def main() -> None:
    """Makes a catalog with a few versions and measures; the calls take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="start-bench-") as folder:
        home = Path(folder) / "home"
        for name in ("flights", "weather", "airports"):
            measure([*PROGRAM, "create", f"demo/{name}"], home)
        for _ in range(given.repeat):
            for name, command, _aim in CALLS:
                runs.setdefault(name, []).append(measure(command, home))
    rows: list[list[Cell]] = []
    for name, _, aim in CALLS:
        cpu, wall = zip(*runs[name], strict=True)
        rows.append([name, statistics.median(cpu), min(cpu), statistics.median(wall), min(wall), aim])
    columns = ["", "CPU s, median", "CPU s, best", "wall s, median", "wall s, best", "aim (s)"]
    found = Table(f"{given.repeat} runs of each", columns, rows)
    print(markdown(found))
    if given.keep:
        Results(
            "start",
            20,
            "Start",
            "Until something happens: each in a process of its own, the start of Python included.",
            "python tests/benchmarks/start_bench.py --keep",
            [found],
        ).keep()


if __name__ == "__main__":
    main()
