"""What is in a cache, and taking it out again: never what is in use or pinned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dataset_tasks.cache.layout import Layout, TreeKey
from dataset_tasks.cache.listing import Listing
from dataset_tasks.cache.locks import FileLock
from dataset_tasks.cache.pins import is_pinned
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.filesystem import is_temporary_name, remove_tree, storage_error, temporary_name

_TEMPORARY = ("part", "gone")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTree:
    """One tree: how much it holds, and when it was last asked for (seconds since 1970)."""

    key: TreeKey
    path: Path
    files: int
    bytes: int
    last_used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What eviction took: trees, and the bytes of their files (some may live on in other trees)."""

    trees: int = 0
    bytes: int = 0


def usage(layout: Layout) -> list[CachedTree]:
    """The trees that are there, the one that was not asked for longest first."""
    found = []
    for key in _keys(layout):
        listing = Listing.open(layout.listing(key))
        files, size = listing.totals() if listing else (0, 0)
        last_used = 0.0
        with suppress(OSError):
            last_used = layout.use_lock(key).stat().st_mtime
        found.append(CachedTree(key=key, path=layout.tree(key), files=files, bytes=size, last_used=last_used))
    return sorted(found, key=lambda tree: (tree.last_used, str(tree.key)))


def evict(layout: Layout, *, most_bytes: int | None, older_than: float | None) -> Evicted:
    """Removes trees, those not asked for longest first; see `Cache.evict`."""
    _sweep_all(layout)
    trees = usage(layout)
    left = sum(tree.bytes for tree in trees)
    now = time.time()
    gone = freed = 0
    for tree in trees:
        is_old = older_than is not None and now - tree.last_used > older_than
        is_too_much = most_bytes is not None and left > most_bytes
        if (is_old or is_too_much) and remove(layout, tree.key):
            left -= tree.bytes
            freed += tree.bytes
            gone += 1
    return Evicted(trees=gone, bytes=freed)


def remove(layout: Layout, key: TreeKey) -> bool:
    """Removes a tree with all that belongs to it; False where somebody uses it or has pinned it."""
    lock = FileLock.try_acquire(layout.use_lock(key))
    if lock is None:
        return False
    with lock:
        if is_pinned(layout.pins(key)):
            return False
        try:
            for place in (layout.links(key), layout.tree(key)):
                remove_at_once(place)
            layout.listing(key).unlink(missing_ok=True)
            with suppress(OSError):
                layout.pins(key).rmdir()
            layout.build_lock(key).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, "remove from the cache", layout.tree(key)) from error
        lock.remove()
    return True


def sweep(layout: Layout, key: TreeKey) -> None:
    """Removes what makers of this tree left that died. The caller holds the build lock: nobody else is at it."""
    for folder in (layout.tree(key).parent, layout.links(key).parent, layout.listing(key).parent):
        for path in _temporaries(folder):
            if _owner(path.name) in (key.name, layout.listing(key).name):
                _drop(path)


def _sweep_all(layout: Layout) -> None:
    for kind in ("trees", "links", "lists"):
        for folder in _folders(layout.root / kind):
            for path in _temporaries(folder):
                with suppress(InvalidArgumentError):
                    key = TreeKey.of(folder.name, _owner(path.name).removesuffix(".arrow"))
                    lock = FileLock.try_acquire(layout.build_lock(key))
                    if lock is not None:
                        with lock:
                            _drop(path)
                            if not layout.tree(key).exists():
                                lock.remove()


def remove_at_once(place: Path) -> None:
    """Out of sight in one step, then removed; nothing there: nothing happens.

    Raises:
        OSError: The system refused.
    """
    gone = place.with_name(temporary_name(place.name, "gone"))
    try:
        place.rename(gone)
    except FileNotFoundError:
        return
    remove_tree(gone)


def _drop(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, "remove from the cache", path) from error


def _keys(layout: Layout) -> Iterator[TreeKey]:
    for catalog in _folders(layout.root / "trees"):
        for tree in _folders(catalog):
            with suppress(InvalidArgumentError):  # hidden names, and what is not ours
                yield TreeKey.of(catalog.name, tree.name)


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []


def _temporaries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if any(is_temporary_name(path.name, kind) for kind in _TEMPORARY)]


def _owner(name: str) -> str:
    """The name that a temporary one was made from: `.<name>.<16 hex>.<kind>`."""
    return name[1:].rpartition(".")[0].rpartition(".")[0]
