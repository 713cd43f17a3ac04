"""Links to files of this machine, or of a file system that every worker mounts at the same place."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes, urlsplit

from dataset_tasks.errors import SourceError
from dataset_tasks.external.base import PIECE, Found, Listed, Pinned, changed, gone
from dataset_tasks.external.policy import may_read
from dataset_tasks.paths import SourceFilter, show
from dataset_tasks.walk import Findings, Walk

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class FileReader:
    """Reads `file://` URLs. Pinned by size and mtime (ns); links are followed."""

    def list(self, url: str, *, deep: bool) -> Listed:
        """One file, or those of a folder; see `Reader.list`."""
        path = _path(url)
        found = _look(url, path)
        if stat.S_ISDIR(found.st_mode):
            return Listed(_folder(url, os.path.realpath(path), deep=deep), is_folder=True)
        size, pin = _pinned(url, found)
        return Listed([Found(os.path.basename(path), url, size, pin)], is_folder=False)

    def stat(self, url: str) -> Pinned:
        """Size and mtime; see `Reader.stat`."""
        return _pinned(url, _look(url, _path(url)))

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes, if the file was not touched; looked at again in the end. See `Reader.open`."""
        try:
            fd = os.open(_path(url), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # never waits for a FIFO's writer
        except OSError as error:
            raise _refused(url, error) from error
        try:
            _check(url, fd, pin)
            os.lseek(fd, start, os.SEEK_SET)
            while piece := os.read(fd, PIECE):
                yield piece
            _check(url, fd, pin)
        except OSError as error:
            raise _refused(url, error) from error
        finally:
            os.close(fd)


def _path(url: str) -> bytes:
    return unquote_to_bytes(urlsplit(url).path)


def _look(url: str, path: bytes) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:
        raise _refused(url, error) from error


def _pinned(url: str, found: os.stat_result) -> Pinned:
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(
            f"{show(url)} is neither a file nor a folder", paths=(url,), hint="Give the URL of a file or folder."
        )
    return Pinned(found.st_size, f"mtime_ns:{found.st_mtime_ns}")


def _check(url: str, fd: int, pin: str) -> None:
    found = _pinned(url, os.fstat(fd))
    if found.pin != pin:
        raise changed(url, found.pin, pin)


def _refused(url: str, error: OSError | ValueError) -> SourceError:
    if isinstance(error, OSError) and error.errno in _NOT_THERE:
        return gone(url)
    why = error.strerror if isinstance(error, OSError) else str(error)
    return SourceError(
        f"{show(url)} can't be read: {why}", paths=(url,), hint="Check the permissions of this user on the file."
    )


def _folder(url: str, root: bytes, *, deep: bool) -> Iterator[Found]:
    findings = Findings()
    top = url.rstrip("/") + "/"
    for files in Walk(root, SourceFilter(None, (), recursive=deep), findings, may_read):
        for name in files.names:
            path = files.folder + name
            where = top + quote(path, safe="/!$&'()*+,;=:@~")
            try:
                size, pin = _pinned(where, os.stat(name, dir_fd=files.fd))
            except OSError as error:
                raise _refused(where, error) from error
            yield Found(path, where, size, pin)
    if findings.problems:
        raise SourceError(
            "\n".join([f"{show(url)}: {len(findings.problems)} can't be read:", *map(str, findings.problems)]),
            paths=(url,),
            hint="Mend them, or take others with `wildcard`.",
        )
