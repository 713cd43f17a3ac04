"""Repacking: chunks of which little is needed are copied and freed, and no version changes by it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Version
from dataset_tasks.ops.requests import (
    AddFiles,
    Collect,
    Create,
    Delete,
    Finalize,
    Repack,
    RepackResult,
    SyncFolder,
    Upload,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.invariants import assert_invariants


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def made(session: Session, tmp_path: Path) -> Callable[..., Version]:
    """Makes the next version of `p/<name>` from just these files."""
    count = 0

    def make(files: Mapping[str, bytes], name: str = "d", *, final: bool = True) -> Version:
        nonlocal count
        count += 1
        folder = tmp_path / f"source{count}"
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        draft = session.run(Create(name=name, project="p", previous=True)).version_id
        session.run(SyncFolder(ref=draft, path=str(folder)))
        session.run(Upload(ref=draft))
        if final:
            session.run(Finalize(ref=draft))
        return session.catalog.version(draft)

    return make


def noise(seed: int, size: int = 3000) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def content(session: Session, version: Version) -> dict[bytes, tuple[int, bytes]]:
    manifest = session.manifest(session.catalog.version(version.id))
    return {entry.path: (entry.size, entry.hash) for entry in manifest.entries()}


def chunks(session: Session) -> dict[str, int]:
    store = session.objects.store(session.store_id())
    return {key.partition("/")[2]: size for key, size in store.list() if "/chunks/" in key}


def test_a_mostly_dead_chunk_is_copied_and_freed_and_every_version_stays_as_it_was(
    session: Session, made: Callable[..., Version]
) -> None:
    everything = {f"{n}.bin": noise(n) for n in range(10)}
    first = made(everything)
    left = {f"{n}.bin": noise(n) for n in range(2)}
    second = made(left)
    third = made({**left, "new.bin": noise(99)})
    session.run(Delete(ref=first.id, force=True))
    session.run(Collect(dry_run=False, now=True))
    (big, _), _ = sorted(chunks(session).items(), key=lambda pair: -pair[1])
    before = [content(session, each) for each in (second, third)]
    hashes = [session.catalog.version(each.id).content_hash for each in (second, third)]
    told = session.run(Repack())
    assert isinstance(told, RepackResult)
    assert (told.chunks, told.versions) == (1, (second.label, third.label))
    assert big in chunks(session)
    done = session.run(Repack(dry_run=False))
    assert isinstance(done, RepackResult)
    assert (done.chunks, done.versions) == (1, (second.label, third.label))
    assert done.bytes > 20_000
    session.run(Collect(dry_run=False, now=True))
    assert big not in chunks(session)
    assert sum(chunks(session).values()) < 12_000
    assert [content(session, each) for each in (second, third)] == before
    assert [session.catalog.version(each.id).content_hash for each in (second, third)] == hashes
    assert [e.kind for e in session.catalog.events(version_id=second.id)] == ["finalized", "moved"]
    assert session.run(Repack(dry_run=False)).chunks == 0  # type: ignore[attr-defined]
    assert_invariants(session)


def test_versions_that_share_segments_go_on_sharing_them(session: Session, made: Callable[..., Version]) -> None:
    first = made({f"{n}.bin": noise(n) for n in range(10)})
    seconds = [made({"1.bin": noise(1), "x": str(n).encode()}) for n in range(5)]
    children = [session.run(Create(name=f"c{n}", project="p", parents=("p/d@latest",))).version_id for n in range(4)]
    for child in children:
        session.run(Finalize(ref=child))
    session.run(Delete(ref=first.id, force=True))
    session.run(Repack(dry_run=False))
    session.run(Collect(dry_run=False, now=True))
    last = {segment.pack for segment in session.manifest(session.catalog.version(seconds[-1].id)).index.segments}
    for child in children:
        assert {segment.pack for segment in session.manifest(session.catalog.version(child)).index.segments} == last
    assert_invariants(session)


def test_drafts_and_tombstones_within_the_grace_are_moved_too(
    session: Session, made: Callable[..., Version], tmp_path: Path
) -> None:
    first = made({f"{n}.bin": noise(n) for n in range(10)})
    second = made({"1.bin": noise(1)})
    draft = made({"1.bin": noise(1), "2.bin": noise(2)}, final=False)
    (tmp_path / "late").write_bytes(b"late")
    session.run(AddFiles(ref=draft.id, path=str(tmp_path / "late")))
    session.run(Delete(ref=first.id, force=True))
    session.run(Collect(dry_run=False, now=True))
    session.run(Delete(ref=second.id, force=True))
    result = session.run(Repack(dry_run=False))
    assert isinstance(result, RepackResult)
    assert result.versions == (second.label, draft.label)
    session.run(Collect(dry_run=False))
    session.run(Upload(ref=draft.id))
    session.run(Finalize(ref=draft.id))
    session.catalog.undelete(session.catalog.version(second.id), session._record("undelete"))
    session.flush_journal()
    assert_invariants(session)


def test_two_files_of_one_path_fit_in_one_archive_that_unzip_opens(
    session: Session, made: Callable[..., Version]
) -> None:
    first = made({"a.txt": noise(1), **{f"{n}": noise(n) for n in range(10, 20)}})
    second = made({"a.txt": noise(2), **{f"{n}": noise(n) for n in range(20, 30)}})
    for number, version in enumerate((first, second)):
        child = session.run(Create(name=f"child{number}", project="p", parents=(version.id,))).version_id
        from dataset_tasks.ops.requests import RemoveFiles

        session.run(RemoveFiles(ref=child, patterns=("[12]*",)))
        session.run(Finalize(ref=child))
    for version in (second, first):
        session.run(Delete(ref=version.id, force=True))
    session.run(Collect(dry_run=False, now=True))
    session.run(Repack(dry_run=False))
    session.run(Collect(dry_run=False, now=True))
    (only,) = chunks(session)
    path = Path(session.settings.store_url, session.catalog.id, only)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(set(archive.namelist())) == 2
    assert_invariants(session)


def test_live_is_a_share(session: Session) -> None:
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(InvalidArgumentError):
            session.run(Repack(live=wrong))
