"""Folders that belong to the user: filled beside their place, then put there in one step."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import io
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from dataset_tasks.errors import TargetError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import is_temporary_name, make_folders, remove_tree, shown, temporary_name
from dataset_tasks.targets import target_error

_log = logging.getLogger("dataset_tasks")
_T = TypeVar("_T")
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_CANT_EXCHANGE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


def write_folder(
    target: str | Path, fill: Callable[[Path], _T], *, overwrite: bool = False, keep_off: Iterable[Path] = ()
) -> _T:
    """Makes a folder, or replaces one, with what `fill` writes: all of it or nothing.

    Args:
        target: Where the folder is to be. One that is there must be empty, or goes with `overwrite`; folders above it
            are made.
        fill: Gets an empty folder to write into, on the file system of the target.
        overwrite: Replace a folder that holds something, once the new one is complete.
        keep_off: Folders of ours (cache, store): the target may neither be in one nor hold one.

    Returns:
        What `fill` gave.

    Raises:
        TargetError: The target is a link, no folder, not empty, or one that must not be replaced: `/`, the home or
            working folder, one above them, or one of `keep_off`.
        StorageError: The disk is full or fails.
        DatasetError: Whatever `fill` raises; the target is as it was.
    """
    if "\0" in os.fspath(target):
        raise TargetError(f"{shown(target)} holds a NUL byte", hint="Give the path of a folder.")
    place = Path(os.path.abspath(os.path.expanduser(target)))  # not resolved: a link is to be seen as one
    holds_something = _check(place, overwrite, keep_off)
    try:
        make_folders(os.fspath(place.parent))
        sweep(place)
        temporary, lock = _make_beside(place)
    except OSError as error:
        raise target_error(error, os.fsencode(place), b"") from error
    try:
        failpoint("mutable.before_fill")
        result = fill(temporary)
        failpoint("mutable.after_fill")
        try:
            if holds_something:
                _exchange(temporary, place)
            else:
                temporary.rename(place)  # an empty folder gives way to another
        except OSError as error:
            raise target_error(error, os.fsencode(place), b"") from error
        failpoint("mutable.after_swap")
    finally:
        try:
            remove_tree(temporary)  # what was there before, or what did not come about
        except OSError as error:
            _log.warning("can't remove %s, remove it by hand: %s", shown(temporary), error.strerror)
        _close(lock)
    return result


def holds(
    folder: Path,
    files: Iterable[tuple[bytes, int, bytes]],
    others: Iterable[tuple[bytes, Iterator[bytes]]] = (),
) -> bool:
    """Whether a folder holds just some files and nothing else; reads them all.

    Args:
        folder: Where.
        files: Path, size in bytes and SHA-256 of each.
        others: Files of which no hash is known: path and content in pieces.
    """
    top, count = os.fsencode(folder), 0
    try:
        for path, size, sha256 in files:
            with _opened(top + b"/" + path) as file:
                if os.fstat(file.fileno()).st_size != size or hashlib.file_digest(file, "sha256").digest() != sha256:
                    return False
            count += 1
        for path, pieces in others:
            with _opened(top + b"/" + path) as file:
                if not all(file.read(len(piece)) == piece for piece in pieces) or file.read(1):
                    return False
            count += 1
    except OSError:
        return False
    return count == sum(len(names) for _, _, names in os.walk(top))


def _opened(path: bytes) -> io.BufferedReader:
    """A regular file, opened.

    Raises:
        OSError: It is none.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file")
    return file


def _make_beside(place: Path) -> tuple[Path, int | None]:
    """A temporary folder of our own, and the lock that says somebody is at it."""
    while True:
        temporary = place.with_name(temporary_name(place.name))
        temporary.mkdir()
        try:
            lock = _lock(temporary)
        except FileNotFoundError:  # another caller took it for left over before it was locked
            continue
        if temporary.exists():
            return temporary, lock
        _close(lock)


def sweep(place: Path) -> None:
    """Removes what callers left beside a target when they died: temporary folders that nobody holds.

    Where folders can't be locked, nothing is removed.
    """
    mine = temporary_name(place.name)
    prefix = mine[: -len("0123456789abcdef.part")]
    for kind in ("part", "old"):
        for path in place.parent.glob(f".*.{kind}"):
            if path.name[: -len(f"0123456789abcdef.{kind}")] != prefix or not is_temporary_name(path.name, kind):
                continue
            try:
                lock = _lock(path)
                if lock is not None:
                    remove_tree(path)
                    os.close(lock)
            except OSError as error:  # somebody else is at it; if not, it costs space only
                _log.info("left %s: %s", shown(path), error.strerror)


def _lock(folder: Path) -> int | None:
    """Holds a folder until closed or the process ends; None where the file system locks no folders.

    Raises:
        BlockingIOError: Somebody else holds it.
        OSError: It is not there, or is no folder.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    except OSError:
        os.close(fd)
        return None
    return fd


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _check(place: Path, overwrite: bool, keep_off: Iterable[Path]) -> bool:
    """Refuses what can't be a target; tells whether it holds something."""
    _refuse_what_must_stay(place, keep_off)
    try:
        found = place.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise target_error(error, os.fsencode(place), b"") from error
    if stat.S_ISLNK(found.st_mode):
        raise TargetError(
            f"{shown(place)} is a link, and what it points at is not to be replaced",
            hint="Give the folder itself, or remove the link.",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise TargetError(f"{shown(place)} is not a folder", hint="Give a folder, or remove what has its name.")
    try:
        with os.scandir(place) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        raise target_error(error, os.fsencode(place), b"") from error
    if not is_empty and not overwrite:
        raise TargetError(
            f"{shown(place)} is not empty",
            hint="Give another folder, or `overwrite=True` (`--overwrite`) to have it replaced.",
        )
    return not is_empty


def _refuse_what_must_stay(place: Path, keep_off: Iterable[Path]) -> None:
    real = Path(os.path.realpath(place))
    for what, folder in (("the home folder", Path.home()), ("the working folder", Path.cwd())):
        if folder.resolve().is_relative_to(real):
            holds = "is" if folder.resolve() == real else "holds"
            raise TargetError(f"{shown(place)} {holds} {what} and can't be replaced", hint="Give a folder of its own.")
    for folder in keep_off:
        ours = folder.resolve()
        if ours.is_relative_to(real) or real.is_relative_to(ours):
            raise TargetError(
                f"{shown(place)} overlaps {shown(folder)}, which belongs to the cache or a store",
                hint="Give a folder elsewhere.",
            )


def _exchange(new: Path, old: Path) -> None:
    """Swaps two folders: in one step where the system can, else in two with a way back."""
    renameat2 = _renameat2()
    if renameat2 is not None:
        if renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _CANT_EXCHANGE:
            raise OSError(code, os.strerror(code), os.fspath(old))
    aside = old.with_name(temporary_name(old.name, "old"))
    lock = _lock(old)
    try:
        old.rename(aside)
        try:
            failpoint("mutable.in_swap")
            new.rename(old)
        except OSError:
            aside.rename(old)
            raise
        aside.rename(new)
    finally:
        _close(lock)


@cache
def _renameat2() -> Callable[..., int] | None:
    """The system call that Python has no name for, where the C library has one."""
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is None:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function: Callable[..., int] = found
    return function
