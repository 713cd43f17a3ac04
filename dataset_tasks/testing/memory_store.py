"""A store in memory, for tests of pipelines: keeps the whole contract of `Store` and forgets all at the end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

from dataset_tasks.errors import AlreadyExistsError, ObjectMissingError, StorageError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import (
    Leftover,
    Store,
    Writer,
    check_key,
    check_prefix,
    check_range,
    cut_short,
    no_leftover,
)


class MemoryStore(Store):
    """Objects in a dictionary. Thread-safe; one process only.

    Args:
        name: Tells stores apart in messages; part of `url`.

    >>> store = MemoryStore()
    >>> store.put("a/b", b"bytes")
    >>> store.read("a/b", 1, 3)
    b'yte'
    """

    def __init__(self, name: str = "memory") -> None:
        self.url = f"memory://{name}"
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._open: dict[str, _MemoryWriter] = {}
        self._numbers = itertools.count()

    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object; see `Store.put`."""
        check_key(key)
        with self._lock:
            if create_only and key in self.objects:
                raise AlreadyExistsError(f"the store has an object {key} already", hint="Read it instead.")
            self.objects[key] = bytes(data)

    def create(self, key: str) -> Writer:
        """Begins an object of unknown size; see `Store.create`."""
        with self._lock:
            token = f"{check_key(key)}#{next(self._numbers)}"
            self._open[token] = writer = _MemoryWriter(self, key, token)
            return writer

    def get(self, key: str) -> bytes:
        """A whole object; see `Store.get`."""
        check_key(key)
        with self._lock:
            if key not in self.objects:
                raise ObjectMissingError(f"the store has no object {key}", hint="Check that it is the right store.")
            return self.objects[key]

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; see `Store.read`."""
        data = self.get(key)
        check_range(key, offset, length)
        if offset + length > len(data):
            raise cut_short(key, offset, length, len(data))
        return data[offset : offset + length]

    def size(self, key: str) -> int:
        """The size of an object in bytes; see `Store.size`."""
        return len(self.get(key))

    def delete(self, key: str) -> None:
        """Removes an object; see `Store.delete`."""
        check_key(key)
        with self._lock:
            self.objects.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes, sorted by key; see `Store.list`."""
        check_prefix(prefix)
        with self._lock:
            found = sorted((key, len(data)) for key, data in self.objects.items() if key.startswith(prefix))
        yield from found

    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """What attempts left that died; see `Store.leftovers`."""
        check_prefix(prefix)
        with self._lock:
            found = [(token, writer) for token, writer in self._open.items() if writer.key.startswith(prefix)]
        for token, writer in found:
            yield Leftover(token, writer.key, sum(map(len, writer.parts)), writer.started)

    def discard(self, leftover: Leftover) -> None:
        """Removes what an attempt left; see `Store.discard`."""
        if "#" not in leftover.token:
            raise no_leftover(leftover, self.url)
        with self._lock:
            self._open.pop(leftover.token, None)


class _MemoryWriter(Writer):
    def __init__(self, store: MemoryStore, key: str, token: str) -> None:
        self.store, self.key, self.token = store, key, token
        self.started = time.time()
        self.parts: list[bytes] = []
        self.usable = True

    def write(self, data: Buffer) -> None:
        self._check()
        self.parts.append(bytes(data))

    def commit(self) -> None:
        self._check()
        self.store.put(self.key, b"".join(self.parts))
        self.abort()

    def abort(self) -> None:
        self.usable = False
        with self.store._lock:  # noqa: SLF001 - one class in two parts
            self.store._open.pop(self.token, None)  # noqa: SLF001

    def _check(self) -> None:
        if not self.usable:
            raise StorageError(f"object {self.key} is written no more", hint="Begin it again with `create`.")
