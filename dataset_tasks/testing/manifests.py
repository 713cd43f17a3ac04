"""Manifests without a store: objects on a shelf in memory, and limits so small that few entries make many segments."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from dataset_tasks.errors import IntegrityError, ObjectMissingError
from dataset_tasks.manifest.build import Built, Limits
from dataset_tasks.manifest.columns import DEFLATE, FILE, Entry, entries
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.manifest.segments import CutRule
from dataset_tasks.model import ObjectRef

SMALL = Limits(
    cuts=CutRule(least=2, modulus=3, most=6),
    max_segments=4,
    max_packs=5,
    kept_packs=2,
)
"""A layout like the real one in which a dozen entries make several segments and packs."""

STORE_ID = "shelf"


class Shelf:
    """Objects by key, read with the checks that a store makes. `reads` lists the keys in the order they were read.

    >>> shelf = Shelf()
    >>> shelf.new_key(), shelf.new_key()
    ('pack-0', 'pack-1')
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: list[str] = []
        self._numbers = itertools.count()

    def new_key(self) -> str:
        """A key that was never given before."""
        return f"pack-{next(self._numbers)}"

    def read(self, ref: ObjectRef) -> bytes:
        """The object, if it is what the reference says.

        Raises:
            ObjectMissingError: It is not there.
            IntegrityError: Its size or SHA-256 is another.
        """
        self.reads.append(ref.key)
        if ref.key not in self.objects:
            raise ObjectMissingError(f"the shelf has no {ref.key!r}", hint="Put it there.")
        data = self.objects[ref.key]
        if (len(data), hashlib.sha256(data).hexdigest()) != (ref.size, ref.sha256):
            raise IntegrityError(f"{ref.key!r} is not what was put on the shelf", hint="Put it there again.")
        return data

    def land(self, built: Built) -> Manifest:
        """Stores the packs and opens the manifest."""
        self.objects.update((key, bytes(data)) for key, data in built.packs)
        return Manifest(built.index, self.read)


def chunk_ref(key: str) -> ObjectRef:
    """A reference of a chunk that nobody reads."""
    return ObjectRef(store_id=STORE_ID, key=key, size=1, sha256="0" * 64)


def file_entry(path: bytes, content: int = 0, *, owner: str = "a" * 32, chunk: str | None = None) -> Entry:
    """An entry of a file; `content` stands for what is in it, size and hash follow from it."""
    return Entry(
        path=path,
        kind=FILE,
        size=content,
        hash=hashlib.sha256(str(content).encode()).digest(),
        owner=owner,
        chunk=chunk,
        offset=content if chunk else 0,
        stored=content if chunk else 0,
        method=DEFLATE if chunk else 0,
        link=None,
        pin=None,
    )


def stored_in(entry: Entry, chunk: str) -> Entry:
    """The same file with its bytes in a chunk."""
    return replace(entry, chunk=chunk, offset=7, stored=entry.size, method=DEFLATE)


def table_of(content: Iterable[Entry]) -> pa.Table:
    """A table of entries, sorted."""
    rows = sorted(content, key=lambda entry: entry.path)
    return entries(
        paths=[entry.path for entry in rows],
        kinds=[entry.kind for entry in rows],
        sizes=[entry.size for entry in rows],
        hashes=[entry.hash for entry in rows],
        owner=[entry.owner for entry in rows],
        chunks=[entry.chunk for entry in rows],
        offsets=[entry.offset for entry in rows],
        stored=[entry.stored for entry in rows],
        methods=[entry.method for entry in rows],
        links=[entry.link for entry in rows],
        pins=[entry.pin for entry in rows],
    )


def content_of(manifest: Manifest) -> Mapping[bytes, Entry]:
    """All entries by path."""
    return {entry.path: entry for entry in manifest.entries()}
