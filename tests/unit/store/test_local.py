"""The local store beyond the contract: modes, durability, what a file system can do wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.filesystem import is_temporary_name
from dataset_tasks.store.base import Leftover
from dataset_tasks.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def failing(code: int) -> Any:
    def call(*_args: object, **_kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def files(store: LocalStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o644, 0o775)])
def test_modes_follow_the_umask_and_are_never_open_to_all(store: LocalStore, mask: int, file: int, folder: int) -> None:
    with umask(mask):
        store.put("a/b", b"x")
    assert stat.S_IMODE((store.root / "a/b").stat().st_mode) == file
    assert stat.S_IMODE((store.root / "a").stat().st_mode) == folder


def test_the_file_is_made_durable_before_its_name_and_the_name_after(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a/first", b"")
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def seen_fsync(fd: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def seen_rename(source: str, target: str) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    store.put("a/b", b"x")
    assert calls == ["sync file", "rename", "sync folder"]
    calls.clear()
    store.put("new/folders/c", b"x")
    assert calls == ["sync folder", "sync folder", "sync file", "rename", "sync folder"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_write_that_fails_leaves_no_object_and_no_temporary_file(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    store.put("a/old", b"old")
    monkeypatch.setattr(os, call, failing(code))
    with pytest.raises(StorageError, match=os.strerror(code)) as caught:
        store.put("a/b", b"x", create_only=call == "link")
    assert caught.value.hint
    assert not caught.value.retryable
    assert caught.value.kind == ("no_space" if code in (errno.ENOSPC, errno.EDQUOT) else "storage")
    monkeypatch.undo()
    assert files(store) == ["a/old"]
    store.put("a/b", b"x")
    assert store.get("a/b") == b"x"


def test_an_old_object_survives_a_failed_replacement(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"old")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(StorageError):
        store.put("a", b"new")
    assert store.get("a") == b"old"


def test_a_failed_fsync_is_not_tried_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def once_bad(fd: int) -> None:
        tries.append(fd)
        if len(tries) == 1:
            raise OSError(errno.EIO, "EIO")

    monkeypatch.setattr(os, "fsync", once_bad)
    store.root.mkdir()
    with store.create("a") as writer:
        writer.write(b"x")
        with pytest.raises(StorageError):
            writer.commit()
        with pytest.raises(StorageError):
            writer.commit()
    assert len(tries) == 1
    assert files(store) == []


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_what_may_pass_is_retryable(store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store.put("a", b"old")
    monkeypatch.setattr(os, "open", failing(code))
    with pytest.raises(StorageUnavailableError) as caught:
        store.get("a")
    monkeypatch.undo()
    assert caught.value.retryable
    assert caught.value.hint


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
def test_create_only_works_without_hard_links(store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    store.put("a/b", b"first", create_only=True)
    with pytest.raises(AlreadyExistsError):
        store.put("a/b", b"second", create_only=True)
    assert store.get("a/b") == b"first"
    assert files(store) == ["a/b"]


def test_without_hard_links_looking_and_renaming_is_one_step(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = os.path.lexists
    refused: list[bool] = []

    def look(path: str) -> bool:
        with pytest.raises(BlockingIOError):  # another writer would have to wait now
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused.append(True)
        return exists(path)

    store.put("a/first", b"")
    other = os.open(store.root / "a", os.O_RDONLY)
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os.path, "lexists", look)
    store.put("a/b", b"x", create_only=True)
    os.close(other)
    assert refused == [True]


def test_short_writes_are_continued(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    store.put("a", bytes(range(100)))
    monkeypatch.undo()
    assert store.get("a") == bytes(range(100))


def test_short_reads_are_continued(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", bytes(range(100)))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 7), offset))
    assert store.get("a") == bytes(range(100))


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_regular_file_is_not_read(store: LocalStore, tmp_path: Path, kind: str) -> None:
    store.root.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    place = store.root / "a"
    {"link": lambda: place.symlink_to(secret), "fifo": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    for ask in (store.get, store.size):
        with pytest.raises(StorageError, match="regular file") as caught:
            ask("a")
        assert not isinstance(caught.value, ObjectMissingError)


def test_a_link_planted_in_place_of_an_object_is_replaced_not_followed(store: LocalStore, tmp_path: Path) -> None:
    store.root.mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (store.root / "a").symlink_to(victim)
    store.put("a", b"new")
    assert victim.read_bytes() == b"mine"
    assert store.get("a") == b"new"


def test_a_link_counts_as_taken_for_create_only(store: LocalStore, tmp_path: Path) -> None:
    store.root.mkdir()
    (store.root / "a").symlink_to(tmp_path / "nothing")
    with pytest.raises(AlreadyExistsError):
        store.put("a", b"new", create_only=True)
    assert not (tmp_path / "nothing").exists()


def test_what_a_killed_writer_leaves_is_found_by_its_name(store: LocalStore) -> None:
    store.put("c/chunks/b", b"whole")
    writer = store.create("c/chunks/a.zip")
    writer.write(b"half")
    (name,) = [path.name for path in (store.root / "c/chunks").iterdir() if path.name != "b"]
    assert is_temporary_name(name)
    assert name.startswith(".a.zip.")
    assert [key for key, _ in store.list()] == ["c/chunks/b"]
    (found,) = store.leftovers("c/chunks/a")
    assert (found.key, found.size) == ("c/chunks/a.zip", 4)
    store.discard(found)
    assert files(store) == ["c/chunks/b"]


@pytest.mark.parametrize(
    "token", ["../.x.0123456789abcdef.part", "a/../.x.0123456789abcdef.part", "/.x.0123456789abcdef.part", "x"]
)
def test_no_leftover_outside_of_the_store_is_discarded(store: LocalStore, token: str) -> None:
    with pytest.raises(InvalidArgumentError):
        store.discard(Leftover(token, "x", 0, 0.0))


def test_files_of_others_in_the_store_are_not_listed_as_leftovers(store: LocalStore) -> None:
    store.put("a", b"")
    (store.root / ".DS_Store").write_bytes(b"")
    assert list(store.leftovers()) == []
    assert [key for key, _ in store.list()] == ["a"]


def test_a_folder_that_was_removed_meanwhile_is_made_again(store: LocalStore) -> None:
    store.put("a/b", b"")
    store.delete("a/b")
    (store.root / "a").rmdir()
    store.put("a/b", b"x")
    assert store.get("a/b") == b"x"


def test_a_file_in_place_of_the_stores_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file") as caught:
        LocalStore(tmp_path / "file").put("a/b", b"")
    assert caught.value.hint


def test_files_are_closed_whatever_happens(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, count_open: Callable[[], int]
) -> None:
    store.put("a", b"x")
    store.get("a")
    with pytest.raises(AlreadyExistsError):
        store.put("a", b"x", create_only=True)
    with pytest.raises(ObjectMissingError):
        store.get("b")
    (store.root / "folder").mkdir()
    with pytest.raises(StorageError):
        store.get("folder")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StorageError):
            store.put("c", b"x")
    reader = store.open("a")
    assert count_open() == 1
    del reader
    assert count_open() == 0
