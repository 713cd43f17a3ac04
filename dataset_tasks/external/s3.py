"""Links to objects in S3; the URL takes the options of an S3 store (`endpoint`, `region`, ...), and `versionId`.

Pinned by size and ETag. Answers may be wrong without boto3 noticing: an ETag that is an MD5 is held against the bytes, and
lengths are compared. Of an object that was written in parts there is no MD5; there boto3 checks the checksum that comes with
an answer of the whole object, where one does. An object that was written over can still be read where its bucket keeps
versions and the URL names one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from dataset_tasks.external.base import PIECE, Found, Pinned, changed, unavailable
from dataset_tasks.external.bucket import SAFE, BucketReader, key_of
from dataset_tasks.store.opened import Opener
from dataset_tasks.store.s3 import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

T = TypeVar("T")

_MD5: Final = re.compile(r'"([0-9a-f]{32})"\Z')
#: How the names of buckets end whose ETags only look like MD5s.
_NO_MD5: Final = "--x-s3"
_VERSION = "versionId"


class _Where(TypedDict, total=False):
    """Which object, as boto3 takes it."""

    Bucket: str
    Key: str
    VersionId: str


class _Page(TypedDict, total=False):
    """Which part of a listing."""

    Delimiter: str
    ContinuationToken: str


class _Part(TypedDict, total=False):
    """What is read of it."""

    Range: str


class S3Reader(BucketReader):
    """Reads the `s3://` URLs of one bucket.

    Args:
        url: Any of them: bucket and options count.
        stores: Gives the store at a URL, whose client reads it.

    Raises:
        InvalidArgumentError: An option is not known or can't be used.
    """

    def __init__(self, url: str, stores: Opener) -> None:
        parts = urlsplit(url)
        self._options = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != _VERSION]
        store = stores(f"s3://{parts.netloc}" + (f"?{urlencode(self._options)}" if self._options else ""))
        assert isinstance(store, S3Store)
        self._store = store

    @property
    def _bucket(self) -> S3Store:
        return self._store

    def stat(self, url: str) -> Pinned:
        """Size and ETag; see `Reader.stat`."""
        answer = self._asked(url, lambda: self._store.client.head_object(**_where(url)))
        return Pinned(answer["ContentLength"], answer["ETag"])

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes, if their ETag is that of the pin and, where it is an MD5, if that is theirs; see `Reader.open`."""
        part: _Part = {"Range": f"bytes={start}-"} if start else {}
        client = self._store.client
        answer = self._asked(
            url, lambda: client.get_object(**_where(url), **part, IfMatch=pin, ChecksumMode="ENABLED"), pin
        )
        body = answer["Body"]
        try:
            if answer["ETag"] != pin:
                raise changed(url, answer["ETag"], pin)
            if start and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
                raise unavailable(url, "its server gives no part of it")
            expected = "" if start or self._store.bucket.endswith(_NO_MD5) else _md5_of(answer)
            digest = hashlib.md5(usedforsecurity=False)
            left = answer["ContentLength"]
            while True:
                with self._explained(url):
                    piece = body.read(PIECE)
                if not piece:
                    break
                left -= len(piece)
                if expected:
                    digest.update(piece)
                yield piece
            if left:
                raise unavailable(url, f"the answer broke off {left} bytes before its end")
        finally:
            body.close()
        if expected and digest.hexdigest() != expected:
            raise unavailable(url, f"other bytes came than those of its MD5, {expected}")

    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        query = f"?{urlencode(self._options)}" if self._options else ""
        bucket = self._store.bucket
        more: _Page = {} if deep else {"Delimiter": "/"}
        while True:
            page = self._asked(url, partial(self._store.client.list_objects_v2, Bucket=bucket, Prefix=prefix, **more))
            for each in page.get("Contents", []):
                key = each["Key"]
                if key.endswith("/"):  # what consoles make to show a folder
                    continue
                where = f"s3://{bucket}/{quote(key, safe=SAFE)}{query}"
                yield Found(key[len(prefix) :].encode(), where, each["Size"], each["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {**more, "ContinuationToken": page["NextContinuationToken"]}

    def _asked(self, url: str, ask: Callable[[], T], pin: str = "") -> T:
        """An answer, asked for again while the service may come back; errors name the URL."""

        def explained() -> T:
            with self._store.explained(key_of(url)):
                return ask()

        return super()._asked(url, lambda: self._store.trouble().persist(explained), pin)


def _md5_of(answer: GetObjectOutputTypeDef) -> str:
    """The MD5 that the bytes must have, where the ETag is one: not that of an object in parts, nor of an encrypted one."""
    found = _MD5.match(answer["ETag"])
    if found is None or answer.get("ServerSideEncryption", "AES256") != "AES256" or answer.get("SSECustomerAlgorithm"):
        return ""
    return found[1]


def _where(url: str) -> _Where:
    where = _Where(Bucket=urlsplit(url).netloc, Key=key_of(url))
    version = dict(parse_qsl(urlsplit(url).query)).get(_VERSION)
    if version:
        where["VersionId"] = version
    return where
