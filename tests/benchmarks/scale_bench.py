"""The Dataset API at growing numbers of files: CPU seconds, wall seconds, peak memory and bytes written, by operation.

    python tests/benchmarks/scale_bench.py [--sizes 10000,100000,1000000] [--folder FOLDER]

Files of 64 bytes, 500 in a folder. Each operation is a process of its own, imports included. `child` changes a hundredth of
the files, `scattered` a hundred. The last column is CPU microseconds a file: what is linear stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

IN_FOLDER = 500


def make(source: Path, count: int, label: str, positions: range) -> None:
    """Writes files of 64 bytes."""
    for position in positions:
        folder = source / f"t{position // IN_FOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{position:07d}.txt").write_bytes(f"{label}:{position}:{count}".encode().ljust(64, b"."))


def operations(place: Path) -> dict[str, Callable[[], object]]:
    """Each operation on the versions of earlier ones, whose ids are kept in a file."""
    from dataset_tasks import Dataset

    notes = place / "ids.json"
    ids: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}
    source = place / "source"

    def keep(name: str, made: Dataset) -> Dataset:
        ids[name] = made.id
        notes.write_text(json.dumps(ids))
        return made

    def child(name: str) -> None:
        made = keep(name, Dataset.create("scale", "bench", [ids["first"]]))
        removed, changed = made.sync_folder(source)
        made.upload(show_progress=False)
        made.finalize()
        assert changed, removed

    def no_op() -> None:
        made = Dataset.create("scale", "bench", [ids["first"]])
        assert made.sync_folder(source) == (0, 0)
        Dataset.delete(made.id)

    def upload() -> None:
        made = Dataset(ids["first"])
        made.upload(show_progress=False)
        made.finalize()

    def diff() -> None:
        changed = Dataset(ids["child"]).diff(ids["first"])
        assert changed.modified
        assert not changed.added

    return {
        "add": lambda: keep("first", Dataset.create("scale", "bench")).add_files(source),
        "upload": upload,
        "no-op sync": no_op,
        "list": lambda: Dataset(ids["first"]).list_files(),
        "child 1 %": lambda: child("child"),
        "diff 1 %": diff,
        "100 scattered": lambda: child("scattered"),
        "copy": lambda: Dataset(ids["child"]).get_mutable_local_copy(place / "copy"),
        "verify copy": lambda: Dataset(ids["child"]).verify_dataset_hash(place / "copy"),
    }


def stored(place: Path) -> int:
    """Bytes in the store."""
    return sum(file.stat().st_size for file in (place / "home" / "store").rglob("*") if file.is_file())


def measure(place: Path, name: str) -> None:
    """Runs one operation and prints its figures."""
    before, began = stored(place), time.perf_counter()
    operations(place)[name]()
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.perf_counter() - began,
        "rss": used.ru_maxrss / 1024,
        "written": stored(place) - before,
    }
    print(json.dumps(figures))


def run(place: Path, count: int) -> None:
    """All operations at one size."""
    source = place / "source"
    make(source, count, "one", range(count))
    time.sleep(2.2)  # files younger than the stat cache's margin would be hashed again
    environment = os.environ | {"DATASET_TASKS_HOME": str(place / "home")}
    print(
        f"\n{count:,} files\n{'':15}{'cpu s':>8}{'wall s':>8}{'rss MiB':>9}{'stored MB':>11}{'us/file':>9}", flush=True
    )
    for name in operations(place):
        if name == "child 1 %":
            make(source, count, "two", range(0, count, 100))
        if name == "100 scattered":
            make(source, count, "one", range(0, count, 100))
            make(source, count, "three", range(7, count, max(count // 100, 1)))
        command = [sys.executable, __file__, "--measure", name, "--folder", str(place)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        it = json.loads(done.stdout)
        numbers = f"{it['cpu']:8.2f}{it['wall']:8.2f}{it['rss']:9.0f}{it['written'] / 1e6:11.2f}"
        print(f"{name:15}{numbers}{it['cpu'] / count * 1e6:9.1f}", flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.folder, given.measure)
        return
    for size in given.sizes.split(","):
        place = Path(tempfile.mkdtemp(prefix="scale-bench-", dir=given.folder))
        try:
            run(place, int(size))
        finally:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
