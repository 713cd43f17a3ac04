"""Reads files at URLs for whoever packs or hashes many of them: small ones ahead of their turn, large ones as a stream."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Final, Protocol, Self

from dataset_tasks.errors import SourceError, SourceUnavailableError
from dataset_tasks.external import fetch
from dataset_tasks.external.base import CHANGED, GONE
from dataset_tasks.store.opened import Opener

#: Up to this size (bytes) a file is fetched whole, before it is asked for.
SMALL: Final = 1 << 20
#: From here on (bytes) nobody wants to begin anew; and whoever packs them reads them twice, and compares.
LARGE: Final = 64 << 20
#: Files that are fetched at the same time, and how much of them may wait (bytes).
AT_ONCE: Final = 8
_MOST_WAITING: Final = 16 << 20
_TRIES: Final = 3


class Opened(Protocol):
    """A file that is read from its beginning."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""

    def close(self) -> None:
        """Gives back the connection."""


class Stream:
    """A file at a URL, as its pin says. Where it is large, an answer that breaks off is taken up where it ended."""

    def __init__(self, url: str, pin: str, size: int, stores: Opener) -> None:
        self._asked, self._stores = (url, pin, size), stores
        self._pieces: Generator[bytes] | None = None
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end; raises what `fetch` raises."""
        if self._pieces is None:
            self._pieces = fetch(*self._asked, stores=self._stores, resumes=self._asked[2] > LARGE)
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)

    def rewind(self) -> None:
        """Goes back to the beginning."""
        self.close()
        self._pieces, self._rest = None, memoryview(b"")

    def close(self) -> None:
        """Gives back the connection."""
        if self._pieces is not None:
            self._pieces.close()


class Ahead:
    """Opens some files, one after another in their order; leaving the `with` block gives up what was fetched ahead.

    Args:
        files: URL, pin and size (bytes) of each; None for one that is no URL and is not asked for.
        stores: Gives the store at a URL (`Session.stores`): buckets are read through its client.
    """

    def __init__(self, files: Sequence[tuple[str, str, int] | None], stores: Opener) -> None:
        self._files, self._stores = files, stores
        self._pool: ThreadPoolExecutor | None = None
        self._fetching: dict[int, Future[bytes]] = {}
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def open(self, at: int) -> Opened:
        """The file at a place; places are asked for in order, some may be left out. Again: fetched anew.

        Raises:
            SourceError, SourceUnavailableError: As `fetch`.
        """
        for past in [place for place in self._fetching if place < at]:
            self._fetching.pop(past).cancel()
        self._ask(at)
        asked = self._files[at]
        assert asked is not None
        fetched = self._fetching.pop(at, None)
        if fetched is not None:
            return io.BytesIO(fetched.result())
        return io.BytesIO(whole(*asked, self._stores)) if asked[2] <= SMALL else Stream(*asked, self._stores)

    def _ask(self, at: int) -> None:
        """Has the next small files fetched, as many as there is room for."""
        self._next = max(self._next, at)
        waiting = sum(self._size(place) for place in self._fetching)
        while self._next < len(self._files) and len(self._fetching) < 2 * AT_ONCE and waiting < _MOST_WAITING:
            asked = self._files[self._next]
            if asked is not None and asked[2] <= SMALL:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="dataset-tasks-fetch")
                self._fetching[self._next] = self._pool.submit(whole, *asked, self._stores)
                waiting += asked[2]
            self._next += 1

    def _size(self, place: int) -> int:
        asked = self._files[place]
        return asked[2] if asked is not None else 0


def whole(url: str, pin: str, size: int, stores: Opener) -> bytes:
    """All bytes of a file, asked for again when the answer breaks off.

    Raises:
        SourceError, SourceUnavailableError: As `fetch`.
    """
    for left in reversed(range(_TRIES)):
        try:
            return b"".join(fetch(url, pin, size, stores=stores))
        except SourceUnavailableError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def digest_of(ahead: Ahead, at: int) -> bytes:
    """The SHA-256 of the file at a place.

    Raises:
        SourceError, SourceUnavailableError: As `fetch`.
    """
    for left in reversed(range(_TRIES)):
        digest = hashlib.sha256()
        try:
            with closing(ahead.open(at)) as file:
                while piece := file.read(SMALL):
                    digest.update(piece)
            return digest.digest()
        except SourceUnavailableError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def is_worth_another_try(error: SourceError) -> bool:
    """Whether other bytes may come when the file is read again: it is there, and may be read."""
    return error.kind not in (GONE, CHANGED) and (error.retryable or error.kind == SourceError.default_kind)
