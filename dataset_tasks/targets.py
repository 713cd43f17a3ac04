"""The folder that a copy is written into: never through a link, never over a file, whatever stands in it.

All names are taken below an open folder (`*at` calls), parts one by one, so no path is too long and none can be led
astray by a link that somebody plants meanwhile.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self

from dataset_tasks.errors import StorageError, TargetError
from dataset_tasks.filesystem import AnyPath, Buffer, shown, storage_error, write_all
from dataset_tasks.paths import fold, show

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN: Final = 32
#: How `link` says "not this one": another file system, no links here, too many of them, or it is gone.
_NO_LINK: Final = frozenset({
    errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT, errno.EACCES, errno.ENOTDIR,
})  # fmt: skip
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NOT_THE_TARGETS_FAULT: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


class Target:
    """An open folder that files are written below. Threads may share it.

    Args:
        path: The folder; it must exist and be no link.
        read_only: Files get mode 0444 and `seal` gives folders 0555, else 0644 and 0755; less what the umask takes.

    Raises:
        TargetError: It is not such a folder.
        StorageError: The system refused.
    """

    def __init__(self, path: AnyPath, *, read_only: bool = False) -> None:
        self.path = os.fsencode(path)
        self.read_only = read_only
        self._file_mode = 0o444 if read_only else 0o644
        self._made: set[bytes] = set()
        self._local = threading.local()
        self._open_folders: list[OrderedDict[bytes, int]] = []
        with _explained(self.path, b""):
            self._root = os.open(self.path, _OPEN_FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every folder; again it does nothing."""
        for folders in self._open_folders:
            while folders:
                os.close(folders.popitem()[1])
        if self._root >= 0:
            root, self._root = self._root, -1
            os.close(root)

    def write(self, path: bytes, data: Buffer, *, look: bool = True) -> os.stat_result | None:
        """Makes a file with these bytes, and looks at it unless told not to: the call of which there are millions.

        Raises:
            TargetError: The name is taken, or can't be made here.
            StorageError: The disk is full or fails.
        """
        folder, _, name = path.rpartition(b"/")
        try:
            fd = os.open(name, _NEW_FILE, self._file_mode, dir_fd=self._folder(folder))
            try:
                if data:
                    write_all(fd, data)
                return os.fstat(fd) if look else None
            finally:
                os.close(fd)
        except OSError as error:
            raise target_error(error, self.path, path) from error

    def write_pieces(self, path: bytes, pieces: Iterator[Buffer]) -> os.stat_result:
        """Makes a file of what the pieces hold together; when they, or the disk, fail there is no file.

        Raises:
            TargetError: The name is taken, or can't be made here.
            StorageError: The disk is full or fails.
        """
        folder, _, name = path.rpartition(b"/")
        with _explained(self.path, path):
            fd = os.open(name, _NEW_FILE, self._file_mode, dir_fd=self._folder(folder))
        try:
            for piece in pieces:
                with _explained(self.path, path):
                    write_all(fd, piece)
            return os.fstat(fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=self._folder(folder))
            raise
        finally:
            os.close(fd)

    def link(self, source: bytes, path: bytes) -> os.stat_result | None:
        """Makes a hard link to a regular file; None where that can't be, and a copy is to be made instead.

        Raises:
            TargetError: The name is taken, or can't be made here.
            StorageError: The disk is full or fails.
        """
        folder, _, name = path.rpartition(b"/")
        with _explained(self.path, path):
            fd = self._folder(folder)
            try:
                os.link(source, name, dst_dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_LINK:
                    return None
                raise
            return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def symlink(self, to: bytes, path: bytes) -> None:
        """Makes a soft link.

        Raises:
            TargetError: The name is taken, or can't be made here.
            StorageError: The disk is full or fails.
        """
        folder, _, name = path.rpartition(b"/")
        with _explained(self.path, path):
            os.symlink(to, name, dir_fd=self._folder(folder))

    def look(self, path: bytes) -> os.stat_result | None:
        """What `stat` says of a name, itself where it is a link; None where there is none.

        Raises:
            StorageError: The disk fails.
        """
        folder, _, name = path.rpartition(b"/")
        try:
            return os.stat(name, dir_fd=self._folder(folder, make=False), follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise target_error(error, self.path, path) from error

    def open(self, path: bytes) -> int:
        """A descriptor of a regular file for reading; the caller closes it.

        Raises:
            TargetError: It is not there, or no regular file.
            StorageError: The disk fails.
        """
        folder, _, name = path.rpartition(b"/")
        with _explained(self.path, path):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(name, flags, dir_fd=self._folder(folder, make=False))

    def target_of(self, path: bytes) -> bytes | None:
        """What a soft link says; None where there is none."""
        folder, _, name = path.rpartition(b"/")
        try:
            return os.readlink(name, dir_fd=self._folder(folder, make=False))
        except OSError:
            return None

    def replace(self, path: bytes, pieces: Iterator[Buffer]) -> os.stat_result:
        """Puts a file in the place of another, or of none, in one step; also in folders that are sealed.

        Raises:
            TargetError: Something else has the name.
            StorageError: The disk is full or fails.
        """
        folder, _, name = path.rpartition(b"/")
        temporary = f".{secrets.token_hex(8)}.part".encode()
        aside = folder + b"/" + temporary if folder else temporary
        with _explained(self.path, path):
            fd = os.dup(self._folder(folder))
        try:
            with _writable(fd):
                self.write_pieces(aside, pieces)
                with _explained(self.path, path):
                    _remove_empty_folder(name, fd)
                    os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
                    return os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def seal(self, folders: Iterable[bytes] = ()) -> None:
        """Takes the right to write from the folders that were made here, from these, and from the target itself.

        Raises:
            StorageError: The system refused.
        """
        for folder in sorted(self._made.union(folders)):
            with _explained(self.path, folder):
                _drop_writing(self._folder(folder))
        with _explained(self.path, b""):
            _drop_writing(self._root)

    def tells_apart(self) -> bool:
        """Whether names that differ only in case or Unicode form are different files here; found out by trying.

        Raises:
            TargetError: No file can be made here.
        """
        stem = f".probe-{secrets.token_hex(8)}-"
        made = f"{stem}a\u00e9"
        with _explained(self.path, made.encode()):
            os.close(os.open(made, _NEW_FILE, 0o600, dir_fd=self._root))
            try:
                return not any(self._exists(name) for name in (made.upper(), unicodedata.normalize("NFD", made)))
            finally:
                os.unlink(made, dir_fd=self._root)

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _folder(self, folder: bytes, *, make: bool = True) -> int:
        """A descriptor of a folder below the root, made if need be; good until the next call in this thread."""
        if not folder:
            return self._root
        folders: OrderedDict[bytes, int] | None = getattr(self._local, "folders", None)
        if folders is None:
            folders = self._local.folders = OrderedDict()
            self._open_folders.append(folders)
        fd = folders.get(folder)
        if fd is not None:
            folders.move_to_end(folder)
            return fd
        end = len(folder)
        while (end := folder.rfind(b"/", 0, end)) > 0 and folder[:end] not in folders:
            pass
        at = folders[folder[:end]] if end > 0 else self._root
        start = end + 1
        while start <= len(folder):
            end = folder.find(b"/", start)
            end = len(folder) if end < 0 else end
            at = self._enter(at, folder[start:end], folder[:end], make=make)
            folders[folder[:end]] = at
            if len(folders) > _MOST_OPEN:
                os.close(folders.popitem(last=False)[1])
            start = end + 1
        return at

    def _enter(self, at: int, name: bytes, folder: bytes, *, make: bool) -> int:
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=at)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError), _writable(at):  # another thread may be faster
            os.mkdir(name, 0o755, dir_fd=at)
            self._made.add(folder)
        return os.open(name, _OPEN_FOLDER, dir_fd=at)


