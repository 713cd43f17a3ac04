"""Scanning against its limits: CPU seconds, wall seconds and peak memory, each in a fresh process.

    python tests/benchmarks/scan_bench.py [small|tiny|million] [--folder FOLDER] [--repeat N] [--keep]

`small` is 20,000 files of 4 KiB, `tiny` 200,000 of 64 bytes, `million` 1,000,000 of 16 bytes. Limits: `walk + stat` is
`os.walk` and `os.stat`, `read + hash` is `os.walk`, `open().read()` and SHA-256. The start of Python and the imports of each are in
its figures. The best of the repeats is shown; ratios below 1.3 prove nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import Cell, Results, Table, markdown

from dataset_tasks.statcache import RACY_NS

SHAPES = {"small": (20_000, 4096, 100), "tiny": (200_000, 64, 500), "million": (1_000_000, 16, 1000)}

WALK_STAT = """
import os
for base, _, names in os.walk(root):
    for name in names:
        os.stat(os.path.join(base, name))
"""
READ_HASH = """
import hashlib, os
for base, _, names in os.walk(root):
    for name in names:
        with open(os.path.join(base, name), "rb") as file:
            hashlib.sha256(file.read()).digest()
"""
SCAN = """
from dataset_tasks.scan import Scan, Source
for batch in Scan(Source.locate(root)):
    pass
"""
CACHED_SCAN = """
from dataset_tasks.scan import Scan, Source
from dataset_tasks.statcache import StatCache
with StatCache(cache) as known:
    for batch in Scan(Source.locate(root), cache=known):
        pass
"""
MEASURED = """
import json, resource, sys, time
root, cache = sys.argv[1:]
started = time.perf_counter()
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024]))
"""


def make(folder: Path, shape: str) -> None:
    """Writes the files of a shape; all differ."""
    files, size, per_folder = SHAPES[shape]
    noise = os.urandom(size)
    for number in range(files):
        home = folder / f"{number // per_folder:04d}"
        if number % per_folder == 0:
            home.mkdir(parents=True)
        with (home / f"file-{number:07d}.bin").open("wb") as file:
            file.write((b"%d:" % number + noise)[:size])


def measure(work: str, root: Path, cache: Path) -> list[float]:
    """CPU seconds, wall seconds, peak memory (MiB) of one run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(work=work), str(root), str(cache)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    figures: list[float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Makes the files, measures, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[[], *SHAPES], default=[], metavar="SHAPE")
    parser.add_argument("--folder", type=Path, help="where the files are made, kept when it is given")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    shapes = options.shapes or ["small", "tiny"]
    home = options.folder or Path(tempfile.mkdtemp(prefix="scan-bench-"))
    found = []
    try:
        for shape in shapes:
            found.append(run(shape, home / shape, home / f"{shape}-cache", options.repeat))
            print(f"\n{found[-1].caption}\n\n{markdown(found[-1])}", flush=True)
    finally:
        if options.folder is None:
            shutil.rmtree(home)
    if options.keep:
        Results(
            "scan",
            21,
            "Scanning against the limits",
            "`walk + stat` is `os.walk` and `os.stat`, `read + hash` is `os.walk`, `open().read()` and SHA-256 in plain "
            "Python: the limits. Each in a process of its own, start and imports included.",
            f"python tests/benchmarks/scan_bench.py {' '.join(shapes)} --keep",
            found,
        ).keep()


def run(shape: str, root: Path, cache: Path, repeat: int) -> Table:
    """Measures one shape; the kinds of run take turns."""
    if not root.exists():
        make(root, shape)
        time.sleep(RACY_NS / 1e9 + 1)  # hashes are remembered of files of that age
    measure(READ_HASH, root, cache)  # warms the page cache
    runs: dict[str, list[list[float]]] = {}
    for _ in range(repeat):
        shutil.rmtree(cache, ignore_errors=True)
        for name, work in (
            ("walk + stat", WALK_STAT),
            ("read + hash", READ_HASH),
            ("scan, no stat cache", SCAN),
            ("first scan", CACHED_SCAN),
            ("unchanged re-scan", CACHED_SCAN),
        ):
            runs.setdefault(name, []).append(measure(work, root, cache))
    files, size, _ = SHAPES[shape]
    limits = {name: min(figures)[0] for name, figures in runs.items()}
    rows: list[list[Cell]] = []
    for name, figures in runs.items():
        cpu, wall, memory = (min(column) for column in zip(*figures, strict=True))
        limit = "walk + stat" if name == "unchanged re-scan" else "read + hash"
        ratio = f"{cpu / limits[limit]:.2f} x {limit}" if "scan" in name else ""
        rows.append([name, cpu, wall, round(memory), ratio])
    columns = ["", "CPU s", "wall s", "peak MiB", "of its limit"]
    return Table(f"{shape}: {files:,} files of {size:,} bytes, the best of {repeat}", columns, rows)


if __name__ == "__main__":
    main()
