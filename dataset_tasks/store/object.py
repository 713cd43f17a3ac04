"""Objects in Azure Blob Storage and Google Cloud Storage, through obstore, which `object_client` sets up.

The URLs are `azure://container/prefix` and `gs://bucket/prefix`, with what the connection or the environment does not say
behind a `?`: `account`, `endpoint`, `connection`, and `anonymous=true` for what needs no credentials. Credentials come from
the connection, else from obstore's chain, never from the URL.

obstore tries requests again by itself, but those that begin and end an object in parts in GCS: when one of these gets no
answer, the writer fails, and who wrote has to begin the object anew.

What an unfinished writer sent is nowhere listed: Azure removes it after a week, GCS by a lifecycle rule.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore import exceptions as failures
from obstore.store import AzureStore as _Azure
from obstore.store import GCSStore as _Google

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import (
    ObjectMissingError,
    StorageError,
)
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import Leftover, Writer, check_key, check_prefix, no_leftover
from dataset_tasks.store.bucket import ATTEMPT, MOST_AT_ONCE, BucketStore
from dataset_tasks.store.multipart import PART_BYTES
from dataset_tasks.store.object_client import explained, make_azure, make_google
from dataset_tasks.store.transfer import Patience
from dataset_tasks.store.urls import StoreUrl

if TYPE_CHECKING:
    from obstore import WritableFile

T = TypeVar("T")

OPTIONS: Final = ("account", "anonymous", "connection", "endpoint")
_PARTS_AT_ONCE: Final = 4


class ObjectStore(BucketStore):
    """Objects below a prefix, in what obstore opens. Thread-safe.

    Args:
        place: The URL, taken apart.
        inner: What obstore opened there.
        patience: How long a store that does not answer is asked again.
    """

    _cut = StorageError  # services refuse that in as many words as there are services

    def __init__(self, place: StoreUrl, inner: _Azure | _Google, patience: Patience) -> None:
        super().__init__(place, patience)
        self._inner = inner

    @property
    def inner(self) -> _Azure | _Google:
        """What obstore opened; calls on it belong inside `explained`."""
        return self._inner

    def _put(self, key: str, data: Buffer, *, create_only: bool) -> None:
        full = self._full(key)
        mark = secrets.token_hex(16)

        def ask() -> None:
            try:
                obstore.put(
                    self._inner,
                    full,
                    bytes(data),
                    attributes={ATTEMPT: mark},
                    mode="create" if create_only else "overwrite",
                    use_multipart=False,
                )
            except (failures.AlreadyExistsError, failures.PreconditionError):
                # obstore tries again by itself: the object may be ours, only the first answer lost.
                if obstore.get(self._inner, full, options={"head": True}).attributes.get(ATTEMPT) != mark:
                    raise

        self._asked(key, ask)

    def create(self, key: str) -> Writer:
        """Begins an object of unknown size; see `Store.create`."""
        return _ObjectWriter(self, check_key(key))

    def begin(self, key: str) -> WritableFile:
        """A writer of obstore's; what it wrote is there once it is closed."""
        full = self._full(key)
        return self._asked(
            key,
            lambda: obstore.open_writer(self._inner, full, buffer_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE),
        )

    def _get(self, key: str) -> bytes | int:
        answer = obstore.get(self._inner, self._full(key))
        size = answer.meta["size"]
        return size if size > MOST_AT_ONCE else self._checked(key, bytes(answer.bytes()), size)

    def _get_range(self, key: str, offset: int, length: int) -> tuple[bytes, int]:
        answer = obstore.get(self._inner, self._full(key), options={"range": (offset, offset + length)})
        size = answer.meta["size"]
        end = min(offset + length, size)
        if tuple(answer.range) != (offset, end):
            raise self._odd(key, f"bytes {answer.range} were given, {(offset, end)} asked for")
        return self._checked(key, bytes(answer.bytes()), end - offset), size

    def size(self, key: str) -> int:
        """The size of an object in bytes; see `Store.size`."""
        full = self._full(key)
        return self._asked(key, lambda: obstore.head(self._inner, full)["size"])

    def delete(self, key: str) -> None:
        """Removes an object; see `Store.delete`."""
        full = self._full(key)
        with suppress(ObjectMissingError):
            self._asked(key, lambda: obstore.delete(self._inner, full))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes, sorted by key; see `Store.list`."""
        check_prefix(prefix)
        folder, slash, _ = (self.prefix + prefix).rpartition("/")  # obstore takes whole parts only
        with self.explained(prefix):
            for page in obstore.list(self._inner, folder + slash, chunk_size=1000):
                for found in page:
                    key = found["path"].removeprefix(self.prefix)
                    if key.startswith(prefix):
                        yield key, found["size"]

    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """None: these services show no unfinished objects, see the module and `Store.leftovers`."""
        check_prefix(prefix)
        return iter(())

    def discard(self, leftover: Leftover) -> None:
        """Refuses: nothing is a leftover of this store; see `Store.discard`."""
        raise no_leftover(leftover, self.url)

    def explained(self, key: str) -> AbstractContextManager[None]:
        """Turns what obstore raises about a key into errors of ours; see `object_client.explained`."""
        return explained(self.url, key)


class _ObjectWriter(Writer):
    """Sends parts as obstore does it; a small object goes in one request at commit."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self.store, self.key = store, key
        self._waiting = bytearray()
        self._file: WritableFile | None = None
        self._size = 0
        self._is_over = False

    def write(self, data: Buffer) -> None:
        """Appends bytes; see `Writer.write`."""
        self._check()
        self._waiting += data
        self._size += len(data)
        if len(self._waiting) >= PART_BYTES:
            self._flush()

    def commit(self) -> None:
        """Makes the object visible, whole; see `Writer.commit`."""
        self._check()
        if self._file is None:
            self.store.put(self.key, self._waiting)
            self.abort()
            return
        self._flush()
        file, self._file = self._file, None
        with self.store.explained(self.key):
            file.close()
        self.abort()
        self.store.check_written(self.key, self._size)

    def abort(self) -> None:
        """Drops what was written; see `Writer.abort`. What was sent is never put together without `close`."""
        self._is_over = True
        self._waiting = bytearray()
        self._file = None

    def _flush(self) -> None:
        if self._file is None:
            self._file = self.store.begin(self.key)
        waiting, self._waiting = self._waiting, bytearray()
        with self.store.explained(self.key):
            self._file.write(bytes(waiting))

    def _check(self) -> None:
        if self._is_over:
            raise StorageError(f"the writer of {self.key} is closed", hint="Begin the object anew.")


class AzureStore(ObjectStore):
    """Blobs below a prefix of a container: `azure://container/prefix`.

    Args:
        url: See the module.
        options: What the connection says; the URL's own options come first.
        patience: How long a store that does not answer is asked again.

    Raises:
        InvalidArgumentError: The URL or the options can't be used.
    """

    def __init__(self, url: str, *, options: StoreOptions | None = None, patience: Patience | None = None) -> None:
        place, options = StoreUrl.parse(url, "azure", OPTIONS), options or StoreOptions()
        patience = patience or Patience()
        inner = make_azure(place, options, patience)
        super().__init__(place, inner, patience)


class GoogleStore(ObjectStore):
    """Objects below a prefix of a bucket: `gs://bucket/prefix`. Arguments and errors as of `AzureStore`."""

    def __init__(self, url: str, *, options: StoreOptions | None = None, patience: Patience | None = None) -> None:
        place, options = StoreUrl.parse(url, "gs", OPTIONS), options or StoreOptions()
        patience = patience or Patience()
        inner = make_google(place, options, patience)
        super().__init__(place, inner, patience)
