"""What all stores in a bucket have in common, whichever SDK speaks to it: `s3_bucket` and `object` say how each request goes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, Final, TypeVar

from dataset_tasks.errors import StorageError, StorageUnavailableError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import ObjectReader, Store, check_key, check_range, cut_short
from dataset_tasks.store.multipart import PART_BYTES
from dataset_tasks.store.transfer import BLOCK_BYTES, Patience, ReadAhead, Threads, Trouble, read_blocks
from dataset_tasks.store.urls import StoreUrl

T = TypeVar("T")

#: Metadata that tells the attempt which wrote an object.
ATTEMPT: Final = "attempt"
#: What comes of larger objects (bytes) than this is asked for by several requests at once.
MOST_AT_ONCE: Final = 2 * BLOCK_BYTES


class BucketStore(Store):
    """Objects below a prefix of a bucket.

    Args:
        place: The URL, taken apart.
        patience: How long a store that does not answer is asked again.
    """

    #: What a range that begins behind the end of its object may be refused with.
    _cut: ClassVar[type[StorageError]]

    def __init__(self, place: StoreUrl, patience: Patience) -> None:
        self.url = place.text
        self.bucket = place.bucket
        self.prefix = place.prefix
        self.threads = Threads()
        self._place = place
        self._patience = patience

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def trouble(self) -> Trouble:
        """Patience for a new object."""
        return Trouble(self._patience)

    @abstractmethod
    def explained(self, key: str) -> AbstractContextManager[None]:
        """Turns what the SDK raises about a key into errors of ours.

        Raises:
            ObjectMissingError: There is no such object.
            StorageUnavailableError: The server did not answer.
            StorageError: It refused.
        """

    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object; see `Store.put`."""
        check_key(key)
        if len(data) > 2 * PART_BYTES and not create_only:
            with self.create(key) as writer:
                writer.write(data)
                writer.commit()
        else:
            self._put(key, data, create_only=create_only)

    def get(self, key: str) -> bytes:
        """A whole object, a large one by several requests at once; see `Store.get`."""
        check_key(key)
        found = self._asked(key, lambda: self._get(key))
        return found if isinstance(found, bytes) else self._blocks(key, 0, found)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; see `Store.read`."""
        check_key(key)
        check_range(key, offset, length)
        if not length:
            size = self.size(key)
            if offset > size:
                raise cut_short(key, offset, length, size)
            return b""
        return self._blocks(key, offset, length)

    def open(self, key: str, *, size: int | None = None) -> ObjectReader:
        """Opens an object for many ranged reads, which are read ahead of; see `Store.open`."""
        check_key(key)
        trouble = self.trouble()
        held = self.size(key) if size is None else size
        return ReadAhead(key, held, lambda at, length: self._range(key, at, length, trouble), self.threads)

    def check_written(self, key: str, size: int) -> None:
        """Looks whether an object stands with the size (bytes) that was written.

        Raises:
            StorageError: It has another.
        """
        found = self.size(key)
        if found != size:
            raise StorageError(
                f"{self.url}: {key} has {found} bytes after the upload, expected {size}",
                hint="Run it again; the object is not used.",
            )

    def close(self) -> None:
        """Gives back threads; they are made anew when needed. See `Store.close`."""
        self.threads.close()

    # --- one request each

    @abstractmethod
    def _put(self, key: str, data: Buffer, *, create_only: bool) -> None:
        """Writes a whole object by one request, made again while the store may come back."""

    @abstractmethod
    def _get(self, key: str) -> bytes | int:
        """A whole object, or the size of one of more than `MOST_AT_ONCE`."""

    @abstractmethod
    def _get_range(self, key: str, offset: int, length: int) -> tuple[bytes, int]:
        """What there is of a range, and the size of the object."""

    # --- for all of them

    def _full(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _asked(self, key: str, ask: Callable[[], T], trouble: Trouble | None = None) -> T:
        """An answer about a key, asked for until there is one."""

        def explained() -> T:
            with self.explained(key):
                return ask()

        return (trouble or self.trouble()).persist(explained)

    def _blocks(self, key: str, offset: int, length: int) -> bytes:
        trouble = self.trouble()
        return read_blocks(lambda at, size: self._range(key, at, size, trouble), self.threads, offset, length)

    def _range(self, key: str, offset: int, length: int, trouble: Trouble) -> bytes:
        """A range by one request."""

        def ask() -> bytes:
            data, size = self._get_range(key, offset, length)
            if len(data) != length:
                raise cut_short(key, offset, length, size)
            return data

        try:
            return self._asked(key, ask, trouble)
        except self._cut as error:
            size = self.size(key)
            if offset < size:
                raise
            raise cut_short(key, offset, length, size) from error

    def _checked(self, key: str, data: bytes, length: int) -> bytes:
        """The bytes of an answer, when they are as many as it said."""
        if len(data) != length:
            raise self._odd(key, f"the answer broke off: expected {length} bytes, found {len(data)}")
        return data

    def _odd(self, key: str, what: str) -> StorageUnavailableError:
        return StorageUnavailableError(f"{self.url}: {key}: {what}", hint="Try again.")
