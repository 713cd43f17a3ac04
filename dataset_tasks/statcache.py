"""What files hashed to when they were last read, so that an unchanged file costs a stat and not a read.

A cache and nothing more: it may be deleted at any time, several processes may use one, and whatever goes wrong with it
(locked, full, damaged, from another release) costs a hash and never an error.

A row says: this name, in this folder, with this device, inode, size, mtime and ctime, has this SHA-256. All of them
must be equal, and a row is only kept when the file was last touched a minute before its reading began: a file that
changes twice in a short time may keep its times, and would keep its old hash with them (git calls such entries racy).
On a disk that is one tick of the file system's clock for plain writes. A page that is written through a memory map, as
`numpy.memmap` does, tells of its first write only, and of the next one not before the kernel has written it back: after
`dirty_expire_centisecs` and `dirty_writeback_centisecs` of Linux, 35 seconds where nobody changed them. Nor is a row
kept of a file in memory (tmpfs): nothing is written back there, so a map changes it without a trace for good. Rows carry
a checksum, because a flipped bit in a hash would be believed for ever.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

_log = logging.getLogger(__name__)

#: How much older than its reading a file must be (nanoseconds): above what Linux takes to write a page back, and above the
#: coarsest clock of a file system in use (FAT: 2 s).
RACY_NS = 60_000_000_000

#: File systems on which writing to mapped memory leaves a file's times as they were.
FORGETFUL = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})

_MOUNTS = Path("/proc/self/mountinfo")
_SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE folders(id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, day INTEGER NOT NULL)",
    """CREATE TABLE files(folder INTEGER NOT NULL, name BLOB NOT NULL, entry BLOB NOT NULL,
                          PRIMARY KEY(folder, name)) WITHOUT ROWID""",
    "CREATE TABLE state(pruned INTEGER NOT NULL)",  # one row: the day
    "INSERT INTO state VALUES(0)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_STAMP = struct.Struct("<QQQqq")  # device, inode, size, mtime_ns, ctime_ns
_SHA256 = slice(_STAMP.size, _STAMP.size + 32)
_LENGTH = _STAMP.size + 36  # with the CRC of what stands before it
_CRC_OF_SOUND = 0x2144DF1C  # of anything that ends in its own CRC
_EARLIEST = -(1 << 63)
_DAY_NS = 86_400 * 10**9
_BUSY_SECONDS = 5.0
_ROWS_AT_ONCE = 8192
_IN_USE_ELSEWHERE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: tables are not ours


class _Damaged(Exception):  # noqa: N818 - never leaves this module
    """The file is no stat cache of this release."""


class StatCache:
    """The cache in one folder; a context manager, for one scan at a time.

    Args:
        folder: Where the file lies; made when it is missing. It must be on a local disk.
        clock: The time now, in nanoseconds since 1970.
        max_bytes: Above this size the folders not seen for longest are forgotten.
        max_days: Folders not seen for so long are forgotten.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        clock: Callable[[], int] = time.time_ns,
        max_bytes: int = 1 << 30,
        max_days: int = 90,
    ) -> None:
        self.path = Path(folder) / "stat-cache.sqlite"
        self._clock = clock
        self._max_bytes, self._max_days = max_bytes, max_days
        self._seen: list[int] = []
        self._new: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
        self._new_rows = 0
        self._forgetful = _forgetful_devices()
        self._db: sqlite3.Connection | None = None
        self._lock = -1
        with self._harmless():
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_on(self) -> bool:
        """Whether the file could be used so far."""
        return self._db is not None

    def now(self) -> int:
        """The moment to give to `record` as `began`: ask before the file is opened."""
        return self._clock()

    def known(self, folder: bytes, names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """What was recorded of some files of a folder, for `trusted`.

        Args:
            folder: Absolute path of the folder.
            names: Names in it, sorted.

        Returns:
            Opaque entries by name; more names than were asked for may be among them.
        """
        with self._harmless():
            if self._db is not None and names:
                found = self._db.execute("SELECT id, day FROM folders WHERE path = ?", (folder,)).fetchone()
                if found is not None:
                    number, day = found
                    if day != self._today() and self._seen[-1:] != [number]:
                        self._seen.append(number)
                    query = "SELECT name, entry FROM files WHERE folder = ? AND name BETWEEN ? AND ?"
                    return dict(self._db.execute(query, (number, names[0], names[-1])).fetchall())
        return {}

    def record(self, folder: bytes, files: Iterable[tuple[bytes, os.stat_result, bytes]], began: int) -> None:
        """Remembers hashes; rows that can't be trusted later are left out.

        Args:
            folder: Absolute path of the folder.
            files: Name, stat taken from the open file before it was read, SHA-256 (32 bytes).
            began: What `now` said before the first of them was opened.
        """
        if self._db is None:
            return
        limit = min(began - RACY_NS, 1 << 63)
        rows = [
            (name, _entry(stat, sha256))
            for name, stat, sha256 in files
            if _EARLIEST < stat.st_mtime_ns < limit
            and _EARLIEST < stat.st_ctime_ns < limit
            and stat.st_dev not in self._forgetful
        ]
        if rows:
            self._new.append((folder, rows))
            self._new_rows += len(rows)
        if self._new_rows + len(self._seen) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes what was recorded and which folders were seen; what can't be written is forgotten."""
        new, self._new, self._new_rows = self._new, [], 0
        seen, self._seen = self._seen, []
        if not new and not seen:
            return
        with self._harmless(), self._transaction() as db:
            day = self._today()
            db.executemany("UPDATE folders SET day = ? WHERE id = ?", [(day, number) for number in seen])
            for folder, rows in new:
                (number,) = db.execute(
                    "INSERT INTO folders(path, day) VALUES(?, ?) "
                    "ON CONFLICT(path) DO UPDATE SET day = excluded.day RETURNING id",
                    (folder, day),
                ).fetchone()
                db.executemany(
                    "INSERT OR REPLACE INTO files(folder, name, entry) VALUES(?, ?, ?)",
                    [(number, name, entry) for name, entry in rows],
                )

    def prune(self) -> None:
        """Forgets folders that were not seen for `max_days`, and the oldest while the file is above `max_bytes`."""
        with self._harmless(), self._transaction() as db:
            db.execute("UPDATE state SET pruned = ?", (self._today(),))
            _forget(db, "SELECT id FROM folders WHERE day < ?", (self._today() - self._max_days,))
            while _used_bytes(db) > self._max_bytes:
                # Half of the folders at a time, if need be down to none: a single one can be too large.
                (folders,) = db.execute("SELECT (count(*) + 1) / 2 FROM folders").fetchone()
                if not folders:
                    break
                _forget(db, "SELECT id FROM folders ORDER BY day, id LIMIT ?", (folders,))
        with self._harmless():
            if self._db is not None:
                self._db.executescript("PRAGMA incremental_vacuum")  # `execute` would stop after one page

    def close(self) -> None:
        """Writes what is left, prunes once a day or when the file is too large, and lets go of it."""
        self.flush()
        with self._harmless():
            if self._db is not None:
                (pruned,) = self._db.execute("SELECT pruned FROM state").fetchone()
                if pruned != self._today() or _used_bytes(self._db) > self._max_bytes:
                    self.prune()
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _today(self) -> int:
        return self._clock() // _DAY_NS

    # --- the file ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Shared while the file is in use; who wants to throw it away must hold it alone.
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._db = self._connect()
        except _Damaged:
            self._start_afresh()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody else was faster
                    for statement in _SCHEMA:
                        db.execute(statement)
                db.execute("COMMIT")
            if db.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
                raise _Damaged(f"{self.path} was made by another release")
        except sqlite3.Error as error:
            db.close()
            if _code(error) in _BROKEN:
                raise _Damaged(str(error)) from error
            raise
        except _Damaged:
            db.close()
            raise
        return db

    def _start_afresh(self) -> None:
        """Replaces the file by an empty one, unless another process has it open: then this run does without."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._seen.clear()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.debug("%s is damaged and in use: not used in this run", self.path)
            return
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._db = self._connect()
        except _Damaged:
            _log.debug("%s can't be made anew: not used in this run", self.path)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._db is None:
            raise _Off
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            raise

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """What goes wrong inside costs the cache, at most for this run, and nothing else."""
        try:
            yield
        except _Off:
            pass
        except sqlite3.Error as error:
            _log.debug("%s: %s", self.path, error)
            if _code(error) in _BROKEN:
                self._replace()
            elif _code(error) not in _IN_USE_ELSEWHERE and self._db is not None:
                self._db.close()
                self._db = None
        except OSError as error:
            _log.debug("%s: %s", self.path, error)

    def _replace(self) -> None:
        try:
            self._start_afresh()
        except (OSError, sqlite3.Error) as error:
            _log.debug("%s: %s", self.path, error)


class _Off(Exception):  # noqa: N818 - never leaves this module
    """There is no file to write to."""


def trusted(entry: bytes, stat: os.stat_result) -> bytes | None:
    """The SHA-256 (32 bytes) of a file, when what is known of it was recorded for exactly this state.

    Args:
        entry: From `StatCache.known`.
        stat: How the file is now.
    """
    try:
        stamp = _stamp(stat)
    except struct.error:  # some date that 64 bits of nanoseconds can't hold
        return None
    if entry.startswith(stamp) and len(entry) == _LENGTH and zlib.crc32(entry) == _CRC_OF_SOUND:
        return entry[_SHA256]
    return None


def _forgetful_devices() -> frozenset[int]:
    """The devices of what is mounted here and keeps files in memory; none where the system does not tell."""
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in mounts:
        fields, _, kind = line.partition(b" - ")
        if kind.partition(b" ")[0].decode(errors="replace") in FORGETFUL:
            major, _, minor = fields.split(b" ")[2].partition(b":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _stamp(stat: os.stat_result) -> bytes:
    return _STAMP.pack(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _entry(stat: os.stat_result, sha256: bytes) -> bytes:
    body = _stamp(stat) + sha256
    return body + zlib.crc32(body).to_bytes(4, "little")


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _forget(db: sqlite3.Connection, query: str, values: tuple[int, ...]) -> None:
    ids = db.execute(query, values).fetchall()
    db.executemany("DELETE FROM files WHERE folder = ?", ids)
    db.executemany("DELETE FROM folders WHERE id = ?", ids)
