"""What finalize tidies away is what nobody else can need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import (
    Collect,
    Copy,
    Create,
    Delete,
    Finalize,
    RemoveFiles,
    Repack,
    Repair,
    SyncFolder,
    Upload,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants
from tests.faults.test_gc import meanwhile


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"{number}" * 3000)
    return folder


def filled(session: Session, source: Path) -> str:
    made = session.run(Create(name="d", project="p")).version_id
    session.run(SyncFolder(ref=made, path=str(source)))
    session.run(Upload(ref=made))
    return made


def child(session: Session, name: str, parent: str) -> str:
    return session.run(Create(name=name, project="p", parents=(parent,))).version_id


def test_finalize_again_after_a_move_to_another_store_leaves_the_children_what_they_share(
    session: Session, source: Path, tmp_path: Path
) -> None:
    first = filled(session, source)
    session.run(Finalize(ref=first))
    session.run(Finalize(ref=child(session, "child", first)))
    session.run(Copy(ref=first, to_store=str(tmp_path / "other"), lineage=False))
    session.run(Finalize(ref=first))
    assert_invariants(session)


def test_a_version_that_is_repacked_while_it_is_finalized_keeps_its_new_place(
    session: Session, home: Path, source: Path
) -> None:
    made = filled(session, source)
    with injected([meanwhile(home, "finalize.after_commit", Repack(dry_run=False, live=1.0))]):
        session.run(Finalize(ref=made))
    assert_invariants(session)


def test_a_draft_that_gives_up_a_file_leaves_the_repacked_chunk_that_it_shares(session: Session, source: Path) -> None:
    first = filled(session, source)
    session.run(Finalize(ref=first))
    drafts = [child(session, name, first) for name in ("one", "other")]
    session.run(Delete(ref=first, force=True))
    session.run(Collect(dry_run=False, now=True))
    session.run(Repack(dry_run=False, live=1.0))
    session.run(RemoveFiles(ref=drafts[0]))
    for draft in drafts:
        session.run(Finalize(ref=draft))
    assert_invariants(session)


def test_a_version_that_moves_to_where_a_draft_has_the_same_bytes_does_not_lean_on_the_draft(
    session: Session, source: Path, tmp_path: Path
) -> None:
    first = filled(session, source)
    session.run(Finalize(ref=first))
    other = str(tmp_path / "other")
    draft = session.run(Create(name="other", project="p")).version_id
    session.run(SyncFolder(ref=draft, path=str(source)))
    session.run(Upload(ref=draft, store=other))
    session.run(Copy(ref=first, to_store=other))
    session.run(RemoveFiles(ref=draft))
    session.run(Finalize(ref=draft))
    assert_invariants(session)


def test_a_version_whose_lost_manifest_a_draft_has_too_does_not_lean_on_the_draft(
    session: Session, source: Path, home: Path
) -> None:
    first = filled(session, source)
    session.run(Finalize(ref=first))
    draft = session.run(Create(name="other", project="p")).version_id
    session.run(SyncFolder(ref=draft, path=str(source)))
    session.run(Upload(ref=draft))
    (pack,) = {segment.pack for segment in session.manifest(session.catalog.version(first)).index.segments}
    (home / "store" / session.catalog.id / pack).unlink()
    session.run(Repair(dry_run=False))
    session.run(RemoveFiles(ref=draft))
    session.run(Finalize(ref=draft))
    assert_invariants(session)
