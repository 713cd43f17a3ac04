"""Copies: from chunks straight into a folder, every file verified by its hash on the way.

Entries come as tables with the columns of `manifest.columns`, so a million of them are never a million objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dataset_tasks.errors import IntegrityError, SourceError, SourceUnavailableError
from dataset_tasks.extraction import Extraction, FetchLink, Nowhere, OpenChunk, Table, read_rows
from dataset_tasks.filesystem import AnyPath
from dataset_tasks.paths import show, to_text
from dataset_tasks.progress import Task
from dataset_tasks.targets import Target, Twins

#: Of a table of entries, for each row the absolute path of a file with that content to be hard-linked, or None.
Reuse: TypeAlias = Callable[[Table], Sequence[bytes | None]]
#: Told of each table once all of its files stand, with what `stat` says of each.
Written: TypeAlias = Callable[[Table, Sequence[os.stat_result]], None]

COLUMNS: Final = ("path", "kind", "size", "hash", "chunk", "offset", "stored", "method")
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy holds; `linked` of its `files` share their bytes with a cached tree. `bytes` counts them all."""

    files: int = 0
    bytes: int = 0
    linked: int = 0


def extract(
    entries: Iterable[Table],
    open_chunk: OpenChunk,
    target: AnyPath,
    *,
    fetch_link: FetchLink | None = None,
    read_only: bool = False,
    reuse: Reuse | None = None,
    written: Written | None = None,
    workers: int | None = None,
    task: Task | None = None,
) -> Copied:
    """Writes the files of entries below a folder.

    On an error files of the copy may stand in the folder: give a folder that nobody looks at yet, and drop it.

    Args:
        entries: Tables with at least `COLUMNS`, and `link` and `pin` with `fetch_link`; every path once. Memory is bounded
            by the largest table and, per thread, a few MiB.
        open_chunk: Opens the chunk with that key; readers are used from several threads.
        target: An existing folder, best empty.
        fetch_link: Brings the bytes of external links; without it they are refused.
        read_only: Files 0444, folders 0555 (and the target with them); else 0644 and 0755; less the umask.
        reuse: Offers files to be hard-linked. They must hold what the entry says: nothing is verified here.
        written: Is told what stands.
        workers: Threads; None chooses. More pay where the chunks are far away.
        task: Is told of progress.

    Raises:
        IntegrityError: Stored bytes are missing or are not what they should be; `paths` names every file concerned,
            all others are written. Or an entry's path is none.
        SourceError: External links are gone, or changed since they were added; `paths` names them, after 20 of them no
            more are asked for.
        SourceUnavailableError: Only servers that do not answer stand in the way of links.
        StateError: An entry is pending, or a link without `fetch_link`.
        TargetError: The folder can't take the files; `hint` says why.
        StorageError: The disk is full or fails, or the store does not answer.
    """
    with Target(target, read_only=read_only) as folder:
        extraction = Extraction(folder, open_chunk, workers, task, look=written is not None, fetch_link=fetch_link)
        twins = None if folder.tells_apart() else Twins(folder.path)
        try:
            for table in entries:
                rows = read_rows(table, links=fetch_link is not None)
                if twins:
                    twins.check(rows.path)
                stats = extraction.add(rows, reuse(table) if reuse else None)
                if extraction.is_hopeless:
                    break
                if written is not None and not extraction.damage and not extraction.broken:
                    written(table, [found for found in stats if found is not None])
        finally:
            extraction.close()
        if extraction.damage:
            raise _damage_error(extraction.damage)
        if extraction.broken:
            raise _broken_error(extraction.broken)
        if read_only:
            folder.seal()
        return Copied(files=extraction.files, bytes=extraction.bytes, linked=extraction.linked)


def examine(
    entries: Iterable[Table], open_chunk: OpenChunk, *, workers: int | None = None, task: Task | None = None
) -> dict[bytes, str]:
    """Reads every file of entries from its chunk and verifies it, writing nothing.

    Links, whose bytes are not stored, are passed over.

    Args:
        entries: As for `extract`.
        open_chunk: As for `extract`.
        workers: As for `extract`.
        task: As for `extract`.

    Returns:
        Path and what is wrong with it, sorted, of every file whose bytes are missing or not what they should be.

    Raises:
        IntegrityError: An entry's path is none: the manifest itself is damaged.
        StateError: An entry is pending.
        StorageError: The store does not answer.
    """
    extraction = Extraction(Nowhere(), open_chunk, workers, task, look=False)
    try:
        for table in entries:
            extraction.add(read_rows(table, links=True))
    finally:
        extraction.close()
    return dict(sorted(extraction.damage.items()))


def _damage_error(damage: Mapping[bytes, str]) -> IntegrityError:
    paths = sorted(damage)
    lines = [f"- {damage[path]}" for path in paths[:_MOST_SHOWN]]
    if len(paths) > _MOST_SHOWN:
        lines.append(f"- and {len(paths) - _MOST_SHOWN} more")
    return IntegrityError(
        damage[paths[0]] if len(paths) == 1 else "\n".join([f"{len(paths)} files are damaged in the store:", *lines]),
        paths=tuple(map(to_text, paths)),
        hint="Run `dataset-tasks verify` on the version; what is added again with the same content is stored anew.",
    )


def _broken_error(broken: Mapping[bytes, SourceError]) -> SourceError:
    paths = sorted(broken)
    lines = [f"{show(path)}: {broken[path].message}" for path in paths]
    kinds = {error.kind for error in broken.values()}
    make = SourceUnavailableError if all(error.retryable for error in broken.values()) else SourceError
    shown = [f"- {line}" for line in lines[:_MOST_SHOWN]]
    if len(lines) > _MOST_SHOWN:
        shown.append(f"- and {len(lines) - _MOST_SHOWN} more")
    return make(
        lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} external links can't be brought:", *shown]),
        paths=tuple(map(to_text, paths)),
        hint=broken[paths[0]].hint
        if len(kinds) == 1
        else "Copy the other files with `files=`, or add the links again.",
        kind=kinds.pop() if len(kinds) == 1 else "",
    )
