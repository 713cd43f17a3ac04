"""External links: files that stay where they are, at `file://`, `s3://` and `http(s)://` URLs.

A link is pinned when it is added: its size, and an ETag, a Last-Modified or an mtime. Whoever reads it later gets the bytes
of just that pin, or an error that names the URL; never other bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from dataset_tasks.errors import SourceError
from dataset_tasks.external.base import CHANGED, Found, Reader
from dataset_tasks.external.urls import canonical, scheme_of
from dataset_tasks.paths import SourceFilter, show

__all__ = ["Found", "canonical", "difference", "fetch", "find"]


def find(url: str, *, wildcard: Sequence[str] | None = None, recursive: bool = True) -> list[Found]:
    """What a URL means: one file, or those of a folder or prefix that a wildcard takes; each with its pin.

    Args:
        url: As `canonical` takes it.
        wildcard: Globs relative to the folder (see `SourceFilter`); ignored for a single file.
        recursive: Globs match at any depth, and without globs files at any depth are taken.

    Raises:
        InvalidArgumentError: The URL can't be a link, or a glob is no good.
        SourceError: Nothing is there, it can't be read, or it can't be pinned.
        SourceUnavailableError: Its server does not answer.
    """
    wanted = SourceFilter(wildcard, (), recursive)
    where = canonical(url)
    listed = _reader(where).list(where, deep=recursive or wildcard is not None)
    if not listed.is_folder:
        return list(listed.files)
    return [file for file in listed.files if wanted.takes_all or wanted.matches(file.path)]


def difference(url: str, pin: str, size: int) -> str:
    """What differs now from what was pinned, as the end of a sentence; empty when nothing does. Reads no content.

    Raises:
        InvalidArgumentError: The URL can't be read here.
        SourceUnavailableError: Its server does not answer, so that nobody can tell.
    """
    try:
        found = _reader(url).stat(url)
    except SourceError as error:
        if error.retryable:
            raise
        return error.message
    if found.size != size:
        return f"{show(url)} changed: {found.size} bytes, {size} when it was added"
    return "" if found.pin == pin else f"{show(url)} changed since it was added: {found.pin}, expected {pin}"


def fetch(url: str, pin: str, size: int) -> Generator[bytes]:
    """The bytes of a link, in pieces; what was handed out counts only once the iterator has ended.

    Raises:
        InvalidArgumentError: The URL can't be read here.
        SourceError: What is there is gone, refused, or not what was pinned.
        SourceUnavailableError: Its server does not answer.
    """
    done = 0
    for piece in _reader(url).open(url, pin):
        done += len(piece)
        if done > size:
            break
        yield piece
    if done != size:
        raise SourceError(
            f"{show(url)} changed: {'more than ' if done > size else ''}{min(done, size)} bytes, "
            f"{size} when it was added",
            paths=(url,),
            hint="Add it again to pin what is there now.",
            kind=CHANGED,
        )


def _reader(url: str) -> Reader:
    match scheme_of(url):
        case "file":
            from dataset_tasks.external.files import FileReader

            return FileReader()
        case "s3":
            from dataset_tasks.external.s3 import S3Reader  # boto3: only for those who use it

            return S3Reader(url)
        case _:
            from dataset_tasks.external.web import WebReader

            return WebReader()
