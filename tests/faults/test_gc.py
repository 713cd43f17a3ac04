"""Garbage collected while others read and write: at a point of their way, by another session.

The crash sweep and the interleavings of `sweep.py` and `workers.py` do the same at every point, with processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataset_tasks.errors import StateError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import Version
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.requests import (
    AddFiles,
    Collect,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Repack,
    Request,
    Upload,
    Verify,
    VerifyResult,
)
from dataset_tasks.ops.survey import survey
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

FILES = {f"{n}.txt": f"content {n}" * 50 for n in range(5)}


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def draft(session: Session, tmp_path: Path) -> Callable[[], str]:
    """Makes a draft of `p/d` with the files, pending, made from nothing."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)

    def make() -> str:
        made = session.run(Create(name="d", project="p"))
        session.run(AddFiles(ref=made.version_id, path=str(folder)))
        return made.version_id

    return make


@pytest.fixture
def final(session: Session, draft: Callable[[], str]) -> Version:
    made = draft()
    session.run(Upload(ref=made))
    session.run(Finalize(ref=made))
    return session.catalog.version(made)


def meanwhile(home: Path, point: str, *requests: Request) -> Rule:
    """What another session does when this one comes to a point."""

    def act(_name: str) -> None:
        with injected(), open_session(home=home) as other:
            for request in requests:
                other.run(request)

    return Rule(point, act)


def gone(version: Version) -> tuple[Request, Request]:
    return Delete(ref=version.id, force=True), Collect(dry_run=False, now=True)


def test_who_copies_a_version_that_is_deleted_and_freed_hears_just_that(
    session: Session, home: Path, final: Version
) -> None:
    """R17. No half copy, and no word of damage where somebody deleted."""
    with (
        injected([meanwhile(home, "cache.after_lock", *gone(final))]),
        pytest.raises(StateError, match="deleted") as caught,
    ):
        session.run(GetCopy(ref=final.id))
    assert caught.value.kind == "deleted"
    assert not list((session.settings.cache_dir / "trees").glob(f"*/{final.id}*"))


def test_who_copies_a_version_whose_bytes_are_moved_gets_it_whole(session: Session, home: Path, final: Version) -> None:
    """R17. Repacked and freed while it is read."""
    moved = Repack(dry_run=False, live=1.0), Collect(dry_run=False, now=True)
    with injected([meanwhile(home, "cache.after_lock", *moved)]):
        folder = Path(session.run(GetCopy(ref=final.id)).folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == FILES


@pytest.mark.parametrize("point", ["upload.before_commit", "content.before_objects", "content.before_commit"])
def test_an_upload_that_shares_what_is_freed_at_that_moment_stores_it_itself(
    session: Session, home: Path, final: Version, draft: Callable[[], str], point: str
) -> None:
    """R18. The bytes of the last version were there when the upload looked."""
    made = draft()
    with injected([meanwhile(home, point, *gone(final))]):
        session.run(Upload(ref=made))
    session.run(Finalize(ref=made))
    result = session.run(Verify(ref=made))
    assert isinstance(result, VerifyResult)
    assert (result.bad, result.files) == ((), 5)
    assert_invariants(session)


@pytest.mark.parametrize(("count", "point"), [(1, "create.before_commit"), (2, "objects.after_rows")])
def test_a_draft_begun_from_versions_whose_bytes_are_moved_at_that_moment_keeps_them(
    session: Session, home: Path, final: Version, draft: Callable[[], str], count: int, point: str
) -> None:
    """R18. What the draft begins with was there when create looked at its parents."""
    second = draft()
    session.run(Upload(ref=second))
    session.run(Finalize(ref=second))
    parents = (final.id, second)[:count]
    moved = Repack(dry_run=False, live=1.0), Collect(dry_run=False, now=True)
    with injected([meanwhile(home, point, *moved)]):
        made = session.run(Create(name="d", project="p", parents=parents))
    session.run(Finalize(ref=made.version_id))
    result = session.run(Verify(ref=made.version_id))
    assert isinstance(result, VerifyResult)
    assert (result.bad, result.files) == ((), 5)
    assert_invariants(session)


def test_an_object_written_for_a_commit_that_comes_while_gc_reads_stays(
    session: Session, home: Path, final: Version, draft: Callable[[], str]
) -> None:
    """R18. The version that refers to it was not there when gc began."""
    made = draft()
    with injected([meanwhile(home, "gc.after_roots", Upload(ref=made), Finalize(ref=made))]):
        session.run(Collect(dry_run=False, now=True, idle=0.0))
    assert session.catalog.version(made).state.is_final
    assert_invariants(session)


def test_a_check_of_the_store_raises_no_alarm_for_a_draft_that_moves_on_meanwhile(
    session: Session, home: Path, final: Version, draft: Callable[[], str]
) -> None:
    """R18. Its head of a moment ago is gone by now, and nobody misses it."""
    made = draft()
    before = session.catalog.roots()
    session.run(Upload(ref=made))
    session.run(Finalize(ref=made))  # which removes what was superseded
    assert survey(Context(session=session, key="call/check"), before).damaged == []
