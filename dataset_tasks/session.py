"""The session: catalog, stores, cache and clock, configured once. The only object here that has state."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dataset_tasks import journal
from dataset_tasks.beginning import refuse_to_begin_again
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import Clock, Record
from dataset_tasks.errors import ConflictError
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.objects import Objects, Ranges
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.settings import Settings
from dataset_tasks.store import is_url
from dataset_tasks.store.opened import Opener, OpenStores

if TYPE_CHECKING:
    from dataset_tasks.cache import Cache
    from dataset_tasks.manifest import Manifest
    from dataset_tasks.ops.requests import Request, Result
_TRIES = 12


def utc_now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def place_of(store: str) -> str:
    """The URL or absolute folder of a store as catalogs write it down."""
    place = store if is_url(store) else str(Path(os.path.expanduser(store)).absolute())
    return place.rstrip("/") or "/"


class Session:
    """One catalog with its stores and cache. Threads may share it; a forked child gets connections of its own.

    Args:
        settings: Where everything is.
        clock: Gives the present moment in UTC.
        open_stores: Opens the store at a URL; default `store.open_store`, with the connections of this home.
        create: Whether a catalog may be made where there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = utc_now,
        open_stores: Opener | None = None,
        create: bool = True,
    ) -> None:
        self.settings = settings
        self.clock = clock
        #: Gives the store at a URL, kept open.
        self.stores = OpenStores(home=settings.home, open_url=open_stores)
        self._open_stores = open_stores
        self._create = create
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._catalog: Catalog | None = None
        self._objects: Objects | None = None
        self._cache: Cache | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection; what was committed stays."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
            self._catalog = self._objects = self._cache = None

    @property
    def is_plain(self) -> bool:
        """Whether the settings say all of it, so that a like session can be opened elsewhere."""
        return self.clock is utc_now and self._open_stores is None

    @property
    def catalog(self) -> Catalog:
        """The catalog, opened on first use.

        Raises:
            CatalogError: It can't be used.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._after_fork()
            if self._catalog is not None and self._catalog.db.is_replaced:  # such as by a copy that was put back
                self._catalog.close()
                self._catalog = self._objects = None
            if self._catalog is None:
                if self._create:
                    refuse_to_begin_again(self.settings)
                self._catalog = Catalog.open(
                    self.settings.catalog_url, self.clock, create=self._create, upgrade=self.settings.embedded
                )
            return self._catalog

    @property
    def objects(self) -> Objects:
        """The stored objects of the catalog."""
        with self._lock:
            catalog = self.catalog
            if self._objects is None:
                self._objects = Objects(catalog, self.stores, self.clock)
            return self._objects

    @property
    def cache(self) -> Cache:
        """The local cache of verified version trees."""
        from dataset_tasks.cache import Cache  # pulls in pyarrow: only for those who copy

        with self._lock:
            if self._cache is None:
                self._cache = Cache(self.settings.cache_dir)
            return self._cache

    def look_again(self) -> None:
        """Has looked up anew what may change while a session lives: where stores are, and what their connections say."""
        with self._lock:
            self.stores.look_again()
            if self._objects is not None:
                self._objects.look_again()

    def store_id(self, url: str | None = None) -> str:
        """The catalog's id of a store; without a URL the session's own.

        Raises:
            InvalidArgumentError: The URL holds credentials, or no store can be at it.
        """
        place = place_of(url or self.settings.store_url)
        self.stores(place)  # refuses what is no store, before anything is written down
        return self.catalog.store_id(place)

    def manifest(self, version: Version) -> Manifest:
        """The manifest of a version as it stands: opened without reading its entries."""
        from dataset_tasks.manifest import EMPTY, Manifest  # pulls in pyarrow

        return Manifest(self.objects.index(version.index) if version.index else EMPTY, self.objects.read)

    def chunk_opener(self, manifest: Manifest) -> Callable[[str], Ranges]:
        """Opens the chunks of a manifest by key, for ranged reads."""
        return lambda key: self.objects.ranges(manifest.index.objects[key])

    def change(self, version_id: str, values: Callable[[Version], Mapping[str, Any]]) -> Version:  # Any: per field
        """Changes what may change on a final version too, laid over what other writers did meanwhile.

        Args:
            version_id: Which version.
            values: Given the version as it stands, the new `tags`, `metadata` (by name), `description` or `quarantined`.
        """
        for left in reversed(range(_TRIES)):
            version = self.catalog.version(version_id)
            try:
                changed = self.catalog.change(version, self._record("change"), **values(version))
            except ConflictError:
                if not left:
                    raise
                continue
            self.flush_journal()
            return changed
        raise AssertionError("the last try returns or raises")

    def set_alias(self, version: Version, alias: str) -> Version:
        """Points an alias of the version's dataset at it."""
        changed = self.catalog.set_alias(version, alias, self._record("alias"))
        self.flush_journal()
        return changed

    def move_dataset(self, project: str, name: str, *, to_project: str, to_name: str) -> None:
        """Gives every version of a dataset another project and name; ids and aliases stay.

        Raises:
            AlreadyExistsError: The target name has versions already.
        """
        self.catalog.move_dataset(project, name, to_project=to_project, to_name=to_name)
        self.flush_journal()

    def _record(self, verb: str) -> Record:
        return Record(
            key=f"call/{secrets.token_hex(16)}", verb=verb, digest="", result=lambda version: {"id": version.id}
        )

    def beside(self, catalog_url: str, store_url: str | None = None) -> Session:
        """A session on another catalog, made where there is none, with the home, clock and connections of this one."""
        settings = replace(
            self.settings, catalog_url=catalog_url, store_url=store_url or self.settings.store_url, embedded=False
        )
        return Session(settings, clock=self.clock, open_stores=self._open_stores)

    def flush_journal(self, version_id: str | None = None) -> None:
        """Writes the journal objects of all events that have none yet; or of a version, and those left for a while.

        Raises:
            StorageError: A store refused or did not answer; the events wait for the next call.
        """
        journal.flush(self.catalog, self.objects, version_id=version_id, now=self.clock())

    def run(
        self,
        request: Request,
        *,
        key: str | None = None,
        origin: Mapping[str, JsonValue] | None = None,
        progress: Progress = SILENT,
        functions: Mapping[str, Callable[..., Any]] | None = None,  # Any: users' functions
    ) -> Result:
        """Runs one operation.

        Args:
            request: What to do.
            key: The operation's key, stable over retries; without one the call is a new operation.
            origin: Who asks (runner, run, step): kept with the version it makes.
            progress: Is told about long work.
            functions: Live callables for transforms and checks, by the text of their `call`.

        Raises:
            DatasetError: As the operation's module says.
        """
        from dataset_tasks.ops.run import run  # the operations import this module's types

        return run(self, request, key=key, origin=origin or {}, progress=progress, functions=functions or {})

    def _after_fork(self) -> None:
        if self._catalog is not None:
            self._catalog.db.after_fork()
        self._pid = os.getpid()


def open_session(
    *,
    home: str | Path | None = None,
    catalog_url: str | None = None,
    store_url: str | None = None,
    cache_dir: str | Path | None = None,
    create: bool = True,
) -> Session:
    """A session; what is not given comes from the environment, else lies below the home folder.

    Args:
        home: Folder of the embedded catalog, store and cache (`DATASET_TASKS_HOME`, default `~/.dataset_tasks`).
        catalog_url: `sqlite:////path/catalog.db` or `postgresql://user@host/database`.
        store_url: A folder, `file://`, `s3://`, `gs://` or `azure://` URL.
        cache_dir: Folder for local copies.
        create: Whether a catalog may be made where there is none.
    """
    settings = Settings.from_env(home=home, catalog_url=catalog_url, store_url=store_url, cache_dir=cache_dir)
    return Session(settings, create=create)
