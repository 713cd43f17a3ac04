"""The files of a draft as they stand: those still pending and links from where they are, the others from the store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dataset_tasks import external
from dataset_tasks.errors import SourceError
from dataset_tasks.manifest import Entry, Manifest, PathRange
from dataset_tasks.manifest.columns import binaries, rows
from dataset_tasks.members import Member, member_pieces
from dataset_tasks.model import Version
from dataset_tasks.ops import scratch
from dataset_tasks.ops.context import Context
from dataset_tasks.paths import DatasetPattern, show
from dataset_tasks.pending import Pending


def files(context: Context, version: Version, pattern: str) -> Iterator[tuple[str, Path]]:
    """Dataset path and local file of everything a pattern matches; what is in the store, or a link, is fetched to scratch.

    Raises:
        SourceError: A pending file is not where it was recorded; a link is gone or changed.
        IntegrityError: Stored bytes are not what they should be.
    """
    manifest = context.session.manifest(version)
    pending = _pending(context, version)
    wanted = DatasetPattern(pattern)
    place: Path | None = None
    for batch in manifest.batches(within=PathRange(*wanted.span())):
        for entry in rows(batch):
            if not wanted.matches(entry.path):
                continue
            if entry.is_pending:
                yield entry.path.decode(), _source(pending, entry)
                continue
            place = place or scratch.fresh(context.session, version, "staged")
            yield entry.path.decode(), _fetch(context, manifest, entry, place)


def copy(context: Context, version: Version, folder: Path) -> None:
    """Writes all files of a draft below a folder.

    Raises:
        SourceError, IntegrityError: As `files`.
    """
    manifest = context.session.manifest(version)
    pending = _pending(context, version)
    for entry in manifest.entries():
        target = folder / os.fsdecode(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_pending:
            shutil.copyfile(_source(pending, entry), target)
        else:
            _fetch(context, manifest, entry, folder)


def _pending(context: Context, version: Version) -> Pending:
    ref = version.pending_object
    return Pending(context.session.objects.read(ref)) if ref is not None else Pending.nothing()


def _source(pending: Pending, entry: Entry) -> Path:
    (source,) = pending.sources(binaries([entry.path]))
    path = Path(os.fsdecode(source)) if source is not None else None
    if path is None or not path.is_file():
        raise SourceError(
            f"{show(entry.path)} is not uploaded yet, and its source is not here: {path}",
            paths=(show(entry.path),),
            hint=f"Run this where the files were added (host {pending.host!r}), or upload first.",
        )
    return path


def _fetch(context: Context, manifest: Manifest, entry: Entry, folder: Path) -> Path:
    target = folder / os.fsdecode(entry.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        for piece in _pieces(context, manifest, entry):
            out.write(piece)
    return target


def _pieces(context: Context, manifest: Manifest, entry: Entry) -> Iterator[bytes]:
    if entry.link is not None:
        return external.fetch(entry.link, entry.pin or "", entry.size, stores=context.session.stores)
    chunk = context.session.objects.ranges(manifest.index.objects[entry.chunk or ""])
    return member_pieces(chunk, member_of(entry))


def member_of(entry: Entry) -> Member:
    """Where an entry's bytes are in its chunk."""
    return Member(entry.path, entry.size, entry.hash, entry.offset, entry.stored, entry.method)
