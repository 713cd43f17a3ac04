"""Manifests of a million entries: CPU seconds, peak memory, bytes written.

    python tests/benchmarks/manifest_bench.py [--entries N] [--repeat N] [--folder FOLDER] [--keep] [NAME ...]

Every measurement is a process of its own: `cpu` is what the operation took (best of `--repeat`, imports and making the input
left out), `rss` the peak of the whole process, input and imports included. Ratios below 1.3 prove nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from results import Cell, Results, Table

from dataset_tasks.manifest import Built, Index, Manifest, apply, diff, entries, merge, place
from dataset_tasks.model import ObjectRef

FILES_IN_A_CHUNK = 1000
OWNERS = {name: name * 32 for name in "abc"}


class Shelf:
    """Packs and indexes as files of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._numbers = itertools.count()

    def new_key(self) -> str:
        return f"packs-{self.name}-{next(self._numbers)}"

    def read(self, ref: ObjectRef) -> bytes:
        return (self.folder / ref.key).read_bytes()

    def open(self, name: str) -> Manifest:
        return Manifest(Index.from_bytes((self.folder / f"index-{name}").read_bytes()), self.read)

    def save(self, built: Built) -> int:
        index = built.index.to_bytes()
        (self.folder / f"index-{self.name}").write_bytes(index)
        for key, data in built.packs:
            (self.folder / key).write_bytes(data)
        return len(index) + sum(len(data) for _, data in built.packs)


def chunk_key(number: int) -> str:
    return f"chunks/{number // FILES_IN_A_CHUNK:032x}.zip"


def chunks(count: int) -> dict[str, ObjectRef]:
    keys = {chunk_key(number) for number in range(0, count + FILES_IN_A_CHUNK, FILES_IN_A_CHUNK)}
    return {key: ObjectRef(store_id="s" * 32, key=key, size=1 << 27, sha256="0" * 64) for key in keys}


