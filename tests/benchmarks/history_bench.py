"""A long history: many versions of many files, a few changed in each. Time and bytes of the last against the second.

    python tests/benchmarks/history_bench.py [--versions 1000] [--files 100000] [--changed 100] [--folder FOLDER] [--keep]
        [--minutes 15]

Every version is a child of the one before: create, add of the changed files, upload, finalize, in one process. Every
hundredth is looked at as well: open, list of all paths, diff to its parent. CPU seconds, the median of the versions around.
With `--minutes` it ends after so many, with the versions that it has made by then.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import Cell, Results, Table, markdown

IN_FOLDER = 500
AROUND = 5


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write(folder: Path, numbers: list[int], label: str) -> None:
    """Files of 64 bytes."""
    for number in numbers:
        place = folder / f"t{number // IN_FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.txt").write_bytes(f"{label}:{number}".encode().ljust(64, b"."))


def stored(home: Path) -> int:
    """Bytes in the store and the catalog."""
    size = 0
    for top, folders, names in os.walk(home):
        folders[:] = [name for name in folders if name != "cache"]
        size += sum(os.stat(os.path.join(top, name)).st_size for name in names)
    return size


def timed(call: Callable[[], Any]) -> float:  # Any: whatever it gives is dropped
    """CPU seconds of a call."""
    before = cpu()
    call()
    return cpu() - before


def make_version(source: Path, parent: str | None) -> str:
    """Makes a version of a parent and what a folder holds; its id."""
    from dataset_tasks import Dataset

    made = Dataset.create("history", "bench", [parent] if parent else None)
    made.add_files(source)
    made.upload(show_progress=False)
    made.finalize()
    return str(made.id)


def look(version: str, parent: str) -> dict[str, float]:
    """CPU seconds of reading a version."""
    from dataset_tasks import Dataset

    return {
        "open": timed(lambda: Dataset.get(version).file_entries_dict),
        "list": timed(lambda: Dataset(version).list_files()),
        "diff": timed(lambda: Dataset(version).diff(parent)),
    }


def run(place: Path, versions: int, files: int, changed: int, until: float) -> list[dict[str, float]]:
    """Makes the history, up to a time of the monotonic clock; a row for each version."""
    source, delta = place / "source", place / "delta"
    write(source, list(range(files)), "first")
    rows: list[dict[str, float]] = []
    ids: list[str] = []
    chosen = random.Random(5)
    before = 0
    for number in range(versions):
        if number and time.monotonic() > until:
            break
        if number:
            shutil.rmtree(delta, ignore_errors=True)
            write(delta, sorted(chosen.sample(range(files), changed)), f"v{number}")
        spent = cpu()
        ids.append(make_version(delta if number else source, ids[-1] if ids else None))
        took, now = cpu() - spent, stored(place / "home")
        row: dict[str, float] = {"version": number + 1, "cpu": took, "bytes": now - before}
        before = now
        if number % 100 == 99 or number in (1, 2, 3, 9, 49):
            row |= look(ids[-1], ids[-2])
        rows.append(row)
    if "open" not in rows[-1] and len(ids) > 1:
        rows[-1] |= look(ids[-1], ids[-2])
    return rows


def rows_of(rows: list[dict[str, float]]) -> list[list[Cell]]:
    """The figures of the versions that were looked at; time and bytes are those of the versions around."""
    shown: list[list[Cell]] = []
    for at, row in enumerate(rows):
        if "open" not in row:
            continue
        near = rows[max(1, at - AROUND) : at + AROUND + 1]
        spent = statistics.median(each["cpu"] for each in near)
        size = statistics.mean(each["bytes"] for each in near)
        shown.append([int(row["version"]), spent, size / 1e6, *(row[name] for name in ("open", "list", "diff"))])
    return shown


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="history-bench-", dir=given.folder))
    os.environ["DATASET_TASKS_HOME"] = str(place / "home")
    try:
        rows = run(place, given.versions, given.files, given.changed, time.monotonic() + 60 * given.minutes)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    columns = [
        "version",
        "make it (CPU s)",
        "new bytes (MB)",
        "open (CPU s)",
        "list (CPU s)",
        "diff to its parent (CPU s)",
    ]
    found = Table("A version after so many others", columns, rows_of(rows))
    print(markdown(found))
    if given.keep:
        Results(
            "history",
            31,
            "A long history",
            f"{len(rows):,} versions of {given.files:,} files with {given.changed:,} changed in each, in one process: "
            "create a child, add the changed files, upload, finalize. Time is the median, bytes the mean of 11 versions.",
            f"python tests/benchmarks/history_bench.py --versions {given.versions} --keep",
            [found],
        ).keep()


if __name__ == "__main__":
    main()
