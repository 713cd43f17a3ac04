"""What a reader of one kind of URL does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from dataset_tasks.errors import SourceError, SourceUnavailableError
from dataset_tasks.paths import show

#: Kinds of `SourceError`: nothing is there any more; something else is there now.
GONE: Final = "link_gone"
CHANGED: Final = "link_changed"
#: Bytes are handed on in pieces of this size.
PIECE: Final = 1 << 20


class Pinned(NamedTuple):
    """What tells that a file is the same: its size (bytes), and an ETag, a Last-Modified or an mtime."""

    size: int
    pin: str


class Found(NamedTuple):
    """One file that a URL leads to; `path` is relative to the folder, the bare name of a single file.

    A tuple, for there may be a million of them.
    """

    path: bytes
    url: str
    size: int
    pin: str


class Listed(NamedTuple):
    """What a URL leads to: one file, or those of a folder."""

    files: Iterable[Found]
    is_folder: bool


class Reader(Protocol):
    """Reads URLs of one kind, in the form that `urls.canonical` gives. Thread-safe.

    Every method raises `SourceError` with the URL in it, of kind `link_gone` or `link_changed` where that is what was
    found, and `SourceUnavailableError` when the same call may succeed later.
    """

    def list(self, url: str, *, deep: bool) -> Listed:
        """The files that a URL leads to, found while they are iterated; without `deep` only those directly in the folder."""

    def stat(self, url: str) -> Pinned:
        """What is at a URL now."""

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes at a URL from a byte on, in pieces, if they are those of the pin."""


def gone(url: str) -> SourceError:
    """The error for a URL at which there is nothing."""
    return SourceError(
        f"there is nothing at {show(url)}", paths=(url,), hint="Check the URL; was it moved or deleted?", kind=GONE
    )


def changed(url: str, found: str, expected: str) -> SourceError:
    """The error for a URL at which there is something else than what was pinned."""
    return SourceError(
        f"{show(url)} changed since it was added: {found or 'no pin'}, expected {expected}",
        paths=(url,),
        hint="Add it again to pin what is there now.",
        kind=CHANGED,
    )


def unavailable(url: str, why: str) -> SourceUnavailableError:
    """The error for a URL whose server does not answer now."""
    return SourceUnavailableError(
        f"{show(url)} can't be reached: {why}", paths=(url,), hint="Check the network and the server, then try again."
    )
