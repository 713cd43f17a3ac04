"""repack: copies what is still needed out of chunks that are mostly dead, so that gc can free them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from dataset_tasks.catalog.collect import Root
from dataset_tasks.errors import IntegrityError, InvalidArgumentError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import ObjectRef
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.relocating import Moving
from dataset_tasks.ops.requests import Repack, RepackResult
from dataset_tasks.ops.stored import manifests, members_in, segments_in

#: What a zip says of each member, in bytes, roughly: its two headers and its name twice.
_AROUND = 140
_PLACES = ("chunk", "offset", "stored")


def run(context: Context, request: Repack) -> RepackResult:
    """Repacks the chunks of which little is needed. Versions keep their content; what they no longer need, gc frees.

    Run again after it was killed, it goes on; what it had copied by then and not yet used is left to gc.

    Raises:
        InvalidArgumentError: `live` is no share.
        IntegrityError: The index of a version can't be read.
        StorageError: A store refused or did not answer.
        ConflictError: A version was moved by others again and again.
    """
    if not 0 <= request.live <= 1:
        raise InvalidArgumentError(f"live {request.live} is no share", hint="Give a number from 0 to 1.")
    catalog = context.session.catalog
    roots = catalog.roots()
    chunks, needed = _needed(context, roots)
    sparse = {key: ref for key, ref in chunks.items() if request.live == 1 or needed[key] <= request.live * ref.size}
    copied = sum(needed[key] for key in sparse)
    labels: tuple[str, ...] = ()
    if not request.dry_run and sparse:
        moving = Moving(context)
        _copy(context, roots, sparse, moving)
        copied = sum(ref.size for ref in moving.objects.values())
        sparse = {key: ref for key, ref in sparse.items() if key in moving.moves}
        labels = tuple(version.label for version in moving.repoint(roots, request))
        failpoint("repack.after_versions")
    elif sparse:
        held = ((root, manifest.index.objects.keys()) for root, manifest in manifests(context, roots))
        labels = tuple(root.label for root, keys in held if keys & sparse.keys())
    if not request.dry_run:
        context.session.flush_journal()  # also of a try that was killed behind its last commit
    return RepackResult(
        catalog_id=catalog.id,
        version_id="",
        project="",
        name="",
        version="",
        dry_run=request.dry_run,
        chunks=len(sparse),
        copied=copied,
        bytes=sum(ref.size for ref in sparse.values()) - copied,
        versions=labels,
    )


def _needed(context: Context, roots: Iterable[Root]) -> tuple[dict[str, ObjectRef], dict[str, int]]:
    """Every chunk that a version refers to, and how many of its bytes are needed."""
    chunks: dict[str, ObjectRef] = {}
    tables = []
    for manifest, table in segments_in(context, roots, _PLACES):
        tables.append(table)
        chunks |= {key: ref for key, ref in manifest.index.objects.items() if key in manifest.index.chunks}
    needed = dict.fromkeys(chunks, 0)
    if tables:
        members = pa.concat_tables(tables).group_by(["chunk", "offset"]).aggregate([("stored", "max")])
        sums = members.group_by(["chunk"]).aggregate([("stored_max", "sum"), ("stored_max", "count")])
        columns = (sums[name].to_pylist() for name in ("chunk", "stored_max_sum", "stored_max_count"))
        needed |= {key: size + count * _AROUND for key, size, count in zip(*columns, strict=True)}
    return chunks, needed


def _copy(context: Context, roots: list[Root], chunks: dict[str, ObjectRef], moving: Moving) -> None:
    """Copies the members of some chunks that are needed, chunk by chunk, in the order in which they lie there."""
    members = members_in(context, roots, chunks)
    total = sum(member.stored for held in members.values() for member in held.values())
    with context.progress.task("repack: copy", files=sum(map(len, members.values())), bytes=total) as task:
        for key, ref in chunks.items():
            source = context.session.objects.ranges(ref)
            try:
                for member in members[key].values():
                    moving.take(ref, source, member)
                    task.advance(files=1, bytes=member.stored)
            except IntegrityError as error:
                moving.moves.pop(key, None)
                context.progress.note(f"{key} stays as it is: {error.message}; `dataset-tasks repair` may heal it")
        moving.close()
