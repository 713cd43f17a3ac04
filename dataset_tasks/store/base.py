"""What every store promises. A store keeps whole objects under keys; an object is complete or it is not there.

Keys are ours: catalog ids, kinds and random object ids. No name of a user's file is ever part of one, and nothing is
read or written outside of the folder or prefix that the store was opened with.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dataset_tasks.errors import IntegrityError, InvalidArgumentError
from dataset_tasks.filesystem import Buffer

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,199}"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_PREFIX = re.compile(rf"(?:{_PART}/)*(?:{_PART})?\Z")
#: Longest key in bytes; object stores take 1,024 with their own prefix.
MOST_KEY_BYTES = 800


def check_key(key: str) -> str:
    """Gives the key back if it is one.

    A key has parts joined by `/`. A part has 1 to 200 of the characters `A-Za-z0-9_.=-` and starts with a letter, a
    digit or `_`: so `..`, absolute paths, hidden names and what any store or file system reads specially are no keys.

    Raises:
        InvalidArgumentError: It is not a key.

    >>> check_key("3f/chunks/00c1.zip")
    '3f/chunks/00c1.zip'
    """
    if len(key) > MOST_KEY_BYTES or not _KEY.match(key):
        raise InvalidArgumentError(
            f"{key!r} can't be the key of an object",
            hint=f"A key is at most {MOST_KEY_BYTES} bytes of parts joined by `/`; a part is 1 to 200 of "
            "`A-Za-z0-9_.=-` and starts with a letter, a digit or `_`.",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Gives the prefix back if keys can begin with it; the empty one is the whole store.

    Raises:
        InvalidArgumentError: No key begins so.
    """
    if len(prefix) > MOST_KEY_BYTES or not _PREFIX.match(prefix):
        raise InvalidArgumentError(
            f"{prefix!r} can't be the beginning of a key", hint="Give whole parts, such as `id/`."
        )
    return prefix


def check_range(key: str, offset: int, length: int) -> None:
    """Refuses ranges that can't be.

    Raises:
        InvalidArgumentError: The offset or the length is negative.
    """
    if offset < 0 or length < 0:
        raise InvalidArgumentError(
            f"{key}: offset {offset} and length {length} (bytes) are no range", hint="Both are 0 or more."
        )


def cut_short(key: str, offset: int, length: int, size: int) -> IntegrityError:
    """The error for an object that ends before the range that was asked for does."""
    return IntegrityError(
        f"object {key} is shorter than it was: expected at least {offset + length} bytes, found {size}",
        hint="It was cut after it was stored; `dataset-tasks verify` shows which versions need it.",
    )


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an attempt that died left in a store: no object, only space.

    `token` is what `Store.discard` takes; `key` is the object that was to be; `size` in bytes; `modified` is seconds
    since 1970 by the store's clock.
    """

    token: str
    key: str
    size: int
    modified: float


def no_leftover(leftover: Leftover, url: str) -> InvalidArgumentError:
    """The error for a leftover that is none of the store at a URL."""
    return InvalidArgumentError(f"{leftover.token!r} is no leftover of {url}", hint="Take it from `leftovers`.")


class Writer(ABC):
    """An object that is being written: nobody sees it before `commit`. Leaving the `with` block without aborts.

    Not thread-safe.
    """

    key: str

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Appends bytes.

        Raises:
            StorageError: The store refused or did not answer; the writer is of no more use.
        """

    def writev(self, buffers: Sequence[Buffer]) -> None:
        """Appends many buffers in order; cheaper than one by one where the store can.

        Raises:
            StorageError: As `write`.
        """
        for buffer in buffers:
            self.write(buffer)

    @abstractmethod
    def commit(self) -> None:
        """Makes the object visible and durable, whole. One that had the key before is replaced.

        Raises:
            StorageError: It is not certain that the object stands; the key may hold it or not, never a part of it.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drops what was written. After `commit`, or again, it does nothing. Never raises for the store's sake."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class ObjectReader(ABC):
    """An object opened for ranged reads; `size` in bytes. Thread-safe until closed."""

    key: str
    size: int

    @abstractmethod
    def pread(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises:
            InvalidArgumentError: The range is negative.
            IntegrityError: The object ends before the range does.
            ObjectMissingError: The object went meanwhile.
            StorageError: The store refused or did not answer.
        """

    def expect(self, offset: int, length: int) -> None:  # noqa: B027 - where nothing is read ahead, nothing is to be done
        """Tells that `length` bytes from `offset` are about to be read from front to back: a hint, no promise."""

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Gives back what the reader holds; again it does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _RangedReads(ObjectReader):
    """Reads through the store, for stores where an open object has nothing to hold."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key
        self.size = store.size(key)

    def pread(self, offset: int, length: int) -> bytes:
        return self.store.read(self.key, offset, length)


class Store(ABC):
    """Keeps objects under keys. Thread-safe.

    `url` opens the same store again and holds no secret.
    """

    url: str

    @abstractmethod
    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object, durable when this returns.

        Args:
            key: See `check_key`.
            data: The bytes.
            create_only: Refuse when the key is taken; of several at once exactly one wins.

        Raises:
            InvalidArgumentError: The key is none.
            AlreadyExistsError: With `create_only`: the key is taken; its object is untouched.
            StorageError: The store refused (no space, no permission) or did not answer.
        """

    @abstractmethod
    def create(self, key: str) -> Writer:
        """Begins an object of unknown size.

        Raises:
            InvalidArgumentError: The key is none.
            StorageError: The store refused or did not answer.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """A whole object.

        Raises:
            InvalidArgumentError: The key is none.
            ObjectMissingError: There is no such object.
            StorageError: The store refused or did not answer.
        """

    @abstractmethod
    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of an object from `offset`.

        Raises:
            InvalidArgumentError: The key is none, or the range is negative.
            ObjectMissingError: There is no such object.
            IntegrityError: The object ends before the range does.
            StorageError: The store refused or did not answer.
        """

    def open(self, key: str, *, size: int | None = None) -> ObjectReader:
        """Opens an object for many ranged reads.

        Args:
            key: The object's.
            size: Its size in bytes, where it is known: saves object stores a question, and then an object that is not
                there is noticed at the first read.

        Raises:
            InvalidArgumentError: The key is none.
            ObjectMissingError: There is no such object.
            StorageError: The store refused or did not answer.
        """
        return _RangedReads(self, check_key(key))

    @abstractmethod
    def size(self, key: str) -> int:
        """The size of an object in bytes.

        Raises:
            InvalidArgumentError: The key is none.
            ObjectMissingError: There is no such object.
            StorageError: The store refused or did not answer.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is fine.

        Raises:
            InvalidArgumentError: The key is none.
            StorageError: The store refused or did not answer; the object may be there or not.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys that begin with the prefix, with sizes in bytes, sorted by key. What is being written is not in it.

        Never a ground for a decision on what exists: some stores show new objects late. Only checks use it.

        Raises:
            InvalidArgumentError: No key begins so.
            StorageError: The store refused or did not answer.
        """

    @abstractmethod
    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """What attempts left that died, or are still writing: look at `modified` before discarding one.

        Raises:
            InvalidArgumentError: No key begins so.
            StorageError: The store refused or did not answer.
        """

    @abstractmethod
    def discard(self, leftover: Leftover) -> None:
        """Removes what an attempt left; gone already is fine.

        Raises:
            InvalidArgumentError: It is no leftover of this store.
            StorageError: The store refused or did not answer.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Gives back connections; again it does nothing."""
