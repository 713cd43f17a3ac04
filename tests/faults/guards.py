"""Takes guards out of a copy of the source, one at a time, and sees whether a test fails: a test that can't fail proves nothing.

    python tests/faults/guards.py [--only R59,S02] [--jobs 2] [--keep]

Each guard is a piece of source that is replaced, and the tests that must notice. Exit code 1 when one goes unnoticed.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("dataset_tasks", "airflow_provider", "prefect_blocks", "example_flows", "tests")
KEPT = Path(__file__).parent / "results" / "guards.json"


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard of a row of the fault catalogue: `before` stands once in `file`; `after` is the source without it."""

    row: str
    file: str
    before: str
    after: str
    tests: str


D = "dataset_tasks/"
SCAN, SECURITY, PROCESSES = "tests/unit/test_scan.py", "tests/faults/test_security.py", "tests/faults/test_processes.py"

GUARDS: tuple[Guard, ...] = (
    # --- crashes and orchestration
    Guard("R01", D + "catalog/engine.py", "connection.invalidate()\n                found = self._settle(landed, error)",
          "found = None", "tests/contract/test_catalog.py -k commit"),
    Guard("R02", D + "catalog/writes.py", " & (t.versions.c.revision == version.revision)", "",
          "tests/contract/test_catalog.py -k one_of_two_writers"),
    Guard("R08", D + "ops/leash.py", "prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)", "pass", f"{PROCESSES} -k program_of_a_transform"),
    Guard("R08", D + "ops/leash.py", "if os.getppid() != parent:", "if False:", f"{PROCESSES} -k does_not_start"),
    Guard("R09", D + "cli/main.py", "signal.signal(signal.SIGTERM, _on_terminate)", "pass", f"{PROCESSES} -k told_to_stop"),
    Guard("R09", D + "spec/runner.py", "ASKED: Final = 2.0", "ASKED: Final = 20.0", f"{PROCESSES} -k told_to_stop"),
    Guard("R10", D + "ops/run.py", "replayed = _replay(session, request, key)", "replayed = None", "tests/unit/ops/test_repeats.py"),
    Guard("R13", D + "catalog/writes.py", "if expected is not None and now.state is not expected:", "if False:",
          "tests/contract/test_catalog.py -k states_only"),
    Guard("R17", D + "ops/get.py", 'require_final(now, "a copy")', "pass", "tests/faults/test_gc.py -k hears_just_that"),
    Guard("R17", D + "ops/get.py", "    if now.index == version.index:\n        raise error\n", "    raise error\n",
          "tests/faults/test_gc.py -k gets_it_whole"),
    Guard("R18", D + "catalog/registry.py", 'content.needs, ("live", "condemned"), {', 'content.needs, ("live", "condemned", "going"), {',
          "tests/contract/test_collecting.py -k takes_back"),
    Guard("R18", D + "catalog/collect.py", "            if unread:\n", "            if False:\n",
          "tests/contract/test_collecting.py -k stops_the_mark"),
    Guard("R18", D + "ops/upload.py", "if error.kind != OBJECTS_GONE:", "if True:", "tests/faults/test_gc.py -k stores_it_itself"),
    Guard("R18", D + "ops/gc.py", "if self._stands(root, ref):", "if True:", "tests/faults/test_gc.py -k while_gc_reads"),
    Guard("R19", D + "catalog/leases.py", "(found.holder, found.epoch) != (mine.holder, mine.epoch)", "False",
          "tests/contract/test_collecting.py -k taken_over"),
    Guard("R20", D + "catalog/leases.py", "        if self.db.is_sqlite:\n            return self._now()\n", "        return self._now()\n",
          "tests/contract/test_collecting.py -k by_its_clock"),
    Guard("R22", D + "session.py", "if self._pid != os.getpid():", "if False:", f"{PROCESSES} -k forked_child"),
    # --- storage and copies
    Guard("R47", D + "members.py", "    if digest != sha256:\n", "    if False:\n",
          "tests/unit/test_members.py tests/semantics/test_mistakes_of_others.py -k 'flipped'"),
    Guard("R47", D + "ops/survey.py", 'return "" if sha.hexdigest() == ref.sha256 else', 'return "" if True else',
          "tests/semantics/test_repair.py -k flipped_bit"),
    Guard("R48", D + "ops/survey.py", '        return "it is missing"\n    return "" if size', '        return ""\n    return "" if size',
          "tests/semantics/test_repair.py -k lost_store"),
    Guard("R51", D + "ops/survey.py", "todo = [ref for ref in found.objects.values()", "todo = [ref for ref in ()",
          "tests/semantics/test_repair.py -k lost_store"),
    Guard("R53", D + "ops/finding.py", "        return sha.digest() == member.sha256\n", "        return True\n",
          "tests/semantics/test_repair.py -k somebody_edited"),
    Guard("R49", D + "manifest/packs.py", "if problem is not None:", "if False:", "tests/unit/manifest/test_packs.py -k checked"),
    Guard("R49", D + "manifest/packs.py", "if all(name in names for name in CONTENT_COLUMNS) and segment_digest(table) != segment.digest:",
          "if False:", "tests/unit/manifest/test_packs.py"),
    # --- disks, sources, names
    Guard("R56", D + "filesystem.py", "os.fsync(", "(lambda fd: None)(", "tests/unit/store/test_local.py -k durable"),
    Guard("R59", D + "hashing.py", 'return "changed while it was read"', 'return ""', f"{SCAN} -k 'changes_while'"),
    Guard("R60", D + "hashing.py", "_READ if follow else _READ | os.O_NOFOLLOW", "_READ", f"{SCAN} -k 'something_else'"),
    Guard("R60", D + "hashing.py", "    if stat.S_ISREG(status.st_mode):\n        return fd, status\n", "    return fd, status\n",
          f"{SCAN} -k 'something_else'"),
    Guard("R61", D + "walk.py", "self._findings.problem(path, _broken_link(frame.fd, name, error) or error)", "pass",
          f"{SCAN} -k 'loops_and_dangling'"),
    Guard("R62", D + "walk.py", "_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW", "_FOLDER = os.O_RDONLY | os.O_DIRECTORY",
          f"{SCAN} -k 'folder_that_is_gone_or_something_else'"),
    Guard("R63", D + "walk.py", "return stat.S_ISREG(mode)\n\n    def _is_open", "return True\n\n    def _is_open",
          f"{SCAN} -k 'fifo or device'"),
    Guard("R63", D + "hashing.py", "if count != size:  # as files", "if False:  # as files", f"{SCAN} -k 'more_than_their_size'"),
    Guard("R66", D + "walk.py", "if (status.st_dev, status.st_ino) != outer.identity:", "if False:", f"{SCAN} -k swapped"),
    Guard("R68", D + "paths.py", 'if path.isprintable() and "\\\\" not in path:', "if True:", "tests/unit/test_paths.py -k cursor"),
    Guard("R69", D + "paths.py", 'folded = unicodedata.normalize("NFD", to_text(path)).casefold()', "folded = to_text(path)",
          "tests/unit/test_paths.py -k tell_apart"),
    Guard("R70", D + "store/base.py", "if len(key) > MOST_KEY_BYTES or not _KEY.match(key):", "if False:",
          "tests/contract/test_store.py -k no_key"),
    # --- security
    Guard("S01", D + "paths.py", 'if part in (b"", b".", b".."):', 'if part in (b"", b"."):', "tests/unit/test_paths.py"),
    Guard("S01", D + "paths.py", 'not any(bad in joined for bad in (b"//", b"/./", b"/../", b"\\\\"))',
          'not any(bad in joined for bad in (b"//", b"\\\\"))', "tests/unit/test_paths.py"),
    Guard("S02", D + "targets.py", "_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW",
          "_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY", "tests/unit/test_copies.py -k link"),
    Guard("S04", D + "members.py", "data = inflater.decompress(data, size + 1)", "data = inflater.decompress(data)",
          "tests/unit/test_members.py -k bomb"),
    Guard("S05", D + "members.py", "        if done > member.size:\n", "        if False:\n", "tests/unit/test_members.py"),
    Guard("S06", D + "spec/document.py", "if event.tag is not None and not (event.implicit[0] or event.implicit[1]):", "if False:",
          f"tests/unit/spec {SECURITY} -k 'tag or class'"),
    Guard("S07", D + "spec/document.py", "if self.aliased > MAX_ALIASED:", "if False:", "tests/unit/spec/test_document.py"),
    Guard("S07", D + "spec/document.py", "if len(self.stack) >= MAX_DEPTH:", "if False:", "tests/unit/spec/test_document.py"),
    Guard("S08", D + "spec/document.py", "if any(held.anchor == event.anchor for held in self.stack):", "if False:",
          "tests/unit/spec/test_document.py"),
    Guard("S09", D + "spec/document.py", "if value in node:", "if False:", "tests/unit/spec/test_document.py"),
    Guard("S10", D + "spec/document.py", 'if len(digits) > 1 and digits[0] == "0":', "if False:", "tests/unit/spec/test_document.py"),
    Guard("S18", D + "statcache.py", "exist_ok=True, mode=0o700", "exist_ok=True", f"{SECURITY} -k umask"),
    Guard("S19", D + "spec/explain.py", "return escape(text, quote=False)", "return text", f"{SECURITY} -k drawn"),
)  # fmt: skip


