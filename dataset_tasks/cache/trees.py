"""The cache: version trees that are made once, then shared by every process that asks, until they are evicted.

- A tree is made under a hidden name beside its own and renamed once: it is complete or absent.
- Who makes, mends or links a tree holds its *build* lock alone. Others wait, then use what came of it.
- Who uses a tree holds its *use* lock shared, for as long as the process lives (or until `release`). Eviction takes that
  lock alone and gives up where it can't: what is in use never goes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from dataset_tasks.cache import eviction, making
from dataset_tasks.cache.eviction import CachedTree, Evicted
from dataset_tasks.cache.layout import Layout, TreeKey
from dataset_tasks.cache.listing import Listing
from dataset_tasks.cache.locks import FileLock
from dataset_tasks.cache.making import Entries
from dataset_tasks.cache.pins import Pin, add_pin
from dataset_tasks.copies import Reuse
from dataset_tasks.errors import NotFoundError
from dataset_tasks.extraction import FetchLink, OpenChunk
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import storage_error
from dataset_tasks.progress import Task
from dataset_tasks.targets import Target


class Cache:
    """Verified, read-only copies of versions in a local folder. Threads and processes may share the folder.

    Args:
        root: The cache's folder; made on first use, readable for this user only.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        self._layout = Layout(self.root)
        self._held: dict[TreeKey, FileLock] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of every tree; eviction may take them from now on."""
        with self._lock:
            while self._held:
                self._held.popitem()[1].release()

    def get(
        self,
        key: TreeKey,
        entries: Entries,
        open_chunk: OpenChunk,
        *,
        content: str = "",
        fetch_link: FetchLink | None = None,
        parents: Sequence[TreeKey] = (),
        soft_links: bool = False,
        size: int | None = None,
        workers: int | None = None,
        task: Task | None = None,
    ) -> Path:
        """The tree of a version: complete, verified, files 0444 and folders 0555 (less the umask).

        A tree that is there is looked through, one `stat` a file; what somebody changed is brought back. It stays at
        least until this process ends, `release` or `close`.

        Args:
            key: Which tree.
            entries: Gives the version's entries (see `copies.extract`), sorted by path; called only when needed.
            open_chunk: Opens the chunk with that key; called only when needed.
            content: Tells these entries from others of the same key, such as the version's content hash: a catalog that
                was put back to an earlier state may make a version anew under its id. A tree of another content goes.
            fetch_link: Brings the bytes of external links (see `copies.extract`).
            parents: Trees whose files are hard-linked where path and hash are the same, if they are cached.
            soft_links: Give a tree of soft links to the files instead.
            size: Bytes of the version: less space than that is an error before anything is read.
            workers: As for `copies.extract`.
            task: Is told of progress.

        Raises:
            IntegrityError: Stored bytes are missing or damaged; `paths` names the files. No tree is made.
            SourceError: External links are gone or changed (see `copies.extract`). No tree is made.
            StateError: An entry is pending, or a link without `fetch_link`.
            TargetError: The cache's file system can't hold the names.
            StorageError: The cache can't be written or has no space, or the store does not answer.
        """
        self._hold(key)
        tree, listing = self._layout.tree(key), self._layout.listing(key)
        if not _is_sound(tree, listing, content):
            with FileLock.acquire(self._layout.build_lock(key), wait_for=f"it makes the copy {key}"):
                eviction.sweep(self._layout, key)
                failpoint("cache.after_lock")
                if _is_of_other(listing, content):
                    self._drop(key)
                if not tree.is_dir():
                    if size is not None and not parents:
                        making.check_space(self.root, size)
                    with ExitStack() as stack:
                        reuse = self._reuse(parents, stack)
                        making.build(
                            tree, listing, entries, open_chunk, content=content,
                            fetch_link=fetch_link, reuse=reuse, workers=workers, task=task,
                        )  # fmt: skip
                elif not _is_sound(tree, listing, content):
                    making.mend(tree, listing, entries, open_chunk, content=content, fetch_link=fetch_link)
        return self._linked(key) if soft_links else tree

    def find(self, key: TreeKey, *, content: str = "", hold: bool = False) -> Path | None:
        """The tree of a version if there is one; not looked through, and held only if asked for.

        With `content` (see `get`), only one that is not known to be of another.
        """
        tree = self._layout.tree(key)
        if content and _is_of_other(self._layout.listing(key), content):
            return None
        if hold and tree.is_dir():
            self._hold(key)
        return tree if tree.is_dir() else None

    def pin(self, key: TreeKey, *, owner: str = "", seconds: float = 86_400.0) -> Pin:
        """Keeps a tree beyond this process, so that its path can be handed on.

        Args:
            key: Of a tree that is cached.
            owner: Who wants it, for those who look.
            seconds: How long at most.

        Raises:
            NotFoundError: There is no such tree.
            StorageError: The note can't be written.
        """
        tree = self._layout.tree(key)
        with FileLock.acquire(self._layout.use_lock(key), shared=True):
            if not tree.is_dir():
                raise NotFoundError(f"there is no cached copy {key} to pin", hint="Get the copy first.")
            return add_pin(self._layout.pins(key), tree, owner, seconds)

    def release(self, key: TreeKey) -> None:
        """Lets go of a tree before the process ends; not held: nothing happens."""
        with self._lock:
            lock = self._held.pop(key, None)
        if lock is not None:
            lock.release()

    def usage(self) -> list[CachedTree]:
        """The trees that are there, the one that was not asked for longest first."""
        return eviction.usage(self._layout)

    def evict(self, *, most_bytes: int | None = None, older_than: float | None = None) -> Evicted:
        """Removes trees that nobody uses or has pinned, those not asked for longest first.

        Also removes what makers left that died.

        Args:
            most_bytes: Until the trees together hold no more than this; files shared by trees count in each.
            older_than: All that nobody asked for in this many seconds.

        Raises:
            StorageError: The system refused.
        """
        return eviction.evict(self._layout, most_bytes=most_bytes, older_than=older_than)

    def remove(self, key: TreeKey) -> bool:
        """Removes one tree unless it is used or pinned; whether it is gone.

        Raises:
            StorageError: The system refused.
        """
        self.release(key)
        return eviction.remove(self._layout, key)

    def _hold(self, key: TreeKey) -> None:
        with self._lock:
            held = self._held.get(key)
        if held is None:
            taken = FileLock.acquire(self._layout.use_lock(key), shared=True, wait_for=f"it evicts the copy {key}")
            with self._lock:
                held = self._held.setdefault(key, taken)
            if held is not taken:
                taken.release()
        held.touch()

    def _reuse(self, parents: Sequence[TreeKey], stack: ExitStack) -> Reuse | None:
        """What the parents' trees offer; they are held until the stack ends."""
        offers = []
        for parent in parents:
            tree = self._layout.tree(parent)
            held = FileLock.try_acquire(self._layout.use_lock(parent), shared=True) if tree.is_dir() else None
            if held is None:
                continue
            stack.enter_context(held)
            listing = Listing.open(self._layout.listing(parent))
            if listing is not None and tree.is_dir():
                offers.append((tree, listing, stack.enter_context(Target(tree))))
        return making.reuse_of(offers) if offers else None

    def _drop(self, key: TreeKey) -> None:
        """Removes a tree whoever uses it; the caller holds its build lock."""
        try:
            for place in (self._layout.links(key), self._layout.tree(key)):
                eviction.remove_at_once(place)
        except OSError as error:
            raise storage_error(error, "remove from the cache", self._layout.tree(key)) from error

    def _linked(self, key: TreeKey) -> Path:
        links, tree, listing = self._layout.links(key), self._layout.tree(key), self._layout.listing(key)
        if not making.is_linked(links, tree, listing):
            with FileLock.acquire(self._layout.build_lock(key), wait_for=f"it links the copy {key}"):
                eviction.sweep(self._layout, key)
                if not making.is_linked(links, tree, listing):
                    making.link(links, tree, listing)
        return links


def _is_of_other(listing: Path, content: str) -> bool:
    """Whether a listing is of another content than is wanted; of one by an earlier release nobody knows."""
    known = Listing.open(listing)
    return known is not None and known.content not in ("", content)


def _is_sound(tree: Path, listing: Path, content: str) -> bool:
    known = Listing.open(listing) if tree.is_dir() else None
    if known is None or known.content != content:
        return False
    with Target(tree) as folder:
        return known.describes(folder)
