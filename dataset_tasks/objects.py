"""Stored objects by the commit protocol: a row first, then the bytes, and every read checked against size and SHA-256.

Keys are relative to `<catalog id>/` in their store, so that a catalog can only ever touch its own objects.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from dataset_tasks.catalog.copying import Claimed
from dataset_tasks.catalog.rows import to_micros
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import Clock
from dataset_tasks.errors import (
    AlreadyExistsError,
    CatalogError,
    ConflictError,
    IntegrityError,
    ObjectMissingError,
    StorageUnavailableError,
)
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import Buffer
from dataset_tasks.model import ObjectRef
from dataset_tasks.store import ObjectReader, Store, Writer
from dataset_tasks.store.opened import Opener

if TYPE_CHECKING:
    from dataset_tasks.manifest import Index

_FORMS = {"chunk": ("chunks", "zip"), "pack": ("packs", "parquet"), "index": ("indexes", "parquet")} | {
    "pending": ("pending", "parquet"),
    "delta": ("deltas", "parquet"),
    "report": ("reports", "bin"),
}
_KINDS = {folder: kind for kind, (folder, _) in _FORMS.items()}
_KEPT_INDEXES = 3
_ASKED_AT_ONCE = 16


def new_key(kind: str) -> str:
    """A key that no object ever had: `chunks/<32 hex>.zip` for a chunk."""
    folder, ending = _FORMS[kind]
    return f"{folder}/{secrets.token_hex(16)}.{ending}"


def kind_of(key: str) -> str:
    """The kind of object that a key was made for."""
    return _KINDS[key.partition("/")[0]]


class Ranges:
    """Reads parts of one object, which is opened at the first of them. Thread-safe.

    Args:
        store: Where it is.
        key: Its key there.
        size: Its size in bytes.
    """

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._open: Callable[[], ObjectReader] = lambda: store.open(key, size=size)
        self._reader: ObjectReader | None = None
        self._lock = threading.Lock()

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly these bytes; what they should be is checked by whoever knows the hash of the part.

        Raises:
            ObjectMissingError: The store does not hold the object.
            StorageError: The store refused, or the object is shorter.
        """
        return self._opened().pread(offset, length)

    def expect(self, offset: int, length: int) -> None:
        """Tells that a range is about to be read from front to back; see `ObjectReader.expect`.

        Raises:
            StorageError: As `pread`.
        """
        self._opened().expect(offset, length)

    def _opened(self) -> ObjectReader:
        with self._lock:
            if self._reader is None:
                self._reader = self._open()
            return self._reader


