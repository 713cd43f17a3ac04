"""What versions have stored where, read from their manifests; segments that versions share are read once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import pyarrow as pa

from dataset_tasks.catalog.collect import Root
from dataset_tasks.errors import IntegrityError
from dataset_tasks.kernels import pc
from dataset_tasks.manifest import Manifest
from dataset_tasks.manifest.columns import flat, strings
from dataset_tasks.members import Member
from dataset_tasks.model import ObjectRef
from dataset_tasks.ops.context import Context

#: The columns that `members` needs.
MEMBERS = ("path", "size", "hash", "chunk", "offset", "stored", "method")


def manifests(context: Context, roots: Iterable[Root]) -> Iterator[tuple[Root, Manifest]]:
    """The manifests of versions as they stand, opened.

    Raises:
        IntegrityError: An index can't be read.
    """
    for root in roots:
        version = context.session.catalog.version(root.version_id)
        yield root, context.session.manifest(version)


def segments_in(
    context: Context,
    roots: Iterable[Root],
    columns: tuple[str, ...],
    chunks: Collection[str] | None = None,
    *,
    broken: Collection[str] | None = None,
) -> Iterator[tuple[Manifest, pa.Table]]:
    """The rows of versions that have bytes in some chunks (None: in any), a table a segment.

    Args:
        context: Of the operation.
        roots: The versions.
        columns: Those wanted, `chunk` among them.
        chunks: Their keys.
        broken: Keys of objects that are not read; and what turns out to be damaged is passed over, too.

    Raises:
        IntegrityError: A manifest can't be read, and `broken` is None.
    """
    seen: set[tuple[str, int]] = set()
    for _, manifest in manifests(context, roots):
        for segment in manifest.index.segments:
            here = segment.pack, segment.group
            if here in seen or not segment.chunks or segment.pack in (broken or ()):
                continue
            if chunks is not None and not any(key in chunks for key in segment.chunks):
                continue
            seen.add(here)
            try:
                table = manifest.read(segment, columns)
            except IntegrityError:
                if broken is None:
                    raise
                continue
            keys = flat(table["chunk"])
            wanted = pc.is_valid(keys) if chunks is None else pc.is_in(keys, value_set=strings(sorted(chunks)))
            yield manifest, table.filter(wanted)


def members(table: pa.Table) -> Iterator[tuple[str, Member]]:
    """The rows of a table with the columns `MEMBERS`: chunk and member of each."""
    columns = (table[name].to_pylist() for name in ("chunk", *Member._fields[:2], "hash", *Member._fields[3:]))
    for key, *rest in zip(*columns, strict=True):
        yield key, Member(*rest)


def members_in(
    context: Context,
    roots: Iterable[Root],
    chunks: Mapping[str, ObjectRef],
    *,
    broken: Collection[str] | None = None,
) -> dict[str, dict[int, Member]]:
    """Every member of some chunks that a version needs, by chunk and offset; the arguments are those of `segments_in`."""
    found: dict[str, dict[int, Member]] = {key: {} for key in chunks}
    for _, table in segments_in(context, roots, MEMBERS, chunks, broken=broken):
        for key, member in members(table):
            found[key].setdefault(member.offset, member)
    return {key: dict(sorted(held.items())) for key, held in found.items()}
