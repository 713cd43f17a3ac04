"""Makes a catalog from what lies beside the bytes: the journals of its stores. What it can't know is told.

The journal tells of final versions alone. Drafts and what was reported about them, records of operations and reads are
not in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import TypeVar

from sqlalchemy.engine import Connection

from dataset_tasks.catalog import replay
from dataset_tasks.catalog.engine import Database
from dataset_tasks.catalog.replay import Journaled, Replay
from dataset_tasks.catalog.rows import Event, from_micros, load_object, to_micros
from dataset_tasks.catalog.sql import Catalog, make_catalog
from dataset_tasks.catalog.writes import Clock, lock
from dataset_tasks.errors import (
    DatasetError,
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    ObjectMissingError,
    WrongCatalogError,
)
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import ObjectRef, State
from dataset_tasks.objects import Objects, kind_of
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.store import Store

T = TypeVar("T")
_BATCH = 256
_READERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The part of a store that belongs to one catalog; `created` in microseconds since 1970."""

    catalog_id: str
    store_id: str
    store: Store
    url: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did. `events` were read, `applied` of them were new to the catalog; `problems` are in words."""

    catalog_id: str
    is_new: bool
    events: int
    applied: int
    versions: int
    objects: int
    problems: tuple[str, ...] = field(default_factory=tuple)


def find_journals(places: Iterable[str], open_store: Callable[[str], Store], catalog_id: str | None) -> list[Journal]:
    """The journals of one catalog in some stores.

    Args:
        places: URLs of the stores, as catalogs write them down.
        open_store: Opens each.
        catalog_id: Whose journals; None: of the only one there is.

    Raises:
        NotFoundError: A store holds nothing of the catalog, or of any.
        InvalidArgumentError: Several catalogs own a part of the stores, and none is named.
    """
    found: list[Journal] = []
    for place in places:
        store = open_store(place)
        here = [_owned(store, place, each) for each in ([catalog_id] if catalog_id else _owners(store))]
        if not here:
            raise NotFoundError(f"{place} holds nothing of any catalog", hint="Give the URL of a store.")
        found += here
    ids = sorted({each.catalog_id for each in found})
    if len(ids) > 1:
        raise InvalidArgumentError(
            f"the stores hold parts of {len(ids)} catalogs: {', '.join(ids)}", hint="Name one of them with --id."
        )
    return found


def _owners(store: Store) -> list[str]:
    """Ids of the catalogs that own a part of a store. Lists all of it: there is no other way to know."""
    return [key.partition("/")[0] for key, _ in store.list() if key.count("/") == 1 and key.endswith("/owner.json")]


def _owned(store: Store, place: str, catalog_id: str) -> Journal:
    try:
        owner = json.loads(store.get(f"{catalog_id}/owner.json"))
        return Journal(
            catalog_id=catalog_id, store_id=owner["store_id"], store=store, url=place, created=owner["created"]
        )
    except ObjectMissingError as error:
        raise NotFoundError(
            f"{place} holds nothing of catalog {catalog_id}", hint="Look for `<catalog id>/owner.json` in the store."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{catalog_id}/owner.json in {place} can't be read: {error}") from error


def rebuild(
    catalog_url: str,
    journals: Sequence[Journal],
    *,
    open_store: Callable[[str], Store],
    clock: Clock,
    progress: Progress = SILENT,
) -> Rebuilt:
    """Puts everything that the journals tell into a catalog: a new one of the same id, or the one that has it.

    Killed and called again it goes on; called once more it changes nothing. A catalog that was put back to an earlier
    state gets what it lacks, and keeps what it has.

    Raises:
        WrongCatalogError: There is another catalog already.
        CatalogError: The catalog can't be opened.
        StorageError: A store does not answer.
    """
    catalog_id = journals[0].catalog_id
    database = Database(catalog_url)
    before = make_catalog(database, clock, catalog_id)
    if before["catalog_id"] != catalog_id:
        raise WrongCatalogError(
            f"{database.shown} holds catalog {before['catalog_id']}, the journals are of {catalog_id}",
            hint="Rebuild into an empty database: give its URL with --catalog.",
        )
    database.close()
    catalog = Catalog.open(catalog_url, clock, create=False)
    is_new = catalog.last_sequence() == 0
    problems: list[str] = []
    events, applied = _replayed(catalog, journals, problems, progress)
    problems += [
        f"version {version_id} is referred to, but no journal that was given tells of it"
        for version_id in catalog.db.read(replay.lost)
    ]
    objects = _registered(catalog, Objects(catalog, open_store, clock), problems, progress, to_micros(clock()))
    versions = len(catalog.versions(states=(State.COMPLETED, State.PUBLISHED)))
    catalog.close()
    return Rebuilt(
        catalog_id=catalog_id,
        is_new=is_new,
        events=events,
        applied=applied,
        versions=versions,
        objects=objects,
        problems=tuple(problems),
    )


# --- events ----------------------------------------------------------------------------------------------------------


def _replayed(
    catalog: Catalog, journals: Sequence[Journal], problems: list[str], progress: Progress
) -> tuple[int, int]:
    """How many events there are, and how many the catalog did not have."""
    listed = [[(key, journal) for key in _keys(journal)] for journal in journals]
    last = max((_number(keys[-1][0]) for keys in listed if keys), default=0)
    stores = [(journal.store_id, journal.url, journal.created) for journal in journals]

    def prepare(connection: Connection) -> bool:
        lock(connection)
        replay.put_stores(connection, stores)
        replay.raise_counter(connection, last)
        return True

    catalog.db.write(prepare, landed=lambda _connection: None)
    total = sum(map(len, listed))
    applied = 0
    with (
        progress.task("journal", files=total) as task,
        ThreadPoolExecutor(_READERS, thread_name_prefix="dataset-tasks-journal") as pool,
    ):
        for some in _batches(merge(*listed, key=lambda each: _number(each[0]))):
            read = list(pool.map(lambda each: _read(*each), some))
            problems += [each for each in read if isinstance(each, str)]
            batch = [each for each in read if isinstance(each, Journaled)]

            def work(connection: Connection, batch: Sequence[Journaled] = batch) -> Replay:
                lock(connection)
                done = Replay(connection)
                done.apply(batch)
                return done

            done = catalog.db.write(work, landed=lambda _connection: None)
            failpoint("rebuild.after_batch")
            applied += done.applied
            problems += done.problems
            task.advance(files=len(some))
    return total, applied


def _keys(journal: Journal) -> list[str]:
    return [key for key, _ in journal.store.list(f"{journal.catalog_id}/journal/")]


def _number(key: str) -> int:
    """The sequence number in the key of a journal object; 0 for what is none."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdigit() else 0


