"""Looking at everything that versions refer to: is it there, has it its size and, when asked, its SHA-256.

A survey reports and heals nothing. `dataset-tasks check` shows one, `repair` begins with one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dataset_tasks.catalog.collect import Root
from dataset_tasks.copies import examine
from dataset_tasks.errors import IntegrityError, ObjectMissingError, StorageError
from dataset_tasks.manifest import Index, Manifest, Segment
from dataset_tasks.manifest.columns import int64s
from dataset_tasks.model import ObjectRef
from dataset_tasks.objects import kind_of
from dataset_tasks.ops.context import Context
from dataset_tasks.progress import Task

_PIECE = 4 << 20
_AT_ONCE = 8
_HASHED_AT_ONCE = 4
#: Folders of a store whose objects the catalog knows, each of them.
_OURS = ("chunks/", "packs/", "indexes/", "pending/", "deltas/", "reports/")
_STANDS = ("live", "condemned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """An object that is not what was written: which, what is wrong, and which versions need it."""

    ref: ObjectRef
    what: str
    roots: tuple[Root, ...]

    @property
    def kind(self) -> str:
        """`chunk`, `pack`, `index` or `pending`."""
        return kind_of(self.ref.key)


@dataclass(slots=True)
class Survey:
    """What a look at the stores found.

    Attributes:
        roots: The versions that were looked at.
        objects: Everything they refer to, by key.
        needs: Which versions need an object, by key.
        indexes: Their indexes, as far as they can be read, by key.
        damaged: What is not as it was written, sorted by key.
        orphans: Objects (store id, key, bytes) that the catalog does not know; when asked for.
    """

    roots: Sequence[Root]
    objects: dict[str, ObjectRef] = field(default_factory=dict)
    needs: dict[str, list[Root]] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    damaged: list[Damage] = field(default_factory=list)
    orphans: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all objects together."""
        return sum(ref.size for ref in self.objects.values())


def survey(context: Context, roots: Sequence[Root], *, hashed: bool = False, orphans: bool = False) -> Survey:
    """Looks at every object that some versions refer to.

    Args:
        context: Of the operation.
        roots: The versions.
        hashed: Read every object whole and compare its SHA-256; else only sizes are asked for, and indexes read.
        orphans: Also list the stores, for objects that the catalog does not know.

    Raises:
        StorageError: A store refused or did not answer.
    """
    found = Survey(roots)
    wrong = dict(_indexes(context, found))
    for root in roots:
        for ref in _refs(root, found.indexes):
            found.objects[ref.key] = ref
            found.needs.setdefault(ref.key, []).append(root)
    wrong |= _looked_at(context, found, hashed=hashed)
    known = context.session.catalog.known_keys()
    for key in found.objects.keys() - wrong.keys():
        if known.get(key) not in _STANDS:
            wrong[key] = f"the catalog takes it for {known.get(key, 'none of its own')}"
    found.damaged = list(_still(context, found, wrong))
    if orphans:
        found.orphans = list(_orphans(context, known))
    return found


def _still(context: Context, found: Survey, wrong: dict[str, str]) -> Iterator[Damage]:
    """The damage that versions have which stand as they did: what others moved on from meanwhile is missed by nobody."""
    now = {root.version_id: (root.indexes, root.others) for root in context.session.catalog.roots()} if wrong else {}
    for key, what in sorted(wrong.items()):
        roots = tuple(root for root in found.needs[key] if now.get(root.version_id) == (root.indexes, root.others))
        if roots:
            yield Damage(ref=found.objects[key], what=what, roots=roots)


def files(context: Context, found: Survey, damage: Damage, *, hashed: bool) -> Iterator[tuple[Root, bytes, str]]:
    """The files that can't be read back for the sake of a damaged object: version, path and why.

    Of a damaged pack they are not known one by one: the path is then the first of a segment. Of an index it is empty.
    """
    for root in damage.roots:
        if damage.kind == "pending":
            yield root, b"", "it is not known any more where files are that wait for upload"
            continue
        if damage.kind == "index":
            yield root, b"", "the whole list of its files"
            continue
        for ref in root.indexes:
            index = found.indexes.get(ref.key)
            if index is not None and damage.ref.key in index.objects:
                yield from ((root, path, why) for path, why in _of_index(context, index, damage, hashed=hashed))


