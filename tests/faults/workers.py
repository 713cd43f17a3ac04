"""Two workers at once: the first stops at a point, the second runs its whole operation, the first goes on.

A program and no test, like `sweep.py`: every worker is a fork. It prints one JSON object. Pairs say what the calls are
and what may come of each: `ok`, or an error of ours, never another and never a lost file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import scenarios
import sweep
from backends import Backend, backend
from pairs import PAIRS, Calls, Pair, adding, files, finalize, gc, publish, upload
from scenarios import draft, history, littered, uploaded

from dataset_tasks.errors import DatasetError
from dataset_tasks.failpoints import Rule
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

#: How long a worker sleeps that waits for another.
_WAITS_SECONDS = 0.5


class Stage:
    """A prepared folder that every interleaving starts from."""

    def __init__(self, base: Path, prepare: Callable[[Session, Path], None], stored: Backend) -> None:
        self._stored = stored
        self.place, self.template = base / "work", base / "template"
        self.home = self.place / "home"
        scenarios.clear(self.place)
        scenarios.clear(self.template)
        self.place.mkdir()
        stored.empty()
        self._run(lambda session: prepare(session, self.home))
        shutil.copytree(self.place, self.template, symlinks=True)
        stored.keep()

    def _run(self, work: Callable[[Session], object]) -> None:
        def child() -> int:
            with open_session(home=self.home) as session:
                work(session)
            return 0

        code = sweep.forked(child)
        if code:
            raise AssertionError(f"ended with {code}: {sweep.trouble()}")

    def restore(self) -> None:
        scenarios.clear(self.place)
        shutil.copytree(self.template, self.place, symlinks=True)
        self._stored.restore()

    def start(self, name: str, calls: Calls, key: str, rule: Rule | None = None) -> int:
        """A worker in a fork; what came of its call goes to a file."""
        pid = os.fork()
        if pid:
            return pid
        signal.alarm(sweep.LONGEST_SECONDS)
        said = "died"
        try:
            with open_session(home=self.home) as session, injected([rule] if rule else []) as seen:
                try:
                    for number, each in enumerate(calls if isinstance(calls, tuple) else (calls,)):
                        session.run(each, key=f"{key}{number or ''}")
                    said = "ok"
                except DatasetError as error:
                    said = type(error).__name__
                (self.place / f"{name}.reached").write_text(json.dumps(seen.reached()))
        except BaseException as error:  # noqa: BLE001  # the report tells
            said = f"{type(error).__name__}: {error}"
        (self.place / f"{name}.said").write_text(said)
        os._exit(0)

    def said(self, name: str) -> str:
        path = self.place / f"{name}.said"
        return path.read_text() if path.exists() else "nothing"

    def reached(self, name: str) -> dict[str, int]:
        return json.loads((self.place / f"{name}.reached").read_text())


def is_waiting(pid: int) -> bool:
    """Whether a worker waits for the one that is stopped, in a transaction or with a lock; else it has ended.

    It does when it slept for long: the time in which it only got no processor does not count.
    """
    slept, last = 0.0, time.monotonic()
    while slept < _WAITS_SECONDS:
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.002)
        now = time.monotonic()
        slept, last = slept + (min(now - last, 0.02) if sleeps(pid) else 0), now
    return True


def sleeps(pid: int) -> bool:
    """Whether all threads of a process wait for something other than a processor or a disk."""
    states = []
    for each in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            states.append(each.read_text().rpartition(")")[2].split()[0])
    return set(states) == {"S"}


def interleaved(stage: Stage, pair: Pair, name: str, hit: int) -> str:
    """The first worker stops at a point, the second runs, the first goes on; the problem, or nothing."""
    stage.restore()
    first = stage.start("first", pair.first(stage.home), "worker/first", Rule(name, stop, hit))
    _, status = os.waitpid(first, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    second = stage.start("second", pair.second(stage.home), "worker/second")
    waits = not stopped or is_waiting(second)
    if stopped:
        os.kill(first, signal.SIGCONT)
        os.waitpid(first, 0)
    if waits:
        os.waitpid(second, 0)

    def look(session: Session) -> None:
        said = stage.said("first"), stage.said("second")
        assert not any(each == "nothing" or ":" in each or each == "died" for each in said), said
        pair.check(session, *said)
        scenarios.read_once(session)
        assert_invariants(session)

    try:
        stage._run(look)
    except AssertionError as error:
        return str(error)
    return ""


def stop(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def swept(stage: Stage, pair: Pair, stride: int) -> dict[str, Any]:
    stage.restore()
    os.waitpid(stage.start("dry", pair.first(stage.home), "worker/dry"), 0)
    points = [(name, hit) for name, hits in stage.reached("dry").items() for hit in range(1, hits + 1)]
    failures = []
    chosen = points[::stride]
    for name, hit in chosen:
        problem = interleaved(stage, pair, name, hit)
        if problem:
            failures.append(f"{pair.name}: {name}@{hit}: {problem}")
    return {
        "points": len(points),
        "tries": len(chosen),
        "survived": len(chosen) - len(failures),
        "failures": failures,
    }


def zombies(stage: Stage, request: Callable[[Path], Calls], stride: int) -> dict[str, Any]:
    """A worker stops, its retry under the same key ends, it goes on: it changes nothing."""
    stage.restore()
    os.waitpid(stage.start("dry", request(stage.home), "worker/same"), 0)
    locking = {
        "catalog.before_work",
        "catalog.before_commit",
    }  # the retry can't end before the one with the lock goes on
    reached = {name: hits for name, hits in stage.reached("dry").items() if name not in locking}
    points = [(name, hit) for name, hits in reached.items() for hit in range(1, hits + 1)]
    tried, failures = 0, []
    for name, hit in points[::stride]:
        stage.restore()
        first = stage.start("first", request(stage.home), "worker/same", Rule(name, stop, hit))
        os.waitpid(first, os.WUNTRACED)
        os.waitpid(stage.start("retry", request(stage.home), "worker/same"), 0)

        def look(session: Session) -> None:
            path = stage.place / "seen"
            state = scenarios.state(session, stage.home)["versions"]
            if path.exists():
                assert json.loads(path.read_text()) == state, "the one that was stopped changed what its retry left"
                assert_invariants(session)
            else:
                path.write_text(json.dumps(state))

        tried += 1
        try:
            stage._run(look)
            os.kill(first, signal.SIGCONT)
            os.waitpid(first, 0)
            stage._run(look)
            assert stage.said("retry") == "ok", stage.said("retry")
            assert ":" not in stage.said("first"), stage.said("first")
        except AssertionError as error:
            failures.append(f"{name}@{hit}: {error}")
    return {"points": len(points), "tries": tried, "survived": tried - len(failures), "failures": failures}


def crowd(stage: Stage, count: int = 8) -> dict[str, Any]:
    """Processes that add to one draft at once: nothing is lost."""
    stage.restore()
    requests = [adding(f"n{number}")(stage.home) for number in range(count)]
    pids = [stage.start(f"n{number}", each, f"worker/{number}") for number, each in enumerate(requests)]
    for pid in pids:
        os.waitpid(pid, 0)

    def look(session: Session) -> None:
        said = [stage.said(f"n{number}") for number in range(count)]
        assert said == ["ok"] * count, said
        assert files(session, "p/d@3") >= {f"n{number}/1" for number in range(count)}
        assert_invariants(session)

    try:
        stage._run(look)
    except AssertionError as error:
        return {"points": 1, "tries": 1, "survived": 0, "failures": [str(error)]}
    return {"points": 1, "tries": 1, "survived": 1, "failures": []}


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--backend", choices=("home", "servers"), default="home")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    sweep.warm()
    shared = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="workers-", dir=shared if shared.is_dir() else None))
    try:
        with backend(given.backend) as stored:
            sweep.settle()
            report = reported(base, stored, given.only, given.stride)
    finally:
        scenarios.clear(base)
    print(json.dumps(report))


def _prepared(pair: Pair) -> str:
    return pair.prepare.__name__


def reported(base: Path, stored: Backend, only: list[str] | None, stride: int) -> dict[str, Any]:
    """What came of everything that was asked for."""
    report: dict[str, Any] = {}
    wanted = [pair for pair in PAIRS if not only or pair.name in only]
    for _, alike in groupby(sorted(wanted, key=_prepared), key=_prepared):
        pairs = list(alike)
        stage = Stage(base, pairs[0].prepare, stored)
        report |= {pair.name: swept(stage, pair, stride) for pair in pairs}
    for name, prepare, request in (
        ("zombie finalize", uploaded, finalize), ("zombie upload", draft, upload), ("zombie publish", history, publish),
        ("zombie gc", littered, gc),
    ):  # fmt: skip
        if not only or name in only:
            report[name] = zombies(Stage(base, prepare, stored), request, stride)
    if not only or "crowd" in only:
        report["crowd"] = crowd(Stage(base, draft, stored))
    return report


if __name__ == "__main__":
    main()
