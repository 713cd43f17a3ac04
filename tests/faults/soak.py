"""Random operations and random kills, for as long as you like: nothing acknowledged may be lost, nothing may be there twice.

    python tests/faults/soak.py [--minutes 60] [--workers 4] [--seed N] [--catalog URL] [--store URL] [--keep]

Workers share one catalog, store and cache. Each makes versions of its own dataset and of one that all share, publishes, copies,
squashes, deletes and brings back, collects, repacks; every call runs in a fork that is killed at a random moment two times of
three, and is then made again with the same key until it answers. Each worker keeps what its versions must hold, and reads
them back. At the end every invariant is checked. The seed is printed; times of kills differ between two runs of one seed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sweep import forked, trouble, warm

from dataset_tasks.errors import DatasetError
from dataset_tasks.model import State
from dataset_tasks.ops.requests import (
    AddFiles,
    Collect,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Repack,
    Request,
    Squash,
    SyncFolder,
    Undelete,
    Upload,
    Verify,
)
from dataset_tasks.ops.wire import to_json
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.invariants import assert_invariants

KEPT = Path(__file__).parent / "results" / "soak.json"
NAMES = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "ü/") for name in ("1.bin", "2.txt", "-x", "c d")]
_TRIES = 60
_MOST_KEPT = 5
#: What ends a call: a moment, or work done (a busy machine would see the first fire before anything is done).
_TIMERS = ((signal.ITIMER_REAL, signal.SIGALRM), (signal.ITIMER_PROF, signal.SIGPROF))
_LONGEST_SECONDS = 900  # of a call that nothing disturbs, on a machine that is busy with other things


class LostError(Exception):
    """A promise that did not hold."""


@dataclass(slots=True)
class Worker:
    """One worker: what it did, and what its versions must hold by id."""

    place: Path
    number: int
    chance: random.Random
    held: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gone: dict[str, dict[str, bytes]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    serial: int = 0

    @property
    def answer(self) -> Path:
        return self.place / f"answer-{self.number}.json"

    def call(self, request: Request) -> dict[str, object]:
        """Makes a call until it answers; most tries are killed."""
        self.serial += 1
        key = f"soak/{self.number}/{self.serial}"
        self.calls[request.verb] += 1
        for tried in range(_TRIES):
            self.answer.unlink(missing_ok=True)
            deadly = tried < 5 and self.chance.random() < 0.66
            timer, end = self.chance.choice(_TIMERS)
            code = self._forked(request, key, timer, self.chance.uniform(0.001, 0.15) if deadly else 0.0)
            if deadly and code == -end:
                self.kills += 1
                continue
            if code:
                raise LostError(f"{request.verb} {key} ended with {code}: {trouble()}")
            found: dict[str, object] = json.loads(self.answer.read_text())
            if found.get("retryable"):
                time.sleep(self.chance.uniform(0.01, 0.1))  # another worker was faster
                continue
            return found
        raise LostError(f"{request.verb} {key} did not come through in {_TRIES} tries: {self.answer.read_text()}")

    def _forked(self, request: Request, key: str, timer: int, kill_after: float) -> int:
        def work() -> int:
            signal.alarm(_LONGEST_SECONDS)
            if kill_after:
                signal.setitimer(timer, kill_after)  # its signal ends the process wherever it is, as SIGKILL does
            with opened(self.place) as session:
                try:
                    said = to_json(session.run(request, key=key))
                except DatasetError as error:
                    said = {"error": error.kind, "message": str(error), "retryable": error.retryable}
            for each, _ in _TIMERS:
                signal.setitimer(each, 0)
            self.answer.write_text(json.dumps(said))
            return 0

        return forked(work)

    def must(self, request: Request) -> dict[str, object]:
        """A call that nothing speaks against."""
        said = self.call(request)
        if "error" in said:
            raise LostError(f"{request} was refused: {said['message']}")
        return said

    # --- what a worker does

    def make(self) -> None:
        """A version: from nothing, from the last one, or from several."""
        standing = list(self.held)
        parents = self.chance.sample(standing, min(len(standing), self.chance.choice((0, 0, 1, 1, 2))))
        merged: dict[str, bytes] = {}
        for parent in parents:
            merged |= self.held[parent]
        name = self.chance.choice(("shared", f"own-{self.number}"))
        draft = str(self.must(Create(name=name, project="soak", parents=tuple(parents)))["version_id"])
        for _ in range(self.chance.randrange(1, 4)):
            merged = self.fill(draft, merged)
        self.must(Upload(ref=draft, chunk_size=self.chance.choice((0.001, 0.01, 1.0)), max_workers=2))
        self.must(Finalize(ref=draft))
        self.held[draft] = merged
        if self.chance.random() < 0.5:
            self.must(Publish(ref=draft, alias=self.chance.choice((None, "good"))))

    def fill(self, draft: str, before: dict[str, bytes]) -> dict[str, bytes]:
        files = {
            each: self.chance.randbytes(self.chance.choice((0, 10, 700, 3000)))
            for each in self.chance.sample(NAMES, self.chance.randrange(1, 6))
        }
        source = self.place / f"source-{self.number}-{self.serial}"
        for each, data in files.items():
            (source / each).parent.mkdir(parents=True, exist_ok=True)
            (source / each).write_bytes(data)
        match self.chance.randrange(4):
            case 0:
                self.must(SyncFolder(ref=draft, path=str(source)))
                return files
            case 1 if before:
                victim = self.chance.choice(sorted(before))
                self.must(RemoveFiles(ref=draft, patterns=(victim,), recursive=False))
                before = {each: data for each, data in before.items() if each != victim}
        self.must(AddFiles(ref=draft, path=str(source)))
        return before | files

    def squash(self) -> None:
        """One version that stands alone."""
        if self.held:
            victim = self.chance.choice(sorted(self.held))
            made = self.must(Squash(name=f"flat-{self.number}", refs=(victim,)))
            self.held[str(made["version_id"])] = dict(self.held[victim])

    def copy(self) -> None:
        """A copy, compared byte for byte."""
        if not self.held:
            return
        victim = self.chance.choice(sorted(self.held))
        target = self.place / f"copy-{self.number}-{self.serial}" if self.chance.random() < 0.5 else None
        said = self.must(GetCopy(ref=victim, target=str(target) if target else None))
        folder = Path(str(said["folder"]))
        found = {
            os.path.relpath(os.path.join(top, each), folder): Path(top, each).read_bytes()
            for top, _, names in os.walk(folder)
            for each in names
        }
        if found != self.held[victim]:
            raise LostError(f"the copy of {victim} holds {sorted(found)}, expected {sorted(self.held[victim])}")
        if target:
            _remove(target)

    def verify(self) -> None:
        """A version read back from the store."""
        if self.held:
            said = self.must(Verify(ref=self.chance.choice(sorted(self.held))))
            if said.get("bad"):
                raise LostError(f"{said['version_id']}: {said['bad']} do not read back")

    def delete(self) -> None:
        """Ends a version, sometimes to bring it back."""
        if len(self.held) < 3:
            return
        victim = self.chance.choice(sorted(self.held))
        said = self.call(Delete(ref=victim, force=self.chance.random() < 0.7))
        if "error" in said:
            return  # it has children, and stays
        content = self.held.pop(victim)
        if self.chance.random() < 0.3:
            back = self.call(Undelete(ref=victim))
            if "error" not in back:
                self.held[victim] = content

    def collect(self) -> None:
        """Frees what nobody needs, without waiting."""
        self.must(Collect(dry_run=False, now=True, idle=5.0, drafts=3600.0))

    def repack(self) -> None:
        """Frees dead bytes."""
        self.must(Repack(dry_run=False, live=0.7))

    def work(self, until: float) -> None:
        """Random work until a moment (monotonic seconds)."""
        acts: list[tuple[Callable[[], None], int]] = [
            (self.make, 8), (self.copy, 4), (self.verify, 2), (self.squash, 1), (self.delete, 3), (self.collect, 1),
            (self.repack, 1),
        ]  # fmt: skip
        while time.monotonic() < until:
            self.chance.choices([act for act, _ in acts], [weight for _, weight in acts])[0]()
        for victim in sorted(self.held):
            self.check(victim)

    def check(self, victim: str) -> None:
        """Reads a version back, in this process and undisturbed."""

        def work() -> int:
            signal.alarm(_LONGEST_SECONDS)
            with opened(self.place) as session:
                folder = Path(session.run(GetCopy(ref=victim)).folder)  # type: ignore[attr-defined]
                for each, data in self.held[victim].items():
                    if (folder / each).read_bytes() != data:
                        raise LostError(f"{victim}: {each} is not what was acknowledged")
            return 0

        if code := forked(work):
            raise LostError(f"{victim} does not read back ({code}): {trouble()}")


def opened(place: Path) -> Session:
    given = json.loads((place / "settings.json").read_text())
    return open_session(home=place / "home", catalog_url=given["catalog"], store_url=given["store"])


def _remove(folder: Path) -> None:
    for top, _, _ in os.walk(folder):
        os.chmod(top, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


def worker(place: Path, number: int, seed: int, seconds: float) -> int:
    """The life of one worker; its counts are printed as JSON."""
    logging.disable(logging.WARNING)
    warm()
    one = Worker(place, number, random.Random(f"{seed}/{number}"))
    try:
        one.work(time.monotonic() + seconds)
    except LostError:
        traceback.print_exc()
        return 1
    print(json.dumps({"calls": dict(one.calls), "kills": one.kills, "versions": len(one.held)}))
    return 0


def main() -> int:
    """Starts the workers, and checks everything when they are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    parser.add_argument("--catalog")
    parser.add_argument("--store")
    parser.add_argument("--keep", action="store_true", help="for the page of reliability")
    parser.add_argument("--as-worker", nargs=2, metavar=("PLACE", "NUMBER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_worker:
        return worker(Path(given.as_worker[0]), int(given.as_worker[1]), given.seed, given.minutes * 60)
    print(f"seed {given.seed}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    (place / "settings.json").write_text(json.dumps({"catalog": given.catalog, "store": given.store}))
    with opened(place) as session:
        session.run(Create(name="begin", project="soak"))
    command = [
        sys.executable,
        __file__,
        "--seed",
        str(given.seed),
        "--minutes",
        str(given.minutes),
        "--as-worker",
        str(place),
    ]
    begun = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(given.workers)]
    said = [each.communicate()[0] for each in begun]
    failed = [number for number, each in enumerate(begun) if each.returncode]
    if failed:
        print(f"workers {failed} failed; everything is in {place}", file=sys.stderr)
        return 1
    counts = [json.loads(each) for each in said]
    with opened(place) as session:
        assert_invariants(session)
        versions = session.catalog.versions(states=tuple(State))
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each["calls"])
    summary = {
        "seed": given.seed, "minutes": given.minutes, "workers": given.workers, "calls": sum(total.values()),
        "by verb": dict(sorted(total.items())), "kills": sum(each["kills"] for each in counts), "versions": len(versions),
        "violations": 0, "catalog": "PostgreSQL" if (given.catalog or "").startswith("postgres") else "SQLite",
    }  # fmt: skip
    print(json.dumps(summary, indent=1))
    if given.keep:
        KEPT.parent.mkdir(exist_ok=True)
        before = json.loads(KEPT.read_text()) if KEPT.exists() else []
        rows = ",\n  ".join(json.dumps(each) for each in [*before, summary][-_MOST_KEPT:])
        KEPT.write_text(f"[\n  {rows}\n]\n")
    _remove(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