def _of_index(context: Context, index: Index, damage: Damage, *, hashed: bool) -> Iterator[tuple[bytes, str]]:
    manifest = Manifest(index, context.session.objects.read)
    for segment in index.segments:
        if segment.pack == damage.ref.key:
            yield segment.first, f"{segment.count} files from here on"
        elif damage.ref.key in segment.chunks:
            yield from _of_segment(context, manifest, segment, damage, hashed=hashed)


def _of_segment(
    context: Context, manifest: Manifest, segment: Segment, damage: Damage, *, hashed: bool
) -> Iterator[tuple[bytes, str]]:
    try:
        table = manifest.read(segment)
    except IntegrityError:
        return  # its pack is damaged too, and named
    rows = [row for row, key in enumerate(table["chunk"].to_pylist()) if key == damage.ref.key]
    mine = table.take(int64s(rows))
    if hashed:
        yield from examine([mine], context.session.chunk_opener(manifest)).items()
        return
    there = _size(context, damage.ref)
    ends = zip(mine["path"].to_pylist(), mine["offset"].to_pylist(), mine["stored"].to_pylist(), strict=True)
    yield from ((path, damage.what) for path, offset, stored in ends if offset + stored > there)


def _refs(root: Root, indexes: dict[str, Index]) -> Iterator[ObjectRef]:
    yield from root.others
    for ref in root.indexes:
        yield ref
        if ref.key in indexes:
            yield from indexes[ref.key].objects.values()


def _indexes(context: Context, found: Survey) -> Iterator[tuple[str, str]]:
    """Reads every index; those that can't be read, and why."""
    refs = {ref.key: ref for root in found.roots for ref in root.indexes}
    with context.progress.task("check: indexes", files=len(refs)) as task:
        for key, ref in refs.items():
            try:
                found.indexes[key] = Index.from_bytes(context.session.objects.read(ref), key)
            except IntegrityError as error:
                yield key, error.message
            task.advance(files=1)


def _looked_at(context: Context, found: Survey, *, hashed: bool) -> dict[str, str]:
    """Objects with another size or hash than they were written with, and what is wrong with each."""
    todo = [ref for ref in found.objects.values() if ref.key not in found.indexes and kind_of(ref.key) != "index"]
    total = sum(ref.size for ref in todo) if hashed else None
    with (
        context.progress.task(f"check: {'objects' if hashed else 'sizes'}", files=len(todo), bytes=total) as task,
        ThreadPoolExecutor(_HASHED_AT_ONCE if hashed else _AT_ONCE, thread_name_prefix="dataset-tasks-check") as pool,
    ):

        def look(ref: ObjectRef) -> str:
            said = _hashed(context, ref, task) if hashed else _sized(context, ref)
            task.advance(files=1)
            return said

        return {ref.key: said for ref, said in zip(todo, pool.map(look, todo), strict=True) if said}


def _sized(context: Context, ref: ObjectRef) -> str:
    size = _size(context, ref)
    if size < 0:
        return "it is missing"
    return "" if size == ref.size else f"it has {size} bytes, expected {ref.size}"


def _size(context: Context, ref: ObjectRef) -> int:
    objects = context.session.objects
    try:
        return objects.store(ref.store_id).size(objects.full_key(ref.key))
    except ObjectMissingError:
        return -1
    except StorageError as error:
        if error.retryable:
            raise
        return -1


def _hashed(context: Context, ref: ObjectRef, task: Task) -> str:
    objects = context.session.objects
    sha = hashlib.sha256()
    try:
        with objects.store(ref.store_id).open(objects.full_key(ref.key)) as reader:
            if reader.size != ref.size:
                return f"it has {reader.size} bytes, expected {ref.size}"
            for start in range(0, ref.size, _PIECE):
                piece = reader.pread(start, min(_PIECE, ref.size - start))
                sha.update(piece)
                task.advance(bytes=len(piece))
    except ObjectMissingError:
        return "it is missing"
    except IntegrityError as error:
        return error.message
    except StorageError as error:
        if error.retryable:
            raise
        return f"it can't be read: {error.message}"
    return "" if sha.hexdigest() == ref.sha256 else f"its SHA-256 is {sha.hexdigest()}, expected {ref.sha256}"


def _orphans(context: Context, known: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Objects in the catalog's part of the stores that it knows nothing of."""
    objects = context.session.objects
    names = set(known)
    for store_id in context.session.catalog.stores():
        prefix = objects.full_key("")
        for key, size in objects.store(store_id).list(prefix):
            name = key.removeprefix(prefix)
            if name.startswith(_OURS) and name not in names:
                yield store_id, name, size
