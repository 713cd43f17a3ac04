"""Walks a source folder so that its files come out in byte order of their full paths.

Each folder is listed once and sorted by name, folders as `name/`: then a depth-first walk yields `a-1/x`, `a.txt`,
`a/z` in just the order the whole paths have, and nothing need be sorted again. Everything goes through folder
descriptors: a path may be longer than the kernel takes in one call, a folder that is swapped for a link meanwhile is
noticed, and depth costs neither recursion nor open files.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dataset_tasks import paths
from dataset_tasks.errors import SourceError
from dataset_tasks.paths import SourceFilter

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENCODING = (
    sys.getfilesystemencoding()
)  # with it os.scandir decoded the names, as it does where it is given a descriptor
_BLOCK = 1024
_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Problem:
    """A source that can't be taken: its path on this machine and why, as the end of a sentence."""

    path: bytes
    reason: str

    def __str__(self) -> str:
        return f"{paths.show(self.path)}: {self.reason}"


@dataclass(slots=True)
class Findings:
    """What a walk or scan comes upon besides files: `problems` stop an add or are skipped, `notes` are for the log."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, path: bytes, what: str | OSError) -> None:
        """Keeps a problem.

        Raises:
            SourceError: The machine is short of something (open files, memory): no fault of that one file.
        """
        if isinstance(what, OSError):
            if what.errno in _MACHINE:
                raise SourceError(
                    f"Reading {paths.show(path)} failed: {what.strerror}",
                    paths=(paths.show(path),),
                    hint="Raise the limit of this process (`ulimit -n`) or run fewer at a time.",
                ) from what
            what = explain(what)
        self.problems.append(Problem(path, what))

    def note(self, path: bytes, text: str) -> None:
        """Keeps a note about a path."""
        self.notes.append(f"{paths.show(path)}: {text}")


@dataclass(frozen=True, slots=True)
class Files:
    """Some files of one folder, next to each other in the order of the walk.

    `fd` is the folder, open until the walk is continued; `folder` its path below the root, empty or ending in `/`;
    `names` at most 1,024, sorted; `links` those that are links to files.
    """

    fd: int
    folder: bytes
    names: list[bytes]
    links: frozenset[bytes]


@dataclass(slots=True)
class _Frame:
    folder: bytes
    fd: int
    identity: tuple[int, int]
    keys: list[bytes]
    links: set[bytes]
    at: int = 0


class Walk:
    """The files of a folder that a filter takes, sorted; iterate once.

    FIFOs, sockets and devices are never opened and linked folders not entered: both are noted. Folders that can't be
    read, dangling links and loops of links are problems.

    Args:
        root: Absolute path of the folder, with no link in it.
        wanted: Which files to take.
        findings: Where notes and problems go.
        may_follow: Whether the file that the link at a path leads to may be read; a link to any other is a problem.
            None follows all.

    Raises:
        SourceError: The root can't be opened, or files can't be opened any more at all.
    """

    def __init__(
        self,
        root: bytes,
        wanted: SourceFilter,
        findings: Findings,
        may_follow: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._root = root.rstrip(b"/") + b"/"
        self._wanted = wanted
        self._findings = findings
        self._may_follow = may_follow
        self._stack: list[_Frame] = []
        # Descriptors of the innermost folders stay open; with few allowed, few are taken.
        self._keep = max(2, min(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))

    def __iter__(self) -> Iterator[Files]:
        try:
            root_fd = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            raise SourceError(
                f"The folder {paths.show(self._root)} can't be read: {explain(error)}",
                paths=(paths.show(self._root),),
                hint="Check that the path is right and that this user may read it.",
            ) from error
        try:
            self._push(b"", root_fd)
            while self._stack:
                yield from self._step(self._stack[-1])
        finally:
            for frame in self._stack:
                _close(frame)

    def _step(self, frame: _Frame) -> Iterator[Files]:
        """Goes on in the innermost folder: into the next folder, over the next files, or out of it."""
        if frame.at == len(frame.keys):
            _close(self._stack.pop())
        elif not self._is_open(frame):
            self._findings.problem(self._path(frame), "was moved or replaced while it was scanned")
            _close(self._stack.pop())
        elif frame.keys[frame.at].endswith(b"/"):
            frame.at += 1
            self._descend(frame, frame.keys[frame.at - 1])
        else:
            files = self._next_files(frame)
            if files.names:
                yield files

    def _path(self, frame: _Frame) -> bytes:
        return (self._root + frame.folder).rstrip(b"/") or b"/"

    def _descend(self, frame: _Frame, key: bytes) -> None:
        folder = frame.folder + key
        try:
            fd = os.open(key[:-1], _FOLDER, dir_fd=frame.fd)
        except OSError as error:
            self._findings.problem(self._root + folder[:-1], error)
            return
        self._push(folder, fd)
        if len(self._stack) > self._keep + 1:  # the root stays open: from it all others can be found again
            _close(self._stack[-self._keep - 1])

    def _push(self, folder: bytes, fd: int) -> None:
        status = os.fstat(fd)
        frame = _Frame(folder, fd, (status.st_dev, status.st_ino), [], set())
        self._stack.append(frame)
        self._list(frame)

    def _list(self, frame: _Frame) -> None:
        wanted, folder = self._wanted, frame.folder
        keys = frame.keys
        try:
            with os.scandir(frame.fd) as entries:
                for entry in entries:
                    name = entry.name.encode(_ENCODING, "surrogateescape")
                    if wanted.takes_all or entry.is_dir(follow_symlinks=False) or wanted.matches(folder + name):
                        if entry.is_file(follow_symlinks=False):
                            keys.append(name)
                        else:
                            self._list_other(frame, name, entry)
        except OSError as error:
            keys.clear()
            self._findings.problem(self._path(frame), error)
            return
        keys.sort()
        self._note_twins(frame)

    def _list_other(self, frame: _Frame, name: bytes, entry: os.DirEntry[str]) -> None:
        if entry.is_dir(follow_symlinks=False):
            if self._wanted.takes_all or self._wanted.enters(frame.folder + name):
                frame.keys.append(name + b"/")
        elif entry.is_symlink():
            frame.links.add(name)
            frame.keys.append(name)
        else:
            self._findings.note(self._root + frame.folder + name, "not a file, folder or link: left out")

    def _note_twins(self, frame: _Frame) -> None:
        keys = frame.keys
        fold = bytes.lower if b"".join(keys).isascii() else paths.fold  # the same for ASCII, and much quicker
        if len(set(map(fold, keys))) == len(keys):
            return
        first: dict[bytes, bytes] = {}
        for key in keys:
            twin = first.setdefault(paths.fold(key), key)
            if twin is not key:
                self._findings.note(
                    self._root + frame.folder + key,
                    f"differs from {paths.show(twin)} only by case or Unicode form: both are kept, but some file "
                    "systems can't hold a copy",
                )

    def _next_files(self, frame: _Frame) -> Files:
        start, end = frame.at, min(frame.at + _BLOCK, len(frame.keys))
        names = frame.keys[start:end]
        cut = next((i for i, key in enumerate(names) if key.endswith(b"/")), len(names))
        names = names[:cut]
        frame.at = start + cut
        links = frame.links.intersection(names) if frame.links else frame.links
        if links:
            refused = {name for name in links if not self._leads_to_file(frame, name)}
            names = [name for name in names if name not in refused]
        return Files(frame.fd, frame.folder, names, frozenset(links))

    def _leads_to_file(self, frame: _Frame, name: bytes) -> bool:
        path = self._root + frame.folder + name
        try:
            mode = os.stat(name, dir_fd=frame.fd).st_mode
        except OSError as error:
            self._findings.problem(path, _broken_link(frame.fd, name, error) or error)
            return False
        if stat.S_ISDIR(mode):
            self._findings.note(path, "a link to a folder: not entered")
        elif not stat.S_ISREG(mode):
            self._findings.note(path, "a link to what is not a file or folder: left out")
        elif self._may_follow is not None and not self._may_follow(path):
            target = paths.show(os.path.realpath(path))
            self._findings.problem(path, f"is a link to {target}, which is none of the places that may be read here")
            return False
        return stat.S_ISREG(mode)

    def _is_open(self, frame: _Frame) -> bool:
        """Opens the folder again if its descriptor was given up; False if it is not the same any more."""
        if frame.fd >= 0:
            return True
        depth = len(self._stack)
        fd = self._stack[0].fd
        for at, outer in enumerate(self._stack[1:], 1):
            if outer.fd < 0:
                try:
                    opened = os.open(outer.folder[len(self._stack[at - 1].folder) : -1], _FOLDER, dir_fd=fd)
                except OSError:
                    return False
                outer.fd = opened
                status = os.fstat(opened)
                if (status.st_dev, status.st_ino) != outer.identity:
                    _close(outer)
                    return False
            fd = outer.fd
            if 0 < at - self._keep < depth - 1:
                _close(self._stack[at - self._keep])
        return True


def explain(error: OSError) -> str:
    """The error in words, without the path."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "was replaced by something else while it was scanned"
    if error.errno == errno.ENOENT:
        return "vanished while it was scanned"
    return error.strerror or str(error)


def _broken_link(fd: int, name: bytes, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is part of a loop of links"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        try:
            target = os.readlink(name, dir_fd=fd)
        except OSError:
            return ""
        return f"is a link to {paths.show(target)}, which does not exist"
    return ""


def _close(frame: _Frame) -> None:
    if frame.fd >= 0:
        os.close(frame.fd)
        frame.fd = -1
