"""The same content with its bytes elsewhere: what repacking and repairing make of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from dataset_tasks.manifest.build import Builder, Built, Whole
from dataset_tasks.manifest.columns import SCHEMA, flat, int8s, int64s, strings
from dataset_tasks.manifest.packs import ReadObject
from dataset_tasks.manifest.reading import Manifest
from dataset_tasks.model import ObjectRef


class Place(NamedTuple):
    """Where the data of a member is: `offset` and `stored` in bytes, `method` of zip; no chunk for what has no bytes."""

    chunk: str | None
    offset: int
    stored: int
    method: int


#: New places, by chunk and offset of the old one.
Moves: TypeAlias = Mapping[str, Mapping[int, Place]]
#: What stands in for a segment of a stored pack, by pack and row group.
Stand: TypeAlias = "dict[tuple[str, int], Whole]"


def relocate(
    base: Manifest,
    moves: Moves,
    stands: Stand,
    *,
    new_key: Callable[[], str],
    store_id: str,
    objects: Mapping[str, ObjectRef] = MappingProxyType({}),
) -> Built | None:
    """The manifest with the content of `base` whose files are where `moves` says; None when nothing of it moves.

    Versions that share a segment go on sharing it: call `settled` once what was built is stored.

    Args:
        base: What to start from.
        moves: New places of members.
        stands: Segments that were moved before, or that take the place of damaged ones.
        new_key: Gives a fresh object key for each new pack.
        store_id: The store the packs will be put in.
        objects: References of chunks and packs, by key, that moves and stands lead to.

    Raises:
        IntegrityError: A segment of the base that holds moved files can't be read.
    """
    if not _concerns(base, moves, stands):
        return None
    builder = Builder([base], new_key=new_key, store_id=store_id, objects=objects)
    for segment in base.index.segments:
        whole = stands.get((segment.pack, segment.group)) or Whole(segment, base)
        if any(key in moves for key in whole.segment.chunks):
            builder.rewrite(whole, moved(whole.rows(), moves))
        else:
            builder.keep(whole)
    index, packs = builder.finish()
    assert index.content_hash == base.content_hash, "moving bytes never changes what a version is"
    return Built(index=index, packs=packs)


def settled(base: Manifest, built: Built, stands: Stand, read_object: ReadObject) -> None:
    """Remembers which segments of `base` were written anew, for other versions that have them."""
    manifest = Manifest(built.index, read_object)
    for old, new in zip(base.index.segments, built.index.segments, strict=True):
        if old.chunks != new.chunks:
            stands.setdefault((old.pack, old.group), Whole(new, manifest))


def moved(table: pa.Table, moves: Moves) -> pa.Table:
    """The rows with the places that they have now."""
    columns = [flat(table[name]).to_pylist() for name in Place._fields]
    places = [_place(Place(*row), moves) for row in zip(*columns, strict=True)]
    made = (
        strings([place.chunk for place in places]),
        int64s(place.offset for place in places),
        int64s(place.stored for place in places),
        int8s(place.method for place in places),
    )
    for name, column in zip(Place._fields, made, strict=True):
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
    return table


def _place(place: Place, moves: Moves) -> Place:
    there = moves.get(place.chunk) if place.chunk is not None else None
    return place if there is None else there.get(place.offset, place)


def _concerns(base: Manifest, moves: Moves, stands: Stand) -> bool:
    return any(
        (segment.pack, segment.group) in stands or any(key in moves for key in segment.chunks)
        for segment in base.index.segments
    )