def without(guard: Guard, place: Path) -> Path:
    """A copy of the source without one guard."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "docs", "README.md"):
        (place / name).symlink_to(ROOT / name)
    path = place / guard.file
    text = path.read_text(encoding="utf-8")
    if text.count(guard.before) != 1:
        raise SystemExit(f"{guard.row}: {guard.before!r} stands {text.count(guard.before)} times in {guard.file}")
    path.write_text(text.replace(guard.before, guard.after), encoding="utf-8")
    return place


def noticed(guard: Guard) -> bool:
    """Whether a test fails without the guard."""
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        place = without(guard, Path(folder) / "source")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "300",
             "--basetemp", f"{folder}/tmp", *shlex.split(guard.tests)],
            cwd=place, env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{guard.row}: pytest {guard.tests} ended with {done.returncode}:\n{done.stdout[-1500:]}")
    return done.returncode == 1


def main() -> int:
    """Takes out every guard asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="for the page of reliability")
    given = parser.parse_args()
    rows = set(given.only.split(",")) - {""}
    chosen = [guard for guard in GUARDS if not rows or guard.row in rows]
    with ThreadPoolExecutor(given.jobs) as pool:
        found = list(zip(chosen, pool.map(noticed, chosen), strict=True))
    for guard, seen in found:
        print(
            f"{guard.row}  {'noticed' if seen else 'NOT NOTICED':<12} {guard.file}: {guard.before.splitlines()[0][:80]}"
        )
    print(f"{sum(seen for _, seen in found)} of {len(found)} guards are noticed when they are gone")
    if given.keep:
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(
            json.dumps([{"row": g.row, "file": g.file, "noticed": seen} for g, seen in found], indent=1) + "\n"
        )
    return int(not all(seen for _, seen in found))


if __name__ == "__main__":
    sys.exit(main())
