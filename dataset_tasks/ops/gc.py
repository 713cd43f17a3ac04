"""gc: ends what nobody needs, and frees its bytes. Tells what it would do unless it is asked to do it.

Roots are all versions that are not given up: drafts, and tombstones within the grace too. What no root refers to is
condemned; after a while, when still nothing refers to it, it is let go, and only then are bytes deleted. Every one of
these steps is a transaction that finds the catalog as the decision took it to be, so that whoever commits meanwhile
either has its objects or is told to write them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from dataset_tasks.catalog.collect import Garbage, Marked, Root
from dataset_tasks.errors import ConflictError, IntegrityError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Index
from dataset_tasks.model import ObjectRef, State, Version
from dataset_tasks.ops import retention, scratch
from dataset_tasks.ops.context import Context, about, dropped
from dataset_tasks.ops.remembered import forgotten
from dataset_tasks.ops.requests import Collect, CollectResult, Delete, DeleteResult
from dataset_tasks.progress import Task

_AT_ONCE = 8
_BATCH = 256
_MOST_ROUNDS = 1000


def run(context: Context, request: Collect) -> CollectResult:
    """Collects the garbage of the whole catalog, in all of its stores.

    Only keys below the catalog's own id are ever touched. Run again after it was killed, it goes on.

    Raises:
        IntegrityError: The index of a version that stands can't be read: what it needs is not known, so nothing is let
            go. Repair it, or delete the version.
        CatalogError: Of kind `behind_journal`: a store's journal tells of more than the catalog does, which was put back
            to an earlier state. Rebuild it: it does not know what the versions made since need.
        StorageError: A store refused or did not answer.
        InvalidArgumentError: A duration is negative.
    """
    retention.check_durations(grace=request.grace, idle=request.idle, drafts=request.drafts)
    return _Collection(context, request).run()


class _Collection:
    """One run: what it decided and did."""

    def __init__(self, context: Context, request: Collect) -> None:
        self._context = context
        self._catalog = context.session.catalog
        self._objects = context.session.objects
        self._apply = not request.dry_run
        self._request = request
        self._grace = 0.0 if request.now else request.grace
        self._wait = 0.0 if request.now else min(request.grace, request.idle)
        self._known: dict[str, frozenset[str]] = {}

    def run(self) -> CollectResult:
        """All steps, in the order in which one makes work for the next."""
        for store_id in self._catalog.stores():
            self._objects.refuse_if_behind(store_id)
        retired = self._end(retention.expired(self._catalog, self._context.session.clock()), force=True)
        idle = self._catalog.idle_drafts(seconds=self._request.drafts, dead=self._request.idle)
        dropped = self._end(idle, force=False)
        failpoint("gc.before_purge")
        purged = self._catalog.purge(grace=self._grace, apply=self._apply)
        failpoint("gc.after_purge")
        if not self._apply:
            purged += [*dropped, *(retired if not self._grace else ())]
        unfinished = self._catalog.give_up_writes(ended=self._wait, idle=self._request.idle, apply=self._apply)
        failpoint("gc.after_writes")
        marked = self._mark({version.id for version in purged})
        going = self._catalog.going() if self._apply else [*unfinished, *marked.going]
        going += self._forgotten()
        parts, part_bytes = self._leftovers()
        if self._apply:
            self._delete(going)
        return CollectResult(
            catalog_id=self._catalog.id,
            version_id="",
            project="",
            name="",
            version="",
            dry_run=not self._apply,
            retired=_labels(retired),
            dropped=_labels(dropped),
            purged=_labels(version for version in purged if version.state.is_final or version.state is State.DELETED),
            kept=_labels(self._kept(purged, retired)),
            condemned=len(marked.condemned),
            deleted=len(going),
            bytes=sum(each.size for each in going) + part_bytes,
            unfinished=len(unfinished),
            parts=parts,
            waiting=len(marked.waiting),
            waiting_bytes=sum(each.size for each in marked.waiting),
        )

    def _kept(self, purged: Sequence[Version], retired: Sequence[Version]) -> list[Version]:
        """The tombstones that can be brought back, those among them that a dry run would make."""
        given_up = {version.id for version in purged}
        would_be = retired if not self._apply else ()
        there = [*self._catalog.tombstones(), *would_be]
        return [version for version in there if version.id not in given_up]

    def _end(self, versions: Sequence[Version], *, force: bool) -> list[Version]:
        """Tombstones final versions and drops drafts; one that somebody moves meanwhile is left for the next time."""
        ended = []
        for version in versions if self._apply else ():
            draft = version.state is State.IN_PROGRESS
            record = self._context.part(version.id).record(
                Delete(ref=version.id, force=force), lambda now: DeleteResult(**about(now), state=str(now.state))
            )
            failpoint("gc.before_end")
            try:
                if draft:
                    origin = dropped(self._context, "gc: nothing was done to it any more")
                    now = self._catalog.drop(version, record, origin=origin)
                else:
                    now = self._catalog.delete(version, record, force=force, unless_wanted=True)
            except (ConflictError, StateError) as error:
                self._context.progress.note(f"{version.label} is left: {error.message}")
                continue
            failpoint("gc.after_end")
            if draft:
                scratch.clear(self._context.session, now)
            ended.append(now)
        if self._apply:
            self._context.session.flush_journal()
        return ended if self._apply else list(versions)

    def _mark(self, ended: Collection[str]) -> Marked:
        """Condemns, then lets go, in two steps; with a grace of nothing the second one takes what the first condemned."""
        first = self._marked(ended)
        failpoint("gc.after_condemn")
        at_once = not self._wait
        if self._apply and at_once:
            going = self._marked(ended).going
            failpoint("gc.after_going")
        else:
            going = (*first.going, *(first.condemned if at_once else ()))
        waiting = () if at_once else (*first.waiting, *first.condemned)
        return replace(first, going=going, waiting=waiting)

    def _marked(self, ended: Collection[str]) -> Marked:
        """Reads the indexes it has to know until the catalog has no other one."""
        for _ in range(_MOST_ROUNDS):
            marked = self._catalog.mark(self._known, grace=self._wait, apply=self._apply, ended=ended)
            if not marked.unread:
                return marked
            failpoint("gc.after_roots")
            with self._context.progress.task("gc: read manifests", files=len(marked.unread)) as task:
                for root in marked.unread:
                    self._read(root, task)
        raise ConflictError(
            f"other writers moved versions faster than they could be looked at, {_MOST_ROUNDS} times",
            hint="Run it again at a calmer time; nothing was let go.",
        )

    def _read(self, root: Root, task: Task) -> None:
        for ref in root.indexes:
            if ref.key not in self._known:
                try:
                    index = Index.from_bytes(self._objects.read(ref), ref.key)
                except IntegrityError as error:
                    if self._stands(root, ref):
                        raise IntegrityError(
                            f"{root.label} ({root.version_id}): {error.message}; what it needs is not known, so nothing "
                            "was let go",
                            kind=error.kind,
                            hint="Run `dataset-tasks repair`, or delete the version, then collect again.",
                        ) from error
                    self._known[ref.key] = frozenset()
                else:
                    self._known[ref.key] = frozenset(index.objects)
        task.advance(files=1)

    def _stands(self, root: Root, ref: ObjectRef) -> bool:
        """Whether somebody may want to read the version by this index.

        Of a tombstone whose index is lost nothing can come back; a draft may have moved on, and its head be tidied away.
        """
        if root.state is State.DELETED:
            return False
        return any(ref in now.indexes for now in self._catalog.roots() if now.version_id == root.version_id)

    def _forgotten(self) -> list[Garbage]:
        """What imports remembered and none has asked for since; the catalog knows nothing of it."""
        now = self._context.session.clock()
        return [
            Garbage(key=key, store_id=store_id, kind="remembered", size=size)
            for store_id in self._catalog.stores()
            for key, size in forgotten(self._objects, store_id, now)
        ]

    def _leftovers(self) -> tuple[int, int]:
        """What writers left in the stores that died before their object had its name."""
        count = size = 0
        now = self._context.session.clock().timestamp()
        for store_id in self._catalog.stores():
            store = self._objects.store(store_id)
            for part in list(store.leftovers(self._objects.full_key(""))):
                if part.modified > now - self._request.idle:
                    continue
                count, size = count + 1, size + part.size
                if self._apply:
                    store.discard(part)
                    failpoint("gc.after_part")
        return count, size

    def _delete(self, going: Sequence[Garbage]) -> None:
        """Bytes first, then the rows; what is left after a kill is still `going`."""
        with (
            self._context.progress.task("gc: delete", files=len(going), bytes=sum(e.size for e in going)) as task,
            ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataset-tasks-gc") as pool,
        ):
            for start in range(0, len(going), _BATCH):
                some = going[start : start + _BATCH]
                failpoint("gc.before_bytes")
                list(pool.map(self._delete_bytes, some))
                failpoint("gc.after_bytes")
                self._catalog.forget_objects([each.key for each in some])
                failpoint("gc.after_rows")
                task.advance(files=len(some), bytes=sum(each.size for each in some))

    def _delete_bytes(self, each: Garbage) -> None:
        self._objects.store(each.store_id).delete(self._objects.full_key(each.key))


def _labels(versions: Iterable[Version]) -> tuple[str, ...]:
    return tuple(version.label for version in versions)
