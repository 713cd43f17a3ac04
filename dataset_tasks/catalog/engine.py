"""Connections and units of work on SQLite and PostgreSQL: the one place that knows their weaknesses.

A unit of work is a function of a connection. It may run more than once (a serialization failure, a lost connection
before COMMIT), so it must have no effect but on the connection. An error from COMMIT itself is unknown until it has
been read back on a new connection.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dataset_tasks.errors import CatalogError, CatalogUnavailableError, InvalidArgumentError, OutcomeUnknownError
from dataset_tasks.failpoints import failpoint

T = TypeVar("T")

BUSY_SECONDS = 30.0
DEADLINE_SECONDS = 60.0
#: PostgreSQL: how long to wait for a row that somebody holds, and after how long the server ends an open transaction
#: in which nothing is done (a paused process: ours do nothing else in between).
LOCK_SECONDS, IDLE_SECONDS = 10.0, 30.0
#: Connections that a process keeps, and how many more it opens when its threads need them.
POOL, OVERFLOW = 4, 12
#: Where in the `-shm` file SQLite locks what lets one process write (WAL-index, lock 0).
_WRITERS_BYTE = 120
#: What SQLite needs on the disk even to read, beside its file.
_SHM_BYTES = 64 << 10
_NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "lustre",
    "ceph",
    "glusterfs",
    "afs",
}
_RETRY_STATES = {
    "40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006", "08001", "53300",
}  # fmt: skip
#: How a server that is down, restarting or full says so, before there is a connection that could carry a state.
_AWAY = (
    "connection refused", "could not connect", "server closed", "starting up", "shutting down", "recovery mode",
    "not yet accepting", "connection is bad", "connection reset", "connection timeout", "timeout expired",
    "too many clients", "remaining connection slots", "too many connections", "no such file or directory",
    "terminating connection", "ssl connection has been closed", "broken pipe",
)  # fmt: skip


class Database:
    """A pool of connections to one catalog database; safe to share between threads, remade after a fork."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._file = Path(self.url.database or "").absolute() if self.is_sqlite else None
        self._identity: tuple[int, int] | None = None
        if self._file is not None:
            event.listen(self._engine, "connect", self._on_connect)

    def _on_connect(self, _connection: object, _record: object) -> None:
        if self._identity is None:
            self._identity = self._found()
        self._check_place()

    @property
    def is_replaced(self) -> bool:
        """Whether another SQLite file lies where this one was, such as one put back from a copy."""
        return self._identity is not None and self._found() not in (None, self._identity)

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._file or "")
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _check_place(self) -> None:
        """Refuses to go on with an SQLite file that nobody else can see any more: what is written there is lost.

        Raises:
            CatalogError: Of kind `lost_catalog`: it was removed, or another file was put in its place.
        """
        if self._identity is None or self._found() == self._identity:
            return
        is_replaced = self.is_replaced
        raise CatalogError(
            f"the catalog {self.shown} is not the file that this process opened: "
            + ("another one was put in its place" if is_replaced else "it was removed or moved"),
            kind="lost_catalog",
            hint="Run it again; what it was at is not in the file that is there now."
            if is_replaced
            else "Put the file back, or bring it back with `dataset-tasks catalog rebuild`; then start this process anew.",
        )

    @property
    def shown(self) -> str:
        """The URL without its password: what messages may say."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()

    def after_fork(self) -> None:
        """Drops the parent's connections without closing them; call in the child."""
        self._engine.dispose(close=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one consistent state."""
        self._check_place()
        try:
            with self._engine.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
        except (DBAPIError, PoolTimeout) as error:
            raise self._translated(error) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs a read-only unit of work, again when the connection was lost."""
        return self._retrying(lambda: self._read_once(work))

    def _read_once(self, work: Callable[[Connection], T]) -> T:
        self._check_place()
        with self._engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            result = work(connection)
            connection.rollback()
            return result

    def write(self, work: Callable[[Connection], T], *, landed: Callable[[Connection], T | None]) -> T:
        """Runs a unit of work in one transaction.

        Args:
            work: Does the changes and gives the result.
            landed: Reads, on a new connection, whether the work's commit took effect: its result, or None.

        Raises:
            CatalogUnavailableError: The database stayed locked or unreachable until the deadline; nothing changed.
            OutcomeUnknownError: COMMIT failed and the outcome could not be read back either.
        """
        return self._retrying(lambda: self._write_once(work, landed))

    def _write_once(self, work: Callable[[Connection], T], landed: Callable[[Connection], T | None]) -> T:
        self._check_place()
        with self._engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            failpoint("catalog.before_work")
            result = work(connection)
            try:
                failpoint("catalog.before_commit")
                connection.commit()
                failpoint("catalog.after_commit")
            except DBAPIError as error:
                connection.invalidate()
                found = self._settle(landed, error)
                if found is None and not _is_transient(error):
                    raise  # such as a full disk: the work done again would end alike
                if found is None:
                    raise _DidNotLandError(str(error.orig)) from error
                return found
            self._check_place()  # else it landed where nobody looks
            return result

    def _settle(self, landed: Callable[[Connection], T | None], error: DBAPIError) -> T | None:
        try:
            return self.read(landed)
        except CatalogUnavailableError as second:
            raise OutcomeUnknownError(
                f"the commit to {self.shown} failed ({error.orig}) and its outcome could not be read back",
                hint="Run the same call again with the same key: it finds out what happened.",
            ) from second

    def _retrying(self, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + DEADLINE_SECONDS
        pause = 0.05
        while True:
            try:
                return attempt()
            except _DidNotLandError:
                if time.monotonic() > deadline:
                    raise
            except UnicodeEncodeError as error:
                raise InvalidArgumentError(
                    f"{error.object!a} is not valid Unicode", hint="Write it in UTF-8."
                ) from error
            except (DBAPIError, PoolTimeout) as error:
                if not _is_transient(error) or time.monotonic() > deadline:
                    raise self._translated(error) from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, no secret
            pause = min(pause * 2, 2.0)

    def _translated(self, error: DBAPIError | PoolTimeout) -> CatalogError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if _is_transient(error):
            holder = self._holder()
            return CatalogUnavailableError(
                f"the catalog {self.shown} did not answer in time: {cause}{f'; {holder} holds it' if holder else ''}",
                hint="If that process hangs, end it; then try again."
                if holder
                else "Another process holds it, or it is restarting; try again.",
            )
        if self.is_sqlite and _is_out_of_space(str(cause), Path(self.url.database or "").parent):
            return CatalogError(
                f"the catalog {self.shown} can't be used: its disk is full ({cause})",
                kind="no_space",
                hint="Free space there, then run the same again. Nothing is lost: put no older copy in its place.",
            )
        return CatalogError(
            f"the catalog {self.shown} failed: {cause}",
            hint="Run `dataset-tasks catalog check`, or restore the file from a copy."
            if self.is_sqlite
            else "See the database server's log.",
        )

    def _holder(self) -> str:
        """Who keeps others from writing, as far as the system tells; empty when it does not."""
        if self.is_sqlite:
            return _holder_of_file(Path(self.url.database or ""))
        query = (
            "SELECT application_name || ' (backend ' || pid || ', since ' || xact_start || ')' FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction' "
            "ORDER BY xact_start LIMIT 1"
        )
        try:
            with self._engine.connect() as connection:
                return str(connection.exec_driver_sql(query).scalar() or "")
        except (DBAPIError, PoolTimeout):
            return ""


class _DidNotLandError(CatalogUnavailableError):
    """COMMIT failed and reading back showed that nothing changed: do the work again."""


def _is_transient(error: DBAPIError | PoolTimeout) -> bool:
    if isinstance(error, PoolTimeout) or error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in _RETRY_STATES
    text = str(error.orig)
    busy = "database is locked" in text or "database is busy" in text or "database table is locked" in text
    is_away = isinstance(error, OperationalError) and any(word in text.casefold() for word in _AWAY)
    return busy or (is_away and not isinstance(error.orig, sqlite3.Error))


def _is_out_of_space(told: str, folder: Path) -> bool:
    """Whether SQLite fails for want of space. Where it can't make the files beside its own it does not say so."""
    if "disk is full" in told:
        return True
    try:
        return "disk I/O error" in told and shutil.disk_usage(folder).free < _SHM_BYTES
    except OSError:
        return False


def _holder_of_file(place: Path, locks: Path = Path("/proc/locks")) -> str:
    """The process that holds the lock of SQLite's writers: a byte of the `-shm` file."""
    try:
        inode = place.with_name(f"{place.name}-shm").stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if len(words) == 8 and words[3] == "WRITE" and words[5].endswith(f":{inode}"):
            first, last = int(words[6]), sys.maxsize if words[7] == "EOF" else int(words[7])
            if first <= _WRITERS_BYTE <= last and int(words[4]) != os.getpid():
                return f"process {words[4]}"
    return ""


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except sa.exc.ArgumentError as error:
        raise InvalidArgumentError(
            "the catalog URL can't be read",
            hint="Write `sqlite:////absolute/path/catalog.db` or `postgresql+psycopg://user@host/database`.",
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidArgumentError(
            f"{backend} can't hold a catalog", hint="Use SQLite for one machine, PostgreSQL for several."
        )
    if not url.database or url.database == ":memory:":
        raise InvalidArgumentError(
            "an in-memory SQLite catalog would be lost", hint="Name a file: `sqlite:////absolute/path/catalog.db`."
        )
    return url.set(database=unquote(url.database))


def has_password(url: str) -> bool:
    """Whether the URL holds a password: such a one must not be written down."""
    return _parsed(url).password is not None


def is_missing_file(url: str) -> bool:
    """Whether the URL names an SQLite file that is not there: connecting to it would make one."""
    file = file_of(url)
    return file is not None and not file.exists()


def file_of(url: str) -> Path | None:
    """The file of an SQLite catalog."""
    parsed = _parsed(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _sqlite_engine(url: URL) -> Engine:
    path = Path(url.database or "").absolute()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _refuse_network_file_system(path.parent)
    engine = sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=8,
        max_overflow=64,
        pool_timeout=BUSY_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # Any: the driver's own connection
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    # SQLAlchemy's AUTOCOMMIT would turn commit() and rollback() into nothing: the transaction here is our own BEGIN.
    event.listen(engine, "commit", lambda connection: connection.exec_driver_sql("COMMIT"))
    event.listen(engine, "rollback", _roll_back)
    return engine


def _roll_back(connection: Connection) -> None:
    if connection.invalidated:  # nothing is left to roll back, and asking for the driver's connection would raise
        return
    driver = connection.connection.driver_connection
    if driver is not None and driver.in_transaction:
        connection.exec_driver_sql("ROLLBACK")


def _postgres_engine(url: URL) -> Engine:
    limits = {
        "lock_timeout": LOCK_SECONDS,
        "statement_timeout": DEADLINE_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=BUSY_SECONDS,
        isolation_level="READ COMMITTED",
        connect_args={
            "options": " ".join(f"-c {name}={max(int(seconds * 1000), 1)}" for name, seconds in limits.items()),
            "connect_timeout": 10,
            "application_name": f"dataset-tasks {platform.node()[:32]}:{os.getpid()}",
        },
    )


def _refuse_network_file_system(folder: Path) -> None:
    kind = _file_system_of(folder)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise CatalogError(
            f"{folder} is on {kind}: SQLite can't be trusted on a network file system",
            hint="Keep the catalog on a local disk, or use PostgreSQL for several machines.",
        )


def _file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `folder`, by the longest mount point; empty where it can't be told."""
    if not mounts.exists():
        return ""
    best, kind = "", ""
    target = f"{folder.resolve()}/"
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        _device, point, this_kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if target.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, this_kind
    return kind
