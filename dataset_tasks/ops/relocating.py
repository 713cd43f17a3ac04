"""Bytes of final versions put elsewhere: members copied into new chunks, and every version pointed to them.

What a version holds never changes by it: the content hash of each is the same before and after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from dataset_tasks.catalog.collect import Root
from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.deflating import Reader
from dataset_tasks.errors import ConflictError, IntegrityError, StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import Segment
from dataset_tasks.manifest.build import Whole
from dataset_tasks.manifest.relocate import Place, Stand, relocate, settled
from dataset_tasks.members import Member, RangedReader
from dataset_tasks.model import ObjectRef, State, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.context import Context, about
from dataset_tasks.ops.packing import DEFAULT_CHUNK, MOST_MEMBERS
from dataset_tasks.ops.requests import Request, Result
from dataset_tasks.store import Writer
from dataset_tasks.zipformat import member_name

_TRIES = 12


@dataclass(slots=True)
class Moving:
    """Members on their way from chunks to other chunks, and what is known of both."""

    context: Context
    moves: dict[str, dict[int, Place]] = field(default_factory=dict)
    stands: Stand = field(default_factory=dict)
    objects: dict[str, ObjectRef] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    copied: int = 0
    _open: dict[str, _Chunk] = field(default_factory=dict)

    def take(self, old: ObjectRef, source: RangedReader, member: Member, *, to: Member | None = None) -> None:
        """Copies a member of a chunk to where new ones go; `to` is its place in `old` when it is read from elsewhere.

        Raises:
            IntegrityError: The source does not hold that file there.
            StorageError: A store refused or did not answer.
        """
        chunk = self._chunk(old.store_id, member)
        self._put(old, to or member, chunk, chunk.writer.add_member(source, chunk.named(member)))

    def take_file(self, old: ObjectRef, source: int | Reader, member: Member) -> None:
        """Packs a file that has the content of a member.

        Raises:
            SourceError: It has not.
            StorageError: A store refused or did not answer.
        """
        chunk = self._chunk(old.store_id, member)
        named = chunk.named(member)
        self._put(old, member, chunk, chunk.writer.add(source, named.path, member.size, member.sha256))

    def stand_in(self, lost: Segment, other: Whole) -> None:
        """Lets a segment with the same content, of another version, take the place of one that can't be read."""
        self.stands[lost.pack, lost.group] = other
        held = {key: other.manifest.index.objects[key] for key in (other.segment.pack, *other.segment.chunks)}
        self.objects |= held
        self.live |= held.keys()

    def close(self) -> None:
        """Ends the chunks that are open; their bytes stand then."""
        for store_id in list(self._open):
            self._close(store_id)

    def _put(self, old: ObjectRef, member: Member, chunk: _Chunk, now: Member) -> None:
        self.copied += now.stored
        self.moves.setdefault(old.key, {})[member.offset] = Place(chunk.key, now.offset, now.stored, now.method)

    def _chunk(self, store_id: str, member: Member) -> _Chunk:
        held = self._open.get(store_id)
        if held is not None and (held.writer.size + member.size > DEFAULT_CHUNK or held.writer.count >= MOST_MEMBERS):
            self._close(store_id)
            held = None
        if held is None:
            objects = self.context.session.objects
            key = new_key("chunk")
            objects.begin("", store_id, [key])
            sink = objects.writer(store_id, key)
            held = self._open[store_id] = _Chunk(key, sink, ChunkWriter(sink))
        return held

    def _close(self, store_id: str) -> None:
        chunk = self._open.pop(store_id)
        size, sha256 = chunk.writer.finish()
        chunk.sink.commit()
        failpoint("relocate.after_chunk_bytes")
        ref = ObjectRef(store_id=store_id, key=chunk.key, size=size, sha256=sha256)
        self.context.session.objects.written([ref])
        failpoint("relocate.after_chunk")
        self.objects[chunk.key] = ref

    # --- pointing versions there

    def repoint(self, roots: Iterable[Root], request: Request) -> list[Version]:
        """Points every version that has moved members to where they are now; those that had one, by creation.

        Raises:
            ConflictError: A version was moved by others again and again, or a new object was given up meanwhile.
        """
        done = []
        for root in roots:
            version = self._repointed(root.version_id, request)
            if version is not None:
                done.append(version)
        self.context.session.flush_journal()
        return done

    def _repointed(self, version_id: str, request: Request) -> Version | None:
        session = self.context.session
        for left in reversed(range(_TRIES)):
            version = session.catalog.version(version_id)
            if version.state is State.ABORTED or version.index is None:
                return None
            try:
                manifest = session.manifest(version)
                made = relocate(
                    manifest, self.moves, self.stands,
                    new_key=lambda: new_key("pack"), store_id=version.index.store_id, objects=self.objects,
                )  # fmt: skip
            except IntegrityError as error:
                self.context.progress.note(f"{version.label} stays as it is: {error.message}")
                return None
            if made is None:
                return None
            parts = [*made.packs, (new_key("index"), made.index.to_bytes())]
            refs = session.objects.put_all("", version.index.store_id, parts)
            new = {key for key in made.index.objects if key in self.objects and key not in self.live}
            needs = made.index.objects.keys() - manifest.index.objects.keys() - new - {ref.key for ref in refs}
            record = self.context.part(f"move/{version.id}").record(request, lambda now: Result(**about(now)))
            try:
                failpoint("relocate.before_version")
                now = session.catalog.repoint(
                    version, refs[-1], record,
                    objects=(*(ref.key for ref in refs), *sorted(new)), needs=tuple(sorted(needs)),
                )  # fmt: skip
                failpoint("relocate.after_version")
            except (ConflictError, StateError) as error:
                session.objects.discard((ref.store_id, ref.key) for ref in refs)
                if not left or (isinstance(error, ConflictError) and error.kind != ConflictError.default_kind):
                    raise
                continue
            self.live |= new
            self.objects |= {ref.key: ref for ref in refs if ref.key in made.index.objects}
            self.live |= {ref.key for ref in refs}
            settled(manifest, made, self.stands, session.objects.read)
            return now
        raise AssertionError("the last try returns or raises")


@dataclass(slots=True)
class _Chunk:
    """A chunk that is being written."""

    key: str
    sink: Writer
    writer: ChunkWriter
    names: set[bytes] = field(default_factory=set)

    def named(self, member: Member) -> Member:
        """The member under a name that the chunk does not have yet: other versions had other files of its path."""
        name = member_name(member.path)
        if name in self.names:
            member = member._replace(path=member.path + b"\n" + hashlib.sha256(member.sha256).hexdigest().encode())
            name = member_name(member.path)
        self.names.add(name)
        return member
