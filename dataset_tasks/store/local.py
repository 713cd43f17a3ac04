"""A store in a folder: of this machine, or one that many machines share.

An object is written under a hidden name beside its own, made durable, then renamed: it is whole or not there, also
after a crash. What a killed writer leaves is called `.<name>.<16 hex>.part`; `leftovers` finds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataset_tasks.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
)
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import (
    Buffer,
    is_temporary_name,
    make_folders,
    pread_all,
    shown,
    storage_error,
    sync_folder,
    temporary_name,
    write_all,
    writev_all,
)
from dataset_tasks.store.base import (
    Leftover,
    ObjectReader,
    Store,
    Writer,
    check_key,
    check_prefix,
    check_range,
    cut_short,
    no_leftover,
)

_FILE_MODE = 0o644
_FOLDER_MODE = 0o775
#: How `link` says that this file system has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV, errno.EINVAL})


class LocalStore(Store):
    """Objects as files below a folder, which the first write makes.

    Args:
        root: The folder; `~` is the home.

    Raises:
        InvalidArgumentError: The path is empty or holds a NUL byte.
    """

    def __init__(self, root: str | Path) -> None:
        if not str(root) or "\0" in str(root):
            raise InvalidArgumentError(f"{str(root)!r} can't be the folder of a store", hint="Give a path.")
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        self.url = self.root.as_uri()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def _path(self, key: str) -> str:
        return f"{self.root}/{check_key(key)}"

    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object; see `Store.put`."""
        with _LocalWriter(self._path(key), key) as writer:
            writer.write(data)
            writer.finish(create_only=create_only)

    def create(self, key: str) -> Writer:
        """Begins an object of unknown size; see `Store.create`."""
        return _LocalWriter(self._path(key), key)

    def get(self, key: str) -> bytes:
        """A whole object; see `Store.get`."""
        with self.open(key) as reader:
            return reader.pread(0, reader.size)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; see `Store.read`."""
        with self.open(key) as reader:
            return reader.pread(offset, length)

    def open(self, key: str, *, size: int | None = None) -> ObjectReader:
        """Opens an object for many ranged reads; see `Store.open`."""
        return _LocalReader(self._path(key), key)

    def size(self, key: str) -> int:
        """The size of an object in bytes; see `Store.size`."""
        path = self._path(key)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(key, path) from error
        except OSError as error:
            raise storage_error(error, "look at the object", path) from error
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(key, path)
        return found.st_size

    def delete(self, key: str) -> None:
        """Removes an object; see `Store.delete`."""
        path = self._path(key)
        try:
            os.unlink(path)
            sync_folder(os.path.dirname(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise storage_error(error, "delete the object", path) from error

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes, sorted by key; see `Store.list`."""
        check_prefix(prefix)
        for key, entry in self._walk(prefix):
            if not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # deleted since the folder was read
                    yield key, entry.stat(follow_symlinks=False).st_size

    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """What attempts left that died; see `Store.leftovers`."""
        check_prefix(prefix)
        for path, entry in self._walk(prefix):
            if is_temporary_name(entry.name):
                folder, _, name = path.rpartition("/")
                key = f"{folder}/{name[1:-22]}" if folder else name[1:-22]
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield Leftover(path, key, found.st_size, found.st_mtime)

    def discard(self, leftover: Leftover) -> None:
        """Removes what an attempt left; see `Store.discard`."""
        folder, slash, name = leftover.token.rpartition("/")
        if (slash and check_key(folder) != folder) or not is_temporary_name(name):
            raise no_leftover(leftover, self.url)
        path = f"{self.root}/{leftover.token}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, "remove the leftover", path) from error

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Paths of files that begin with the prefix (a leftover's name taken without its dot), sorted."""
        folder, slash, _ = prefix.rpartition("/")
        return self._below(folder + slash, prefix)

    def _below(self, folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        for name, entry in self._entries(folder):
            path = folder + name
            if name.endswith("/") and not name.startswith("."):
                if path.startswith(prefix) or prefix.startswith(path):
                    yield from self._below(path, prefix)
            elif (folder + name.removeprefix(".")).startswith(prefix):
                yield path, entry

    def _entries(self, folder: str) -> Sequence[tuple[str, os.DirEntry[str]]]:
        path = f"{self.root}/{folder}"
        try:
            with os.scandir(path) as entries:
                found = [(e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in entries]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(error, "list", path) from error
        return sorted(found, key=lambda pair: pair[0])


class _LocalWriter(Writer):
    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key
        folder, _, name = path.rpartition("/")
        self.folder = folder
        self.temporary = f"{folder}/{temporary_name(name)}"
        self.fd = -1
        try:
            try:
                self.fd = self._open()
            except FileNotFoundError:
                make_folders(folder, _FOLDER_MODE)
                self.fd = self._open()
        except OSError as error:
            raise storage_error(error, "write in the store's folder", folder) from error

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.temporary, flags, _FILE_MODE)

    def write(self, data: Buffer) -> None:
        try:
            write_all(self._descriptor(), data)
        except OSError as error:
            raise self._failed(error) from error

    def writev(self, buffers: Sequence[Buffer]) -> None:
        try:
            writev_all(self._descriptor(), buffers)
        except OSError as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        self.finish(create_only=False)

    def finish(self, *, create_only: bool) -> None:
        """Gives the object its name: file durable, then the name, then the folder durable."""
        fd = self._descriptor()
        try:
            failpoint("local.before_sync")
            os.fsync(fd)
            self.fd = -1
            os.close(fd)
            failpoint("local.before_name")
            if create_only:
                self._link()
            else:
                os.rename(self.temporary, self.path)
            self.temporary = ""
            failpoint("local.after_name")
            sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error) from error

    def _link(self) -> None:
        try:
            os.link(self.temporary, self.path)
        except FileExistsError as error:
            raise _taken(self.key, self.path) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_if_free()
        else:
            os.unlink(self.temporary)

    def _rename_if_free(self) -> None:
        """Without hard links: one at a time may look and rename, by a lock on the folder itself."""
        lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.lexists(self.path):
                raise _taken(self.key, self.path)
            os.rename(self.temporary, self.path)
        finally:
            os.close(lock)

    def abort(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)
        if self.temporary:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary)
            self.temporary = ""

    def _descriptor(self) -> int:
        if self.fd < 0:
            raise StorageError(f"object {self.key} is written no more", hint="Begin it again with `create`.")
        return self.fd

    def _failed(self, error: OSError) -> StorageError:
        self.abort()
        return storage_error(error, "write the object", self.path)


