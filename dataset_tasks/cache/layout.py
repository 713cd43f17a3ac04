"""Where everything of a cache is. Nothing here touches the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dataset_tasks.errors import InvalidArgumentError

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class TreeKey:
    """What a tree is called: the catalog's id, the version's, and which part of it (empty: all).

    The part must say exactly which files are in it, such as `2-of-4` or a digest of patterns. Each is 1 to 100 of
    `A-Za-z0-9_-`, beginning with a letter or a digit.

    Raises:
        InvalidArgumentError: It is not.
    """

    catalog_id: str
    version_id: str
    part: str = ""

    def __post_init__(self) -> None:
        for word in (self.catalog_id, self.version_id, self.part or "all"):
            if not _WORD.match(word):
                raise InvalidArgumentError(
                    f"{word!r} can't be part of the name of a cached tree", hint="Use 1 to 100 of `A-Za-z0-9_-`."
                )

    @property
    def name(self) -> str:
        """The tree's folder below its catalog's."""
        return f"{self.version_id}.{self.part}" if self.part else self.version_id

    @classmethod
    def of(cls, catalog_id: str, name: str) -> TreeKey:
        """The key of a tree by its folder's name."""
        version_id, _, part = name.partition(".")
        return cls(catalog_id, version_id, part)

    def __str__(self) -> str:
        return f"{self.catalog_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a cache below its folder."""

    root: Path

    def tree(self, key: TreeKey) -> Path:
        """The version tree: read-only files."""
        return self.root / "trees" / key.catalog_id / key.name

    def links(self, key: TreeKey) -> Path:
        """The tree of soft links into the version tree."""
        return self.root / "links" / key.catalog_id / key.name

    def listing(self, key: TreeKey) -> Path:
        """What stands in the version tree."""
        return self.root / "lists" / key.catalog_id / f"{key.name}.arrow"

    def use_lock(self, key: TreeKey) -> Path:
        """Held shared by who uses the tree, alone by who evicts it; its mtime is when it was last asked for."""
        return self.root / "locks" / key.catalog_id / f"{key.name}.use"

    def build_lock(self, key: TreeKey) -> Path:
        """Held alone by who makes, mends or links the tree."""
        return self.root / "locks" / key.catalog_id / f"{key.name}.build"

    def pins(self, key: TreeKey) -> Path:
        """The folder of pins of one tree."""
        return self.root / "pins" / key.catalog_id / key.name
