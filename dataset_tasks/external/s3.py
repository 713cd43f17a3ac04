"""Links to objects in S3; the URL takes the options of an S3 store (`endpoint`, `region`, ...), and `versionId`.

Pinned by size and ETag. An object that was written over can still be read where its bucket keeps versions and the URL
names one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypedDict
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dataset_tasks.errors import ObjectMissingError, SourceError, StorageError, StorageUnavailableError
from dataset_tasks.external.base import GONE, PIECE, Found, Listed, Pinned, changed, gone, unavailable
from dataset_tasks.paths import show
from dataset_tasks.store.s3 import S3Store

_VERSION = "versionId"
_SAFE = "/!$&'()*+,;=:@~"


class _Where(TypedDict, total=False):
    """Which object, as boto3 takes it."""

    Bucket: str
    Key: str
    VersionId: str


class S3Reader:
    """Reads the `s3://` URLs of one bucket.

    Args:
        url: Any of them: bucket and options count.

    Raises:
        InvalidArgumentError: An option is not known or can't be used.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._options = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != _VERSION]
        self._store = _bucket(f"s3://{parts.netloc}" + (f"?{urlencode(self._options)}" if self._options else ""))

    def list(self, url: str, *, deep: bool) -> Listed:
        """The one object, or those whose keys start with the URL's path and a `/`; see `Reader.list`."""
        key = _key(url)
        if key and not key.endswith("/"):
            try:
                size, pin = self.stat(url)
            except SourceError as error:
                if error.kind != GONE:
                    raise
            else:
                return Listed([Found(key.rpartition("/")[2].encode(), url, size, pin)], is_folder=False)
        files = list(self._below(url, f"{key.rstrip('/')}/" if key else "", deep=deep))
        if not files:
            raise gone(url)
        return Listed(files, is_folder=True)

    def stat(self, url: str) -> Pinned:
        """Size and ETag; see `Reader.stat`."""
        where = _where(url)
        with self._explained(url):
            answer = self._store.client.head_object(**where)
        return Pinned(answer["ContentLength"], answer["ETag"])

    def open(self, url: str, pin: str) -> Iterator[bytes]:
        """The bytes, if their ETag is that of the pin; see `Reader.open`."""
        where = _where(url)
        with self._explained(url):
            answer = self._store.client.get_object(**where)
        body = answer["Body"]
        try:
            if answer["ETag"] != pin:
                raise changed(url, answer["ETag"], pin)
            while True:
                with self._explained(url):
                    piece = body.read(PIECE)
                if not piece:
                    break
                yield piece
        finally:
            body.close()

    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        query = f"?{urlencode(self._options)}" if self._options else ""
        bucket = self._store.bucket
        with self._explained(url):
            pages = self._store.client.get_paginator("list_objects_v2")
            asked = pages.paginate(Bucket=bucket, Prefix=prefix)
            if not deep:
                asked = pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
            for page in asked:
                for each in page.get("Contents", []):
                    key = each["Key"]
                    if key.endswith("/"):  # what consoles make to show a folder
                        continue
                    where = f"s3://{bucket}/{quote(key, safe=_SAFE)}{query}"
                    yield Found(key[len(prefix) :].encode(), where, each["Size"], each["ETag"])

    @contextmanager
    def _explained(self, url: str) -> Iterator[None]:
        try:
            with self._store.explained(_key(url)):
                yield
        except ObjectMissingError as error:
            raise gone(url) from error
        except StorageUnavailableError as error:
            raise unavailable(url, error.message) from error
        except StorageError as error:
            raise SourceError(
                f"{show(url)} can't be read: {error.message}", paths=(url,), hint=error.hint, kind=error.kind
            ) from error


@lru_cache(maxsize=16)
def _bucket(url: str) -> S3Store:
    """The client of a bucket, kept: making one takes longer than reading a small object."""
    return S3Store(url)


def _key(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"), errors="strict")


def _where(url: str) -> _Where:
    where = _Where(Bucket=urlsplit(url).netloc, Key=_key(url))
    version = dict(parse_qsl(urlsplit(url).query)).get(_VERSION)
    if version:
        where["VersionId"] = version
    return where
