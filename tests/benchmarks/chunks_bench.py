"""Packing and extracting against `sha256 + tar` and `cp -r`: CPU seconds of this process and its children.

    python tests/benchmarks/chunks_bench.py [small|large|both] [--folder FOLDER] [--repeat N] [--keep]

`small` is 20,000 files of 4 KiB, half noise and half words, `large` one file of 512 MiB that half shrinks. Ratios below 1.3 prove
nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from places import put_aside, remove
from results import Cell, Results, Table

from dataset_tasks.cache import Cache, TreeKey
from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.copies import extract
from dataset_tasks.manifest import columns
from dataset_tasks.members import Member
from dataset_tasks.store import open_store
from dataset_tasks.store.base import Store

Files = list[tuple[str, int]]
WORDS = [
    "the",
    "a",
    "of",
    "data",
    "set",
    "file",
    "row",
    "column",
    "label",
    "image",
    "model",
    "train",
    "test",
    "merge",
    "list",
    "store",
    "flow",
    "version",
    "hash",
]


def make_small(folder: Path) -> Files:
    """20,000 files in 200 folders, noise and words by turns."""
    dice = random.Random(7)
    files = []
    for number in range(20_000):
        name = f"part-{number // 100:03d}/file-{number:05d}.bin"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        words = " ".join(dice.choices(WORDS, k=800))[:4096].ljust(4096, ".").encode()
        path.write_bytes(words if number % 2 else dice.randbytes(4096))
        files.append((name, 4096))
    return files


def make_large(folder: Path) -> Files:
    """One file: 64 KiB of noise, 64 KiB that shrinks, and so on."""
    folder.mkdir(parents=True)
    dice = random.Random(7)
    with (folder / "large.bin").open("wb") as file:
        for number in range(4096):
            file.write(dice.randbytes(65536) + b"%064d" % number * 1024)
    return [("large.bin", 4096 * 131072)]


def pack(source: Path, files: Files, store: Store) -> list[tuple[Member, str]]:
    """Packs as an upload does: 128 MiB a chunk, synced."""
    packed = []
    left = list(reversed(files))
    fd = os.open(source, os.O_RDONLY)
    while left:
        key = f"bench/chunks/{len(packed)}.zip"
        with store.create(key) as writer:
            chunk = ChunkWriter(writer)
            while left and chunk.size < 128 << 20:
                name, size = left.pop()
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
                packed.append((chunk.add(file, name.encode(), size), key))
                os.close(file)
            chunk.finish()
            writer.commit()
    os.close(fd)
    return packed


def tables(packed: list[tuple[Member, str]]) -> list[object]:
    """The manifest's columns, a segment at a time."""
    made = []
    for start in range(0, len(packed), 1000):
        some = packed[start : start + 1000]
        members = [member for member, _ in some]
        made.append(
            columns.pa.Table.from_arrays(
                [
                    columns.binaries([member.path for member in members]),
                    columns.int8s([0] * len(members)),
                    columns.int64s([member.size for member in members]),
                    columns.digests([member.sha256 for member in members]),
                    columns.strings([key for _, key in some]),
                    columns.int64s([member.offset for member in members]),
                    columns.int64s([member.stored for member in members]),
                    columns.int8s([member.method for member in members]),
                ],
                names=["path", "kind", "size", "hash", "chunk", "offset", "stored", "method"],
            )
        )
    return made


def hash_and_tar(source: Path, files: Files, out: Path) -> None:
    """What the aim is measured against: every file hashed, then all put into one tar."""
    for name, _ in files:
        with (source / name).open("rb") as file:
            hashlib.file_digest(file, "sha256")
    subprocess.run(["tar", "cf", out, "-C", source, "."], check=True)


def measure(what: str, repeat: int, action: Callable[[], object], clean: Callable[[], object]) -> list[Cell]:
    """Prints the best of some runs; the row for a table."""
    best: tuple[float, float] | None = None
    for _ in range(repeat):
        clean()
        cpu, wall = _cpu(), time.perf_counter()
        action()
        found = (_cpu() - cpu, time.perf_counter() - wall)
        best = min(best, found) if best else found
    assert best is not None
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:34s} cpu {best[0]:6.2f} s  wall {best[1]:6.2f} s  peak of the process {rss} MiB", flush=True)
    return [what, best[0], best[1], rss]


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Runs the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="?", choices=["small", "large", "both"], default="small")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    shapes = ["small", "large"] if options.which == "both" else [options.which]
    found = [run(shape, options.folder, options.repeat) for shape in shapes]
    if options.keep:
        Results(
            "chunks",
            22,
            "Packing and extracting against the limits",
            "`sha256 + tar` and `cp -r` are the limits. `pack` hashes, compresses and syncs as an upload does, `extract` "
            "verifies what it writes. Each the best of its runs, in one process: its peak of memory only grows.",
            f"python tests/benchmarks/chunks_bench.py {options.which} --keep",
            found,
        ).keep()


def run(which: str, folder: Path | None, repeat: int) -> Table:
    """All measurements of one shape of data."""
    base = Path(tempfile.mkdtemp(prefix="chunks-bench-", dir=folder))
    source, copy = base / "source", base / "copy"
    try:
        files = make_small(source) if which == "small" else make_large(source)
        store = open_store(base / "store")

        rows: list[list[Cell]] = []

        def took(what: str, times: int, action: Callable[[], object], before: Callable[[], object]) -> None:
            rows.append(measure(what, times, action, before))

        def clean() -> None:
            for path in (copy, base / "store", base / "cache"):
                put_aside(path, base / "aside")
            (base / "out.tar").unlink(missing_ok=True)

        def clean_copy() -> None:
            put_aside(copy, base / "aside")
            copy.mkdir()

        took("sha256 + tar", repeat, lambda: hash_and_tar(source, files, base / "out.tar"), clean)
        took("pack", repeat, lambda: pack(source, files, store), clean)
        clean()
        took("cp -r", repeat, lambda: subprocess.run(["cp", "-r", source, copy], check=True), clean)
        clean()
        entries = tables(pack(source, files, store))
        took("extract", repeat, lambda: extract(entries, store.open, copy), clean_copy)
        subprocess.run(["diff", "-r", source, copy], check=True)
        cache = Cache(base / "cache")
        key = TreeKey("c" * 32, "a" * 32)
        took("cache, new tree", 1, lambda: cache.get(key, lambda: entries, store.open), lambda: None)
        took("cache, hit", repeat, lambda: cache.get(key, lambda: entries, store.open), lambda: None)
        cache.close()
    finally:
        remove(base)
    size = "20,000 files of 4 KiB" if which == "small" else "one file of 512 MiB"
    return Table(f"{size}, half of it shrinks", ["", "CPU s", "wall s", "peak MiB"], rows)


if __name__ == "__main__":
    sys.exit(main())
