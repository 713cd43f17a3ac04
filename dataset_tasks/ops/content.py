"""How the content of a draft is changed: an edit is laid over the head, stored, and committed by compare-and-set.

Bytes first: packs, then the index, then one move of the version's row. When another writer was faster, the same edit is
laid over what that one left.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from dataset_tasks.catalog.rows import dump_object, load_object
from dataset_tasks.catalog.writes import Content
from dataset_tasks.errors import ConflictError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import Buffer
from dataset_tasks.kernels import pc
from dataset_tasks.manifest import (
    CONTENT_COLUMNS,
    Built,
    Index,
    Manifest,
    PathRange,
    Segment,
    apply,
    merge,
    segment_digest,
)
from dataset_tasks.manifest.columns import NO_HASH, binaries, constant, digests, entries, flat, int8s, int64s
from dataset_tasks.manifest.reading import cut
from dataset_tasks.model import JsonValue, ObjectRef, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.context import Context, require_draft
from dataset_tasks.ops.requests import Request, Result
from dataset_tasks.ops.turns import Turns
from dataset_tasks.pending import Encoder, overlay, table
from dataset_tasks.scan import Batch
from dataset_tasks.stash import Stash

_DELTA_COLUMNS = ["path", "size", "hash"]
#: In the origin of a draft: its content before a transform, to go back to when that runs again.
BEFORE = "before_transform"


@dataclass(slots=True)
class Edit:
    """Changes to the content of a draft, independent of the state they are laid over.

    `upserts` are sorted tables of path, size and hash of files yet to be stored, or of path, size, link and pin of links;
    `removals` sorted paths. `added` and `modified` count against the state in which the edit was made.
    """

    upserts: Stash = field(default_factory=Stash)
    removals: list[bytes | PathRange] = field(default_factory=list)
    pending: Encoder | None = None
    added: int = 0
    modified: int = 0
    removed: int = 0
    files: int = 0
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.upserts and not self.removals

    def entries(self, owner: str) -> Iterator[pa.Table]:
        """The upserts as entries that this version brings."""
        for part in self.upserts:
            yield entries_of(part, owner)


def entries_of(part: pa.Table, owner: str) -> pa.Table:
    """Pending entries from a table of path, size and hash; links from one of path, size, link and pin."""
    paths, sizes = part["path"].to_pylist(), part["size"].to_pylist()
    if "link" not in part.schema.names:
        return entries(paths=paths, sizes=sizes, hashes=part["hash"].to_pylist(), owner=owner)
    links, pins = part["link"].to_pylist(), part["pin"].to_pylist()
    return entries(paths=paths, sizes=sizes, hashes=NO_HASH * len(paths), owner=owner, links=links, pins=pins)


class Comparer:
    """Compares scanned files with a manifest as they come and collects the edit that makes them equal.

    A segment whose digest is that of the files scanned in its place is not read. With `within`, what the manifest has in
    that range and the scan does not bring is removed.
    """

    def __init__(self, base: Manifest, within: PathRange | None = None) -> None:
        self.edit = Edit()
        self._base = base
        self._removes = within is not None
        self._within = within or PathRange()
        self._segments = deque(base.index.overlapping(self._within))
        self._waiting = Batch()

    def add(self, batch: Batch) -> None:
        """Takes the next files, which come after all before."""
        self.edit.files += len(batch)
        self.edit.bytes += sum(batch.size)
        self._waiting.join(batch)
        self._compare(self._waiting.path[-1])

    def finish(self) -> Edit:
        """The whole edit, once everything was taken."""
        self._compare(None)
        return self.edit

    def _compare(self, until: bytes | None) -> None:
        """Compares segment by segment, as far as the scan has come (None: to the end)."""
        batch, done = self._waiting, 0
        paths, new = batch.path, _scanned(batch)
        while self._segments and (until is None or self._segments[0].last <= until):
            segment = self._segments.popleft()
            start = bisect_left(paths, segment.first, done)
            stop = bisect_right(paths, segment.last, start)
            self._all_new(batch, new, done, start)
            self._in_segment(segment, batch, new, start, stop)
            done = stop
        rest = bisect_left(paths, self._segments[0].first, done) if self._segments else len(paths)
        self._all_new(batch, new, done, rest)
        batch.cut(rest)

    def _all_new(self, batch: Batch, new: pa.Table, start: int, stop: int) -> None:
        if start < stop:
            self._put(batch, new, range(start, stop), added=stop - start)

    def _in_segment(self, segment: Segment, batch: Batch, new: pa.Table, start: int, stop: int) -> None:
        """Compares the files that stand where a segment does."""
        if start == stop and not self._removes:
            return
        here = new.slice(start, stop - start)
        if stop - start == segment.count and segment_digest(here) == segment.digest:
            return
        # What differs is rewritten next, mostly.
        base = cut(self._base.read(segment, ("path", "size", "hash"), keep=True), self._within)
        paths, known = flat(here["path"]), flat(base["path"])
        at = pc.index_in(paths, value_set=known)
        same = pc.equal(flat(base["hash"]).take(at), flat(here["hash"]))
        changed = pc.or_kleene(pc.is_null(at), pc.invert(same))
        rows = [start + row for row in pc.indices_nonzero(changed).to_pylist()]
        if rows:
            self._put(batch, new, rows, added=at.null_count)
        if self._removes and len(base):
            gone = base.filter(pc.invert(pc.is_in(known, value_set=paths)))["path"].to_pylist()
            self.edit.removals.extend(gone)
            self.edit.removed += len(gone)

    def _put(self, batch: Batch, new: pa.Table, rows: Sequence[int], *, added: int) -> None:
        self.edit.upserts.append(new.select(_DELTA_COLUMNS).take(int64s(rows)))
        self.edit.pending = self.edit.pending or Encoder()
        self.edit.pending.add(table(batch if len(rows) == len(batch) else batch.take(rows)))
        self.edit.added += added
        self.edit.modified += len(rows) - added


def _scanned(batch: Batch) -> pa.Table:
    """The content columns of scanned files, which are no links."""
    count = len(batch)
    columns = [
        binaries(batch.path),
        int8s(bytes(count)),
        int64s(batch.size),
        digests(b"".join(batch.hash)),
        constant(None, count),
        constant(None, count),
    ]
    return pa.Table.from_arrays(columns, names=list(CONTENT_COLUMNS))


def commit_edit(
    context: Context,
    request: Request,
    version: Version,
    edit: Edit,
    result: Callable[[Version], Result],
    *,
    fingerprint: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
    base: Manifest | None = None,
) -> Version:
    """Lays an edit over the head of a draft and commits; an edit that changes nothing costs no write.

    Raises:
        InvalidArgumentError: A path would be both a file and a folder.
        ConflictError: Other writers were faster, again and again.
        StateError: The version is no draft any more.
    """
    if edit.is_empty and fingerprint is None:
        return version
    require_draft(version)
    fresh = edit.pending.finish() if edit.pending is not None else None

    def built(head: Version, manifest: Manifest) -> Change:
        made = apply(
            manifest,
            edit.entries(version.id),
            edit.removals,
            new_key=lambda: new_key("pack"),
            store_id=head.store_id,
        )
        old = context.session.objects.read(head.pending_object) if head.pending_object and fresh else None
        return Change(built=made, pending=overlay(old, fresh) if fresh else None)

    return commit(context, request, version, built, result, fingerprint=fingerprint, origin=origin, base=base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A new head that is not stored yet. `pending` replaces the list of pending files; None keeps the one there is.

    `objects` are chunks that become live with it, `needs` chunks of other versions that must be live still.
    """

    built: Built
    pending: Buffer | None = None
    objects: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def commit(
    context: Context,
    request: Request,
    version: Version,
    change: Callable[[Version, Manifest], Change],
    result: Callable[[Version], Result],
    *,
    store_id: str | None = None,
    fingerprint: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
    base: Manifest | None = None,
) -> Version:
    """Stores what `change` makes of the head and moves the draft to it; made again when another writer was faster.

    Raises:
        ConflictError: Other writers were faster, again and again; or what it refers to was given up meanwhile.
        StateError: The version is no draft any more.
    """
    session = context.session
    record = context.record(request, result)
    head = version
    with Turns(context, version) as turns:
        while True:
            manifest = base if base is not None and head.index == version.index else session.manifest(head)
            made = change(head, manifest)
            failpoint("content.before_objects")
            refs = _store(context, head, made, store_id or head.store_id)
            content = _content(head, made, refs, fingerprint, origin)
            content = replace(content, store_id=store_id, needs=_needs(manifest.index, made, content.objects))
            try:
                failpoint("content.before_commit")
                now = session.catalog.commit_content(head, content, record, lease=turns.lease)
                failpoint("content.after_commit")
                return now
            except StateError:
                session.objects.discard((ref.store_id, ref.key) for ref in refs)
                raise
            except ConflictError as error:
                session.objects.discard((ref.store_id, ref.key) for ref in refs)
                turns.lost(error)
            head = session.catalog.version(version.id)
            require_draft(head)