@contextmanager
def _writable(fd: int) -> Iterator[None]:
    """Lets its owner write in a folder that is sealed."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o200:
        yield
        return
    os.fchmod(fd, mode | 0o200)
    try:
        yield
    finally:
        os.fchmod(fd, mode)


def _drop_writing(fd: int) -> None:
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & 0o555)


def _remove_empty_folder(name: bytes, fd: int) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=fd)


@contextmanager
def _explained(root: bytes, path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise target_error(error, root, path) from error


def target_error(error: OSError, root: bytes, path: bytes) -> TargetError | StorageError:
    """The error of ours for one of the system's while a copy is written."""
    if error.errno in _NOT_THE_TARGETS_FAULT:
        return storage_error(error, "write the copy in", root)
    reason = error.strerror or str(error)
    what = f"{show(path)} in {shown(root)}" if path else shown(root)
    hints = {
        errno.EEXIST: "Something has that name already; choose another folder.",
        errno.ELOOP: "A link stands where a folder should; remove it or choose another folder.",
        errno.ENOTDIR: "A file or a link stands where a folder should; remove it or choose another folder.",
        errno.ENAMETOOLONG: "The file system takes no name of this length; choose a folder on another one.",
        errno.EILSEQ: "The file system takes no such name; choose a folder on another one.",
        errno.EINVAL: "The file system takes no such name; choose a folder on another one.",
        errno.EROFS: "The file system is mounted read-only; choose another folder.",
        errno.ENOENT: "The folder is not there; was it removed meanwhile?",
    }
    hint = hints.get(error.errno or 0, "Give this user the permission, or choose another folder.")
    return TargetError(f"can't write {what}: {reason}", hint=hint)


class Twins:
    """Finds names that a file system which ignores case and Unicode forms would take for one.

    Args:
        where: The folder in question, for the message.

    >>> Twins("copy").first([b"img/A.png", b"img/b.png", b"img/a.png"])
    (b'img/A.png', b'img/a.png')
    """

    def __init__(self, where: AnyPath) -> None:
        self._where = where
        self._files: dict[bytes, bytes] = {}
        self._folders: dict[bytes, bytes] = {}

    def check(self, paths: list[bytes]) -> None:
        """Refuses paths that can't be told apart from each other, or from those of earlier calls.

        Raises:
            TargetError: Names both.
        """
        found = self.first(paths)
        if found:
            raise TargetError(
                f"the file system of {shown(self._where)} can't tell {show(found[0])} from {show(found[1])}",
                hint="Choose a folder on a file system that minds case and Unicode forms, or rename one of the two.",
            )

    def first(self, paths: list[bytes]) -> tuple[bytes, bytes] | None:
        """The first of these that can't be told from one before it, and that one; those of earlier calls count."""
        for path in paths:
            key = fold(path)
            other = self._files.get(key) or self._folders.get(key)
            if other is not None:
                return other, path
            self._files[key] = path
            pair = self._below_twin(key, path)
            if pair is not None:
                return pair
        return None

    def _below_twin(self, key: bytes, path: bytes) -> tuple[bytes, bytes] | None:
        """A path that is, or lies in, what can't be told from a folder above this path; and this path."""
        folder = path
        while (end := key.rfind(b"/")) > 0:
            key, folder = key[:end], folder[: folder.rfind(b"/")]
            known = self._files.get(key) or self._folders.get(key)
            if known is None:
                self._folders[key] = path
            elif known.startswith(folder + b"/"):
                break  # the same folder, and so are those above it
            else:
                return known, path
        return None
