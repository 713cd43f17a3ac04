"""Takes guards out of a copy of the source, one at a time, and sees whether a test fails: a test that can't fail proves nothing.

    python tests/faults/guards.py [--only R59,S02] [-j 2] [--whole] [--keep]

guard_rows.py has the guards and the tests that must notice. With `--whole` those tests run on the whole source first: a test
that fails anyway notices nothing. Exit code 1 when a guard goes unnoticed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guard_rows import GUARDS, Guard

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("dataset_tasks", "airflow_provider", "prefect_blocks", "example_flows", "tests")
KEPT = Path(__file__).parent / "results" / "guards.json"


class Copies:
    """Copies of the source, one for each thread."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._mine = threading.local()

    def mine(self) -> Path:
        """The copy of this thread, made when it is first wanted."""
        if not hasattr(self._mine, "place"):
            place = self._mine.place = self._place / str(threading.get_ident())
            for package in PACKAGES:
                ignored = shutil.ignore_patterns("__pycache__", "results")
                shutil.copytree(ROOT / package, place / package, ignore=ignored)
            for name in ("pyproject.toml", "docs", "README.md"):
                (place / name).symlink_to(ROOT / name)
        found: Path = self._mine.place
        return found

    def noticed(self, guard: Guard) -> bool:
        """Whether a test fails without the guard."""
        path = self.mine() / guard.file
        text = path.read_text(encoding="utf-8")
        if text.count(guard.before) != 1:
            raise SystemExit(f"{guard.row}: {guard.before!r} stands {text.count(guard.before)} times in {guard.file}")
        path.write_text(text.replace(guard.before, guard.after), encoding="utf-8")
        try:
            return not self.passes(guard.row, guard.tests)
        finally:
            path.write_text(text, encoding="utf-8")

    def passes(self, row: str, tests: str) -> bool:
        """Whether these tests pass on this thread's copy as it is."""
        place = self.mine()
        temporary = place.with_name(f"{place.name}-tmp")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "300",
             "--basetemp", str(temporary), *shlex.split(tests)],
            cwd=place, env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        shutil.rmtree(temporary, ignore_errors=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{row}: pytest {tests} ended with {done.returncode}:\n{done.stdout[-1500:]}")
        return done.returncode == 0


def seen_by(copies: Copies, guards: Sequence[Guard], jobs: int, *, is_kept: bool) -> list[bool]:
    """Whether each is noticed when it is gone, told and kept as they come."""
    alone = threading.Lock()

    def look(guard: Guard) -> bool:
        seen = copies.noticed(guard)
        said = "noticed" if seen else "NOT NOTICED"
        print(f"{guard.row}  {said:<12} {guard.file}: {guard.before.strip().splitlines()[0][:80]}", flush=True)
        with alone:
            if is_kept:
                keep({guard: seen})
        return seen

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(look, guards))


def failing(copies: Copies, guards: Sequence[Guard], jobs: int) -> list[str]:
    """The tests that fail with every guard in its place."""
    tests = {guard.tests: guard.row for guard in guards}
    with ThreadPoolExecutor(jobs) as pool:
        passed = pool.map(copies.passes, tests.values(), tests)
        return [one for one, is_well in zip(tests, passed, strict=True) if not is_well]


def keep(seen: Mapping[Guard, bool]) -> None:
    """Keeps what came of guards, beside what was kept of the others that there are still."""
    KEPT.parent.mkdir(exist_ok=True)
    before = json.loads(KEPT.read_text()) if KEPT.exists() else []
    known = {(each["row"], each["file"], each.get("guard")): each["noticed"] for each in before}
    now = [(guard, seen.get(guard, known.get((guard.row, guard.file, guard.before)))) for guard in GUARDS]
    rows = [
        json.dumps({"row": guard.row, "file": guard.file, "guard": guard.before, "noticed": is_seen})
        for guard, is_seen in now
        if is_seen is not None
    ]
    KEPT.write_text("[\n " + ",\n ".join(rows) + "\n]\n")


def main() -> int:
    """Takes out every guard asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="see the tests pass with every guard in its place, too")
    parser.add_argument("--keep", action="store_true", help="for the page of reliability")
    given = parser.parse_args()
    rows = set(given.only.split(",")) - {""}
    chosen = [guard for guard in GUARDS if not rows or guard.row in rows]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        broken = failing(Copies(Path(folder) / "whole"), chosen, given.jobs) if given.whole else []
        if broken:
            print(f"these fail anyway: {broken}", file=sys.stderr)
            return 1
        found = seen_by(Copies(Path(folder)), chosen, given.jobs, is_kept=given.keep)
    print(f"{sum(found)} of {len(found)} guards are noticed when they are gone")
    return int(not all(found))


if __name__ == "__main__":
    sys.exit(main())
