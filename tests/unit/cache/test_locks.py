"""Locks on files that may be removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_tasks.cache.locks import FileLock
from dataset_tasks.errors import StorageError


def test_one_holds_a_lock_alone_and_many_share_it(tmp_path: Path) -> None:
    place = tmp_path / "new/folder/lock"
    with FileLock.acquire(place) as alone:
        assert FileLock.try_acquire(place) is None
        assert FileLock.try_acquire(place, shared=True) is None
        alone.release()
        alone.release()
    with FileLock.acquire(place, shared=True), FileLock.acquire(place, shared=True):
        assert FileLock.try_acquire(place) is None
    with FileLock.acquire(place):
        pass


def test_a_lock_whose_file_was_removed_by_its_holder_is_taken_on_the_new_file(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    held = FileLock.acquire(place)
    waiting = os.open(place, os.O_RDWR)
    got: list[FileLock] = []
    thread = threading.Thread(target=lambda: got.append(FileLock.acquire(place, wait_for="the other")))
    thread.start()
    while not _is_waited_for(place) and thread.is_alive():
        os.sched_yield()
    held.remove()
    thread.join()
    assert os.fstat(waiting).st_nlink == 0
    assert FileLock.try_acquire(place) is None
    got[0].release()
    assert FileLock.try_acquire(place) is not None
    os.close(waiting)


def _is_waited_for(place: Path) -> bool:
    """Whether the kernel lists a waiter on the file's lock."""
    inode = f":{place.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_who_waits_says_for_what(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "lock"
    held = FileLock.acquire(place, wait_for="never said")
    thread = threading.Thread(target=lambda: FileLock.acquire(place, wait_for="it makes a copy").release())
    with caplog.at_level("INFO", "dataset_tasks"):
        thread.start()
        while not _is_waited_for(place):
            os.sched_yield()
        held.release()
        thread.join()
    said = [record.message for record in caplog.records if record.name.startswith("dataset_tasks")]
    assert said == ["waiting for another process: it makes a copy"]


def test_a_lock_that_can_t_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path / "file/lock", tmp_path, tmp_path / "link"):
        with pytest.raises(StorageError) as caught:
            FileLock.try_acquire(place)
        assert caught.value.hint
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_stays_open(tmp_path: Path, count_open: Callable[[], int]) -> None:
    with FileLock.acquire(tmp_path / "lock") as held:
        FileLock.try_acquire(tmp_path / "lock")
        held.touch()
        assert count_open() == 1
        held.remove()
    assert count_open() == 0
    assert "lock" in repr(held)
