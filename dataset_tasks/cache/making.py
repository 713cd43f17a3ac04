"""Making a tree, mending one that somebody changed, and linking to one. The caller holds the tree's build lock."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from dataset_tasks.cache.listing import Listing, ListingWriter, facts
from dataset_tasks.copies import Reuse, extract
from dataset_tasks.errors import SourceError, StorageError
from dataset_tasks.extraction import FetchLink, OpenChunk, Rows, Table, read_rows
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import make_folders, pread_all, remove_tree, shown, storage_error, temporary_name
from dataset_tasks.members import PIECE, member_pieces
from dataset_tasks.paths import show, to_text
from dataset_tasks.progress import Task
from dataset_tasks.targets import Target

Entries: TypeAlias = Callable[[], Iterable[Table]]


def check_space(folder: Path, size: int) -> None:
    """Refuses to begin what can't end.

    Raises:
        StorageError: The file system of the folder has less than `size` bytes free.
    """
    there = folder
    while not there.is_dir() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < size:
        raise StorageError(
            f"the copy needs {size} bytes, {shown(there)} has {free} free",
            hint="Free space, evict old copies, or put the cache elsewhere (DATASET_TASKS_CACHE_DIR).",
            kind="no_space",
        )


def build(
    tree: Path,
    listing: Path,
    entries: Entries,
    open_chunk: OpenChunk,
    *,
    content: str,
    fetch_link: FetchLink | None = None,
    reuse: Reuse | None,
    workers: int | None,
    task: Task | None,
) -> None:
    """Makes a tree that is not there, with its listing.

    Raises:
        DatasetError: As `extract`; nothing is left.
    """
    with _beside(tree) as temporary:
        kept = ListingWriter(listing, content)
        try:
            extract(
                entries(), open_chunk, temporary, fetch_link=fetch_link,
                read_only=True, reuse=reuse, written=kept.add, workers=workers, task=task,
            )  # fmt: skip
            failpoint("cache.after_copy")
            kept.commit()
            failpoint("cache.after_listing")
        finally:
            kept.abort()


def mend(
    tree: Path,
    listing: Path,
    entries: Entries,
    open_chunk: OpenChunk,
    *,
    content: str,
    fetch_link: FetchLink | None = None,
) -> None:
    """Brings back every file that is not as it was, and notes what stands now.

    A file whose `stat` is another but whose content is right stays: hard links to other trees, which change its ctime,
    come and go. That of an external link, which has no hash, is brought anew; such files are never hard-linked.

    Raises:
        IntegrityError: What is needed is damaged in the store as well.
        SourceError: What is needed is an external link that is gone or changed.
        StorageError: The disk is full or fails, or the store does not answer.
    """
    failpoint("cache.before_mend")
    old = Listing.open(listing)
    kept = ListingWriter(listing, content)
    try:
        folders: set[bytes] = set()
        with Target(tree, read_only=True) as folder:
            for table in entries():
                rows = read_rows(table, links=fetch_link is not None)
                folders.update(_folders_of(rows.path))
                known = old.find(table) if old else [None] * len(rows.path)
                bring = _Bring(rows, open_chunk, fetch_link)
                kept.add(table, [_mended(folder, rows, row, known[row], bring) for row in range(len(rows.path))])
            folder.seal(folders)
        kept.commit()
        failpoint("cache.after_mend")
    finally:
        kept.abort()


def link(links: Path, tree: Path, listing: Path) -> None:
    """Makes the tree of soft links into a tree, in the place of one that is there.

    Raises:
        StorageError: The disk is full or fails.
    """
    known = Listing.open(listing)
    to = os.fsencode(tree)
    with _beside(links) as temporary, Target(temporary, read_only=True) as folder:
        for paths in known.paths() if known else ():
            for path in paths:
                folder.symlink(to + b"/" + path, path)
        folder.seal()


def is_linked(links: Path, tree: Path, listing: Path) -> bool:
    """Whether every soft link is there and says what it should."""
    known = Listing.open(listing)
    if known is None or not links.is_dir():
        return False
    to = os.fsencode(tree)
    with Target(links) as folder:
        return all(folder.target_of(path) == to + b"/" + path for paths in known.paths() for path in paths)


def reuse_of(parents: Sequence[tuple[Path, Listing, Target]]) -> Reuse:
    """Offers the files of cached trees (tree, its listing, opened): same path, same hash, and as they were."""

    def reuse(table: Table) -> list[bytes | None]:
        sources: list[bytes | None] = [None] * len(table)
        paths: list[bytes] | None = None
        for tree, listing, folder in parents:
            known = listing.find(table)
            if not any(known):
                continue
            paths = paths or table.column("path").to_pylist()
            hashes: list[bytes] = table.column("hash").to_pylist()
            top = os.fsencode(tree) + b"/"
            for row, expected in enumerate(known):
                if expected and sources[row] is None and _is_as_it_was(folder, paths[row], expected, hashes[row]):
                    sources[row] = top + paths[row]
        return sources

    return reuse


def _folders_of(paths: list[bytes]) -> Iterator[bytes]:
    last = b""
    for path in paths:
        end = len(path)
        while (end := path.rfind(b"/", 0, end)) > 0 and path[:end] != last:
            yield path[:end]
        last = path.rpartition(b"/")[0]


def _is_as_it_was(folder: Target, path: bytes, expected: list[int], sha256: bytes) -> bool:
    found = folder.look(path)
    return found is not None and (facts(found) == expected or _holds(folder, path, found, sha256))


class _Bring:
    """Gives the content of rows, wherever it is."""

    def __init__(self, rows: Rows, open_chunk: OpenChunk, fetch_link: FetchLink | None) -> None:
        self._rows, self._open_chunk, self._fetch_link = rows, open_chunk, fetch_link

    def __call__(self, row: int) -> Iterator[bytes]:
        rows = self._rows
        if row not in rows.links or self._fetch_link is None:
            return member_pieces(self._open_chunk(rows.chunk[row]), rows.member(row))
        return self._link(self._fetch_link, row)

    def _link(self, fetch: FetchLink, row: int) -> Iterator[bytes]:
        path = self._rows.path[row]
        try:
            yield from fetch(*self._rows.links[row], self._rows.size[row])
        except SourceError as error:
            raise type(error)(
                f"{show(path)}: {error.message}", paths=(to_text(path),), hint=error.hint, kind=error.kind
            ) from error


def _mended(folder: Target, rows: Rows, row: int, expected: list[int] | None, bring: _Bring) -> os.stat_result:
    path = rows.path[row]
    found = folder.look(path)
    if found is not None and expected is not None and facts(found) == expected:
        return found
    if found is not None and found.st_size == rows.size[row] and _holds(folder, path, found, rows.hash[row]):
        return folder.look(path) or found
    return folder.replace(path, bring(row))


def _holds(folder: Target, path: bytes, found: os.stat_result, sha256: bytes) -> bool:
    """Whether a file has that content; if so, the right to write, which somebody gave it, is taken away again."""
    if not facts(found):
        return False
    fd = folder.open(path)
    try:
        sha = hashlib.sha256()
        offset = 0
        while piece := pread_all(fd, offset, PIECE):
            sha.update(piece)
            offset += len(piece)
        if sha.digest() != sha256:
            return False
        if found.st_mode & 0o222:
            os.fchmod(fd, found.st_mode & 0o555)
        return True
    except OSError as error:
        raise storage_error(error, "read the cached file", folder.path + b"/" + path) from error
    finally:
        os.close(fd)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A temporary folder beside a place, which gets its name in the end; what was there goes."""
    temporary = place.with_name(temporary_name(place.name))
    gone = place.with_name(temporary_name(place.name, "gone"))
    try:
        make_folders(os.fspath(place.parent), 0o700)
        temporary.mkdir(mode=0o755)
    except OSError as error:
        raise storage_error(error, "make a folder in the cache", place) from error
    try:
        yield temporary
        failpoint("cache.before_rename")
        if place.exists():
            place.rename(gone)
            failpoint("cache.between_renames")
        temporary.rename(place)
        failpoint("cache.after_rename")
    except OSError as error:
        raise storage_error(error, "write in the cache", place) from error
    finally:
        try:
            remove_tree(temporary)
            remove_tree(gone)
        except OSError as error:
            raise storage_error(error, "remove from the cache", temporary) from error
