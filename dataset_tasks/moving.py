"""Moves a store: every object of the catalog's own copied and verified, then the catalog pointed at the new place.

The ids of versions, objects and of the store itself stay, so nothing that refers to them changes. The old place is left
as it is: whoever owns it removes it when they are sure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import lock
from dataset_tasks.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    ObjectMissingError,
)
from dataset_tasks.failpoints import failpoint
from dataset_tasks.progress import SILENT, Progress, Task
from dataset_tasks.store import Store

T = TypeVar("T")
_PIECE = 8 << 20
_WORKERS = 8
_BATCH = 256
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move did: `objects` were looked at, `copied` of them had to be, `bytes` in all of those."""

    store_id: str
    old_url: str
    new_url: str
    objects: int
    copied: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An object that must stand at the new place; without `sha256` it was never finished, and may be missing."""

    key: str
    size: int | None = None
    sha256: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it is known what its bytes must be."""
        return bool(self.sha256)


def copy_object(source: Store, target: Store, key: str, *, to_key: str = "", sha256: str = "", size: int = -1) -> int:
    """Copies one object piece by piece, hashing it on the way; gives its size in bytes.

    Args:
        source: Where it is.
        target: Where it comes to.
        key: Its key in `source`.
        to_key: Its key in `target`, the same when empty.
        sha256: What its bytes must be; nothing becomes visible when they are not.
        size: How many they must be; below 0: any number.

    Raises:
        IntegrityError: The bytes are not those.
        ObjectMissingError: The source does not hold it.
        StorageError: A store refused or did not answer.
    """
    digest, done = hashlib.sha256(), 0
    with source.open(key) as reader, target.create(to_key or key) as writer:
        while done < reader.size:
            piece = reader.pread(done, min(_PIECE, reader.size - done))
            digest.update(piece)
            writer.write(piece)
            done += len(piece)
        if (sha256 and digest.hexdigest() != sha256) or size not in (-1, done):
            raise IntegrityError(
                f"object {key} in {source.url} is damaged: expected {size} bytes with SHA-256 {sha256}, "
                f"found {done} with {digest.hexdigest()}",
                hint="Restore it from a copy; `dataset-tasks check` lists what else is damaged.",
            )
        writer.commit()
    return done


def holds(store: Store, key: str, *, size: int, sha256: str) -> bool:
    """Whether a store holds just these bytes under a key: they are read and hashed."""
    try:
        with store.open(key) as reader:
            if reader.size != size:
                return False
            digest = hashlib.sha256()
            for start in range(0, size, _PIECE):
                digest.update(reader.pread(start, min(_PIECE, size - start)))
    except ObjectMissingError:
        return False
    return digest.hexdigest() == sha256


def move_store(
    catalog: Catalog,
    which: str,
    place: str,
    *,
    open_store: Callable[[str], Store],
    copy: bool = True,
    progress: Progress = SILENT,
) -> Moved:
    """Moves a store of the catalog to another place.

    Killed and called again it goes on: what stands at the new place is read and hashed, not copied again. Nobody should
    write to the store meanwhile; what is written during the copy is seen and copied too, but a process that goes on
    afterwards writes to the old place. Calling it again with the old URL brings over what such a process left there.

    Args:
        catalog: Whose store.
        which: The id of the store, or where it was.
        place: Where it is to be, as catalogs write it down.
        open_store: Opens the store at a URL.
        copy: False: the bytes are there already, brought by other means; they are only verified.
        progress: Is told about the work.

    Raises:
        NotFoundError: The catalog has no such store.
        InvalidArgumentError: Another store of the catalog is at the new place.
        IntegrityError: Objects are missing or damaged; the catalog is as it was.
        ConflictError: Somebody wrote to the store faster than it could be copied.
    """
    store_id, old_url = _which(catalog, which, place)
    other = next((i for i, url in catalog.stores().items() if url == place and i != store_id), None)
    if other is not None:
        raise InvalidArgumentError(
            f"{place} is the store {other} of this catalog already", hint="Give a place that no store has."
        )
    mover = _Mover(catalog, store_id, open_store(old_url), open_store(place), copy=copy)
    with progress.task(f"{old_url} to {place}") as task:
        for _ in range(_ROUNDS):
            mover.run(task)
            if catalog.stores()[store_id] == place or _repoint(catalog, store_id, place, mover.seen):
                return Moved(
                    store_id=store_id,
                    old_url=old_url,
                    new_url=place,
                    objects=len(mover.seen),
                    copied=mover.copied,
                    bytes=mover.bytes,
                )
    raise ConflictError(
        f"{old_url} is being written to: new objects came up in each of {_ROUNDS} rounds",
        hint="Stop what writes to it and run the same command again: what was copied is kept.",
    )


def _which(catalog: Catalog, which: str, place: str) -> tuple[str, str]:
    """Id and old URL of the store to move; `which` may also be where a store was that has been moved to `place`."""
    stores = catalog.stores()
    if which in stores:
        return which, stores[which]
    for store_id, url in stores.items():
        if url == which:
            return store_id, url
    for store_id, url in stores.items():
        if url == place:
            return store_id, which
    raise NotFoundError(
        f"catalog {catalog.id} has no store {which!r}",
        hint="`dataset-tasks catalog show --json` lists its stores.",
    )


