"""What the objects below a URL hashed to when they were last read: who lists them again with the same pins need not read.

One object in the store for each place that was imported, under `remembered/` and the quarter of a year in which it was used.
A cache and nothing more: it may go at any time, and one that is missing or damaged costs a reading; what no import used in
this quarter nor the one before is garbage. Every page of it carries a checksum, for a flipped bit in a hash would be believed.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.errors import ObjectMissingError
from dataset_tasks.external import Found
from dataset_tasks.manifest.columns import binaries
from dataset_tasks.objects import Objects
from dataset_tasks.stash import Stash

_STAMP = 16
SCHEMA = pa.schema(
    [
        pa.field("name", pa.binary(), nullable=False),
        pa.field("stamp", pa.binary(_STAMP), nullable=False),
        pa.field("hash", pa.binary(32), nullable=False),
    ]
)
_ROWS = 4096
_TOP = "remembered/"
_QUARTER_DAYS = 91


def key_of(what: Mapping[str, object]) -> str:
    """What is remembered of an import is kept under this name: `what` is all that says which objects it takes."""
    text = json.dumps(what, sort_keys=True)
    return f"{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:32]}.parquet"


def forgotten(objects: Objects, store_id: str, now: datetime) -> Iterator[tuple[str, int]]:
    """Keys and sizes (bytes) of what a store remembers, and no import has used for a quarter of a year or longer."""
    top = objects.full_key("")
    for key, size in objects.store(store_id).list(f"{top}{_TOP}"):
        quarter = key.removeprefix(f"{top}{_TOP}").partition("/")[0]
        if not quarter.isdecimal() or int(quarter) < _quarter(now) - 1:
            yield key.removeprefix(top), size


def _quarter(now: datetime) -> int:
    return int(now.timestamp()) // (86_400 * _QUARTER_DAYS)


class Remembered:
    """Hashes by name, size and pin. Asked and told in the order of the names, in batches; for one import at a time.

    Args:
        objects: Of the session.
        store_id: The store that keeps it.
        name: From `key_of`.
        now: When it is used.
    """

    def __init__(self, objects: Objects, store_id: str, name: str, now: datetime) -> None:
        self._objects, self._store_id = objects, store_id
        quarter = _quarter(now)
        self._key, self._before = (f"{_TOP}{each}/{name}" for each in (quarter, quarter - 1))
        self._is_old = False
        self._old = self._groups()
        self._near: dict[bytes, tuple[bytes, bytes]] = {}
        self._last = b""
        self._new = Stash()
        self._old_rows = self._kept_rows = self._new_rows = 0

    def known(self, found: Sequence[Found]) -> list[bytes]:
        """The hash of each file where it is known, else nothing; names are sorted, and come after all asked before."""
        first, last = found[0].path, found[-1].path
        self._near = {name: held for name, held in self._near.items() if name >= first}
        while self._last <= last and (group := next(self._old, None)) is not None:
            columns = (group[name].to_pylist() for name in SCHEMA.names)
            self._near.update({name: (stamp, digest) for name, stamp, digest in zip(*columns, strict=True)})
            self._last = group["name"][len(group) - 1].as_py()
            self._old_rows += len(group)
        hashes = []
        for each in found:
            stamp, digest = self._near.get(each.path, (b"", b""))
            hashes.append(digest if stamp == _stamp(each) else b"")
        return hashes

    def learn(self, found: Sequence[Found], hashes: Sequence[bytes], *, new: int) -> None:
        """Takes what these files hash to, in the order of their names; `new` of them were not known."""
        if found:
            columns = [binaries([each.path for each in found]), _fixed(map(_stamp, found), _STAMP), _fixed(hashes, 32)]
            self._new.append(pa.Table.from_arrays(columns, schema=SCHEMA))
            self._kept_rows += len(found)
            self._new_rows += new

    def save(self, *, whole: bool) -> None:
        """Writes what is known now, where that is more or less than before, or was written a quarter ago.

        Args:
            whole: Whether every file was told; else what was known of those that were not stays.

        Raises:
            StorageError: The store refused or did not answer.
        """
        is_same = self._kept_rows == self._old_rows and next(self._old, None) is None
        if not self._new_rows and (not whole or (is_same and not self._is_old)):
            return
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(
            sink,
            SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            column_encoding={"name": "DELTA_BYTE_ARRAY", "stamp": "PLAIN", "hash": "PLAIN"},
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            told = b""
            for table in self._new:
                writer.write_table(table, row_group_size=_ROWS)
                told = table["name"][len(table) - 1].as_py()
            for table in () if whole else self._groups():
                names = table["name"].to_pylist()
                if names[-1] > told:
                    writer.write_table(table.slice(bisect_right(names, told)), row_group_size=_ROWS)
        self._objects.put_cached(self._store_id, self._key, memoryview(sink.getvalue()))
        self._new_rows = 0

    def _groups(self) -> Iterator[pa.Table]:
        try:
            file = pq.ParquetFile(pa.BufferReader(self._kept()), page_checksum_verification=True)
            if file.schema_arrow.names != SCHEMA.names:
                return
            for group in range(file.metadata.num_row_groups):
                yield file.read_row_group(group, use_threads=False).cast(SCHEMA)
        except (ObjectMissingError, pa.ArrowException, OSError):  # nothing was kept, or what was is no use
            return

    def _kept(self) -> bytes:
        try:
            return self._objects.get_cached(self._store_id, self._key)
        except ObjectMissingError:
            data = self._objects.get_cached(self._store_id, self._before)
            self._is_old = True
            return data


def _stamp(found: Found) -> bytes:
    return hashlib.sha256(f"{found.size} {found.pin}".encode()).digest()[:_STAMP]


def _fixed(values: Sequence[bytes] | Iterator[bytes], width: int) -> pa.Array:
    data = b"".join(values)
    return pa.Array.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(data)])
