"""Locks between processes and threads, on files that may be removed: held until closed, let go when a process dies."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from dataset_tasks.filesystem import make_folders, shown, storage_error

_log = logging.getLogger("dataset_tasks")


class FileLock:
    """A lock that this object holds. Each holder in a process counts on its own, so threads exclude each other too."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path, *, shared: bool = False, wait_for: str = "") -> FileLock:
        """Takes the lock, waiting for others to let it go.

        Args:
            path: The lock's file; made if need be.
            shared: Others may hold it shared too.
            wait_for: What a log line says is being waited for, when there is somebody to wait for.

        Raises:
            StorageError: The file can't be made or locked.
        """
        found = cls.try_acquire(path, shared=shared)
        if found is None:
            if wait_for:
                _log.info("waiting for another process: %s", wait_for)
            found = cls._take(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if found is None:
            raise AssertionError("a lock that waits is taken in the end")
        return found

    @classmethod
    def try_acquire(cls, path: Path, *, shared: bool = False) -> FileLock | None:
        """Takes the lock if it is free, else None.

        Raises:
            StorageError: The file can't be made or locked.
        """
        return cls._take(path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    @classmethod
    def _take(cls, path: Path, how: int) -> FileLock | None:
        while True:
            fd = -1
            try:
                fd = _open(path)
                fcntl.flock(fd, how)
                if _is_at(fd, path):
                    return cls(path, fd)
                os.close(fd)  # whoever held it removed the file: take the new one
            except BlockingIOError:
                os.close(fd)
                return None
            except OSError as error:
                if fd >= 0:
                    os.close(fd)
                raise storage_error(error, "lock", path) from error
            except BaseException:
                if fd >= 0:
                    os.close(fd)
                raise

    def touch(self) -> None:
        """Notes that what the lock stands for was used now."""
        with suppress(OSError):
            os.utime(self._fd)

    def remove(self) -> None:
        """Removes the file, then lets go. Only for who holds the lock alone."""
        with suppress(OSError):
            self.path.unlink()
        self.release()

    def release(self) -> None:
        """Lets go; again it does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"FileLock({shown(self.path)})"


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_folders(str(path.parent), 0o700)
        return os.open(path, flags, 0o600)


def _is_at(fd: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)
