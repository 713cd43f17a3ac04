"""What a dataset's last good version has stored already: files with the same path and content need not be stored again.

A dataset that is made anew by a transform each time is no child of its last version, yet most of its files are often the
same. Their entries then refer to the chunks of that version; whoever collects garbage sees both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from dataset_tasks.kernels import pc
from dataset_tasks.manifest import PLACEMENT_SCHEMA, Manifest, PathRange
from dataset_tasks.manifest.columns import bounds_of, flat
from dataset_tasks.manifest.reading import cut
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.ops.context import Context
from dataset_tasks.stash import Stash

_CONTENT = ("path", "hash")
_COLUMNS = (*_CONTENT, "chunk", "offset", "stored", "method")


class StoredBefore:
    """Finds places of pending files in chunks of the last good version, in the same store.

    Args:
        context: Of the upload.
        version: The draft.
        store_id: Where the draft's bytes go.

    Attributes:
        chunks: What was found refers to these, by key.
    """

    def __init__(self, context: Context, version: Version, store_id: str) -> None:
        self.chunks: dict[str, ObjectRef] = {}
        self._there: dict[str, ObjectRef] | None = None
        self._catalog = context.session.catalog
        self._store_id = store_id
        last = self._catalog.previous(version.project, version.name, version.partition)
        self._manifest = context.session.manifest(last) if last is not None else Manifest.empty()

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be found."""
        return not self._manifest.index.chunks

    def find(self, batch: pa.Table) -> pa.Table | None:
        """Placements of those of some pending entries (path, hash; sorted by path) that are stored; None for none.

        Raises:
            IntegrityError: The manifest can't be read.
        """
        if self.is_empty or not len(batch):
            return None
        paths = flat(batch["path"])
        within = PathRange(paths[0].as_py(), paths[len(paths) - 1].as_py() + b"\0")
        # In a chain of versions next to nothing is found: the rest of a segment, and the catalog, wait until something is.
        if not len(pc.drop_null(_rows(self._manifest.to_table(_CONTENT, within=within), batch))):
            return None
        table = _found(self._manifest.to_table(_COLUMNS, within=within), batch, self._standing())
        for key in pc.unique(flat(table["chunk"])).to_pylist():
            self.chunks[key] = self._standing()[key]
        return table if len(table) else None

    def _standing(self) -> dict[str, ObjectRef]:
        """The chunks of the last version that may be shared."""
        if self._there is None:
            objects = self._manifest.index.objects
            standing = sorted(self._catalog.standing(self._manifest.index.chunks))
            self._there = {key: objects[key] for key in standing if objects[key].store_id == self._store_id}
        return self._there


def _rows(there: pa.Table, batch: pa.Table) -> pa.Array:
    """For each of some entries the row of a table that has its path and content, null for none."""
    at = pc.index_in(flat(batch["path"]), value_set=flat(there["path"]))
    same = pc.equal(flat(there["hash"]).take(at), flat(batch["hash"]))
    return pc.if_else(same, at, pa.nulls(len(at), at.type))


def _found(there: pa.Table, batch: pa.Table, chunks: dict[str, ObjectRef]) -> pa.Table:
    hits = there.take(pc.drop_null(_rows(there, batch)))
    keys = flat(hits["chunk"]).to_pylist()
    if not all(key in chunks for key in keys):
        mask = pa.Array.from_buffers(pa.bool_(), len(keys), [None, _bits([key in chunks for key in keys])])
        hits = hits.filter(mask)
    return hits.select(PLACEMENT_SCHEMA.names)


def _bits(flags: list[bool]) -> pa.Buffer:
    packed = sum(1 << position for position, flag in enumerate(flags) if flag)
    return pa.py_buffer(packed.to_bytes(-(-len(flags) // 8) or 1, "little"))


class Placed:
    """Placements of many files: tables sorted by path in themselves, in any order; most of them not in memory."""

    def __init__(self) -> None:
        self._tables = Stash()
        self._bounds: list[tuple[bytes, bytes]] = []

    def __len__(self) -> int:
        return len(self._bounds)

    def add(self, table: pa.Table) -> None:
        """Takes a table that has rows."""
        self._tables.append(table)
        self._bounds.append(bounds_of(table))

    def reaches(self, first: bytes, last: bytes) -> bool:
        """Whether a table may hold a path from `first` to `last`."""
        return any(start <= last and first <= end for start, end in self._bounds)

    def known(self, paths: pa.Array) -> pa.Array:
        """Which of some sorted paths have a place."""
        first, last = paths[0].as_py(), paths[len(paths) - 1].as_py()
        span = PathRange(first, last + b"\0")
        near = [
            flat(cut(self._tables[at], span)["path"])
            for at, (start, end) in enumerate(self._bounds)
            if start <= last and first <= end
        ]
        return pc.is_in(paths, value_set=flat(pa.chunked_array(near, type=pa.binary())))

    def in_order(self) -> Iterator[pa.Table]:
        """All rows sorted by path; tables that lie apart are given as they are."""
        group: list[pa.Table] = []
        end = b""
        for start, stop, at in sorted((*bounds, at) for at, bounds in enumerate(self._bounds)):
            if group and start > end:
                yield _joined(group)
                group = []
            group.append(self._tables[at])
            end = max(end, stop)
        if group:
            yield _joined(group)


def _joined(group: list[pa.Table]) -> pa.Table:
    if len(group) == 1:
        return group[0]
    both = pa.concat_tables([table.cast(PLACEMENT_SCHEMA) for table in group])
    return both.take(pc.sort_indices(flat(both["path"])))
