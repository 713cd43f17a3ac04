"""The Dataset API at growing numbers of files: CPU seconds, wall seconds, peak memory and bytes written, by operation.

    python tests/benchmarks/scale_bench.py [--sizes 10000,100000,1000000] [--folder FOLDER] [--keep]

Files of 64 bytes, 500 in a folder. Each operation is a process of its own, imports included. `child` changes a hundredth of
the files, `scattered` a hundred. The last column is CPU microseconds a file: what is linear stays as it is. Where the seconds
go is measured in the same runs: a profiler's signal every 2 ms of CPU looks at what is being done. `--keep` keeps the
figures for docs/performance.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from places import remove, warm
from results import Cell, Results, Table

from dataset_tasks.statcache import RACY_NS

IN_FOLDER = 500
#: What the machine takes for the least that an add and a copy can do.
LIMIT_READ, LIMIT_COPY = "limit: read, hash", "limit: cp -r"


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
        LIMIT_READ: lambda: read_and_hash(source),
        "add": lambda: keep("first", Dataset.create("scale", "bench")).add_files(source),
        "upload": upload,
        "no-op sync": no_op,
        "list": lambda: Dataset(ids["first"]).list_files(),
        "child 1 %": lambda: child("child"),
        "diff 1 %": diff,
        "100 scattered": lambda: child("scattered"),
        LIMIT_COPY: lambda: subprocess.run(["cp", "-r", source, place / "copied"], check=True),
        "copy": lambda: Dataset(ids["child"]).get_mutable_local_copy(place / "copy"),
        "verify copy": lambda: Dataset(ids["child"]).verify_dataset_hash(place / "copy"),
    }


def read_and_hash(folder: Path) -> None:
    """Reads and hashes all files in plain Python."""
    for top, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(top, name), "rb") as file:
                hashlib.sha256(file.read()).digest()


def stored(place: Path) -> int:
    """Bytes in the store."""
    return sum(file.stat().st_size for file in (place / "home" / "store").rglob("*") if file.is_file())


#: Phases by the functions that they begin with, as file and name; the innermost one that is found counts.
PHASES = {
    ("importlib/_bootstrap.py", ""): "imports",
    ("dataset_tasks/walk.py", ""): "walk",
    ("dataset_tasks/statcache.py", ""): "stat cache",
    ("dataset_tasks/scan.py", "_look_up"): "stat",
    ("dataset_tasks/hashing.py", ""): "open, read, hash",
    ("dataset_tasks/scan.py", ""): "scan, the rest",
    ("dataset_tasks/ops/content.py", "_compare"): "compare with the manifest",
    ("dataset_tasks/manifest/codec.py", "read"): "decode segments",
    ("dataset_tasks/manifest/codec.py", "add"): "encode segments",
    ("dataset_tasks/manifest/digest.py", ""): "digests of segments",
    ("dataset_tasks/manifest/", ""): "manifest, the rest",
    ("dataset_tasks/pending.py", ""): "list of pending files",
    ("dataset_tasks/stash.py", ""): "tables out of memory",
    ("dataset_tasks/chunks.py", ""): "compress, hash, pack",
    ("dataset_tasks/zipformat.py", ""): "compress, hash, pack",
    ("dataset_tasks/ops/packing.py", ""): "packing, the rest",
    ("dataset_tasks/members.py", ""): "inflate and verify",
    ("dataset_tasks/targets.py", ""): "write files",
    ("dataset_tasks/extraction.py", ""): "copying, the rest",
    ("dataset_tasks/store/", ""): "store: read, write, sync",
    ("dataset_tasks/objects.py", ""): "store: read, write, sync",
    ("dataset_tasks/catalog/", ""): "catalog",
}
TICK = 0.002


class Sampler:
    """Counts by phase where the main thread is, every few milliseconds of CPU time; costs about a hundredth."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)

    def stop(self) -> dict[str, float]:
        """Shares of the phases, the largest first."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        total = sum(self.seen.values()) or 1
        return {phase: count / total for phase, count in self.seen.most_common()}

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        while frame is not None:
            file, name = frame.f_code.co_filename, frame.f_code.co_name
            for (part, function), phase in PHASES.items():
                if part in file and (not function or function == name):
                    self.seen[phase] += 1
                    return
            if "importlib" in file:
                self.seen["imports"] += 1
                return
            frame = frame.f_back
        self.seen["other"] += 1


def measure(place: Path, name: str) -> None:
    """Runs one operation and prints its figures."""
    before, began = stored(place), time.perf_counter()
    sampler = Sampler()
    operations(place)[name]()
    phases = sampler.stop()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures = {
        "cpu": sum(each.ru_utime + each.ru_stime for each in used),
        "wall": time.perf_counter() - began,
        "rss": max(each.ru_maxrss for each in used) / 1024,
        "written": stored(place) - before,
        "phases": phases,
    }
    print(json.dumps(figures))


def run(place: Path, count: int) -> dict[str, dict[str, Any]]:
    """All operations at one size; the figures of each."""
    figures: dict[str, dict[str, Any]] = {}
    source = place / "source"
    make(source, count, "one", range(count))
    time.sleep(RACY_NS / 1e9 + 1)  # hashes are remembered of files of that age
    environment = os.environ | {"DATASET_TASKS_HOME": str(place / "home")}
    print(
        f"\n{count:,} files\n{'':18}{'cpu s':>8}{'wall s':>8}{'rss MiB':>9}{'stored MB':>11}{'us/file':>9}", flush=True
    )
    for name in operations(place):
        if name == "child 1 %":
            make(source, count, "two", range(0, count, 100))
        if name == "100 scattered":
            make(source, count, "one", range(0, count, 100))
            make(source, count, "three", range(7, count, max(count // 100, 1)))
        warm(source)
        command = [sys.executable, __file__, "--measure", name, "--folder", str(place)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        it = json.loads(done.stdout)
        numbers = f"{it['cpu']:8.2f}{it['wall']:8.2f}{it['rss']:9.0f}{it['written'] / 1e6:11.2f}"
        print(f"{name:18}{numbers}{it['cpu'] / count * 1e6:9.1f}", flush=True)
        figures[name] = it
    return figures


def tables(found: dict[int, dict[str, dict[str, Any]]]) -> list[Table]:
    """The growth curve, and where the seconds of the largest size go."""
    names = list(next(iter(found.values())))
    columns = ["operation", *(f"{count:,}" for count in found)]
    per_file = [[name, *(found[count][name]["cpu"] / count * 1e6 for count in found)] for name in names]
    largest = max(found)
    curve = [
        Table("CPU seconds", columns, [[name, *(found[count][name]["cpu"] for count in found)] for name in names]),
        Table("CPU microseconds a file", columns, per_file),
        Table(
            "Peak memory (MiB)",
            columns,
            [[name, *(round(found[count][name]["rss"]) for count in found)] for name in names],
        ),
        Table(
            "New bytes in the store (MB)",
            columns,
            [[name, *(found[count][name]["written"] / 1e6 for count in found)] for name in names],
        ),
    ]
    rows: list[list[Cell]] = []
    for name in names:
        it = found[largest][name]
        top = [f"{phase} {share * it['cpu']:.2f}" for phase, share in it["phases"].items() if share >= 0.02]
        rows.append([name, it["cpu"], ", ".join(top)])
    where = Table(
        f"Where each second goes at {largest:,} files (CPU seconds by phase)", ["operation", "all", "of it"], rows
    )
    return [*curve, where]


def kept(found: dict[int, dict[str, dict[str, Any]]]) -> Results:
    """The figures as they stand on the page."""
    return Results(
        "scale",
        30,
        "Growth with the number of files",
        "Files of 64 bytes, 500 in a folder, all read once before each operation; each operation is a process of its own, "
        "imports and its commit included. "
        "The limits are plain Python and `cp` on the same files in the same run: a million small files do not stay in memory. "
        "`child 1 %` is a new version with a hundredth of the files changed, `100 scattered` one with a hundred changed: "
        "create, sync, upload, finalize.",
        "python tests/benchmarks/scale_bench.py --keep",
        tables(found),
    )


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.folder, given.measure)
        return
    found = {}
    with ExitStack() as made:
        for size in given.sizes.split(","):
            place = Path(tempfile.mkdtemp(prefix="scale-bench-", dir=given.folder))
            made.callback(remove, place)  # at the end: deleted files make new ones dearer for minutes
            found[int(size)] = run(place, int(size))
            if given.keep:  # after each size: the largest takes long
                kept(found).keep()


if __name__ == "__main__":
    main()
