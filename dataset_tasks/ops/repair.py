"""repair: looks at every stored object, and heals what is damaged from wherever the same bytes still are.

A damaged object is restored in its place when a copy of the store has it as it was. Else the files that need it are packed
anew, each from the first source that has its SHA-256: the damaged chunk itself, other chunks, cached copies on this
machine, the folders that were given. The versions are then pointed there; what they hold stays the same to the bit. What
is found nowhere is lost, and its versions are quarantined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dataset_tasks import holding
from dataset_tasks.catalog.collect import Root
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest.build import Whole
from dataset_tasks.model import State, Version
from dataset_tasks.ops import unchanged
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.finding import Finder, StoreCopies
from dataset_tasks.ops.relocating import Moving
from dataset_tasks.ops.requests import Repair, RepairResult
from dataset_tasks.ops.stored import manifests, members_in
from dataset_tasks.ops.survey import Damage, survey
from dataset_tasks.paths import show

#: What the quarantine of a version begins with that lost files; a repair that finds them takes it away.
LOST = "damaged: "
_BY_DAMAGE = (LOST, "verify failed: ")
_OTHERS = {"index": "the list of all its files", "pending": "where files are that wait for upload"}


def run(context: Context, request: Repair) -> RepairResult:
    """Repairs what is damaged in some versions, or in all.

    Run again after it was killed, it goes on; nothing is ever deleted by it.

    Raises:
        NotFoundError: A reference answers to nothing.
        InvalidArgumentError: A copy is no store.
        SourceError: A folder is not there, or can't be read.
        StorageError: A store refused or did not answer.
        ConflictError: A version was moved by others again and again.
    """
    return _Repair(context, request).run()


class _Repair:
    """One run: what it found, and what came of it."""

    def __init__(self, context: Context, request: Repair) -> None:
        self._context = context
        self._request = request
        self._apply = not request.dry_run
        self._catalog = context.session.catalog
        wanted = {self._catalog.resolve(ref).id for ref in request.refs}
        self._every = self._catalog.roots()
        self._roots = [root for root in self._every if not wanted or root.version_id in wanted]
        self._moving = Moving(context)
        self._restored: list[str] = []
        self._lost: dict[str, tuple[Root, list[str]]] = {}
        self._quarantined: list[str] = []
        self._healed = 0
        self._broken: set[str] = set()
        self._readable: list[Root] = []

    def run(self) -> RepairResult:
        """Surveys, heals, and quarantines what is left."""
        for store_id in self._catalog.stores() if self._apply else ():
            self._context.session.objects.own(store_id)
        found = survey(self._context, self._roots, hashed=True)
        left = self._restored_from_copies(found.damaged)
        self._broken = {damage.ref.key for damage in left}
        self._readable = [root for root in self._every if not any(ref.key in self._broken for ref in root.indexes)]
        for damage in left:
            if damage.kind == "pack":
                self._stand_in(damage)
            elif damage.kind != "chunk":
                self._lose(damage.roots, f"{_OTHERS[damage.kind]} ({damage.what})")
        self._pack_anew({damage.ref.key: damage for damage in left if damage.kind == "chunk"})
        moved: list[Version] = []
        if self._apply and (self._moving.moves or self._moving.stands):
            moved = self._moving.repoint(self._readable, self._request)
        if self._apply:
            self._quarantine()
            self._release()
            self._context.session.flush_journal()  # also of a try that was killed behind its last commit
        return RepairResult(
            catalog_id=self._catalog.id,
            version_id="",
            project="",
            name="",
            version="",
            dry_run=self._request.dry_run,
            objects=len(found.objects),
            damaged=tuple(f"{each.ref.key}: {each.what}" for each in found.damaged),
            restored=tuple(self._restored),
            healed=self._healed,
            versions=tuple(version.label for version in moved),
            lost=tuple(f"{root.label}: {what}" for root, lost in self._lost.values() for what in lost),
            quarantined=tuple(self._quarantined),
        )

    def _restored_from_copies(self, damaged: Sequence[Damage]) -> list[Damage]:
        """Puts objects in their place again that a copy of the store has; what is left."""
        copies = StoreCopies(self._context, self._request.copies)
        left = []
        for damage in damaged:
            if not copies.restore(damage.ref, apply=self._apply):
                left.append(damage)
                continue
            self._restored.append(damage.ref.key)
            failpoint("repair.after_object")
        return left

    def _stand_in(self, damage: Damage) -> None:
        """Finds other segments with the content of those that a damaged pack held."""
        known: dict[bytes, Whole] = {}
        for _, manifest in manifests(self._context, self._readable):
            for segment in manifest.index.segments:
                if segment.pack not in self._broken:
                    known.setdefault(segment.digest, Whole(segment, manifest))
        for root, manifest in manifests(self._context, self._readable):
            for segment in manifest.index.segments:
                if segment.pack != damage.ref.key:
                    continue
                stand = known.get(segment.digest)
                if stand is None:
                    between = f"{show(segment.first)} to {show(segment.last)}"
                    self._lose([root], f"{segment.count} files from {between} ({damage.what})")
                    continue
                self._moving.stand_in(segment, stand)

    def _pack_anew(self, chunks: Mapping[str, Damage]) -> None:
        """Copies the files of damaged chunks into new ones."""
        if not chunks:
            return
        refs = {key: damage.ref for key, damage in chunks.items()}
        members = members_in(self._context, self._readable, refs, broken=self._broken)
        finder = Finder(self._context, self._readable, self._broken, self._request.folders)
        with self._context.progress.task("repair: files", files=sum(map(len, members.values()))) as task:
            finder.look_for((refs[key], member) for key, held in members.items() for member in held.values())
            lost: dict[str, set[int]] = {}
            for key, held in members.items():
                sources = {offset: finder.source(refs[key], member) for offset, member in held.items()}
                lost[key] = {offset for offset, source in sources.items() if source is None}
                for offset, source in sources.items():
                    # what still reads back stays where others are lost: its chunk stays for their sake, too
                    if source is not None and not (lost[key] and source.is_itself):
                        self._healed += not source.is_itself
                        if self._apply:
                            source.pack(self._context, self._moving, refs[key], held[offset])
                    task.advance(files=1)
        if self._apply:
            self._moving.close()
        self._name_lost({key: offsets for key, offsets in lost.items() if offsets})

    def _name_lost(self, lost: Mapping[str, set[int]]) -> None:
        """Says of every version which of its files are found nowhere."""
        for root, manifest in manifests(self._context, self._readable if lost else ()):
            for segment in manifest.index.segments:
                if segment.pack in self._broken or not any(key in lost for key in segment.chunks):
                    continue
                table = manifest.read(segment, ("path", "chunk", "offset"))
                rows = zip(*(table[name].to_pylist() for name in ("path", "chunk", "offset")), strict=True)
                for path, chunk, offset in rows:
                    if offset in lost.get(chunk, ()):
                        self._lose([root], show(path))

    def _lose(self, roots: Iterable[Root], what: str) -> None:
        for root in roots:
            self._lost.setdefault(root.version_id, (root, []))[1].append(what)

    def _quarantine(self) -> None:
        """Keeps versions that lost files out of look-ups by name, also once they are approved; their ids still find them."""
        for root, lost in self._lost.values():
            version = self._catalog.version(root.version_id)
            if version.state.is_final and (not version.quarantined or holding.reasons(version.quarantined)):
                failpoint("repair.before_quarantine")
                self._mark(version, f"{LOST}{len(lost)} files are lost")
                self._quarantined.append(version.label)

    def _release(self) -> None:
        """Lets in again what was kept out for damage that is healed, and for nothing else."""
        for root in self._roots:
            version = self._catalog.version(root.version_id)
            if not version.quarantined.startswith(_BY_DAMAGE) or root.version_id in self._lost:
                continue
            (now,) = (each for each in self._catalog.roots() if each.version_id == version.id)
            if not survey(self._context, [now], hashed=True).damaged:
                self._mark(version, self._held(version))

    def _held(self, version: Version) -> str:
        """The mark of a version that is whole: it may still wait for its answer, or have been refused."""
        question = self._catalog.look(version.id)
        if version.state is State.PUBLISHED or (question is not None and question.outcome == "approved"):
            return ""
        if question is not None and question.outcome == "rejected":
            return question.told
        waits = question is not None or holding.APPROVE in unchanged.holds(version)
        return holding.mark([holding.APPROVE]) if waits else ""

    def _mark(self, version: Version, quarantined: str) -> None:
        self._context.session.change(version.id, lambda _now: {"quarantined": quarantined})
