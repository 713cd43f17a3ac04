"""What a dataset's last good version has stored already: files with the same path and content need not be stored again.

A dataset that is made anew by a transform each time is no child of its last version, yet most of its files are often the
same. Their entries then refer to the chunks of that version; whoever collects garbage sees both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dataset_tasks.manifest import PLACEMENT_SCHEMA, Manifest, PathRange
from dataset_tasks.manifest.columns import flat
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.ops.context import Context

_COLUMNS = ("path", "hash", "chunk", "offset", "stored", "method")


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
        self._there: dict[str, ObjectRef] = {}
        last = context.session.catalog.previous(version.project, version.name, version.partition)
        self._manifest = context.session.manifest(last) if last is not None else Manifest.empty()
        for key in self._manifest.index.chunks:
            ref = self._manifest.index.objects[key]
            if ref.store_id == store_id:
                self._there[key] = ref

    def find(self, batch: pa.Table) -> pa.Table | None:
        """Placements of those of some pending entries (path, hash; sorted by path) that are stored; None for none.

        Raises:
            IntegrityError: The manifest can't be read.
        """
        if not self._there or not len(batch):
            return None
        table = _found(self._manifest, batch, self._there)
        for key in pc.unique(flat(table["chunk"])).to_pylist():
            self.chunks[key] = self._there[key]
        return table if len(table) else None


def _found(manifest: Manifest, batch: pa.Table, chunks: dict[str, ObjectRef]) -> pa.Table:
    paths = flat(batch["path"])
    within = PathRange(paths[0].as_py(), paths[len(paths) - 1].as_py() + b"\0")
    there = manifest.to_table(_COLUMNS, within=within)
    at = pc.index_in(paths, value_set=flat(there["path"]))
    same = pc.equal(flat(there["hash"]).take(at), flat(batch["hash"]))
    hits = there.take(pc.drop_null(pc.if_else(same, at, pa.nulls(len(at), at.type))))
    keys = flat(hits["chunk"]).to_pylist()
    if not all(key in chunks for key in keys):
        mask = pa.Array.from_buffers(pa.bool_(), len(keys), [None, _bits([key in chunks for key in keys])])
        hits = hits.filter(mask)
    return hits.select(PLACEMENT_SCHEMA.names)


def _bits(flags: list[bool]) -> pa.Buffer:
    packed = sum(1 << position for position, flag in enumerate(flags) if flag)
    return pa.py_buffer(packed.to_bytes(-(-len(flags) // 8) or 1, "little"))


def in_order(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of some tables, each sorted by path, sorted over all; tables that lie apart are given as they are."""
    group: list[pa.Table] = []
    end = b""
    for table in sorted(tables, key=lambda each: each["path"][0].as_py()):
        if group and table["path"][0].as_py() > end:
            yield _joined(group)
            group = []
        group.append(table)
        end = max(end, table["path"][len(table) - 1].as_py())
    if group:
        yield _joined(group)


def _joined(group: list[pa.Table]) -> pa.Table:
    if len(group) == 1:
        return group[0]
    both = pa.concat_tables([table.cast(PLACEMENT_SCHEMA) for table in group])
    return both.take(pc.sort_indices(flat(both["path"])))
