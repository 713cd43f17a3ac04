"""The stores that a session keeps open: a client takes longer to make than a small object to read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final, TypeAlias

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import DatasetError
from dataset_tasks.store import Store, connection_of, open_store

#: Gives the store at a URL.
Opener: TypeAlias = Callable[[str], Store]

#: So long (seconds) a connection is taken to say what it said: looking it up may be a request to a server.
SECONDS: Final = 60.0
_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    """An open store, what its connection said, and when that was looked up; never, after `look_again`."""

    store: Store
    options: StoreOptions
    looked: float | None


class OpenStores:
    """Gives the store at a URL, the same one again as long as its connection says the same. Thread-safe.

    A URL names a connection (`?connection=lake`), and what the name stands for may change at any time: keys are rotated, a
    service moves. It is looked up again once a minute, and at once after `look_again`; who is in the midst of something
    with the store of before ends with that.

    Args:
        home: Folder of `config.toml`; as `open_store` takes it.
        open_url: Opens the store at a URL in place of `open_store`; then no connection is looked up.
        clock: Seconds from some moment on, never less than before.
    """

    def __init__(
        self, *, home: Path | None = None, open_url: Opener | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._home, self._open_url, self._clock = home, open_url, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, url: str) -> Store:
        """The store at a URL.

        Raises:
            InvalidArgumentError: No store has such a URL, it holds credentials, or its connection can't be read.
            NotFoundError: Nobody knows the connection here.
        """
        with self._lock:
            kept = self._kept.get(url)
            if kept is None or kept.looked is None or self._clock() - kept.looked > SECONDS:
                kept = self._looked_up(url, kept)
                self._kept[url] = kept
            self._kept.move_to_end(url)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            return kept.store

    def look_again(self) -> None:
        """Has each connection looked up before its store is given out again."""
        with self._lock:
            for url, kept in self._kept.items():
                self._kept[url] = replace(kept, looked=None)

    def _looked_up(self, url: str, kept: _Kept | None) -> _Kept:
        now = self._clock()
        try:
            options = StoreOptions() if self._open_url is not None else connection_of(url, home=self._home)
        except DatasetError:
            if kept is None or kept.looked is None:
                raise
            options = kept.options  # in the midst of an operation: who keeps the connections may be away for a moment
        if kept is not None and kept.options == options:
            return replace(kept, looked=now)
        if self._open_url is not None:
            return _Kept(self._open_url(url), options, now)
        return _Kept(open_store(url, options=options), options, now)
