"""Coverage-guided fuzzing of every reader, as long as you like.

    python tests/fuzz/fuzz.py [--targets spec,index] [--runs 100000] [--seed 1] [--keep]

Each target runs in a process of its own with at most 2 GiB, and 20 seconds of CPU an input; what breaks it is printed and kept
in `crash-*` of the working folder. `--keep` replaces what was kept of the targets that ran. Without atheris (it is not made for every Python) inputs are mutated without its guidance.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "faults" / "results" / "fuzz.json"
CPU_SECONDS = 20.0
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]


class SlowError(Exception):
    """An input that took too long. By CPU time: a busy machine is no bug."""


def guided(name: str, runs: int, seed: int) -> None:
    """One target under atheris; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["dataset_tasks", "yaml"]):
        from targets import TARGETS
    from dataset_tasks.errors import DatasetError

    target = TARGETS[name]

    def once(data: bytes) -> None:
        begin = time.process_time()
        try:
            target.run(data)
        except DatasetError:
            pass
        if time.process_time() - begin > CPU_SECONDS:
            raise SlowError(f"{len(data)} bytes took more than {CPU_SECONDS} s")

    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, each in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(each)
    words = corpus.with_suffix(".dict")
    lines = ["".join(rf"\x{byte:02x}" for byte in word) for word in target.words]
    words.write_text("".join(f'"{line}"\n' for line in lines))
    options = [
        f"-runs={runs}",
        f"-seed={seed}",
        "-rss_limit_mb=2048",
        "-malloc_limit_mb=4194304",  # a damaged page may claim any size: what is not filled takes no memory
        "-timeout=900",  # what hangs without using the CPU
        "-max_len=65536",
        "-print_final_stats=1",
    ]
    options += [f"-dict={words}"] if target.words else []
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


def unguided(name: str, runs: int, seed: int) -> int:
    """One target with plain mutations; how many inputs it saw."""
    from targets import TARGETS, mutate

    from dataset_tasks.errors import DatasetError

    target, chance = TARGETS[name], random.Random(seed)
    seeds = target.seeds()
    for _ in range(runs):
        data = mutate(chance, chance.choice(seeds), target)
        try:
            target.run(data)
        except DatasetError:
            pass
        except BaseException:
            Path(f"crash-{name}").write_bytes(data)
            print(f"{name}: {data[:2000]!r}", file=sys.stderr)
            raise
    return runs


def run(names: Sequence[str], runs: int, seed: int) -> list[list[str | int | float]]:
    """Every target in a process of its own: name, inputs, seconds, what it came to, seed."""
    rows: list[list[str | int | float]] = []
    for name in names:
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, "--runs", str(runs), "--seed", str(seed)],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        counted = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line or "inputs:" in line]
        seen = int(counted[-1].split()[-1]) if counted else 0
        rows.append(
            [name, seen, round(time.monotonic() - begin, 1), "none" if done.returncode == 0 else "FAILED", seed]
        )
        print(f"{name:<12}{seen:>10} inputs{rows[-1][2]:>8} s  failures: {rows[-1][3]}", flush=True)
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-1500:], file=sys.stderr)
    return rows


def main() -> int:
    """Runs what is asked for; exit code 1 when a target broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--keep", action="store_true", help="for the page of reliability")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        if find_spec("atheris"):
            guided(given.one, given.runs, given.seed)
        print(f"inputs: {unguided(given.one, given.runs, given.seed)}", file=sys.stderr)
        return 0
    from targets import TARGETS

    print(f"seed {given.seed}")
    rows = run(given.targets.split(",") if given.targets else list(TARGETS), given.runs, given.seed)
    if given.keep:
        KEPT.parent.mkdir(exist_ok=True)
        before = json.loads(KEPT.read_text())["rows"] if KEPT.exists() else []
        kept = {row[0]: row for row in (*before, *rows)}
        lines = ",\n  ".join(json.dumps(kept[name]) for name in TARGETS if name in kept)
        KEPT.write_text(f'{{"rows": [\n  {lines}\n]}}\n')
    return int(any(row[3] != "none" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
