"""Interrupts an operation at every point it passes, runs it again in a new process, and looks at what then stands.

A program and no test: `python sweep.py --only upload --stride 5`. Every try is a fork of this process, which has loaded
everything and opened nothing. It prints one JSON object: how many points there are, and what went wrong at which.

Modes: `kill` ends the process with SIGKILL; `raise` makes the point raise; `lost` makes a COMMIT fail as a lost
connection does, before or after it landed, and expects the call itself to find out.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import scenarios
from backends import Backend, backend
from scenarios import SCENARIOS, Scenario
from sqlalchemy.exc import OperationalError

from dataset_tasks.failpoints import Action, Rule
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

MODES = ("kill", "raise", "lost")
VERBS = [
    "create",
    "add",
    "sync",
    "remove",
    "transform",
    "upload",
    "finalize",
    "build",
    "publish",
    "squash",
    "verify",
    "get",
    "delete",
    "undelete",
    "gc",
    "repack",
    "repair",
    "copy",
]
LONGEST_SECONDS = 500
_RAISED = 3
TROUBLE = Path(tempfile.gettempdir()) / f"sweep-trouble-{os.getpid()}"


def warm() -> None:
    """Loads all that a try needs: a fork is a tenth of an interpreter's start."""
    for verb in VERBS:
        import_module(f"dataset_tasks.ops.{verb}")
    for name in (
        "pyarrow.parquet",
        "pyarrow.compute",
        "sqlalchemy.dialects.sqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
        "dataset_tasks.store.s3",
        "dataset_tasks.cache",
        "isal.isal_zlib",
    ):
        import_module(name)


def settle() -> None:
    """Keeps the collector of forks off all that is loaded: it would copy every page of it, half of a try's time."""
    gc.collect()
    gc.freeze()


