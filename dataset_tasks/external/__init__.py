"""Files at URLs: `file://`, `s3://`, `gs://`, `azure://` and `http(s)://`, to link to or to import.

A link is pinned when it is added: its size, and an ETag, a Last-Modified or an mtime. Whoever reads it later gets the bytes
of just that pin, or an error that names the URL; never other bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from time import monotonic as clock
from typing import TYPE_CHECKING, Final

from dataset_tasks.errors import SourceError, SourceUnavailableError
from dataset_tasks.external import policy
from dataset_tasks.external.base import CHANGED, Found, Listed, Reader, unavailable
from dataset_tasks.external.urls import canonical, scheme_of
from dataset_tasks.paths import SourceFilter, show

if TYPE_CHECKING:
    from dataset_tasks.store.opened import Opener  # not loaded by those who only ask what a URL is

__all__ = ["Found", "canonical", "difference", "fetch", "find", "look"]

#: A file is given up when it came slower than `SLOWEST` (bytes a second) after the first `PATIENCE` (seconds).
PATIENCE: Final = 60.0
SLOWEST: Final = 16 << 10


def find(url: str, *, stores: Opener, wildcard: Sequence[str] | None = None, recursive: bool = True) -> list[Found]:
    """What a URL means: one file, or those of a folder or prefix that a wildcard takes; each with its pin.

    Args:
        url: As `canonical` takes it.
        stores: Gives the store at a URL (`Session.stores`): buckets are read through its client.
        wildcard: Globs relative to the folder (see `SourceFilter`); ignored for a single file.
        recursive: Globs match at any depth, and without globs files at any depth are taken.

    Raises:
        InvalidArgumentError: The URL can't be a link, or a glob is no good.
        SourceError: Nothing is there, it can't be read, or it can't be pinned.
        SourceUnavailableError: Its server does not answer.
    """
    deep = recursive or wildcard is not None
    listed = look(canonical(url), SourceFilter(wildcard, (), recursive), deep=deep, stores=stores)
    return list(listed.files)


def look(url: str, wanted: SourceFilter, *, deep: bool, stores: Opener) -> Listed:
    """As `find`, with the files found while they are iterated; what the server says goes wrong then.

    Args:
        url: From `canonical`.
        wanted: Which files of a folder are taken; a single one is taken whatever it says.
        deep: Whether files below folders inside can be among them.
        stores: As `find` takes it.

    Raises:
        InvalidArgumentError, SourceError: As `find`.
    """
    policy.check_url(url)
    listed = _reader(url, stores).list(url, deep=deep)
    if not listed.is_folder or wanted.takes_all:
        return listed
    return listed._replace(files=(file for file in listed.files if wanted.matches(file.path)))


def difference(url: str, pin: str, size: int, *, stores: Opener) -> str:
    """What differs now from what was pinned, as the end of a sentence; empty when nothing does. Reads no content.

    Arguments as of `fetch`.

    Raises:
        InvalidArgumentError: The URL can't be read here.
        SourceUnavailableError: Its server does not answer, so that nobody can tell.
    """
    policy.check_url(url)
    try:
        found = _reader(url, stores).stat(url)
    except SourceError as error:
        if error.retryable:
            raise
        return error.message
    if found.size != size:
        return f"{show(url)} changed: {found.size} bytes, {size} when it was added"
    return "" if found.pin == pin else f"{show(url)} changed since it was added: {found.pin}, expected {pin}"


def fetch(url: str, pin: str, size: int, *, stores: Opener, resumes: bool = False) -> Generator[bytes]:
    """The bytes of a link, in pieces; what was handed out counts only once the iterator has ended.

    Args:
        url: As it was found.
        pin: As it was found.
        size: As it was found (bytes).
        stores: As `find` takes it.
        resumes: Whether an answer that breaks off is taken up where it ended, as often as that brings it further. Only
            for whoever checks a hash of the whole: nothing vouches for the parts of an answer.

    Raises:
        InvalidArgumentError: The URL can't be read here.
        SourceError: What is there is gone, refused, or not what was pinned.
        SourceUnavailableError: Its server does not answer, or far too slowly.
    """
    policy.check_url(url)
    reader = _reader(url, stores)
    patience = _Patience(url)
    done = begun = 0
    while done <= size:
        try:
            for piece in patience.over(reader.open(url, pin, done)):
                done += len(piece)
                if done > size:
                    break
                yield piece
            break
        except SourceUnavailableError:
            if not resumes or done == begun:
                raise
            begun = done
    if done != size:
        raise SourceError(
            f"{show(url)} changed: {'more than ' if done > size else ''}{min(done, size)} bytes, "
            f"{size} when it was added",
            paths=(url,),
            hint="Add it again to pin what is there now.",
            kind=CHANGED,
        )


class _Patience:
    """Ends the reading of a file that comes in drops: each is in time, the whole never is."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._spent = 0.0
        self._bytes = 0

    def over(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, as long as they come fast enough; the time that the reader's user takes does not count."""
        while True:
            asked = clock()
            piece = next(pieces, None)
            self._spent += clock() - asked
            if piece is None:
                return
            self._bytes += len(piece)
            if self._spent > PATIENCE + self._bytes / SLOWEST:
                raise unavailable(
                    self._url, f"only {self._bytes} bytes in {self._spent:.0f} seconds, less than {SLOWEST} a second"
                )
            yield piece


def _reader(url: str, stores: Opener) -> Reader:
    match scheme_of(url):
        case "file":
            from dataset_tasks.external.files import FileReader

            return FileReader()
        case "s3":
            from dataset_tasks.external.s3 import S3Reader  # boto3: only for those who use it

            return S3Reader(url, stores)
        case "gs" | "azure":
            try:
                from dataset_tasks.external.clouds import CloudReader  # obstore: likewise
            except ModuleNotFoundError:
                stores(url)  # says what to install
                raise
            return CloudReader(url, stores)
        case _:
            from dataset_tasks.external.web import WebReader

            return WebReader()
