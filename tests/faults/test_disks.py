"""Operations on disks that are full or read-only, and with few open files: real ones. Needs the right to mount (root)."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dataset_tasks.errors import CatalogError, DatasetError, StorageError
from dataset_tasks.model import Version
from dataset_tasks.ops.requests import AddFiles, Create, CreateResult, Finalize, GetCopy, GetCopyResult, Upload
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    mounted: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no right to mount here")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def source(folder: Path, size: int = 200_000, count: int = 5) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(random.Random(number).randbytes(size))
    return folder


def begun(session: Session, place: Path) -> str:
    made = session.run(Create(name="d", project="p"), key="create")
    assert isinstance(made, CreateResult)
    session.run(AddFiles(ref=made.version_id, path=str(place)))
    return made.version_id


def finished(session: Session, ref: str) -> Version:
    session.run(Upload(ref=ref, max_workers=1, chunk_size=0.2), key="upload")
    session.run(Finalize(ref=ref), key="finalize")
    return session.catalog.version(ref)


def free(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def test_an_upload_to_a_full_disk_goes_on_once_there_is_space(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=600k")
    with open_session(home=tmp_path / "home", store_url=str(disk / "store")) as session:
        ref = begun(session, source(tmp_path / "source"))
        with pytest.raises(StorageError, match="No space left") as caught:
            finished(session, ref)
        assert caught.value.kind == "no_space"
        assert not caught.value.retryable
        assert list(session.objects.store(session.store_id()).leftovers()) == []
        before = len(session.catalog.objects_of(ref, "chunk"))
        free(disk)
        assert finished(session, ref).files == 5
        assert before, "nothing was stored before the disk was full: the test shows nothing"
        assert_invariants(session)


def test_a_copy_to_a_full_cache_leaves_nothing_and_comes_once_there_is_space(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=600k")
    with open_session(home=tmp_path / "home", cache_dir=disk / "cache") as session:
        ref = begun(session, source(tmp_path / "source"))
        finished(session, ref)
        with pytest.raises(StorageError) as caught:
            session.run(GetCopy(ref=ref))
        assert caught.value.kind == "no_space"
        assert not list((disk / "cache").rglob("*.bin"))
        free(disk)
        got = session.run(GetCopy(ref=ref))
        assert isinstance(got, GetCopyResult)
        assert len(list(Path(got.folder).iterdir())) == 5


def test_a_copy_to_a_full_folder_leaves_nothing(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=600k")
    with open_session(home=tmp_path / "home") as session:
        ref = begun(session, source(tmp_path / "source"))
        finished(session, ref)
        with pytest.raises(DatasetError, match="No space left"):
            session.run(GetCopy(ref=ref, target=str(disk / "copy")))
        assert list(disk.iterdir()) == []


def test_a_catalog_on_a_full_disk_says_so_and_goes_on_once_there_is_space(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=1m")
    url = f"sqlite:///{disk}/catalog.db"
    with open_session(home=tmp_path / "home", catalog_url=url) as session:
        ref = begun(session, source(tmp_path / "source"))
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(CatalogError, match="full"):
            for number in range(2000):
                with injected() as seen:
                    session.run(Create(name="more", project="p"), key=f"more/{number}")
        assert seen.reached()["catalog.before_work"] == 1, "a full disk was tried again"
        filler.unlink()
        assert finished(session, ref).files == 5
        assert_invariants(session)


def test_a_catalog_opened_on_a_full_disk_names_the_disk_and_proposes_no_older_copy(
    mount: Mount, tmp_path: Path
) -> None:
    """R54. SQLite calls it an I/O error: it can't make the file that readers share."""
    disk = mount("size=1m")
    url = f"sqlite:///{disk}/catalog.db"
    with open_session(home=tmp_path / "home", catalog_url=url) as session:
        ref = begun(session, source(tmp_path / "source"))
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    with open_session(home=tmp_path / "home", catalog_url=url) as session:
        with pytest.raises(CatalogError, match="its disk is full") as caught:
            session.catalog.version(ref)
        assert (caught.value.kind, caught.value.retryable) == ("no_space", False)
        assert "Free space" in caught.value.hint
    filler.unlink()
    with open_session(home=tmp_path / "home", catalog_url=url) as session:
        assert finished(session, ref).files == 5


def test_an_upload_to_a_read_only_store_is_refused_and_works_once_it_is_writable(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=64m")
    with open_session(home=tmp_path / "home", store_url=str(disk / "store")) as session:
        ref = begun(session, source(tmp_path / "source"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StorageError, match="Read-only") as caught:
            finished(session, ref)
        assert "read-only" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert finished(session, ref).files == 5
        assert_invariants(session)


@pytest.mark.parametrize("spare", range(5))
def test_without_open_files_an_upload_fails_with_an_error_of_ours_and_succeeds_when_there_are_some(
    tmp_path: Path, spare: int
) -> None:
    with open_session(home=tmp_path / "home") as session:
        ref = begun(session, source(tmp_path / "source", size=1000))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, hard))
        try:
            with suppress(DatasetError):
                finished(session, ref)
                assert spare > 0, "an upload without a single file to open"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert finished(session, ref).files == 5
        assert_invariants(session)
