"""A bucket in S3 that is asked again until it answers: the client of each process, and what boto3's errors mean."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import botocore.exceptions as failures

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import ObjectMissingError, StorageError, StorageUnavailableError
from dataset_tasks.store.bucket import ATTEMPT, BucketStore
from dataset_tasks.store.s3_client import CutError, make_client, refusal
from dataset_tasks.store.transfer import Patience, Trouble
from dataset_tasks.store.urls import StoreUrl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

OPTIONS: Final = ("connection", "endpoint", "payer", "profile", "region", "style")
#: For so long (seconds) a store may not show what was just written to it, and so many keys are remembered for it.
_SETTLES_IN: Final = 10.0
_MOST_FRESH: Final = 1000


class S3Bucket(BucketStore):
    """The requests to a bucket. Thread-safe; a forked child makes connections of its own.

    Args:
        url: See `store.s3`.
        options: What the connection says; the URL's own options come first.
        patience: How long a store that does not answer is asked again.

    Raises:
        InvalidArgumentError: The URL can't be read, or holds credentials.
    """

    _cut = CutError

    def __init__(self, url: str, *, options: StoreOptions | None = None, patience: Patience | None = None) -> None:
        super().__init__(StoreUrl.parse(url, "s3", OPTIONS), patience or Patience())
        self._options = options or StoreOptions()
        self._lock = threading.Lock()
        self._clients: dict[int, S3Client] = {os.getpid(): make_client(self._place, self._options)}
        self._fresh: dict[str, float] = {}

    @property
    def client(self) -> S3Client:
        """boto3's client of this process; calls on it belong inside `explained`."""
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:  # forked: the parent's sockets are not ours
            with self._lock:
                client = self._clients.setdefault(pid, make_client(self._place, self._options))
        return client

    def _mark(self, full: str) -> str:
        """Which attempt wrote an object; empty for one that is not there."""
        try:
            return self.client.head_object(Bucket=self.bucket, Key=full)["Metadata"].get(ATTEMPT, "")
        except failures.ClientError as error:
            if isinstance(self._refusal(full, error), ObjectMissingError):
                return ""
            raise

    def _asked(self, key: str, ask: Callable[[], T], trouble: Trouble | None = None) -> T:
        try:
            return super()._asked(key, ask, trouble)
        except ObjectMissingError:
            written = self._fresh.get(self.prefix + key)
            if written is None:
                raise
            return self._asked_late(key, ask, written)

    def _asked_late(self, key: str, ask: Callable[[], T], written: float) -> T:
        """An answer about an object that was written a moment ago, which some services show late."""
        wait = self._patience.first
        while True:
            self._patience.pause(wait)
            wait *= 2
            try:
                return super()._asked(key, ask)
            except ObjectMissingError:
                if self._patience.clock() - written > _SETTLES_IN:
                    raise

    def _remember(self, full: str) -> None:
        with self._lock:
            self._fresh.pop(full, None)
            self._fresh[full] = self._patience.clock()
            while len(self._fresh) > _MOST_FRESH:
                del self._fresh[next(iter(self._fresh))]

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turns what boto3 raises about a key into errors of ours; see `BucketStore.explained`."""
        try:
            yield
        except failures.ClientError as error:
            raise self._refusal(key, error) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.ProfileNotFound) as error:
            raise StorageError(
                f"{self.url}: there are no credentials: {error}",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or use a connection.",
            ) from error
        except (failures.HTTPClientError, failures.BotoCoreError) as error:
            raise StorageUnavailableError(
                f"{self.url} did not answer for {key or 'a listing'}: {error}",
                hint="Check the network and the endpoint, then try again.",
            ) from error

    def _refusal(self, key: str, error: failures.ClientError) -> Exception:
        return refusal(self.url, key.removeprefix(self.prefix), error)
