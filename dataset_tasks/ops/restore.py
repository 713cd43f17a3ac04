"""Storing anew: entries of a manifest copied into chunks of another version, so that it stands alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Built, Entry, Manifest, apply, entries
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.packing import DEFAULT_CHUNK, MOST_MEMBERS
from dataset_tasks.ops.staged import member_of
from dataset_tasks.store import Writer

_BATCH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A manifest whose chunks are stored but not yet live, and their keys."""

    built: Built
    chunks: tuple[str, ...]


def stored_anew(context: Context, version: Version, source: Manifest, owners: Collection[str] | None) -> Restored:
    """Copies the bytes of a manifest's entries into chunks of `version`; those of other owners stay where they are.

    Args:
        context: Of the operation.
        version: The draft that the entries will belong to.
        source: Where they are now.
        owners: Whose entries are copied; None: all.

    Raises:
        IntegrityError: Bytes can't be read back as they were stored.
        StorageError: A store refused or did not answer.
    """
    copier = _Copier(context, version, source)
    with context.progress.task(f"{version.dataset}: squash", files=len(source), bytes=source.bytes) as task:
        tables = []
        for batch in _batches(source):
            tables.append(copier.table(batch, owners))
            task.advance(files=len(batch), bytes=sum(entry.size for entry in batch))
        copier.close()
    objects = {**source.index.objects, **copier.objects}
    built = apply(Manifest.empty(), tables, new_key=lambda: new_key("pack"), store_id=version.store_id, objects=objects)
    return Restored(built=built, chunks=tuple(copier.objects))


def _batches(source: Manifest) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in source.entries():
        batch.append(entry)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class _Copier:
    """Writes members one after another into chunks of the usual size."""

    def __init__(self, context: Context, version: Version, source: Manifest) -> None:
        self.objects: dict[str, ObjectRef] = {}
        self._context = context
        self._version = version
        self._source = source
        self._key = ""
        self._sink: Writer | None = None
        self._writer: ChunkWriter | None = None

    def table(self, batch: list[Entry], owners: Collection[str] | None) -> pa.Table:
        """The entries of a batch with the places and owners they have now."""
        rows = [self._moved(entry) if _is_in(entry, owners) else entry for entry in batch]
        return entries(
            paths=[row.path for row in rows],
            sizes=[row.size for row in rows],
            hashes=[row.hash for row in rows],
            owner=[row.owner for row in rows],
            kinds=[row.kind for row in rows],
            chunks=[row.chunk for row in rows],
            offsets=[row.offset for row in rows],
            stored=[row.stored for row in rows],
            methods=[row.method for row in rows],
            links=[row.link for row in rows],
            pins=[row.pin for row in rows],
        )

    def close(self) -> None:
        """Ends the chunk that is open."""
        if self._writer is None or self._sink is None:
            return
        size, sha256 = self._writer.finish()
        self._sink.commit()
        failpoint("squash.after_chunk_bytes")
        ref = ObjectRef(store_id=self._version.store_id, key=self._key, size=size, sha256=sha256)
        self._context.session.objects.written([ref])
        failpoint("squash.after_chunk")
        self.objects[self._key] = ref
        self._writer = self._sink = None

    def _moved(self, entry: Entry) -> Entry:
        if entry.is_link:
            return replace(entry, owner=self._version.id)
        writer = self._open(entry.size)
        chunk = self._context.session.objects.ranges(self._source.index.objects[entry.chunk or ""])
        member = writer.add_member(chunk, member_of(entry))
        return Entry(
            path=entry.path,
            kind=entry.kind,
            size=entry.size,
            hash=entry.hash,
            owner=self._version.id,
            chunk=self._key,
            offset=member.offset,
            stored=member.stored,
            method=member.method,
            link=None,
            pin=None,
        )

    def _open(self, size: int) -> ChunkWriter:
        if self._writer is not None and (
            self._writer.size + size > DEFAULT_CHUNK or self._writer.count >= MOST_MEMBERS
        ):
            self.close()
        if self._writer is None:
            objects = self._context.session.objects
            self._key = new_key("chunk")
            objects.begin(self._version.id, self._version.store_id, [self._key])
            sink = objects.writer(self._version.store_id, self._key)
            self._sink, self._writer = sink, ChunkWriter(sink)
        return self._writer


def _is_in(entry: Entry, owners: Collection[str] | None) -> bool:
    return owners is None or entry.owner in owners
