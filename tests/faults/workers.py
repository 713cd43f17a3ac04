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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scenarios
import sweep
from backends import Backend, backend
from scenarios import broken, deleted, draft, history, littered, sparse, uploaded, write

from dataset_tasks.errors import DatasetError
from dataset_tasks.failpoints import Rule
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
    Repair,
    Request,
    Squash,
    SyncFolder,
    Undelete,
    Upload,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

#: What a worker does: one operation, or several one after the other.
Calls = Request | tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two calls on what `prepare` made, and what must hold of the catalog after both in either order."""

    name: str
    prepare: Callable[[Session, Path], None]
    first: Callable[[Path], Calls]
    second: Callable[[Path], Calls]
    check: Callable[[Session, str, str], None] = lambda _session, _first, _second: None


def files(session: Session, ref: str) -> set[str]:
    return {os.fsdecode(entry.path) for entry in session.manifest(session.catalog.resolve(ref)).entries()}


def published_once(session: Session, first: str, second: str) -> None:
    assert (first, second) == ("ok", "ok")
    version = session.catalog.resolve("p/d@1.0.1")
    assert [each.kind for each in session.catalog.events(version_id=version.id)].count("published") == 1


def final(session: Session, first: str, second: str) -> None:
    assert (first, second) == ("ok", "ok"), (first, second)
    assert session.catalog.resolve("p/d@3").state is State.COMPLETED


def nothing_pending(session: Session, first: str, second: str) -> None:
    assert (first, second) == ("ok", "ok"), (first, second)
    assert session.catalog.resolve("p/d@3").pending == 0


def both_added(session: Session, first: str, second: str) -> None:
    assert (first, second) == ("ok", "ok"), (first, second)
    assert files(session, "p/d@3") >= {"x/1", "y/1"}


def one_of_them(session: Session, first: str, second: str) -> None:
    """What was said to be added is there; a finalize that won says no to the add."""
    version = session.catalog.resolve("p/d@3")
    assert "ok" in (first, second)
    if version.state.is_final:
        assert version.pending == 0


def no_ghost(session: Session, first: str, second: str) -> None:
    parent = next(v for v in session.catalog.versions(states=tuple(State)) if v.label == "p/d@1.0.1")
    children = [each for each in session.catalog.children(parent.id) if each.state is State.IN_PROGRESS]
    assert not (parent.state is State.DELETED and children), "a child of a version that is gone"
    assert "ok" in (first, second)


def adding(name: str) -> Callable[[Path], Request]:
    return lambda home: AddFiles(ref="p/d@3", path=str(write(home.parent / f"w-{name}", {f"{name}/1": name.encode()})))


def publish(_home: Path) -> Request:
    return Publish(ref="p/d@1.0.1", alias="good")


def finalize(_home: Path) -> Request:
    return Finalize(ref="p/d@3")


def upload(_home: Path) -> Request:
    return Upload(ref="p/d@3", max_workers=1, chunk_size=0.0015)


def delete(_home: Path) -> Request:
    return Delete(ref="p/d@1.0.1")


def child(_home: Path) -> Request:
    return Create(name="d", project="p", parents=("p/d@1.0.1",))


def get(_home: Path) -> Request:
    return GetCopy(ref="p/d@1.0.1")


def get_first(_home: Path) -> Request:
    return GetCopy(ref="p/d@1.0.0")


def remove(_home: Path) -> Request:
    return RemoveFiles(ref="p/d@3", patterns=("a/",))


def sync(home: Path) -> Request:
    return SyncFolder(ref="p/d@3", path=str(write(home.parent / "w-sync", {"s/1": b"s"})), dataset_path="s")


def copy_to(home: Path) -> Request:
    return GetCopy(ref="p/d@1.0.1", target=str(home.parent / "target" / "copy"), overwrite=True)


def gc(_home: Path) -> Request:
    """As by a user who waits for nothing; what others are writing at the moment it leaves alone."""
    return Collect(dry_run=False, now=True)


def ruthless_gc(_home: Path) -> Request:
    """Takes every writer for dead."""
    return Collect(dry_run=False, now=True, idle=0.0)


def gone(_home: Path) -> Calls:
    """The last version is deleted and its bytes are freed."""
    return Delete(ref="p/d@1.0.1", force=True), Collect(dry_run=False, now=True)


def squash(_home: Path) -> Request:
    return Squash(name="s", refs=("p/d@1.0.0", "p/d@1.0.1"))


def undelete(_home: Path) -> Request:
    return Undelete(ref="p/d@1.0.1")


def repack(_home: Path) -> Request:
    return Repack(dry_run=False, live=0.9)


def repack_and_free(_home: Path) -> Calls:
    return Repack(dry_run=False, live=1.0), Collect(dry_run=False, now=True)


def repair(home: Path) -> Request:
    return Repair(copies=(str(home.parent / "target" / "backup"),))


def publish_sparse(_home: Path) -> Request:
    return Publish(ref="p/q@1.0.1", alias="good")


def child_of_sparse(_home: Path) -> Request:
    return Create(name="q", project="p", parents=("p/q@1.0.1",), version="9")


def healed(session: Session, first: str, second: str) -> None:
    both_well(session, first, second)
    assert not [version.label for version in session.catalog.versions() if version.quarantined]


def alike(session: Session, home: Path) -> None:
    """A draft with the files of the last version, but not made from it: an upload finds their bytes stored."""
    history(session, home)
    made = session.run(Create(name="d", project="p", version="3"))
    session.run(AddFiles(ref=made.version_id, path=str(home.parent / "source-d-1")))
    session.run(AddFiles(ref=made.version_id, path=str(home.parent / "source-d-2")))


def both_well(_session: Session, first: str, second: str) -> None:
    assert (first, second) == ("ok", "ok"), (first, second)


def told_or_done(_session: Session, first: str, second: str) -> None:
    """A writer that was taken for dead is told so, and may try again; nothing else goes wrong."""
    assert {first, second} <= {"ok", "ConflictError", "StorageError"}, (first, second)
    assert "ok" in (first, second)


def whole_or_deleted(_session: Session, first: str, second: str) -> None:
    """Who reads a version that goes at that moment gets it whole, or hears that it is deleted."""
    assert {first, second} <= {"ok", "StateError"}, (first, second)
    assert second == "ok"


def uploaded_all(session: Session, first: str, second: str) -> None:
    both_well(session, first, second)
    assert session.catalog.resolve("p/d@3").pending == 0


PAIRS = [
    Pair("finalize/finalize", uploaded, finalize, finalize, final),
    Pair("publish/publish", history, publish, publish, published_once),
    Pair("upload/upload", draft, upload, upload, nothing_pending),
    Pair("add/add", draft, adding("x"), adding("y"), both_added),
    Pair("add/remove", draft, adding("x"), remove),
    Pair("remove/add", draft, remove, adding("x")),
    Pair("add/sync", draft, adding("x"), sync),
    Pair("sync/add", draft, sync, adding("x")),
    Pair("upload/add", draft, upload, adding("x")),
    Pair("add/upload", draft, adding("x"), upload),
    Pair("finalize/add", uploaded, finalize, adding("x"), one_of_them),
    Pair("add/finalize", uploaded, adding("x"), finalize, one_of_them),
    Pair("upload/finalize", draft, upload, finalize),
    Pair("delete/create-child", history, delete, child, no_ghost),
    Pair("create-child/delete", history, child, delete, no_ghost),
    Pair("publish/delete", history, publish, delete),
    Pair("delete/publish", history, delete, publish),
    Pair("get/delete", history, get, delete),
    Pair("delete/get", history, delete, get),
    Pair("get/get", history, get, get),
    Pair("copy/copy", history, copy_to, copy_to),
    Pair("gc/gc", littered, gc, gc, both_well),
    Pair("gc/upload", draft, gc, upload, uploaded_all),
    Pair("upload/gc", draft, upload, gc, uploaded_all),
    Pair("upload/delete+gc", alike, upload, gone, uploaded_all),
    Pair("upload/ruthless-gc", draft, upload, ruthless_gc, told_or_done),
    Pair("gc/finalize", uploaded, gc, finalize, both_well),
    Pair("finalize/gc", uploaded, finalize, gc, both_well),
    Pair("gc/publish", littered, gc, publish),
    Pair("publish/gc", history, publish, gc, both_well),
    Pair("gc/squash", history, gc, squash, both_well),
    Pair("squash/gc", history, squash, gc, both_well),
    Pair("squash/delete+gc", history, squash, gone),
    Pair("gc/delete", history, gc, delete, both_well),
    Pair("delete/gc", history, delete, gc, both_well),
    Pair("get/gc", littered, get_first, gc, both_well),
    Pair("get/delete+gc", history, get, gone, whole_or_deleted),
    Pair("copy/delete+gc", history, copy_to, gone, whole_or_deleted),
    Pair("gc/add", draft, gc, adding("x"), both_well),
    Pair("add/gc", draft, adding("x"), gc, both_well),
    Pair("create-child/delete+gc", history, child, gone),
    Pair("gc/undelete", deleted, gc, undelete),
    Pair("undelete/gc", deleted, undelete, gc),
    Pair("repack/gc", sparse, repack, gc, both_well),
    Pair("gc/repack", sparse, gc, repack, both_well),
    Pair("repack/repack", sparse, repack, repack, both_well),
    Pair("repack/publish", sparse, repack, publish_sparse, told_or_done),
    Pair("publish/repack", sparse, publish_sparse, repack, told_or_done),
    Pair("create-child/repack+gc", sparse, child_of_sparse, repack_and_free, both_well),
    Pair("copy/repack+gc", history, copy_to, repack_and_free, both_well),
    Pair("get/repack+gc", history, get, repack_and_free, both_well),
    Pair("upload/repack+gc", alike, upload, repack_and_free, uploaded_all),
    Pair("repair/repair", broken, repair, repair, healed),
    Pair("repair/gc", broken, repair, gc, healed),
]


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
        signal.alarm(60)
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


def interleaved(stage: Stage, pair: Pair, name: str, hit: int) -> str:
    """The first worker stops at a point, the second runs, the first goes on; the problem, or nothing."""
    stage.restore()
    first = stage.start("first", pair.first(stage.home), "worker/first", Rule(name, stop, hit))
    _, status = os.waitpid(first, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    second = stage.start("second", pair.second(stage.home), "worker/second")
    # a worker that is stopped inside a transaction or with a lock makes the second wait: it goes on after a moment
    deadline = time.monotonic() + 0.6
    while stopped and time.monotonic() < deadline and os.waitpid(second, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    waited = time.monotonic() >= deadline
    if stopped:
        os.kill(first, signal.SIGCONT)
        os.waitpid(first, 0)
    if waited or not stopped:
        os.waitpid(second, 0)

    def look(session: Session) -> None:
        said = stage.said("first"), stage.said("second")
        assert not any(each == "nothing" or ":" in each or each == "died" for each in said), said
        scenarios.read_once(session)
        pair.check(session, *said)
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
    return {"tries": len(chosen), "survived": len(chosen) - len(failures), "failures": failures}


def zombies(stage: Stage, request: Callable[[Path], Calls], stride: int) -> dict[str, Any]:
    """A worker stops, its retry under the same key ends, it goes on: it changes nothing."""
    stage.restore()
    os.waitpid(stage.start("dry", request(stage.home), "worker/same"), 0)
    points = [(name, hit) for name, hits in stage.reached("dry").items() for hit in range(1, hits + 1)]
    tried, failures = 0, []
    for name, hit in points[::stride]:
        if name in {"catalog.before_work", "catalog.before_commit"}:
            continue  # stopped with the database's lock: the retry can't end before it goes on
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
    return {"tries": tried, "survived": tried - len(failures), "failures": failures}


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
        return {"tries": 1, "survived": 0, "failures": [str(error)]}
    return {"tries": 1, "survived": 1, "failures": []}


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


def reported(base: Path, stored: Backend, only: list[str] | None, stride: int) -> dict[str, Any]:
    """What came of everything that was asked for."""
    report: dict[str, Any] = {}
    for pair in PAIRS:
        if not only or pair.name in only:
            report[pair.name] = swept(Stage(base, pair.prepare, stored), pair, stride)
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