def _store(context: Context, head: Version, change: Change, store_id: str) -> list[ObjectRef]:
    parts: list[tuple[str, Buffer]] = list(change.built.packs)
    parts.append((new_key("index"), change.built.index.to_bytes()))
    if change.pending is not None and change.built.index.pending:
        parts.append((new_key("pending"), change.pending))
    refs = context.session.objects.put_all(head.id, store_id, parts)
    context.session.objects.remember(refs[len(change.built.packs)], change.built.index)
    return refs


def _content(
    head: Version,
    change: Change,
    refs: Sequence[ObjectRef],
    fingerprint: str | None,
    origin: Mapping[str, JsonValue] | None,
) -> Content:
    index = change.built.index
    by_kind = {ref.key.partition("/")[0]: ref for ref in refs}
    return Content(
        index=by_kind["indexes"],
        pending=index.pending,
        pending_object=by_kind.get("pending", head.pending_object) if index.pending else None,
        files=index.files,
        bytes=index.bytes,
        content_hash=index.content_hash,
        fingerprint=fingerprint,
        origin=origin,
        objects=(*(ref.key for ref in refs), *change.objects),
    )


def _needs(before: Index, change: Change, new: Sequence[str]) -> tuple[str, ...]:
    """What a new head refers to that neither the one before it nor the commit brings: it must not be going."""
    return tuple(sorted({*change.built.index.objects, *change.needs} - before.objects.keys() - set(new)))


