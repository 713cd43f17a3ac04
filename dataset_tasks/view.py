"""Looking into a version: entries, paths, differences, frames, and single files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_tasks import external
from dataset_tasks.cache import TreeKey
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.manifest import Entry, Manifest, PathRange, diff
from dataset_tasks.manifest.columns import binaries, rows
from dataset_tasks.model import Change, Diff, FileEntry, LinkEntry, Version
from dataset_tasks.ops.context import require_final
from dataset_tasks.ops.inherited import inherited
from dataset_tasks.paths import DatasetPattern, show
from dataset_tasks.pending import Pending
from dataset_tasks.reader import EntryReader, LinkReader
from dataset_tasks.session import Session

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff(Diff):
    """A `Diff` that pandas can look at."""

    def to_frame(self) -> pd.DataFrame:
        """A frame with the columns change (`added`, `modified`, `removed`), path, old_size, new_size (bytes)."""
        import pandas as pd

        kinds: tuple[tuple[str, tuple[Change, ...]], ...] = (
            ("added", self.added),
            ("modified", self.modified),
            ("removed", self.removed),
        )
        found = [(kind, each.path, each.old_size, each.new_size) for kind, changes in kinds for each in changes]
        frame = pd.DataFrame(found, columns=["change", "path", "old_size", "new_size"])
        return frame.astype({"old_size": "Int64", "new_size": "Int64"})


class VersionView:
    """One version as it stood when the view was made.

    Args:
        session: Where it is.
        version: The version.
    """

    def __init__(self, session: Session, version: Version) -> None:
        self._session = session
        self._version = version

    def manifest(self) -> Manifest:
        """Its manifest."""
        return self._session.manifest(self._version)

    def entries(self) -> Mapping[str, FileEntry | LinkEntry]:
        """Path to entry; entries are made as they are looked at."""
        return EntryMapping(self._session, self._version)

    def paths(self, pattern: str | None = None, recursive: bool = True, owner: str | None = None) -> list[str]:
        """Paths that a pattern matches (None or empty: all), of those the ones whose bytes `owner` brought; sorted."""
        is_empty = pattern is None or not str(pattern).replace("\\", "/").strip("/")
        wanted = DatasetPattern(None if is_empty else pattern, recursive)
        found: list[str] = []
        for batch in self.manifest().batches(("path", "owner"), within=PathRange(*wanted.span())):
            named = zip(batch["path"].to_pylist(), batch["owner"].to_pylist(), strict=True)
            found += [p.decode() for p, by in named if (owner is None or by == owner) and wanted.matches(p)]
        return found

    def compared(self, other: str | None) -> VersionDiff:
        """The difference from another version (by id), or from the merged direct parents, to this one.

        Raises:
            NotFoundError: The id is unknown.
        """
        if other is None:
            before = inherited(self._session, self._version.parents)
        else:
            found = self._session.catalog.version(other)
            gone = not found.state.is_final and found.index is None
            before = Manifest.empty() if gone or str(found.state) == "deleted" else self._session.manifest(found)
        model = diff(before, self.manifest()).to_model()
        return VersionDiff(added=model.added, modified=model.modified, removed=model.removed)

    def frame(self) -> pd.DataFrame:
        """A frame of all files: path, size (bytes), hash (hex), parent_dataset_id; sorted by path."""
        import pandas as pd

        table = self.manifest().to_table(("path", "size", "hash", "owner"))
        return pd.DataFrame(
            {
                "path": [path.decode() for path in table["path"].to_pylist()],
                "size": table["size"].to_pylist(),
                "hash": [digest.hex() for digest in table["hash"].to_pylist()],
                "parent_dataset_id": table["owner"].to_pylist(),
            }
        ).astype({"size": "int64"})

    def cached(self) -> Path | None:
        """The copy in the cache as it stands, held until this process ends; None when there is none.

        Raises:
            StateError: The version is not final.
        """
        require_final(self._version, "a copy")
        return self._session.cache.find(
            TreeKey(self._version.catalog_id, self._version.id), content=self._version.content_hash, hold=True
        )

    def chunk_count(self, include_parents: bool) -> int:
        """How many chunks hold its files, or those it brought itself."""
        chunks = set(self.manifest().index.chunks)
        if not include_parents:
            chunks &= {each.key for each in self._session.catalog.objects_of(self._version.id, "chunk")}
        return len(chunks)

    def open(self, path: str) -> io.BufferedReader:
        """One file as a seekable binary reader; a link is read from where it leads.

        Raises:
            NotFoundError: The version has no such file.
            StateError: The version is not final.
        """
        if not isinstance(path, str):
            raise InvalidArgumentError(f"the path {path!r} is no text", hint="Give a str.")
        require_final(self._version, "open")
        manifest = self.manifest()
        entry = manifest.find(path)
        if entry is None:
            raise NotFoundError(
                f"{show(path)} is not in it: {self._version.label}", hint="See `list_files()` for what is there."
            )
        if entry.link is not None:
            pieces = partial(external.fetch, entry.link, entry.pin or "", entry.size, stores=self._session.stores)
            return io.BufferedReader(LinkReader(pieces, entry.size), buffer_size=1 << 20)
        chunk = partial(self._session.chunk_opener(manifest), entry.chunk or "")
        return io.BufferedReader(EntryReader(chunk, entry), buffer_size=1 << 20)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Prints what changed in the version while the block ran."""
        before = self.manifest()
        yield
        after = self._session.manifest(self._session.catalog.version(self._version.id))
        changed = diff(before, after).to_model()
        for sign, changes in (("+", changed.added), ("~", changed.modified), ("-", changed.removed)):
            for each in changes:
                print(sign, show(each.path))  # noqa: T201  # asked for by `verbose`


class EntryMapping(Mapping[str, "FileEntry | LinkEntry"]):
    """The entries of a version by path, read on demand: iterating a large one keeps a batch at a time."""

    def __init__(self, session: Session, version: Version) -> None:
        self._manifest = session.manifest(version)
        ref = version.pending_object
        self._pending = Pending(session.objects.read(ref)) if ref is not None else None

    def __len__(self) -> int:
        return len(self._manifest)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._manifest.find(path) is not None

    def __getitem__(self, path: str) -> FileEntry | LinkEntry:
        entry = self._manifest.find(path)
        if entry is None:
            raise KeyError(path)
        return self._shown(entry)

    def __iter__(self) -> Iterator[str]:
        for batch in self._manifest.batches(("path",)):
            yield from (path.decode() for path in batch["path"].to_pylist())

    def values(self) -> Iterator[FileEntry | LinkEntry]:  # type: ignore[override]  # a stream, not a view: see `items`
        """Entries sorted by path, made one by one."""
        return (entry for _, entry in self.items())

    def items(self) -> Iterator[tuple[str, FileEntry | LinkEntry]]:  # type: ignore[override]  # a stream, not a view
        """Path and entry, sorted by path, made one by one: a look-up for each path would read a segment each time."""
        for batch in self._manifest.batches():
            for entry in rows(batch):
                yield entry.path.decode(), self._shown(entry)

    def _shown(self, entry: Entry) -> FileEntry | LinkEntry:
        made = entry.to_model()
        if not entry.is_pending or self._pending is None or isinstance(made, LinkEntry):
            return made
        (source,) = self._pending.sources(binaries([entry.path]))
        local = os.fsdecode(source) if source is not None else None
        return FileEntry(made.relative_path, made.hash, made.size, made.parent_dataset_id, None, local)
