"""Where the bytes of damaged objects still are: copies of the store, other chunks, cached trees, folders of the user."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_tasks.cache import TreeKey
from dataset_tasks.catalog.collect import Root
from dataset_tasks.errors import IntegrityError, ObjectMissingError, SourceError, StorageError
from dataset_tasks.filesystem import pread_all
from dataset_tasks.hashing import open_source
from dataset_tasks.members import Member, member_pieces
from dataset_tasks.model import ObjectRef
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.relocating import Moving
from dataset_tasks.ops.stored import MEMBERS, members, segments_in
from dataset_tasks.scan import Scan
from dataset_tasks.sources import Source
from dataset_tasks.store import Store, open_store

_PIECE = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the bytes of a member are: in a chunk, as `member` there, or in a file. Verified when it was found.

    `is_itself`: just where they should be, undamaged.
    """

    chunk: ObjectRef | None = None
    member: Member | None = None
    file: bytes | None = None
    is_itself: bool = False

    def pack(self, context: Context, moving: Moving, old: ObjectRef, wanted: Member) -> None:
        """Packs them anew, in place of a member of a damaged chunk.

        Raises:
            IntegrityError, SourceError: They changed since they were found.
        """
        if self.chunk is not None and self.member is not None:
            here = self.member._replace(path=wanted.path)
            moving.take(old, context.session.objects.ranges(self.chunk), here, to=wanted)
            return
        fd = open_source(self.file or b"")
        try:
            moving.take_file(old, fd, wanted)
        finally:
            os.close(fd)


class Finder:
    """Looks for the bytes of members of damaged chunks.

    Args:
        context: Of the operation.
        roots: Versions whose chunks and cached copies may have them; their indexes can be read.
        broken: Keys of damaged objects.
        folders: Where files are that may be what is missing, under any name.
    """

    def __init__(
        self, context: Context, roots: Sequence[Root], broken: Collection[str], folders: Sequence[str]
    ) -> None:
        self._context = context
        self._roots = roots
        self._broken = broken
        self._folders = folders
        self._itself: dict[tuple[str, int], Found] = {}
        self._elsewhere: dict[bytes, Found] = {}

    def source(self, chunk: ObjectRef, member: Member) -> Found | None:
        """Where the bytes of a member are that was looked for; None for nowhere."""
        return self._itself.get((chunk.key, member.offset)) or self._elsewhere.get(member.sha256)

    def look_for(self, wanted: Iterable[tuple[ObjectRef, Member]]) -> None:
        """Looks for some members, by their hashes, from the nearest place to the farthest.

        Raises:
            SourceError: A folder is not there.
            StorageError: A store refused or did not answer.
        """
        missing: dict[bytes, Member] = {}
        for chunk, member in wanted:
            if self._reads_back(chunk, member):
                self._itself[chunk.key, member.offset] = Found(chunk=chunk, member=member, is_itself=True)
            else:
                missing[member.sha256] = member
        for look in (self._in_chunks, self._in_trees, self._in_folders):
            left = {sha256: member for sha256, member in missing.items() if sha256 not in self._elsewhere}
            if left:
                look(left)

    def _reads_back(self, chunk: ObjectRef, member: Member) -> bool:
        try:
            deque(member_pieces(self._context.session.objects.ranges(chunk), member), maxlen=0)
        except (IntegrityError, ObjectMissingError):
            return False
        except StorageError as error:
            if error.retryable:
                raise
            return False
        return True

    def _in_chunks(self, missing: dict[bytes, Member]) -> None:
        """The same content in other chunks: of other versions, or of the same under another path."""
        for manifest, table in segments_in(self._context, self._roots, MEMBERS, broken=self._broken):
            for key, member in members(table):
                if member.sha256 not in missing or key in self._broken or member.sha256 in self._elsewhere:
                    continue
                chunk = manifest.index.objects[key]
                if self._reads_back(chunk, member):
                    self._elsewhere[member.sha256] = Found(chunk=chunk, member=member)

    def _in_trees(self, missing: dict[bytes, Member]) -> None:
        """Copies of versions in the cache of this machine."""
        session = self._context.session
        for root in self._roots:
            tree = session.cache.find(TreeKey(session.catalog.id, root.version_id), hold=True)
            for sha256, member in missing.items() if tree is not None else ():
                path = os.path.join(os.fsencode(tree or ""), member.path)
                if sha256 not in self._elsewhere and _is_file_of(path, member):
                    self._elsewhere[sha256] = Found(file=path)

    def _in_folders(self, missing: dict[bytes, Member]) -> None:
        """Files of the user: every one is hashed."""
        for folder in self._folders:
            for batch in Scan(Source.locate(Path(folder).expanduser()), on_error="skip"):
                for source, sha256 in zip(batch.source, batch.hash, strict=True):
                    if sha256 in missing:
                        self._elsewhere.setdefault(sha256, Found(file=source))


def _is_file_of(path: bytes, member: Member) -> bool:
    try:
        fd = open_source(path)
    except (OSError, SourceError):
        return False
    try:
        if os.fstat(fd).st_size != member.size:
            return False
        sha = hashlib.sha256()
        for start in range(0, member.size, _PIECE):
            sha.update(pread_all(fd, start, _PIECE))
        return sha.digest() == member.sha256
    except OSError:
        return False
    finally:
        os.close(fd)


class StoreCopies:
    """Other stores that may hold a catalog's objects as they were: those given, and all that the catalog knows.

    Raises:
        InvalidArgumentError: A URL is none of a store.
    """

    def __init__(self, context: Context, urls: Sequence[str]) -> None:
        self._context = context
        settings = context.session.settings
        self._given: list[Store] = [open_store(url, home=settings.home) for url in urls]

    def restore(self, ref: ObjectRef, *, apply: bool) -> bool:
        """Writes an object again from the first copy that has it as it was; whether there is one.

        Raises:
            StorageError: The store of the object refused or did not answer.
        """
        objects = self._context.session.objects
        known = [
            objects.store(store_id) for store_id in self._context.session.catalog.stores() if store_id != ref.store_id
        ]
        for store in (*self._given, *known):
            if self._is_as_it_was(store, ref):
                return not apply or self._copied(store, ref)
        return False

    def _is_as_it_was(self, store: Store, ref: ObjectRef) -> bool:
        try:
            with store.open(self._context.session.objects.full_key(ref.key)) as reader:
                if reader.size != ref.size:
                    return False
                sha = hashlib.sha256()
                for start in range(0, ref.size, _PIECE):
                    sha.update(reader.pread(start, min(_PIECE, ref.size - start)))
        except (ObjectMissingError, IntegrityError):
            return False
        except StorageError as error:
            self._context.progress.note(f"{store.url} is passed over: {error.message}")
            return False
        return sha.hexdigest() == ref.sha256

    def _copied(self, store: Store, ref: ObjectRef) -> bool:
        objects = self._context.session.objects
        sha = hashlib.sha256()
        with (
            store.open(objects.full_key(ref.key)) as reader,
            objects.store(ref.store_id).create(objects.full_key(ref.key)) as writer,
        ):
            for start in range(0, ref.size, _PIECE):
                piece = reader.pread(start, min(_PIECE, ref.size - start))
                sha.update(piece)
                writer.write(piece)
            if sha.hexdigest() == ref.sha256:
                writer.commit()
                return True
        return False