def _read(key: str, journal: Journal) -> Journaled | str:
    """An event, or in words why there is none."""
    try:
        held = json.loads(journal.store.get(key))
        if held["layout"] != 1:
            return f"{key} in {journal.url} has layout {held['layout']}, which this release does not know"
        event = Event(
            sequence=held["sequence"],
            kind=held["kind"],
            version_id=held["version_id"],
            created=from_micros(held["created"]),
            payload=held["payload"],
        )
    except (ValueError, KeyError, TypeError, ObjectMissingError) as error:
        return f"{key} in {journal.url} can't be read: {error!r}"
    if event.sequence != _number(key):
        return f"{key} in {journal.url} holds event {event.sequence}"
    return Journaled(event=event, store_id=journal.store_id)


# --- objects ---------------------------------------------------------------------------------------------------------


def _registered(catalog: Catalog, objects: Objects, problems: list[str], progress: Progress, moment: int) -> int:
    """Makes the rows of all objects that versions refer to, by their indexes; how many versions were looked at."""

    def mark(connection: Connection) -> bool:
        lock(connection)
        replay.purge_the_empty(connection)
        return True

    catalog.db.write(mark, landed=lambda _connection: None)
    waiting = catalog.db.read(replay.without_objects)
    done = 0
    with (
        progress.task("objects", files=len(waiting)) as task,
        ThreadPoolExecutor(_READERS, thread_name_prefix="dataset-tasks-index") as pool,
    ):
        for some in _batches(waiting):
            found = list(pool.map(lambda each: _references(objects, each), some))

            def work(connection: Connection, found: Sequence[_References] = found) -> bool:
                lock(connection)
                for each in found:
                    if each.is_purged:
                        replay.purge(connection, each.version_id)
                    replay.put_objects(connection, each.version_id, each.refs, kind_of=kind_of, created=moment)
                return True

            catalog.db.write(work, landed=lambda _connection: None)
            failpoint("rebuild.after_objects")
            problems += [each.problem for each in found if each.problem]
            done += sum(len(each.refs) for each in found)
            task.advance(files=len(some))
    return done


@dataclass(frozen=True, slots=True)
class _References:
    version_id: str
    refs: tuple[ObjectRef, ...] = ()
    is_purged: bool = False
    problem: str = ""


def _references(objects: Objects, row: tuple[str, str, str]) -> _References:
    """What a version refers to. A tombstone of which a part is gone has been purged."""
    from dataset_tasks.manifest import Index  # pulls in pyarrow

    version_id, state, text = row
    ref = load_object(text)
    assert ref is not None
    try:
        refs = (*Index.from_bytes(objects.read(ref), ref.key).objects.values(), ref)
        for store_id in {each.store_id for each in refs}:
            objects.store(store_id)  # one that was not given may be given the next time
        if state == State.DELETED:
            for each in refs:
                objects.check_size(each)
    except (IntegrityError, NotFoundError) as error:
        if state == State.DELETED and isinstance(error, IntegrityError):
            return _References(version_id, is_purged=True)
        return _References(version_id, problem=f"version {version_id}: {_message(error)}")
    return _References(version_id, refs)


def _message(error: DatasetError) -> str:
    return error.message


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