class Objects:
    """The objects of one catalog, in whatever stores they are; `stores` gives the one at a URL for each access."""

    def __init__(self, catalog: Catalog, stores: Opener, clock: Clock) -> None:
        self._catalog = catalog
        self._open_store = stores
        self._clock = clock
        self._urls: dict[str, str] = {}
        self._owned: set[str] = set()
        self._indexes: tuple[tuple[str, Index], ...] = ()

    def store(self, store_id: str) -> Store:
        """The store of that id."""
        url = self._urls.get(store_id)
        if url is None:
            url = self._urls[store_id] = self._catalog.store_url(store_id)
        return self._open_store(url)

    def look_again(self) -> None:
        """Has looked up anew where each store is: it may be moved."""
        self._urls = {}

    def full_key(self, key: str) -> str:
        """The key in the store, below the catalog's id."""
        return f"{self._catalog.id}/{key}"

    def begin(self, version_id: str, store_id: str, keys: Collection[str]) -> None:
        """Makes the rows of objects that are about to be written, and the store's owner file on first use."""
        self._own(store_id)
        failpoint("objects.before_rows")
        self._catalog.begin_objects(version_id, [(store_id, key, kind_of(key)) for key in keys])
        failpoint("objects.after_rows")

    def claim(self, version_id: str, store_id: str, refs: Collection[ObjectRef]) -> Claimed:
        """As `begin`, for objects of another catalog that are about to be copied; see `Catalog.claim_objects`."""
        self._own(store_id)
        return self._catalog.claim_objects(version_id, store_id, refs)

    def put_all(self, version_id: str, store_id: str, parts: Iterable[tuple[str, Buffer]]) -> list[ObjectRef]:
        """Writes whole objects (key, bytes) for a version; they become live with the commit that refers to them."""
        held = list(parts)
        self.begin(version_id, store_id, [key for key, _ in held])
        store = self.store(store_id)
        refs = []
        for key, data in held:
            store.put(self.full_key(key), data)
            failpoint("objects.after_bytes")
            digest = hashlib.sha256(data).hexdigest()
            refs.append(ObjectRef(store_id=store_id, key=key, size=len(data), sha256=digest))
        self.written(refs)
        failpoint("objects.after_written")
        return refs

    def written(self, refs: Collection[ObjectRef], *, delta: str | None = None) -> None:
        """Records objects whose bytes stand; see `Catalog.written`. When they were given up, the bytes go again.

        Raises:
            ConflictError: As `Catalog.written`.
        """
        try:
            self._catalog.written(refs, delta=delta)
        except ConflictError:
            self.discard((ref.store_id, ref.key) for ref in refs)
            raise

    def writer(self, store_id: str, key: str) -> Writer:
        """Writes one object piece by piece; call `begin` for it before and `written` after."""
        return self.store(store_id).create(self.full_key(key))

    def discard(self, refs: Iterable[tuple[str, str]]) -> None:
        """Deletes objects (store id, key) that did not become part of a version, then their rows.

        What is live after all stays: the commit of it may have landed late, or be another writer's.
        """
        held = list(refs)
        going = self._catalog.let_go([key for _, key in held])
        self.remove((store_id, key) for store_id, key in held if key in going)

    def remove(self, refs: Iterable[tuple[str, str]]) -> None:
        """Deletes objects (store id, key) that were let go, then their rows."""
        held = list(refs)
        failpoint("objects.before_discard")
        for store_id, key in held:
            self.store(store_id).delete(self.full_key(key))
        self._catalog.forget_objects([key for _, key in held])
        failpoint("objects.after_discard")

    def read(self, ref: ObjectRef) -> bytes:
        """The whole object.

        Raises:
            IntegrityError: It is missing, or its bytes are not what was written.
        """
        for _ in range(2):  # damage that happened on the way is not there the second time
            try:
                data = self.store(ref.store_id).get(self.full_key(ref.key))
            except ObjectMissingError as error:
                raise self._missing(ref) from error
            if len(data) == ref.size and hashlib.sha256(data).hexdigest() == ref.sha256:
                return data
        raise IntegrityError(
            f"object {ref.key} in {self._catalog.store_url(ref.store_id)} is damaged: expected {ref.size} bytes "
            f"with SHA-256 {ref.sha256}, found {len(data)} bytes",
            hint="Restore the store from a copy; versions that do not refer to it are not affected.",
        )

    def index(self, ref: ObjectRef) -> Index:
        """The index of a manifest. It is read and checked each time; the last few are not decoded again.

        Raises:
            IntegrityError: As `read`, or it can't be decoded.
        """
        from dataset_tasks.manifest import Index  # pulls in pyarrow

        data = self.read(ref)
        for sha256, known in self._indexes:
            if sha256 == ref.sha256:
                return known
        index = Index.from_bytes(data, ref.key)
        self.remember(ref, index)
        return index

    def remember(self, ref: ObjectRef, index: Index) -> None:
        """Takes the index that an object was just written from, or decoded to, for `index`."""
        # A new tuple each time: needs no lock, neither between threads nor over a fork.
        self._indexes = ((ref.sha256, index), *self._indexes)[:_KEPT_INDEXES]

    def ranges(self, ref: ObjectRef) -> Ranges:
        """For reading parts of an object."""
        return Ranges(self.store(ref.store_id), self.full_key(ref.key), ref.size)

    def check_sizes(self, refs: Collection[ObjectRef]) -> None:
        """As `check_size` for many; a store behind a network is asked of several at once.

        Raises:
            IntegrityError: One is not there with its size.
        """
        is_near = all(self.store(store_id).url.startswith("file:") for store_id in {ref.store_id for ref in refs})
        if is_near or len(refs) == 1:
            for ref in refs:
                self.check_size(ref)
            return
        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="dataset-tasks-sizes") as pool:
            for _ in pool.map(self.check_size, refs):
                pass

    def check_size(self, ref: ObjectRef) -> None:
        """Asks the store whether the object is there with its size.

        Raises:
            IntegrityError: It is not.
        """
        try:
            size = self.store(ref.store_id).size(self.full_key(ref.key))
        except ObjectMissingError as error:
            raise self._missing(ref) from error
        if size != ref.size:
            raise IntegrityError(
                f"object {ref.key} in {self._catalog.store_url(ref.store_id)} has {size} bytes, expected {ref.size}",
                hint="Upload the version again, or restore the store from a copy.",
            )

    def put_journal(self, store_id: str, sequence: int, document: dict[str, object]) -> None:
        """Writes the journal object of an event; the same bytes again are no error.

        Raises:
            CatalogError: Another event has the number: the catalog has lost what it had acknowledged.
        """
        self._own(store_id)
        data = json.dumps(document, sort_keys=True, ensure_ascii=False).encode()
        store, key = self.store(store_id), self.full_key(f"journal/{sequence:020d}.json")
        try:
            store.put(key, data, create_only=True)
        except AlreadyExistsError as error:
            if store.get(key) != data:
                raise CatalogError(
                    f"{store.url} holds another event under the number {sequence} than catalog {self._catalog.id}: "
                    "the catalog was put back to an earlier state and counts on from there",
                    hint="Run `dataset-tasks catalog rebuild`: it brings back from the journal what is missing.",
                    kind="behind_journal",
                ) from error

    def refuse_if_behind(self, store_id: str) -> None:
        """Looks whether the catalog knows every event in the journal of a store: who deletes by what it knows must ask.

        Raises:
            CatalogError: It does not: it was put back to an earlier state.
        """
        store = self.store(store_id)
        names = (key.rpartition("/")[2].removesuffix(".json") for key, _ in store.list(self.full_key("journal/")))
        unknown = self._catalog.unknown_events([int(name) for name in names if name.isdigit()])
        if unknown:
            raise CatalogError(
                f"{store.url} holds {len(unknown)} events that catalog {self._catalog.id} does not know, the first is "
                f"number {unknown[0]}: the catalog was put back to an earlier state",
                hint="Run `dataset-tasks catalog rebuild`: it brings back from the journal what is missing. An event that it "
                "says it can't read has to be taken out of the journal by hand.",
                kind="behind_journal",
            )

    def put_cached(self, store_id: str, key: str, data: Buffer) -> None:
        """Writes an object that no version needs: it may go, or be replaced, at any time."""
        self._own(store_id)
        self.store(store_id).put(self.full_key(key), data)

    def get_cached(self, store_id: str, key: str) -> bytes:
        """An object that `put_cached` wrote; whoever reads it checks it.

        Raises:
            ObjectMissingError: There is none (any more).
        """
        return self.store(store_id).get(self.full_key(key))

    def _missing(self, ref: ObjectRef) -> IntegrityError:
        return IntegrityError(
            f"object {ref.key} is missing from {self._catalog.store_url(ref.store_id)}",
            kind="missing_object",
            hint="Restore the store from a copy, or delete the version and make it again.",
        )

    def own(self, store_id: str) -> None:
        """Puts the file into a store that says whose objects are there; one that stands stays."""
        document = {
            "layout": 1,
            "catalog_id": self._catalog.id,
            "store_id": store_id,
            "created": to_micros(self._clock()),
        }
        with suppress(
            AlreadyExistsError
        ):  # written by an earlier session of this catalog, whose id the key begins with
            self.store(store_id).put(self.full_key("owner.json"), json.dumps(document).encode(), create_only=True)
        self._owned.add(store_id)

    def _own(self, store_id: str) -> None:
        """Owns a store before its first object; afterwards the owner file must be where the other objects are.

        Of a folder it is looked for each time: what is written below a mount point without its disk is out of sight later.

        Raises:
            StorageUnavailableError: It is gone, as where a disk is not mounted, though there are objects.
        """
        store = self.store(store_id)
        if store_id in self._owned and not store.url.startswith("file:"):
            return
        try:
            store.size(self.full_key("owner.json"))
        except ObjectMissingError as error:
            if self._catalog.has_objects(store_id):
                raise StorageUnavailableError(
                    f"{store.url} does not hold what catalog {self._catalog.id} wrote there: {self.full_key('owner.json')} "
                    "is missing",
                    hint="Mount the disk, or mend the connection, that belongs there. If what was there is lost for good, "
                    "`dataset-tasks repair` takes the place as it is.",
                ) from error
            self.own(store_id)
        self._owned.add(store_id)
