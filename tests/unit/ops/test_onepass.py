"""Inside a build, files in new places are read once; what is stored and what happens after a crash stay as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.errors import SourceError, StorageError
from dataset_tasks.ops import onepass
from dataset_tasks.ops.onepass import Kept
from dataset_tasks.ops.requests import AddFiles, Build, Create, Finalize, Request, Result, Stage, SyncFolder, Upload
from dataset_tasks.ops.run import run
from dataset_tasks.progress import SILENT
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return open_session(home=tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number in range(40):
        place = folder / f"d{number % 4}" / f"{number:03d}.bin"
        place.parent.mkdir(parents=True, exist_ok=True)
        size = 300_000 if number % 5 == 0 else 3_000_000 if number == 7 else 50
        place.write_bytes(os.urandom(size // 2) + b"." * (size // 2))
    (folder / "d0" / "twin.bin").write_bytes((folder / "d1" / "005.bin").read_bytes())
    (folder / "d0" / "empty").write_bytes(b"")
    return folder


def perform(session: Session, request: Request, kept: Kept | None = None) -> Any:
    return run(session, request, key=None, origin={}, progress=SILENT, functions={}, kept=kept)


def draft(session: Session, **given: Any) -> str:
    made: Result = session.run(Create(name="d", project="p", **given))
    return made.version_id


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def copied(session: Session, version_id: str, target: Path) -> dict[str, bytes]:
    from dataset_tasks.ops.requests import GetCopy

    session.run(GetCopy(ref=version_id, target=str(target)))
    return content(target)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_was_added_is_not_read_again(session: Session, source: Path, tmp_path: Path, workers: int) -> None:
    upload = Upload(ref=draft(session), chunk_size=0.3, max_workers=workers)
    kept = Kept(upload)
    expected = content(source)
    perform(session, AddFiles(ref=upload.ref, path=str(source)), kept)
    shutil.rmtree(source)
    result = perform(session, upload, kept)
    assert (result.files, result.chunks > 3) == (42, True)
    session.run(Finalize(ref=upload.ref))
    assert copied(session, upload.ref, tmp_path / "copy") == expected


def test_a_build_makes_the_version_that_single_calls_make(session: Session, source: Path) -> None:
    ref = draft(session)
    for request in (AddFiles(ref=ref, path=str(source)), Upload(ref=ref), Finalize(ref=ref)):
        session.run(request)
    single = session.catalog.version(ref)
    requests = {
        "create": Create(name="e", project="p"),
        "add": AddFiles(ref="step:e.create", path=str(source)),
        "upload": Upload(ref="step:e.create"),
        "finalize": Finalize(ref="step:e.create"),
    }
    stages = tuple(Stage(id=f"e.{verb}", request=request) for verb, request in requests.items())
    with injected("") as seen:
        built = session.run(Build(stages=stages))
    assert seen.reached()["onepass.after_member"] == 42
    assert "upload.after_member" not in seen.reached()
    version = session.catalog.version(built.version_id)
    assert (version.content_hash, version.files, version.bytes) == (single.content_hash, single.files, single.bytes)


def test_equal_files_are_stored_once(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for number in range(20):
        (folder / str(number)).write_bytes(b"x" * 7 + bytes(range(256)) * 40)
    upload = Upload(ref=draft(session), compression="store")
    kept = Kept(upload)
    perform(session, AddFiles(ref=upload.ref, path=str(folder)), kept)
    result = perform(session, upload, kept)
    assert result.files == 20
    assert result.stored_bytes < 2 * 256 * 40


def test_files_in_places_that_are_known_are_left_to_the_upload(session: Session, source: Path) -> None:
    first = draft(session)
    for request in (AddFiles(ref=first, path=str(source)), Upload(ref=first), Finalize(ref=first)):
        session.run(request)
    (source / "d0" / "000.bin").write_bytes(b"changed")
    (source / "new").mkdir()
    (source / "new" / "file").write_bytes(b"new")
    upload = Upload(ref=draft(session, parents=(first,)))
    kept = Kept(upload)
    perform(session, SyncFolder(ref=upload.ref, path=str(source)), kept)
    assert [packed.files for packed in kept.packed] == [1]
    result = perform(session, upload, kept)
    assert (result.files, result.chunks) == (2, 2)


def test_after_a_crash_the_chunks_that_were_whole_are_taken_over(session: Session, source: Path) -> None:
    upload = Upload(ref=draft(session), chunk_size=0.3)
    perform(session, AddFiles(ref=upload.ref, path=str(source)), Kept(upload))
    with injected("") as seen:
        result = perform(session, upload)  # what was handed over in memory is gone
    assert result.files == 42
    assert 0 < seen.reached()["upload.after_member"] < 20


def test_an_add_that_begins_again_packs_nothing_twice(session: Session, source: Path) -> None:
    upload = Upload(ref=draft(session), chunk_size=0.3)
    adding = AddFiles(ref=upload.ref, path=str(source))
    with injected("onepass.after_chunk=raise:OSError@3"), pytest.raises(OSError, match="injected"):
        perform(session, adding, Kept(upload))
    kept = Kept(upload)
    perform(session, adding, kept)
    result = perform(session, upload, kept)
    assert (result.files, session.catalog.version(upload.ref).pending) == (42, 0)
    session.run(Finalize(ref=upload.ref))


def test_files_added_again_with_other_content_are_stored_as_they_are_now(
    session: Session, source: Path, tmp_path: Path
) -> None:
    upload = Upload(ref=draft(session))
    kept = Kept(upload)
    adding = AddFiles(ref=upload.ref, path=str(source))
    perform(session, adding, kept)
    (source / "d2" / "002.bin").write_bytes(b"other")
    perform(session, adding, kept)
    perform(session, upload, kept)
    session.run(Finalize(ref=upload.ref))
    assert copied(session, upload.ref, tmp_path / "copy") == content(source)


def test_large_files_are_left_to_the_upload(
    session: Session, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onepass, "MOST_IN_MEMORY", 100_000)
    upload = Upload(ref=draft(session))
    kept = Kept(upload)
    perform(session, AddFiles(ref=upload.ref, path=str(source)), kept)
    assert sum(packed.files for packed in kept.packed) == 42 - 10
    assert perform(session, upload, kept).files == 42
    session.run(Finalize(ref=upload.ref))
    assert copied(session, upload.ref, tmp_path / "copy") == content(source)


@pytest.mark.parametrize("name", ["001.bin", "005.bin"])
def test_a_file_that_changes_while_it_is_read_is_refused_and_in_no_chunk(
    session: Session, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onepass.prepare

    def prepare(fd: int, path: bytes, size: int, *rest: Any) -> Any:
        ready = real(fd, path, size, *rest)
        if path.endswith(name.encode()):
            with (source / "d1" / name).open("ab") as file:
                file.write(b"more")
        return ready

    monkeypatch.setattr(onepass, "prepare", prepare)
    upload = Upload(ref=draft(session))
    kept = Kept(upload)
    with pytest.raises(SourceError, match="changed while it was read"):
        perform(session, AddFiles(ref=upload.ref, path=str(source)), kept)
    assert kept.packed == []


def test_a_store_that_refuses_ends_the_add_and_leaves_no_part_of_a_chunk(session: Session, source: Path) -> None:
    upload = Upload(ref=draft(session))
    with injected("onepass.after_member=raise:StorageError@30"), pytest.raises(StorageError):
        perform(session, AddFiles(ref=upload.ref, path=str(source)), Kept(upload))
    assert not list((session.settings.home / "store").rglob("*.part"))
    assert session.catalog.version(upload.ref).files == 0
    session.run(AddFiles(ref=upload.ref, path=str(source)))
    assert session.run(upload).files == 42


def test_an_add_that_fails_closes_every_file_it_had_opened(
    session: Session, source: Path, count_open: Callable[[], int]
) -> None:
    (source / "e").mkdir()
    os.symlink("nowhere", source / "e" / "link")
    session.run(Create(name="warm", project="p"))
    before = count_open()
    for _ in range(3):
        upload = Upload(ref=draft(session), max_workers=2)
        with pytest.raises(SourceError):
            perform(session, AddFiles(ref=upload.ref, path=str(source)), Kept(upload))
        with injected("onepass.after_member=raise:StorageError@5"), pytest.raises(StorageError):
            perform(session, AddFiles(ref=upload.ref, path=str(source / "d0")), Kept(upload))
    assert count_open() <= before + 2
