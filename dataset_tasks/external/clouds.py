"""Files in Google Cloud Storage (`gs://bucket/name`) and Azure Blob Storage (`azure://container/name`).

The URL takes the options of a store there, whose client reads it. Pinned by size and ETag, and read in blocks on condition of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import obstore

from dataset_tasks.errors import (
    AlreadyExistsError,
    ObjectMissingError,
    SourceError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.external.base import GONE, Found, Listed, Pinned, changed, gone, unavailable
from dataset_tasks.paths import show
from dataset_tasks.store.object import ObjectStore
from dataset_tasks.store.opened import Opener
from dataset_tasks.store.transfer import BLOCK_BYTES

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

T = TypeVar("T")

_SAFE: Final = "/!$&'()*+,;=:@~"
_PAGE: Final = 1000


class CloudReader:
    """Reads the `gs://` or `azure://` URLs of one bucket.

    Args:
        url: Any of them: scheme, bucket and options count.
        stores: Gives the store at a URL, whose client reads it.

    Raises:
        InvalidArgumentError: An option is not known or can't be used.
        NotFoundError: There is no such connection.
    """

    def __init__(self, url: str, stores: Opener) -> None:
        parts = urlsplit(url)
        self._top = f"{parts.scheme}://{parts.netloc}"
        self._query = f"?{urlencode(parse_qsl(parts.query, keep_blank_values=True))}" if parts.query else ""
        store = stores(self._top + self._query)
        assert isinstance(store, ObjectStore)
        self._store = store

    def list(self, url: str, *, deep: bool) -> Listed:
        """The one object, or those whose names start with the URL's path and a `/`; see `Reader.list`."""
        key = _key(url)
        if key and not key.endswith("/"):
            try:
                size, pin = self.stat(url)
            except SourceError as error:
                if error.kind != GONE:
                    raise
            else:
                return Listed([Found(key.rpartition("/")[2].encode(), url, size, pin)], is_folder=False)
        files = self._below(url, f"{key.strip('/')}/" if key else "", deep=deep)
        first = next(files, None)
        if first is None:
            raise gone(url)
        return Listed(chain((first,), files), is_folder=True)

    def stat(self, url: str) -> Pinned:
        """Size and ETag; see `Reader.stat`."""
        return _pinned(url, self._asked(url, lambda: obstore.head(self._store.inner, _key(url))))

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes, if their ETag is that of the pin; see `Reader.open`."""
        size, found = self.stat(url)
        if found != pin:
            raise changed(url, found, pin)
        while start < size:
            end = min(size, start + BLOCK_BYTES)
            piece = self._asked(url, partial(self._block, url, pin, start, end), pin)
            yield piece
            start += len(piece)

    def _block(self, url: str, pin: str, start: int, end: int) -> bytes:
        options: GetOptions = {"if_match": pin, "range": (start, end)}
        answer = obstore.get(self._store.inner, _key(url), options=options)
        piece = bytes(answer.bytes())
        if tuple(answer.range) != (start, end) or len(piece) != end - start:
            raise StorageUnavailableError(f"{len(piece)} bytes came, {end - start} were asked for", hint="Try again.")
        return piece

    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        pages: Iterator[Sequence[ObjectMeta]]
        if deep:
            pages = obstore.list(self._store.inner, prefix or None, chunk_size=_PAGE)
        else:
            pages = iter(
                [self._asked(url, lambda: obstore.list_with_delimiter(self._store.inner, prefix or None)["objects"])]
            )
        while True:
            with self._explained(url):
                page = next(pages, None)
            if page is None:
                return
            for each in page:
                key = each["path"]
                where = f"{self._top}/{quote(key, safe=_SAFE)}{self._query}"
                size, pin = _pinned(where, each)
                yield Found(key[len(prefix) :].encode(), where, size, pin)

    def _asked(self, url: str, ask: Callable[[], T], pin: str = "") -> T:
        with self._explained(url, pin):
            return ask()

    @contextmanager
    def _explained(self, url: str, pin: str = "") -> Iterator[None]:
        try:
            with self._store.explained(_key(url)):
                yield
        except ObjectMissingError as error:
            raise gone(url) from error
        except AlreadyExistsError as error:  # what a condition that does not hold is called elsewhere
            raise changed(url, "another ETag", pin) from error
        except StorageUnavailableError as error:
            raise unavailable(url, error.message) from error
        except StorageError as error:
            raise SourceError(
                f"{show(url)} can't be read: {error.message}", paths=(url,), hint=error.hint, kind=error.kind
            ) from error


def _key(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"), errors="strict")


def _pinned(url: str, meta: ObjectMeta) -> Pinned:
    """Size and ETag; listings write it without quotes, answers with."""
    tag = (meta["e_tag"] or "").strip('"')
    if not tag:
        raise SourceError(
            f"{show(url)} can't be pinned: its server tells no ETag", paths=(url,), hint="Add a downloaded copy of it."
        )
    return Pinned(meta["size"], f'"{tag}"')
