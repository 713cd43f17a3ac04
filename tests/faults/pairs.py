"""The pairs of calls that two workers make at once, what stands before them, and what must hold after."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from scenarios import broken, deleted, draft, history, littered, sparse, uploaded, write

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
from dataset_tasks.session import Session

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


def merged_of_sparse(_home: Path) -> Request:
    return Create(name="m", project="p", parents=("p/q@1.0.1", "p/q2@latest"))


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


def done_when_tried_again(session: Session, first: str, second: str) -> None:
    """Nothing is lost to who was told so."""
    told_or_done(session, first, second)
    session.run(upload(Path()))
    session.run(finalize(Path()))


def whole_or_deleted(_session: Session, first: str, second: str) -> None:
    """Who reads a version that goes at that moment gets it whole, or hears that it is deleted."""
    assert {first, second} <= {"ok", "StateError"}, (first, second)
    assert second == "ok"


def uploaded_all(session: Session, first: str, second: str) -> None:
    both_well(session, first, second)
    assert session.catalog.resolve("p/d@3").pending == 0


_PAIRS = [
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
    Pair("upload/ruthless-gc", draft, upload, ruthless_gc, done_when_tried_again),
    Pair("ruthless-gc/upload", draft, ruthless_gc, upload, done_when_tried_again),
    Pair("finalize/ruthless-gc", uploaded, finalize, ruthless_gc, told_or_done),
    Pair("add/ruthless-gc", draft, adding("x"), ruthless_gc, told_or_done),
    Pair("squash/ruthless-gc", history, squash, ruthless_gc, told_or_done),
    Pair("repack/ruthless-gc", sparse, repack, ruthless_gc, told_or_done),
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
    Pair("create-merged/repack+gc", sparse, merged_of_sparse, repack_and_free, both_well),
    Pair("copy/repack+gc", history, copy_to, repack_and_free, both_well),
    Pair("get/repack+gc", history, get, repack_and_free, both_well),
    Pair("upload/repack+gc", alike, upload, repack_and_free, uploaded_all),
    Pair("repair/repair", broken, repair, repair, healed),
    Pair("repair/gc", broken, repair, gc, healed),
]


# --- every ordered pair of the phases of one version


def finalized(session: Session, home: Path) -> None:
    uploaded(session, home)
    session.run(Finalize(ref="p/d@3"))


#: The phases of a version's life, each as a call for the version that a reference means.
PHASES: dict[str, Callable[[str], Request]] = {
    "upload": lambda ref: Upload(ref=ref, max_workers=1, chunk_size=0.0015),
    "finalize": lambda ref: Finalize(ref=ref),
    "publish": lambda ref: Publish(ref=ref, alias="good"),
    "squash": lambda ref: Squash(name="s", refs=(ref,)),
    "delete": lambda ref: Delete(ref=ref),
    "gc": lambda _ref: Collect(dry_run=False, now=True),
}
#: Pairs of which neither is in the way of the other.
_PEACEFUL = {
    frozenset({"publish", "squash"}), frozenset({"squash"}), frozenset({"publish", "upload"}),
    frozenset({"publish", "finalize"}), frozenset({"squash", "upload"}), frozenset({"squash", "finalize"}),
}  # fmt: skip


def _on(first: str, second: str) -> tuple[str, Callable[[Session, Path], None]]:
    """The version that both phases are about, and what makes it: such that the first has points to be stopped at."""
    drafts = {"upload", "finalize"}
    if not drafts & {first, second}:
        return "p/d@1.0.1", history
    if first in {"publish", "squash"}:  # the second is a retry that comes late
        return "p/d@3", finalized
    return "p/d@3", draft if "upload" in {first, second} and first != "finalize" else uploaded


def _said(first: str, second: str, ref: str) -> Callable[[Session, str, str], None]:
    """Who was told that its call succeeded finds it so; who came too late is told that, and nothing else."""

    def check(session: Session, *said: str) -> None:
        assert set(said) <= {"ok", "StateError", "ConflictError", "NotFoundError"}, said
        assert "ok" in said, said
        if frozenset({first, second}) in _PEACEFUL and first in {"publish", "squash"}:
            assert said == ("ok", "ok"), said
        name = ref.rpartition("@")[2]
        every = session.catalog.versions(project="p", name="d", states=tuple(State))
        (version,) = (each for each in every if each.version == name)
        done = {phase for phase, each in zip((first, second), said, strict=True) if each == "ok"}
        gone = version.state in {State.DELETED, State.ABORTED}
        assert gone == ("delete" in done), (version.state, said)
        assert "upload" not in done or gone or not version.pending
        assert "finalize" not in done or version.finalized is not None
        assert "publish" not in done or version.published is not None
        made = session.catalog.versions(project="p", name="s")
        assert len(made) == [phase for phase, each in zip((first, second), said, strict=True) if each == "ok"].count(
            "squash"
        ), (made, said)

    return check


def _of_phases() -> Iterator[Pair]:
    """Those of the full product that have no pair of their own above."""
    own = {each.name for each in _PAIRS}
    for first, second in product(PHASES, repeat=2):
        if f"{first}/{second}" not in own:
            ref, prepare = _on(first, second)
            calls = [partial(_call, PHASES[each], ref) for each in (first, second)]
            yield Pair(f"{first}/{second}", prepare, *calls, check=_said(first, second, ref))


def _call(phase: Callable[[str], Request], ref: str, _home: Path) -> Calls:
    return phase(ref)


PAIRS = [*_PAIRS, *_of_phases()]
