"""The few file-system calls that stores, copies and the cache share: whole writes, durable folders, clear errors."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from dataset_tasks.errors import StorageError, StorageUnavailableError

Buffer: TypeAlias = "bytes | bytearray | memoryview"
AnyPath: TypeAlias = "str | bytes | Path"

#: What one `writev` takes on Linux (IOV_MAX).
_MOST_BUFFERS = 1024
#: A folder that a file system asks us to try again on; others stay as they are until somebody changes something.
_PASSING = frozenset({
    errno.EAGAIN, errno.EBUSY, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
    errno.ETIMEDOUT,
})  # fmt: skip
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: How often a folder is made again that somebody removed before one could be made in it.
_RACES = 8


def shown(path: AnyPath) -> str:
    r"""A path as messages show it: one line, whatever bytes it holds.

    >>> print(shown(b"a\nb"))
    'a\nb'
    """
    return repr(os.fsdecode(path))


def temporary_name(name: str | bytes, kind: str = "part") -> str:
    """A hidden name of its own for this attempt, recognisable as left over when the attempt dies: `.<name>.<16 hex>.<kind>`.

    Long names are cut, so that the result fits wherever `name` does.
    """
    text = os.fsdecode(name)
    while len(os.fsencode(text)) > 200:
        text = text[:-1]
    return f".{text}.{secrets.token_hex(8)}.{kind}"


def is_temporary_name(name: str, kind: str = "part") -> bool:
    """Whether `temporary_name` made this name."""
    head, _, tail = name.rpartition(".")
    token = head.rpartition(".")[2]
    return name.startswith(".") and tail == kind and len(token) == 16 and set(token) <= set("0123456789abcdef")


def write_all(fd: int, data: Buffer) -> None:
    """Writes all of the data, however many calls that takes.

    Raises:
        OSError: The system refused.
    """
    written = os.write(fd, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def writev_all(fd: int, buffers: Sequence[Buffer]) -> None:
    """Writes all of the buffers in order, many in one call.

    Raises:
        OSError: The system refused.
    """
    for start in range(0, len(buffers), _MOST_BUFFERS):
        some = buffers[start : start + _MOST_BUFFERS]
        wanted = sum(map(len, some))
        written = os.writev(fd, some)
        if written != wanted:
            write_all(fd, memoryview(b"".join(some))[written:])


def pread_all(fd: int, offset: int, length: int, *, enough: int | None = None) -> bytes:
    """Reads `length` bytes at `offset`; fewer only where the file ends.

    An answer of exactly `enough` bytes is taken for the end of the file without asking again: a second call a file
    is a third of the cost of reading small ones.

    Raises:
        OSError: The system refused.
    """
    data = os.pread(fd, length, offset)
    if len(data) in (length, enough) or not data:
        return data
    parts = [data]
    done = len(data)
    while done < length:
        data = os.pread(fd, length - done, offset + done)
        if not data:
            break
        parts.append(data)
        done += len(data)
    return b"".join(parts)


def sync_folder(path: AnyPath) -> None:
    """Makes the names in a folder durable.

    Raises:
        OSError: The system refused. Never repeat it on the same file: a second fsync may report success falsely.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't, and need not
            raise
    finally:
        os.close(fd)


def make_folders(path: str, mode: int = 0o777) -> None:
    """Makes a folder and those above it, and makes the names durable of those that it made.

    Raises:
        OSError: The system refused, or something that is no folder has the name.
    """
    above = os.path.dirname(path)
    for left in reversed(range(_RACES)):  # whoever tidies up may remove a folder above that is empty yet
        try:
            os.mkdir(path, mode)
            break
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        except FileNotFoundError:
            if above == path or not left:  # such as in /proc, where nothing can be made
                raise
            make_folders(above, mode)
    sync_folder(above or ".")


def storage_error(error: OSError, doing: str, path: AnyPath) -> StorageError:
    """The error of ours for one of the system's: what was being done, on what, and what to do next.

    Args:
        error: What the system said.
        doing: Such as "write the object".
        path: Where it happened; tells a full disk from one that has no inodes left.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"can't {doing} {shown(path)}: {reason}"
    if error.errno in _FULL:
        return _no_space(message, error, path)
    if error.errno == errno.EROFS:
        return StorageError(message, hint="The file system is mounted read-only; choose another folder.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageError(message, hint="Give this user the permission, or choose another folder.")
    if error.errno == errno.EIO:
        return StorageError(message, hint="The disk reports an error; look at the system's log before going on.")
    if error.errno == errno.ENAMETOOLONG:
        return StorageError(message, hint="The file system takes no name of this length; choose a shorter folder.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageUnavailableError(
            message, hint="Raise the limit of open files (`ulimit -n`) or use fewer workers."
        )
    if error.errno in _PASSING:
        return StorageUnavailableError(message, hint="Try again; if it stays, look at the file system.")
    return StorageError(message, hint="Check that the path is what it should be and that the disk is healthy.")


def _no_space(message: str, error: OSError, path: AnyPath) -> StorageError:
    if error.errno == errno.EDQUOT:
        return StorageError(
            message, hint="The disk quota of this user is used up; free space or raise it.", kind="no_space"
        )
    folder = os.fsencode(path)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    with contextlib.suppress(OSError):
        found = os.statvfs(folder or b".")
        if found.f_files and not found.f_favail:
            hint = "The file system has no inodes left: it holds too many files, whatever space is free. Remove some."
            return StorageError(f"{message} (no inodes left)", hint=hint, kind="no_space")
    return StorageError(message, hint="Free space or choose another folder, then run the same again.", kind="no_space")


def remove_tree(path: AnyPath) -> None:
    """Removes a folder and all below it, also where it is read-only, and follows no link.

    Needs two open folders at most, no space on the disk, and no path: neither depth nor length matters. A tree that is
    not there is fine.

    Raises:
        OSError: The system refused; what is left is still to be removed.
        NotADirectoryError: The path is a file or a link.
    """
    try:
        fd = _open_folder(path, None)
    except FileNotFoundError:
        return
    levels: list[tuple[list[str], tuple[int, int]]] = []  # folders still to be removed, and who their own folder is
    try:
        levels.append(_remove_files(fd))
        while levels:
            folders, _ = levels[-1]
            if folders:
                fd = _change(fd, _open_folder(folders[-1], fd))
                levels.append(_remove_files(fd))
                continue
            levels.pop()
            if levels:
                folders, identity = levels[-1]
                fd = _change(fd, os.open("..", _FOLDER, dir_fd=fd))
                if _identity(fd) != identity:
                    raise OSError(errno.ESTALE, "somebody moved the folder that is being removed", os.fsdecode(path))
                os.rmdir(folders.pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _open_folder(name: AnyPath, above: int | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:  # no link: that would have been ELOOP or ENOTDIR
        os.chmod(name, 0o700, dir_fd=above)
        return os.open(name, _FOLDER, dir_fd=above)


def _change(old: int, new: int) -> int:
    os.close(old)
    return new


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _remove_files(fd: int) -> tuple[list[str], tuple[int, int]]:
    """Removes what is no folder; gives the names of the folders, and which folder this is."""
    os.fchmod(fd, 0o700)
    folders = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            folders.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return folders, _identity(fd)