def _wanted(row: sa.RowMapping) -> _Wanted:
    is_whole = row["state"] in ("live", "condemned") and row["sha256"]
    return _Wanted(row["key"], row["size"], row["sha256"]) if is_whole else _Wanted(row["key"])


def _is_news(wanted: _Wanted, seen: Mapping[str, bool]) -> bool:
    """Whether an object was not there when it was looked at, or not whole."""
    return wanted.key not in seen or (wanted.is_whole and not seen[wanted.key])


class _Mover:
    def __init__(self, catalog: Catalog, store_id: str, old: Store, new: Store, *, copy: bool) -> None:
        #: Keys that were looked at, and whether the object was whole then.
        self.seen: dict[str, bool] = {}
        self.copied = self.bytes = 0
        self._catalog, self._store_id, self._old, self._new, self._copy = catalog, store_id, old, new, copy
        self._prefix = f"{catalog.id}/"

    def run(self, task: Task) -> None:
        """Brings over what was not seen yet."""
        wanted = [each for each in self._wanted() if _is_news(each, self.seen)]
        task.total(files=len(self.seen) + len(wanted))
        problems: list[str] = []
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dataset-tasks-move") as pool:
            for some in _batches(wanted):
                for each, (size, problem) in zip(some, pool.map(self._bring, some), strict=True):
                    problems += [problem] if problem else []
                    self.seen[each.key] = each.is_whole
                    self.copied += size is not None
                    self.bytes += size or 0
                    task.advance(files=1, bytes=size or 0)
        if problems:
            raise IntegrityError(
                f"{len(problems)} objects of {self._old.url} can't be moved: {'; '.join(problems[:5])}",
                hint="Restore them from a copy, or delete the versions that need them; then run the same command again.",
            )

    def _wanted(self) -> Iterator[_Wanted]:
        """Every object of the store, by the catalog's own rows and never by a listing."""
        yield _Wanted("owner.json")
        mine = sa.select(t.objects).where(t.objects.c.store_id == self._store_id).order_by(t.objects.c.key)
        logged = (t.events.c.store_id == self._store_id) & t.events.c.journaled
        numbers = sa.select(t.events.c.sequence).where(logged).order_by(t.events.c.sequence)
        rows = self._catalog.db.read(lambda connection: connection.execute(mine).mappings().all())
        events = self._catalog.db.read(lambda connection: connection.execute(numbers).scalars().all())
        yield from map(_wanted, rows)
        for number in events:
            yield _Wanted(f"journal/{number:020d}.json")

    def _bring(self, wanted: _Wanted) -> tuple[int | None, str]:
        """The bytes that were copied, None for none; and what is wrong."""
        key = self._prefix + wanted.key
        try:
            if not wanted.is_whole:
                return self._bring_small(key, must=wanted.key.startswith(("owner", "journal"))), ""
            assert wanted.size is not None
            if holds(self._new, key, size=wanted.size, sha256=wanted.sha256):
                return None, ""
            if not self._copy:
                return None, f"{wanted.key} is not at the new place as it should be"
            done = copy_object(self._old, self._new, key, sha256=wanted.sha256, size=wanted.size)
            failpoint("move.after_object")
        except (IntegrityError, ObjectMissingError) as error:
            return None, error.message
        return done, ""

    def _bring_small(self, key: str, *, must: bool) -> int | None:
        """An object whose hash nobody knows: an owner file, an event, or what was being written and may not be there."""
        if not self._copy:
            if must and not self._is_there(key):
                raise ObjectMissingError(f"{key} is not at the new place")
            return None
        try:
            data = self._old.get(key)
        except ObjectMissingError:
            if must and not self._is_there(key):
                raise
            return None
        try:
            self._new.put(key, data, create_only=True)
        except AlreadyExistsError as error:
            if must and self._new.get(key) != data:
                raise IntegrityError(f"{key} is another one at the new place") from error
            return None
        return len(data)

    def _is_there(self, key: str) -> bool:
        try:
            return self._new.size(key) >= 0
        except ObjectMissingError:
            return False


def _repoint(catalog: Catalog, store_id: str, place: str, seen: Mapping[str, bool]) -> bool:
    """Points the catalog at the new place, unless objects or events came up that were not brought over."""

    def work(connection: Connection) -> bool:
        lock(connection)
        mine = sa.select(t.objects).where(t.objects.c.store_id == store_id)
        objects = [_wanted(row) for row in connection.execute(mine).mappings()]
        if any(_is_news(each, seen) for each in objects):
            return False
        logged = (t.events.c.store_id == store_id) & t.events.c.journaled
        numbers = connection.execute(sa.select(t.events.c.sequence).where(logged)).scalars()
        if any(f"journal/{number:020d}.json" not in seen for number in numbers):
            return False
        connection.execute(sa.update(t.stores).where(t.stores.c.id == store_id).values(url=place))
        return True

    def landed(connection: Connection) -> bool | None:
        there = connection.execute(sa.select(t.stores.c.url).where(t.stores.c.id == store_id)).scalar()
        return True if there == place else None

    failpoint("move.before_repoint")
    done = catalog.db.write(work, landed=landed)
    failpoint("move.after_repoint")
    return done


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
