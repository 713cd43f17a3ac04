"""Files in Google Cloud Storage (`gs://bucket/name`) and Azure Blob Storage (`azure://container/name`).

The URL takes the options of a store there, whose client reads it. Pinned by size and ETag, and read in blocks on condition of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import obstore

from dataset_tasks.errors import SourceError, StorageUnavailableError
from dataset_tasks.external.base import Found, Pinned, changed
from dataset_tasks.external.bucket import SAFE, BucketReader, key_of
from dataset_tasks.paths import show
from dataset_tasks.store.object import ObjectStore
from dataset_tasks.store.opened import Opener
from dataset_tasks.store.transfer import BLOCK_BYTES

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

T = TypeVar("T")

_PAGE: Final = 1000


class CloudReader(BucketReader):
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

    @property
    def _bucket(self) -> ObjectStore:
        return self._store

    def stat(self, url: str) -> Pinned:
        """Size and ETag; see `Reader.stat`."""
        return _pinned(url, self._asked(url, lambda: obstore.head(self._store.inner, key_of(url))))

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
        answer = obstore.get(self._store.inner, key_of(url), options=options)
        piece = bytes(answer.bytes())
        if tuple(answer.range) != (start, end) or len(piece) != end - start:
            raise StorageUnavailableError(f"{len(piece)} bytes came, {end - start} were asked for", hint="Try again.")
        return piece

    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        prefix = prefix.lstrip("/")  # no name begins so there
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
                where = f"{self._top}/{quote(key, safe=SAFE)}{self._query}"
                size, pin = _pinned(where, each)
                yield Found(key[len(prefix) :].encode(), where, size, pin)


def _pinned(url: str, meta: ObjectMeta) -> Pinned:
    """Size and ETag; listings write it without quotes, answers with."""
    tag = (meta["e_tag"] or "").strip('"')
    if not tag:
        raise SourceError(
            f"{show(url)} can't be pinned: its server tells no ETag", paths=(url,), hint="Add a downloaded copy of it."
        )
    return Pinned(meta["size"], f'"{tag}"')
