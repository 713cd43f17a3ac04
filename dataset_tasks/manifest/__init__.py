"""Manifests: the sorted, immutable, content-addressed set of entries of a version.

`entries` makes columns, `Manifest` reads, `apply`, `place`, `merge` and `squash` make new ones, `diff` compares.
docs/format/manifest.md is the format.
"""

from __future__ import annotations

from dataset_tasks.manifest.algebra import Changes, DiffColumns, changes, diff, merge, squash
from dataset_tasks.manifest.build import Built
from dataset_tasks.manifest.columns import (
    COLUMNS,
    CONTENT_COLUMNS,
    DEFLATE,
    FILE,
    LINK,
    NO_HASH,
    PLACEMENT_SCHEMA,
    SCHEMA,
    STORAGE_COLUMNS,
    STORED,
    Entry,
    constant,
    entries,
    placements,
    rows,
)
from dataset_tasks.manifest.digest import LAYOUT, content_hash, segment_digest
from dataset_tasks.manifest.index import EMPTY, Index
from dataset_tasks.manifest.overlay import apply, place
from dataset_tasks.manifest.packs import ReadObject
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.manifest.segments import PathRange, Segment

__all__ = [
    "COLUMNS",
    "CONTENT_COLUMNS",
    "DEFLATE",
    "EMPTY",
    "FILE",
    "LAYOUT",
    "LINK",
    "NO_HASH",
    "PLACEMENT_SCHEMA",
    "SCHEMA",
    "STORAGE_COLUMNS",
    "STORED",
    "Built",
    "Changes",
    "DiffColumns",
    "Entry",
    "Index",
    "Manifest",
    "PathRange",
    "ReadObject",
    "Segment",
    "apply",
    "changes",
    "constant",
    "content_hash",
    "diff",
    "entries",
    "merge",
    "place",
    "placements",
    "rows",
    "segment_digest",
    "squash",
]