def merged(context: Context, parents: Sequence[Version], store_id: str) -> Content:
    """The content of several versions as one, the last wins; stored as the start of a draft that is yet to be made."""
    session = context.session
    manifests = [session.manifest(parent) for parent in parents]
    built = merge(manifests, new_key=lambda: new_key("pack"), store_id=store_id)
    refs = session.objects.put_all("", store_id, [*built.packs, (new_key("index"), built.index.to_bytes())])
    index: Index = built.index
    return Content(
        index=refs[-1],
        pending=0,
        pending_object=None,
        files=index.files,
        bytes=index.bytes,
        content_hash=index.content_hash,
        objects=tuple(ref.key for ref in refs),
        needs=tuple(sorted(index.objects.keys() - {ref.key for ref in refs})),
    )


def head_of(version: Version) -> dict[str, JsonValue]:
    """The content of a draft as it stands, as JSON, to go back to."""
    return {
        "index": dump_object(version.index),
        "pending": version.pending,
        "pending_object": dump_object(version.pending_object),
        "files": version.files,
        "bytes": version.bytes,
        "content_hash": version.content_hash,
    }


def head_from(saved: Mapping[str, Any]) -> Content:  # Any: JSON of `head_of`
    """The content that `head_of` wrote down."""
    return Content(
        index=load_object(saved["index"]),
        pending=saved["pending"],
        pending_object=load_object(saved["pending_object"]),
        files=saved["files"],
        bytes=saved["bytes"],
        content_hash=saved["content_hash"],
    )
