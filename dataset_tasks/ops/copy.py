"""copy: a final version with its lineage, into another catalog or another store; every byte verified on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from dataset_tasks.catalog.engine import has_password
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.errors import IntegrityError, InvalidArgumentError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.kernels import pc
from dataset_tasks.manifest import Index, Manifest, apply
from dataset_tasks.manifest.columns import flat, strings
from dataset_tasks.model import ObjectRef, Report, Version
from dataset_tasks.moving import copy_object, holds
from dataset_tasks.objects import Objects, new_key
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.requests import Copy, CopyResult
from dataset_tasks.progress import Task
from dataset_tasks.session import Session

_WORKERS = 8


def run(context: Context, request: Copy) -> CopyResult:
    """Copies; ids, numbers, parents, tags, metadata, aliases, reports and moments stay.

    What is there already is not copied. Killed and run again it goes on. Of the versions that it was made from, deleted
    ones get tombstones; with `lineage` False all of them do. What the other catalog had of them and deleted stays
    deleted there.

    Raises:
        InvalidArgumentError: Neither another catalog nor another store is named, or the URL holds a password.
        NotFoundError: Nothing answers to the reference.
        StateError: The version is not final, or was deleted in the other catalog and could be brought back there.
        AlreadyExistsError: The other catalog has another version of that number.
        IntegrityError: Stored bytes are missing or damaged.
        StorageError: A store refused or did not answer.
    """
    session = context.session
    version = session.catalog.resolve(request.ref)
    require_final(version, "a copy")
    if request.to_catalog is None and request.to_store is None:
        raise InvalidArgumentError(
            "a copy needs another place",
            hint="Say which: another catalog, another store, or both (`--to-catalog`, `--to-store`).",
        )
    if request.to_catalog is None:
        return _to_store(context, request, version)
    if has_password(request.to_catalog):
        raise InvalidArgumentError(
            "the URL of the other catalog holds a password, which would be written down",
            hint="Leave it out: PostgreSQL takes it from PGPASSWORD or ~/.pgpass.",
        )
    with session.beside(request.to_catalog, request.to_store) as target:
        if target.catalog.id == session.catalog.id:
            raise InvalidArgumentError(
                f"{target.catalog.db.shown} is the version's own catalog", hint="Leave `to_catalog` out."
            )
        return _to_catalog(context, request, version, target)


@dataclass(slots=True)
class _Done:
    versions: int = 0
    objects: int = 0
    bytes: int = 0
    reports: int = 0

    def result(self, version: Version, where: str) -> CopyResult:
        """What the whole copy came to."""
        return CopyResult(
            **about(version),
            versions=self.versions,
            objects=self.objects,
            bytes=self.bytes,
            reports=self.reports,
            unchanged=not (self.versions or self.reports),
            why="" if self.versions or self.reports else f"all of it is in {where} already",
        )


def _line(context: Context, version: Version, *, whole: bool) -> tuple[list[Version], list[Version]]:
    """The versions to copy and all that they come from, both by creation."""
    known = list(context.session.catalog.ancestors(version.id).values())
    return [each for each in known if each.state.is_final and (whole or each.id == version.id)], known


# --- into another catalog --------------------------------------------------------------------------------------------


def _to_catalog(context: Context, request: Copy, version: Version, target: Session) -> CopyResult:
    session, done = context.session, _Done()
    store_id = target.store_id()
    wanted, known = _line(context, version, whole=request.lineage)
    there = {each.id: each for each in target.catalog.versions(ids=[each.id for each in wanted])}
    with context.progress.task(f"{version.dataset}: copy") as task:
        copier = _Copier(session.objects, target.objects, task, done)
        ended = target.catalog.deleted_here(each.id for each in wanted if each.id != version.id)
        target.flush_journal()  # what a copy that was killed had taken in
        for each in wanted:
            if each.id not in there and each.id not in ended:
                index, standing, new = copier.bring(each, session.manifest(each).index, store_id)
                aliases = session.catalog.aliases(each.project, each.name)
                target.catalog.take(
                    each,
                    context.part(f"copy/{target.catalog.id}/{each.id}").record(
                        request, lambda now: CopyResult(**about(now))
                    ),
                    store_id=store_id,
                    index=index,
                    objects=new,
                    needs=standing,
                    aliases=[alias for alias, held in aliases.items() if held == each.id],
                    lineage=_before(each, known),
                )
                failpoint("copy.after_version")
                done.versions += 1
                target.flush_journal()
        # Last: a file of a report that is damaged keeps no version back.
        ids = [each.id for each in wanted if each.id not in ended]
        untold = session.catalog.report_tokens(ids) - target.catalog.report_tokens(ids)
        told_about = {version_id for version_id, _ in untold}
        for version_id in (each for each in ids if each in told_about):
            told = {token: r for token, r in session.catalog.told(version_id).items() if (version_id, token) in untold}
            done.reports += _tell(target.catalog, copier, version_id, told, store_id)
            target.flush_journal()
    return done.result(target.catalog.version(version.id), f"catalog {target.catalog.id}")


def _tell(there: Catalog, copier: _Copier, version_id: str, told: Mapping[str, Report], store_id: str) -> int:
    """Brings what was reported about a version; gives how much of it was not there."""
    refs, standing, new = copier.objects(version_id, [each.file for each in told.values() if each.file], store_id)
    here = {
        token: replace(each, value={**each.value, "store_id": refs[each.file.key].store_id})
        if each.file and isinstance(each.value, Mapping)
        else each
        for token, each in told.items()
    }
    count = there.take_reports(version_id, here, objects=new, needs=standing)
    failpoint("copy.after_reports")
    return count


def _before(version: Version, known: Iterable[Version]) -> list[Version]:
    """What a version was made from, all the way, by creation."""
    by_id = {each.id: each for each in known}
    reached, waiting = set(), [version]
    while waiting:
        each = waiting.pop()
        for other in (*each.parents, *(one.ref for one in each.inputs)):
            if other not in reached and other in by_id:
                reached.add(other)
                waiting.append(by_id[other])
    return [each for each in known if each.id in reached]


class _Copier:
    """Brings objects from the stores of one catalog to those of another, under the keys that they have."""

    def __init__(self, source: Objects, target: Objects, task: Task, done: _Done) -> None:
        self._source, self._target, self._task, self._done = source, target, task, done

    def bring(
        self, version: Version, index: Index, store_id: str
    ) -> tuple[ObjectRef | None, tuple[str, ...], tuple[str, ...]]:
        """The manifest at its new place, the keys that stood there already, and those that are new."""
        if version.index is None:
            return None, (), ()
        objects, standing, new = self.objects(version.id, list(index.objects.values()), store_id)
        whole = Index.of(index.segments, objects)
        if whole.content_hash != version.content_hash:
            raise IntegrityError(
                f"the manifest of {version.label} has the content hash {whole.content_hash}, "
                f"the catalog has {version.content_hash}",
                hint="Restore the store from a copy; `dataset-tasks verify` shows what is damaged.",
            )
        (ref,) = self._target.put_all(version.id, store_id, [(new_key("index"), whole.to_bytes())])
        failpoint("copy.after_index")
        return ref, standing, (*new, ref.key)

    def objects(
        self, version_id: str, refs: list[ObjectRef], store_id: str
    ) -> tuple[dict[str, ObjectRef], tuple[str, ...], tuple[str, ...]]:
        """Objects by their key at their new places, the keys that stood there already, and those that are new."""
        claimed = self._target.claim(version_id, store_id, refs)
        missing = [ref for ref in refs if ref.key not in claimed.standing]

        def one(ref: ObjectRef) -> ObjectRef:
            return self._bring(ref, replace(ref, store_id=store_id), may_be_there=ref.key in claimed.begun)

        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dataset-tasks-copy") as pool:
            moved = list(pool.map(one, missing))
        self._target.written(moved)
        objects = {**claimed.standing, **{ref.key: ref for ref in moved}}
        return objects, tuple(claimed.standing), tuple(ref.key for ref in moved)

    def _bring(self, ref: ObjectRef, to: ObjectRef, *, may_be_there: bool) -> ObjectRef:
        here, there = self._source.store(ref.store_id), self._target.store(to.store_id)
        key = self._target.full_key(to.key)
        if not (may_be_there and holds(there, key, size=to.size, sha256=to.sha256)):
            copy_object(here, there, self._source.full_key(ref.key), to_key=key, sha256=ref.sha256, size=ref.size)
            failpoint("copy.after_object")
            self._done.objects += 1
            self._done.bytes += ref.size
        self._task.advance(files=1, bytes=ref.size)
        return to


# --- to another store ------------------------------------------------------------------------------------------------


def _to_store(context: Context, request: Copy, version: Version) -> CopyResult:
    """Within one catalog an object has one place: the copies get keys of their own, and the version points at them."""
    session, done = context.session, _Done()
    store_id = session.store_id(request.to_store)
    wanted, _ = _line(context, version, whole=request.lineage)
    with context.progress.task(f"{version.dataset}: copy") as task:
        for each in wanted:
            manifest = session.manifest(each)
            refs = [*manifest.index.objects.values(), *([each.index] if each.index else [])]
            if any(ref.store_id != store_id for ref in refs):
                _move(context, request, each, manifest, store_id, task, done)
                failpoint("copy.after_moved_version")
                done.versions += 1
            session.flush_journal()
    return done.result(session.catalog.version(version.id), session.catalog.store_url(store_id))


def _move(
    context: Context, request: Copy, version: Version, manifest: Manifest, store_id: str, task: Task, done: _Done
) -> None:
    objects, catalog = context.session.objects, context.session.catalog
    chunks = [manifest.index.objects[key] for key in manifest.index.chunks]
    far = [ref for ref in chunks if ref.store_id != store_id]
    stored = catalog.stored(version.id, store_id, (ref.sha256 for ref in far))
    moved = {ref.key: stored[ref.sha256][0] for ref in far if ref.sha256 in stored}
    missing = {ref.key: replace(ref, store_id=store_id, key=new_key("chunk")) for ref in far if ref.key not in moved}
    objects.begin(version.id, store_id, [ref.key for ref in missing.values()])

    def one(old: ObjectRef) -> None:
        new = missing[old.key]
        here, there = objects.store(old.store_id), objects.store(store_id)
        key = objects.full_key(new.key)
        copy_object(here, there, objects.full_key(old.key), to_key=key, sha256=old.sha256, size=old.size)
        objects.written([new])
        failpoint("copy.after_moved_object")
        task.advance(files=1, bytes=old.size)

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dataset-tasks-copy") as pool:
        list(pool.map(one, [ref for ref in far if ref.key in missing]))
    done.objects += len(missing)
    done.bytes += sum(ref.size for ref in missing.values())
    moved |= missing
    near = {ref.key: ref for ref in chunks if ref.store_id == store_id}
    built = apply(
        Manifest.empty(),
        (_renamed(table, moved) for table in manifest.batches()),
        new_key=lambda: new_key("pack"),
        store_id=store_id,
        objects={**near, **{ref.key: ref for ref in moved.values()}},
    )
    if built.index.content_hash != version.content_hash:
        raise IntegrityError(f"{version.label} would have another content hash", hint="Verify the version first.")
    *packs, index = objects.put_all(version.id, store_id, [*built.packs, (new_key("index"), built.index.to_bytes())])
    failpoint("copy.after_moved_index")
    alive = {ref.key for ref, is_live in stored.values() if is_live}
    catalog.repoint(
        version,
        index,
        context.part(f"copy/{store_id}/{version.id}").record(request, lambda now: CopyResult(**about(now))),
        objects=(*(r.key for r in moved.values() if r.key not in alive), *(r.key for r in packs), index.key),
        needs=(*near, *(r.key for r in moved.values() if r.key in alive)),
    )


def _renamed(table: pa.Table, moved: Mapping[str, ObjectRef]) -> pa.Table:
    """The entries with their chunks under the keys that they have now; bytes and places in them are the same."""
    if not moved:
        return table
    old = flat(table["chunk"])
    at = pc.index_in(old, value_set=strings(list(moved)))
    new = strings([ref.key for ref in moved.values()]).take(at)
    position = table.schema.get_field_index("chunk")
    return table.set_column(position, table.schema.field("chunk"), pc.if_else(pc.is_null(at), old, new).cast(old.type))