def path_of(number: int, folder: bytes = b"images", suffix: bytes = b".jpg") -> bytes:
    return b"%s/train/class_%04d/IMG_%08d_%c%s" % (folder, number // 1000, number, b"abcdefgh"[number % 8], suffix)


def tables(
    count: int,
    start: int = 0,
    *,
    seed: int = 1,
    owner: str = "a",
    name: Callable[[int], bytes] = path_of,
    stored: bool = True,
) -> Iterator[pa.Table]:
    """Sorted entries `start` to `count`, 8,192 a table; equal seeds give equal content."""
    for first in range(start, count, 8192):
        numbers = range(first, min(count, first + 8192))
        dice = random.Random(seed * 10**9 + first)
        sizes = [dice.randrange(1000, 200_000) for _ in numbers]
        places = {
            "chunks": [chunk_key(number) for number in numbers],
            "offsets": [number % FILES_IN_A_CHUNK * 130_000 for number in numbers],
            "stored": sizes,
            "methods": [8] * len(numbers),
        }
        yield entries(
            paths=[name(number) for number in numbers],
            sizes=sizes,
            hashes=dice.randbytes(32 * len(numbers)),
            owner=OWNERS[owner],
            **(places if stored else {}),
        )


def scattered(count: int, seed: int, changes: int = 100) -> pa.Table:
    """Changed entries anywhere."""
    numbers = sorted(random.Random(seed).sample(range(count), changes))
    return entries(
        paths=[path_of(number) for number in numbers],
        sizes=[1] * changes,
        hashes=random.Random(-seed).randbytes(32 * changes),
        owner=OWNERS["b"],
    )


def where(shelf: Shelf) -> dict[str, object]:
    return {"new_key": shelf.new_key, "store_id": "s" * 32}


def build(count: int, shelf: Shelf) -> Callable[[], Built]:
    parts = list(tables(count))
    objects = chunks(count)
    return lambda: apply(Manifest.empty(), parts, objects=objects, **where(shelf))


def build_stream(count: int, shelf: Shelf) -> Callable[[], Built]:
    objects = chunks(count)
    return lambda: apply(Manifest.empty(), tables(count), objects=objects, **where(shelf))


def pending(count: int, shelf: Shelf) -> Callable[[], Built]:
    return lambda: apply(Manifest.empty(), tables(count, stored=False), **where(shelf))


def half_other(count: int, shelf: Shelf) -> Callable[[], Built]:
    """Half as in `build`, the other half elsewhere."""

    def parts() -> Iterator[pa.Table]:
        yield from tables(count // 2 // 8192 * 8192)
        yield from tables(count, count // 2, seed=2, name=lambda number: path_of(number, b"labels"))

    return lambda: apply(Manifest.empty(), parts(), objects=chunks(count), **where(shelf))


def half_mixed(count: int, shelf: Shelf) -> Callable[[], Built]:
    """Half as in `build`; of the other half every second path is another, the rest has other content."""

    def parts() -> Iterator[pa.Table]:
        half = count // 2 // 8192 * 8192
        yield from tables(half)
        names = (b".jpg", b".png")
        yield from tables(count, half, seed=2, name=lambda number: path_of(number, suffix=names[number % 2]))

    return lambda: apply(Manifest.empty(), parts(), objects=chunks(count), **where(shelf))


def child(count: int, shelf: Shelf) -> Callable[[], Built]:
    return lambda: apply(shelf.open("build"), [scattered(count, 5)], **where(shelf))


def remove_half(count: int, shelf: Shelf) -> Callable[[], Built]:
    """Every second path, one by one."""
    paths = [path_of(number) for number in range(0, count, 2)]
    return lambda: apply(shelf.open("build"), removals=paths, **where(shelf))


def descendants(count: int, shelf: Shelf) -> Callable[[], Built]:
    """The last of 30 versions, each with 100 scattered changes; its index refers to 31 packs, mostly dead."""

    def run() -> Built:
        manifest = shelf.open("build")
        packs: dict[str, bytes] = {}
        for seed in range(30):
            built = apply(manifest, [scattered(count, seed)], **where(shelf))
            packs.update(built.packs)
            manifest = Manifest(built.index, lambda ref: packs[ref.key] if ref.key in packs else shelf.read(ref))
        return Built(index=built.index, packs=tuple(packs.items()))

    return run


def upload(count: int, shelf: Shelf) -> Callable[[], Built]:
    def placed() -> Iterator[pa.Table]:
        for part in tables(count):
            yield part.select(["path", "hash", "chunk", "offset", "stored", "method"])

    return lambda: place(shelf.open("pending"), placed(), objects=chunks(count), **where(shelf))


def merge_apart(count: int, shelf: Shelf) -> Callable[[], Built]:
    return lambda: merge([shelf.open("build"), shelf.open("half_other")], **where(shelf))


def merge_mixed(count: int, shelf: Shelf) -> Callable[[], Built]:
    return lambda: merge([shelf.open("build"), shelf.open("half_mixed")], **where(shelf))


def diff_child(count: int, shelf: Shelf) -> Callable[[], None]:
    def run() -> None:
        assert len(diff(shelf.open("build"), shelf.open("child"))) == 100

    return run


def diff_all(count: int, shelf: Shelf) -> Callable[[], None]:
    def run() -> None:
        assert len(diff(shelf.open("build"), shelf.open("half_mixed"))) > count // 4

    return run


def find(count: int, shelf: Shelf) -> Callable[[], None]:
    def run() -> None:
        assert shelf.open("build").find(path_of(count // 2).decode()) is not None

    return run


def read_all(count: int, shelf: Shelf) -> Callable[[], None]:
    def run() -> None:
        assert sum(len(table) for table in shelf.open("build").batches()) == count

    return run


def read_descendant(count: int, shelf: Shelf) -> Callable[[], None]:
    def run() -> None:
        assert sum(len(table) for table in shelf.open("descendants").batches()) == count

    return run


#: In an order in which each finds the manifests that it needs.
CASES: dict[str, Callable[[int, Shelf], Callable[[], Built | None]]] = {
    case.__name__: case
    for case in (
        build,
        build_stream,
        child,
        diff_child,
        find,
        read_all,
        half_other,
        merge_apart,
        half_mixed,
        merge_mixed,
        diff_all,
        pending,
        upload,
        remove_half,
        descendants,
        read_descendant,
    )
}
NEEDS = {
    "child": ["build"],
    "diff_child": ["child"],
    "find": ["build"],
    "read_all": ["build"],
    "merge_apart": ["build", "half_other"],
    "merge_mixed": ["build", "half_mixed"],
    "diff_all": ["build", "half_mixed"],
    "upload": ["pending"],
    "remove_half": ["build"],
    "descendants": ["build"],
    "read_descendant": ["descendants"],
}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(name: str, count: int, folder: Path) -> None:
    """Runs one case in this process and prints what it took as JSON."""
    shelf = Shelf(folder, name)
    run = CASES[name](count, shelf)
    cpu, wall = cpu_seconds(), time.perf_counter()
    built = run()
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    written = shelf.save(built) if built is not None else 0
    assert "pandas" not in sys.modules
    print(json.dumps({"cpu": cpu, "wall": wall, "rss": rss, "written": written}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(CASES)}; all without")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.entries, given.folder)
        return
    wanted = set(given.names or CASES)
    for name in reversed(CASES):
        if name in wanted:
            wanted.update(NEEDS.get(name, ()))
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory(prefix="manifest-bench-") as made:
        folder = given.folder or Path(made)
        print(f"{given.entries:,} entries\n{'':16}{'cpu s':>8}{'wall s':>8}{'rss MiB':>9}{'written MB':>12}")
        for name in CASES:
            if name not in wanted:
                continue
            command = [sys.executable, __file__, "--measure", name, "--entries", str(given.entries), "--folder", folder]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(given.repeat)
            ]
            best = min(runs, key=lambda run: run["cpu"])
            numbers = f"{best['cpu']:8.2f}{best['wall']:8.2f}{best['rss']:9.0f}{best['written'] / 1e6:12.2f}"
            print(f"{name:16}{numbers}", flush=True)
            what = name.replace("_", " ")
            rows.append(
                [what, best["cpu"], best["cpu"] / given.entries * 1e6, round(best["rss"]), best["written"] / 1e6]
            )
    if given.keep:
        columns = ["", "CPU s", "CPU us an entry", "peak MiB", "written MB"]
        Results(
            "manifest",
            32,
            "Manifests alone",
            "Building, changing, comparing and reading manifests. CPU is that of the operation alone, peak memory that of "
            "its process with the input that it was given.",
            f"python tests/benchmarks/manifest_bench.py --entries {given.entries} --keep",
            [Table(f"{given.entries:,} entries", columns, rows)],
        ).keep()


if __name__ == "__main__":
    main()
