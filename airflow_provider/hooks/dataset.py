"""`DatasetHook`: from an Airflow connection, or the environment, to a `Session`."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit, urlunsplit

from airflow.sdk import BaseHook

from airflow_provider.compat import AirflowNotFoundException
from dataset_tasks.errors import DatasetError, InvalidArgumentError
from dataset_tasks.settings import CATALOG_URL, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from dataset_tasks.session import Session

DEFAULT_CONN_ID = "dataset_tasks_default"
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which catalog, store and cache a session uses; None takes the core's default."""

    catalog_url: str | None = None
    store_url: str | None = None
    cache_dir: str | None = None
    home: str | None = None
    embedded: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, asked: str) -> Place:
        """What `DATASET_TASKS_*` says, for a worker that has no connection of the name `asked`.

        Raises:
            InvalidArgumentError: No catalog is named, and nothing says that an embedded one is meant.
        """
        return cls._checked(
            catalog_url=environ.get("DATASET_TASKS_CATALOG_URL"),
            store_url=environ.get("DATASET_TASKS_STORE_URL"),
            cache_dir=environ.get("DATASET_TASKS_CACHE_DIR"),
            home=environ.get("DATASET_TASKS_HOME"),
            kind=environ.get("DATASET_TASKS_CATALOG"),
            where=f"There is no connection {asked!r}, and DATASET_TASKS_CATALOG_URL is not set",
        )

    @classmethod
    def from_connection(cls, connection: Connection) -> Place:
        """What an Airflow connection of type `dataset_tasks` says.

        Raises:
            InvalidArgumentError: As `from_environment`; or the connection is of another type.
        """
        if connection.conn_type != DatasetHook.conn_type:
            raise InvalidArgumentError(
                f"connection {connection.conn_id!r} is of type {connection.conn_type!r}, expected "
                f"{DatasetHook.conn_type!r}",
                hint="Choose the type `Dataset catalog` in the connection form.",
            )
        extra = connection.extra_dejson
        return cls._checked(
            catalog_url=_with_login(_text(extra, "catalog_url"), connection.login, connection.password),
            store_url=_text(extra, "store_url"),
            cache_dir=_text(extra, "cache_dir"),
            home=_text(extra, "home"),
            kind=_text(extra, "catalog"),
            where=f"Connection {connection.conn_id!r} has no catalog URL",
        )

    @classmethod
    def _checked(
        cls,
        *,
        catalog_url: str | None,
        store_url: str | None,
        cache_dir: str | None,
        home: str | None,
        kind: str | None,
        where: str,
    ) -> Place:
        if kind not in (None, "", EMBEDDED, "server"):
            raise InvalidArgumentError(f"catalog {kind!r} is none of 'server' and {EMBEDDED!r}")
        if catalog_url and kind == EMBEDDED:
            raise InvalidArgumentError(
                "both a catalog URL and `catalog: embedded` are given", hint="Leave one of them out."
            )
        if not catalog_url and kind != EMBEDDED:
            raise InvalidArgumentError(
                f"{where}: a catalog of its own in each worker's home would split versions in silence, so none is made",
                hint="Give the URL of the catalog all workers share (connection field `Catalog URL`, or "
                "DATASET_TASKS_CATALOG_URL); or, where all tasks run on one machine, say `catalog: embedded` in the "
                "connection, or DATASET_TASKS_CATALOG=embedded.",
            )
        return cls(
            catalog_url=catalog_url or None,
            store_url=store_url or None,
            cache_dir=cache_dir or None,
            home=home or None,
            embedded=kind == EMBEDDED,
        )

    def settings(self) -> Settings:
        """The place with what it leaves open taken from the environment as it is now.

        An embedded catalog is the home folder's, whatever URL the environment names.
        """
        environ = {name: value for name, value in os.environ.items() if name != CATALOG_URL or not self.embedded}
        return Settings.from_env(
            home=self.home,
            catalog_url=self.catalog_url,
            store_url=self.store_url,
            cache_dir=self.cache_dir,
            environ=environ,
        )


class DatasetHook(BaseHook):
    """Gives operators and tasks a `Session` on the catalog that a connection names.

    Args:
        conn_id: Airflow connection of type `dataset_tasks`. Where the default one does not exist, the environment
            (`DATASET_TASKS_CATALOG_URL` and so on) is used.

    >>> DatasetHook().conn_id
    'dataset_tasks_default'
    """

    conn_name_attr = "conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "dataset_tasks"
    hook_name = "Dataset catalog"

    _sessions: ClassVar[dict[tuple[int, Settings], Session]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.conn_id = conn_id

    def place(self) -> Place:
        """Where the catalog, store and cache are.

        Raises:
            AirflowNotFoundException: The connection was named, and does not exist.
            InvalidArgumentError: See `Place`.
        """
        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            if self.conn_id != DEFAULT_CONN_ID:
                raise
            return Place.from_environment(os.environ, asked=self.conn_id)
        return Place.from_connection(connection)

    def get_session(self) -> Session:
        """The session of this process for the connection: opened once, and anew in a forked child.

        Raises:
            AirflowNotFoundException, InvalidArgumentError: As `place`.
            CatalogError, StorageError: The catalog or the store can't be opened.
        """
        from airflow_provider.stores import install
        from dataset_tasks.session import Session  # not at parse: it loads SQLAlchemy and pyarrow

        settings = self.place().settings()
        slot = (os.getpid(), settings)
        with self._lock:
            if slot not in self._sessions:
                install()
                self._sessions[slot] = Session(settings)
            return self._sessions[slot]

    def get_conn(self) -> Session:
        """The same as `get_session`: the name Airflow's hooks have for it."""
        return self.get_session()

    def test_connection(self) -> tuple[bool, str]:
        """Opens the catalog and says which one it is: the `Test` button of the connection form."""
        try:
            session = self.get_session()
            return True, f"Connected to catalog {session.catalog.id}"
        except (DatasetError, AirflowNotFoundException) as error:
            return False, str(error)


def _text(extra: Mapping[str, object], key: str) -> str | None:
    value = extra.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError(f"connection field {key!r}: expected text, found {type(value).__name__}")
    return value or None


def _with_login(url: str | None, login: str | None, password: str | None) -> str | None:
    """The URL with the connection's user and password in it, so that the stored URL can do without."""
    if not url or not login:
        return url
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return url
    secret = f":{quote(password, safe='')}" if password else ""
    return urlunsplit(parts._replace(netloc=f"{quote(login, safe='')}{secret}@{parts.netloc}"))