class _LocalReader(ObjectReader):
    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key
        self.fd = -1
        try:
            # O_NONBLOCK: a FIFO put in an object's place must not hang the reader
            self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            found = os.fstat(self.fd)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(key, path) from error
        except OSError as error:
            self.close()
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _no_file(key, path) from error
            raise storage_error(error, "read the object", path) from error
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise _no_file(key, path)
        self.size = found.st_size

    def pread(self, offset: int, length: int) -> bytes:
        check_range(self.key, offset, length)
        try:
            data = pread_all(self.fd, offset, length)
        except OSError as error:
            raise storage_error(error, "read the object", self.path) from error
        if len(data) != length:
            raise cut_short(self.key, offset, length, self.size)
        return data

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _missing(key: str, path: str) -> ObjectMissingError:
    return ObjectMissingError(
        f"the store has no object {key} (looked at {shown(path)})",
        hint="Check that the store's folder is the right one and is mounted; `dataset-tasks verify` shows what else is missing.",
    )


def _no_file(key: str, path: str) -> StorageError:
    return StorageError(
        f"object {key} is not a regular file: {shown(path)}", hint="Somebody put something else there; take it away."
    )


def _taken(key: str, path: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"the store has an object {key} already: {shown(path)}", hint="Another writer made it; read it instead."
    )