def forked(work: Callable[[], int]) -> int:
    """Runs `work` in a fork; gives its exit code, or the signal that ended it, negative."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(LONGEST_SECONDS)
        code = 1
        try:
            code = work()
        except BaseException:  # noqa: BLE001  # whatever it was belongs in the report, and this process ends here
            TROUBLE.write_text(traceback.format_exc())
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@dataclass(slots=True)
class Outcome:
    """What the points of one scenario came to."""

    scenario: str
    points: dict[str, int] = field(default_factory=dict)
    all_points: dict[str, int] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    survived: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    leftovers: dict[str, int] = field(default_factory=dict)


class Sweep:
    """The tries of one scenario, in a folder of its own."""

    def __init__(self, scenario: Scenario, base: Path, stored: Backend) -> None:
        self.scenario, self.stored = scenario, stored
        self.place, self.template = base / "work", base / "template"
        self.home, self.report = self.place / "home", base / "report.json"
        self.place.mkdir()
        self._must(forked(self._prepare), "prepare")
        shutil.copytree(self.place, self.template, symlinks=True)
        self.stored.keep()
        self._must(forked(self._dry), "dry run")
        dry = json.loads(self.report.read_text())
        self.reached: dict[str, int] = dry["reached"]
        self._must(forked(lambda: self._retry(expect=None)), "undisturbed run")
        self.expected = json.loads(self.report.read_text())

    def _must(self, code: int, what: str) -> None:
        if code:
            raise SystemExit(f"{self.scenario.name}: the {what} ended with {code}: {trouble()}")

    def _prepare(self) -> int:
        with self._session() as session:
            self.scenario.prepare(session, self.home)
        return 0

    def _session(self) -> Session:
        return open_session(home=self.home)

    def _dry(self) -> int:
        with self._session() as session, injected() as seen:
            self.scenario.call(session, self.home)
        self.report.write_text(json.dumps({"reached": seen.reached()}))
        return 0

    def restore(self) -> None:
        """Everything as it was before the operation."""
        scenarios.clear(self.place)
        shutil.copytree(self.template, self.place, symlinks=True)
        self.stored.restore()

    def disturbed(self, rule: Rule) -> int:
        """One try with an injection."""

        def work() -> int:
            with self._session() as session, injected([rule]):
                try:
                    self.scenario.call(session, self.home)
                except InjectedError:
                    return _RAISED
                except Exception as error:
                    if caused_by_injection(error):
                        return _RAISED
                    raise
            return 0

        return forked(work)

    def _retry(self, *, expect: dict[str, Any] | None) -> int:
        """The same call in a new process, once more after that, and all that there is to see."""
        before = scenarios.outside(self.home) if expect is not None else {}
        with self._session() as session:
            first = self.scenario.call(session, self.home)
            left = scenarios.leftovers(session)
            again = self.scenario.call(session, self.home)
            scenarios.read_once(session)
            assert_invariants(session)
            seen = {
                "before": before,
                "first": first,
                "again": again,
                "state": scenarios.state(session, self.home),
                "leftovers": left,
            }
        self.report.write_text(json.dumps(seen))
        return 0

    def problems(self, mode: str, code: int) -> Iterator[str]:
        """What is not as it must be after a disturbed try, its retry included."""
        wanted = {"kill": (-signal.SIGKILL,), "raise": (_RAISED, 0), "lost": (0,)}[mode]
        if code not in wanted:
            yield f"the disturbed try ended with {code}: {trouble()}"
        self.report.unlink(missing_ok=True)
        code = forked(lambda: self._retry(expect=self.expected))
        if code:
            yield f"the retry ended with {code}: {trouble()}"
            return
        seen = json.loads(self.report.read_text())
        drops = self.scenario.drops and mode == "raise"
        if not drops and seen["first"] != self.expected["again"]:
            yield f"the retry gave {seen['first']}, undisturbed it is {self.expected['again']}"
        if seen["again"] != seen["first"]:
            yield f"the call after the retry gave {seen['again']}, the retry {seen['first']}"
        states = self.expected["state"], seen["state"]
        if drops:
            states = scenarios.plain(states[0]), scenarios.plain(states[1])
        if self.scenario.repeats:
            for held in states:
                for version in held["versions"].values():
                    version["events"] = sorted(set(version["events"]))
        yield from differences("state", *states)
        yield from self._partial(seen["before"])
        for what in ("scratch", "cache", "stray"):
            if seen["leftovers"][what] > self.expected["leftovers"][what]:
                yield f"{seen['leftovers'][what]} things of the {what} are left over"

    def _partial(self, before: dict[str, Any]) -> Iterator[str]:
        """Whether a target is neither as it was nor complete."""
        target = before.get("target", {})
        shown = {name: data for name, data in target.items() if name.startswith("copy/")}
        old = scenarios.tree(self.template / "target")
        new = self.expected["state"]["outside"].get("target", {})
        if shown and shown not in (old, new):
            yield f"the target held a part: {sorted(shown)}"


def trouble() -> str:
    """The end of the last traceback."""
    if not TROUBLE.exists():
        return ""
    text = TROUBLE.read_text()
    TROUBLE.unlink()
    return " / ".join(line.strip() for line in text.splitlines()[-9:])


class InjectedError(OSError):
    """What `raise` raises."""


def caused_by_injection(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, InjectedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def differences(what: str, expected: Any, found: Any) -> Iterator[str]:
    if expected == found:
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted({*expected, *found}):
            yield from differences(f"{what}.{name}", expected.get(name), found.get(name))
    else:
        yield f"{what} is {found}, undisturbed it is {expected}"


def action_of(mode: str) -> Action:
    if mode == "kill":
        return lambda _name: os.kill(os.getpid(), signal.SIGKILL)
    if mode == "raise":

        def fail(name: str) -> None:
            raise InjectedError(5, f"injected at {name}")

        return fail

    def lose(name: str) -> None:
        raise OperationalError("COMMIT", {}, Exception(f"server closed the connection, injected at {name}"))

    return lose


def points(reached: dict[str, int], modes: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    for mode in modes:
        for name, hits in reached.items():
            if mode == "lost" and name not in ("catalog.before_commit", "catalog.after_commit"):
                continue
            for hit in range(1, hits + 1):
                yield name, hit, mode


def swept(scenario: Scenario, modes: tuple[str, ...], stride: int, offset: int, stored: Backend) -> Outcome:
    shared = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="sweep-", dir=shared if shared.is_dir() else None))
    outcome = Outcome(scenario.name)
    try:
        stored.empty()
        sweep = Sweep(scenario, base, stored)
        outcome.points = sweep.reached
        every = list(points(sweep.reached, modes))
        outcome.all_points = Counter(mode for _, _, mode in every)
        for name, hit, mode in every[offset % stride :: stride]:
            sweep.restore()
            code = sweep.disturbed(Rule(name, action_of(mode), hit))
            found = list(sweep.problems(mode, code))
            outcome.tries[mode] = outcome.tries.get(mode, 0) + 1
            if not found:
                outcome.survived[mode] = outcome.survived.get(mode, 0) + 1
                left = json.loads(sweep.report.read_text())["leftovers"]
                for kind, count in left.items():
                    more = count - sweep.expected["leftovers"][kind]
                    outcome.leftovers[kind] = max(outcome.leftovers.get(kind, 0), more)
            outcome.failures += [f"{scenario.name}: {name}={mode}@{hit}: {problem}" for problem in found]
    finally:
        scenarios.clear(base)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[each.name for each in SCENARIOS])
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--backend", choices=("home", "servers"), default="home")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    warm()
    with backend(given.backend) as stored:
        settle()
        outcomes = [
            swept(each, tuple(given.modes), given.stride, given.offset, stored)
            for each in SCENARIOS
            if given.only is None or each.name in given.only
        ]
    print(
        json.dumps(
            {
                each.scenario: {
                    name: getattr(each, name)
                    for name in ("points", "all_points", "tries", "survived", "failures", "leftovers")
                }
                for each in outcomes
            }
        )
    )


if __name__ == "__main__":
    main()
