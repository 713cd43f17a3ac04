"""Segments: the runs of entries that a manifest consists of, and where they are cut.

Where a segment ends depends on the set of paths alone, so the same entries are cut alike whatever way they were
put together, and a change in one place leaves the cuts elsewhere as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

from dataset_tasks.manifest.sources import NO_SOURCES, Sources

Digest: TypeAlias = bytes
"""32 raw bytes of SHA-256."""

Path: TypeAlias = bytes
"""A dataset path in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRule:
    """Where segments end: before the first path whose CRC-32 is 0 modulo `modulus`, within limits.

    A segment has at least `least` entries (the last one may have fewer) and at most `most`. Other numbers than the
    defaults are for tests: a store holds manifests cut by the defaults only.
    """

    least: int = 512
    modulus: int = 512
    most: int = 4096

    def next_cut(self, paths: Sequence[bytes], start: int, known: int = 0) -> int | None:
        """Where the segment that begins at `start` ends, or None when that depends on what follows `paths`.

        Args:
            paths: Sorted paths.
            start: Position of the segment's first path.
            known: Positions before this one are known not to be a cut.
        """
        limit = start + self.most
        for position in range(max(start + self.least, known), min(limit, len(paths))):
            if crc32(paths[position]) % self.modulus == 0:
                return position
        return limit if len(paths) >= limit else None

    def closes(self, count: int, following: bytes | None) -> bool:
        """Whether a run of `count` entries that holds no cut ends before `following` (None: nothing follows)."""
        if following is None or count >= self.most:
            return True
        return count >= self.least and crc32(following) % self.modulus == 0


CUTS = CutRule()
"""The cut rule of layout 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of consecutive entries: one row group of a pack.

    Attributes:
        first: Its first path.
        last: Its last path.
        count: How many entries it has.
        bytes: Sum of their sizes.
        pending: How many of them are files whose bytes are not stored yet.
        digest: Content digest, 32 bytes.
        pack: Key of the pack.
        group: Row group in the pack.
        sources: What the numbers in the pack stand for: chunks and owners of its entries, sorted.
    """

    first: Path
    last: Path
    count: int
    bytes: int
    digest: Digest
    pack: str
    group: int
    sources: Sources = NO_SOURCES
    pending: int = 0

    @property
    def chunks(self) -> tuple[str, ...]:
        """Keys of the chunks its entries refer to, sorted."""
        return tuple(sorted({key for key in self.sources.chunks.to_pylist() if key}))


@dataclass(frozen=True, slots=True, order=True)
class PathRange:
    """All paths from `start` up to but not including `end`; None means up to the last one.

    >>> PathRange.under(b"labels").contains(b"labels/a.txt")
    True
    >>> PathRange.under(b"labels").contains(b"labels.txt")
    False
    """

    start: bytes = b""
    end: bytes | None = None

    @classmethod
    def under(cls, folder: bytes) -> PathRange:
        """Everything below a folder at any depth; the empty folder is the root."""
        folder = folder.strip(b"/")
        return cls(folder + b"/", folder + b"0") if folder else cls()

    @classmethod
    def only(cls, path: bytes) -> PathRange:
        """One path alone."""
        return cls(path, path + b"\0")

    def contains(self, path: bytes) -> bool:
        """Whether a path is one of them."""
        return self.start <= path and (self.end is None or path < self.end)

    def covers(self, first: bytes, last: bytes) -> bool:
        """Whether it holds everything from `first` to `last`, both included."""
        return self.start <= first and (self.end is None or last < self.end)
