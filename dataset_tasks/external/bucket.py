"""What reading from a bucket is like, whichever SDK its store speaks with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from dataset_tasks.errors import (
    AlreadyExistsError,
    ObjectMissingError,
    SourceError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.external.base import GONE, Found, Listed, Pinned, changed, gone, unavailable
from dataset_tasks.paths import show
from dataset_tasks.store.bucket import BucketStore

T = TypeVar("T")

#: What stays as it is in the path of a URL.
SAFE: Final = "/!$&'()*+,;=:@~"


class BucketReader(ABC):
    """Reads the URLs of one bucket, through a store in it; see `Reader`."""

    @property
    @abstractmethod
    def _bucket(self) -> BucketStore:
        """The store whose client reads."""

    @abstractmethod
    def stat(self, url: str) -> Pinned:
        """What is at a URL now; see `Reader.stat`."""

    @abstractmethod
    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        """The objects whose names begin with a prefix, found while they are iterated."""

    def list(self, url: str, *, deep: bool) -> Listed:
        """The one object, or those whose names start with the URL's path and a `/`; see `Reader.list`."""
        key = key_of(url)
        if key and not key.endswith("/"):
            try:
                size, pin = self.stat(url)
            except SourceError as error:
                if error.kind != GONE:
                    raise
            else:
                return Listed([Found(key.rpartition("/")[2].encode(), url, size, pin)], is_folder=False)
        files = self._below(url, f"{key.rstrip('/')}/" if key else "", deep=deep)
        first = next(files, None)
        if first is None:
            raise gone(url)
        return Listed(chain((first,), files), is_folder=True)

    def _asked(self, url: str, ask: Callable[[], T], pin: str = "") -> T:
        """An answer; errors name the URL."""
        with self._explained(url, pin):
            return ask()

    @contextmanager
    def _explained(self, url: str, pin: str = "") -> Iterator[None]:
        try:
            with self._bucket.explained(key_of(url)):
                yield
        except AlreadyExistsError as error:  # what a condition that does not hold is called elsewhere
            raise changed(url, "another ETag", pin) from error
        except ObjectMissingError as error:
            raise gone(url) from error
        except StorageUnavailableError as error:
            raise unavailable(url, error.message) from error
        except StorageError as error:
            raise SourceError(
                f"{show(url)} can't be read: {error.message}", paths=(url,), hint=error.hint, kind=error.kind
            ) from error


def key_of(url: str) -> str:
    """The name of the object that a URL leads to."""
    return unquote(urlsplit(url).path.removeprefix("/"), errors="strict")
