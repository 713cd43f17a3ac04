"""verify: compares a version with its entries, in the store or in a copy. Reports what it finds and heals nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dataset_tasks import external, holding
from dataset_tasks.copies import examine
from dataset_tasks.errors import DatasetError, InvalidArgumentError, ObjectMissingError, SourceError, TargetError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import FILE, LINK, Manifest, PathRange
from dataset_tasks.manifest.columns import binaries, digests, flat, int8s
from dataset_tasks.model import ObjectRef, Version
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.requests import Verify, VerifyResult
from dataset_tasks.paths import show, to_text
from dataset_tasks.progress import Task
from dataset_tasks.scan import Scan
from dataset_tasks.sources import Source

_LINKS_AT_ONCE = 8
_HEADERS = 76  # bytes of a zip that come with each member, besides its name twice
_NEARLY_ALL = 0.9
_PIECE = 4 << 20
_IS_LINK = int8s([LINK])[0]


def run(context: Context, request: Verify) -> VerifyResult:
    """Looks at every entry. Of a copy: wrong hash, wrong size, missing. Of the store: the same, chunk by chunk.

    Where links lead is looked at either way, and compared with their pins. A server that does not answer says nothing
    about the version: such links are noted in the log, not listed.

    Raises:
        StateError: The version is not final.
        TargetError: The folder to verify is not there.
        IntegrityError: The manifest itself can't be read.
    """
    version = context.session.catalog.resolve(request.ref)
    require_final(version, "verify")
    manifest = context.session.manifest(version)
    with context.progress.task(f"{version.dataset}: verify", files=version.files, bytes=version.bytes) as task:
        if request.path is not None:
            bad = _copy(manifest, request.path, request.mode, task)
        elif request.mode == "size":
            bad = _sizes(context, manifest)
        else:
            bad = set(examine(manifest.batches(), context.session.chunk_opener(manifest), task=task))
            bad |= set(_in_spoiled_chunks(context, manifest, bad))
        bad |= set(_broken_links(context, manifest))
    if request.quarantine and request.path is None:
        _settle(context, request, version, len(bad))
    return VerifyResult(
        **about(version), bad=tuple(sorted(map(to_text, bad))), files=version.files, bytes=version.bytes
    )


def _settle(context: Context, request: Verify, version: Version, bad: int) -> None:
    """Keeps a bad version out of look-ups, and lets one in that was waiting for this."""
    waits = holding.reasons(version.quarantined)
    if version.quarantined and not waits:
        return
    mark = f"verify failed: {bad} files differ" if bad else holding.without(version.quarantined, holding.VERIFY)
    if mark == version.quarantined:
        return
    failpoint("verify.before_mark")
    record = context.part("quarantine").record(request, lambda now: VerifyResult(**about(now)))
    context.session.catalog.change(version, record, quarantined=mark)
    failpoint("verify.after_mark")
    context.session.flush_journal()


def _in_spoiled_chunks(context: Context, manifest: Manifest, bad: Collection[bytes]) -> Iterator[bytes]:
    """Files that are sound, in chunks that are not what was written: a zip that lost its directory opens nowhere else.

    Only chunks are looked at of which nearly all was read anyway, and none of whose files was found bad.
    """
    used: Counter[str] = Counter()
    named: set[str] = set()
    for batch in manifest.batches(("path", "chunk", "stored")):
        for path, key, stored in zip(*(batch[name].to_pylist() for name in batch.column_names), strict=True):
            if key is not None:
                used[key] += stored + 2 * len(path) + _HEADERS
                if path in bad:
                    named.add(key)
    refs = (manifest.index.objects[key] for key in used if key not in named)
    spoiled = {ref.key for ref in refs if used[ref.key] >= _NEARLY_ALL * ref.size and not _is_whole(context, ref)}
    for key in spoiled:
        context.progress.note(f"chunk {key} is not what was written, although every file in it is sound")
    for batch in manifest.batches(("path", "chunk")) if spoiled else ():
        yield from (p for p, key in zip(*(c.to_pylist() for c in batch.columns), strict=True) if key in spoiled)


def _is_whole(context: Context, ref: ObjectRef) -> bool:
    chunk, digest = context.session.objects.ranges(ref), hashlib.sha256()
    for start in range(0, ref.size, _PIECE):
        digest.update(chunk.pread(start, min(_PIECE, ref.size - start)))
    return digest.hexdigest() == ref.sha256 and _size(context, ref) == ref.size


def _sizes(context: Context, manifest: Manifest) -> set[bytes]:
    """Entries whose chunk is missing or too short; reads no chunk."""
    sizes = {
        key: _size(context, ref) for key, ref in manifest.index.objects.items() if ref.key in manifest.index.chunks
    }
    bad: set[bytes] = set()
    for batch in manifest.batches(("path", "kind", "chunk", "offset", "stored")):
        columns = (batch[name].to_pylist() for name in ("path", "chunk", "offset", "stored"))
        bad |= {path for path, chunk, at, length in zip(*columns, strict=True) if chunk and at + length > sizes[chunk]}
    return bad


def _size(context: Context, ref: ObjectRef) -> int:
    objects = context.session.objects
    try:
        return objects.store(ref.store_id).size(objects.full_key(ref.key))
    except ObjectMissingError:
        return -1


def _broken_links(context: Context, manifest: Manifest) -> Iterator[bytes]:
    """Links that lead to nothing, or to something else than what was added; reads no content."""

    def look(link: tuple[bytes, int, str, str | None]) -> str | DatasetError:
        _, size, url, pin = link
        try:
            return external.difference(url, pin or "", size, stores=context.session.stores)
        except (SourceError, InvalidArgumentError) as error:
            return error

    with ThreadPoolExecutor(_LINKS_AT_ONCE, thread_name_prefix="dataset-tasks-links") as pool:
        for batch in _links(manifest):
            links = list(zip(*(batch[name].to_pylist() for name in ("path", "size", "link", "pin")), strict=True))
            for (path, *_), found in zip(links, pool.map(look, links), strict=True):
                if isinstance(found, DatasetError):
                    context.progress.note(f"{show(path)} can't be checked: {found.message}")
                elif found:
                    context.progress.note(f"{show(path)}: {found}")
                    yield path


def _links(manifest: Manifest) -> Iterator[pa.Table]:
    """The links of a manifest; where there are none, only their kinds are read."""
    if not any(pc.min_max(batch["kind"])["max"].as_py() == LINK for batch in manifest.batches(("kind",))):
        return
    for batch in manifest.batches(("path", "kind", "size", "link", "pin")):
        held = batch.filter(pc.equal(flat(batch["kind"]), _IS_LINK))
        if len(held):
            yield held


def _copy(manifest: Manifest, path: str, mode: str, task: Task) -> set[bytes]:
    folder = Path(path)
    if not path or not folder.is_dir():
        raise TargetError(f"there is no folder {path!r} to verify", hint="Give the folder that holds the copy.")
    if mode == "size":
        return _of_other_size(manifest.batches(("path", "size")), folder)
    bad = _of_other_size(_links(manifest), folder)
    seen_to = b""
    for batch in Scan(Source.locate(folder), on_error="skip", task=task):
        end = batch.path[-1] + b"\0"
        bad |= _differing(manifest, PathRange(seen_to, end), binaries(batch.path), digests(batch.hash))
        seen_to = end
    return bad | _differing(manifest, PathRange(seen_to), binaries([]), digests([]))


def _differing(manifest: Manifest, within: PathRange, paths: pa.Array, hashes: pa.Array) -> set[bytes]:
    """Files of a range of the manifest that are not among the given ones with just that hash."""
    expected = manifest.to_table(("path", "kind", "hash"), within=within)
    at = pc.index_in(flat(expected["path"]), value_set=paths)
    same = pc.equal(hashes.take(at), flat(expected["hash"]))
    wrong = pc.or_kleene(pc.is_null(at), pc.invert(same))
    is_file = pc.equal(flat(expected["kind"]), int8s([FILE])[0])
    return set(expected.filter(pc.and_(wrong, is_file))["path"].to_pylist())


def _of_other_size(entries: Iterable[pa.Table], folder: Path) -> set[bytes]:
    """Paths whose file in a folder is missing or has another size."""
    sizes = (zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True) for table in entries)
    return {path for rows in sizes for path, size in rows if _local_size(folder, path) != size}


def _local_size(folder: Path, path: bytes) -> int:
    try:
        found = os.stat(os.path.join(os.fsencode(folder), path))
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1
