"""Objects in S3, or whatever speaks its protocol, through boto3: the only module that knows it.

The URL is `s3://bucket/prefix`, with what boto3's own configuration does not say behind a `?`: `endpoint`, `region`, `profile`,
`style=path`. Credentials come from boto3's chain, never from the URL.

Ranged reads and answers without checksum headers can be wrong without boto3 noticing; lengths are checked here, hashes by
whoever knows them (`Objects.read`, `members.unpack`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import boto3
import botocore.exceptions as failures
from botocore.config import Config

from dataset_tasks.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import Leftover, Store, Writer, check_key, check_prefix, check_range, cut_short

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")

_OPTIONS: Final = ("endpoint", "region", "profile", "style")
_MISSING: Final = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_TAKEN: Final = {"PreconditionFailed", "412"}
_BUSY: Final = {"ConditionalRequestConflict", "409"}
_AGAIN: Final = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "Throttling",
    "ThrottlingException", "TooManyRequests", "BandwidthLimitExceeded", "500", "502", "503", "504",
}  # fmt: skip
_CUT: Final = {"InvalidRange", "416"}

#: Objects up to this size go in one request; larger ones in parts of it, which double every thousand parts.
PART_BYTES: Final = 16 << 20
_PARTS_AT_ONCE: Final = 4
_TRIES: Final = 5
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 30


class S3Store(Store):
    """Objects below a prefix of a bucket. Thread-safe.

    Args:
        url: See the module.
        client: For tests.

    Attributes:
        client: boto3's; calls on it belong inside `explained`.

    Raises:
        InvalidArgumentError: The URL can't be read, or holds credentials.
    """

    def __init__(self, url: str, *, client: S3Client | None = None) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise InvalidArgumentError(
                "the s3 URL of the store holds credentials",
                hint="Take them out: they belong in the environment, a connection or a block.",
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(options) - set(_OPTIONS))
        if parts.scheme != "s3" or not parts.netloc or parts.fragment or unknown:
            raise InvalidArgumentError(
                f"{url!r} is not the URL of an S3 store" + (f": unknown {', '.join(unknown)}" if unknown else ""),
                hint=f"Write `s3://bucket/prefix`, and behind a `?` any of {', '.join(_OPTIONS)}.",
            )
        self.bucket = parts.netloc
        path = unquote(parts.path).strip("/")
        self.prefix = f"{path}/" if path else ""
        query = urlencode([(name, options[name]) for name in _OPTIONS if name in options])
        self.url = f"s3://{self.bucket}{'/' + path if path else ''}{'?' + query if query else ''}"
        self.client = client or _client(options)

    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object; see `Store.put`."""
        body = bytes(data)
        if not create_only:
            with self.explained(key):
                self.client.put_object(Bucket=self.bucket, Key=self._full(key), Body=body)
            return
        for left in reversed(range(_TRIES)):
            try:
                with self.explained(key):
                    self.client.put_object(Bucket=self.bucket, Key=self._full(key), Body=body, IfNoneMatch="*")
                return
            except _BusyError:
                if not left:
                    raise
            except AlreadyExistsError:
                # The first try may have landed, its answer lost, and boto3 tried again: then the object is ours.
                if self.get(key) != body:
                    raise
                return

    def create(self, key: str) -> Writer:
        """Begins an object of unknown size; see `Store.create`."""
        return _S3Writer(self, check_key(key))

    def get(self, key: str) -> bytes:
        """A whole object; see `Store.get`."""
        full = self._full(key)

        def ask() -> bytes:
            answer = self.client.get_object(Bucket=self.bucket, Key=full)
            return self._body(key, answer["Body"].read(), answer["ContentLength"])

        return self._asked(key, ask)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; see `Store.read`."""
        full = self._full(key)
        check_range(key, offset, length)
        if not length:
            if offset > self.size(key):
                raise cut_short(key, offset, length, self.size(key))
            return b""

        def ask() -> bytes:
            asked = f"bytes={offset}-{offset + length - 1}"
            answer = self.client.get_object(Bucket=self.bucket, Key=full, Range=asked)
            return self._body(key, answer["Body"].read(), answer["ContentLength"])

        try:
            data = self._asked(key, ask)
        except _CutError:
            data = b""
        if len(data) != length:
            raise cut_short(key, offset, length, self.size(key))
        return data

    def size(self, key: str) -> int:
        """The size of an object in bytes; see `Store.size`."""
        with self.explained(key):
            return self.client.head_object(Bucket=self.bucket, Key=self._full(key))["ContentLength"]

    def delete(self, key: str) -> None:
        """Removes an object; see `Store.delete`."""
        with suppress(ObjectMissingError), self.explained(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._full(key))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes, sorted by key; see `Store.list`."""
        check_prefix(prefix)
        with self.explained(prefix):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Contents", []):
                    yield found["Key"][len(self.prefix) :], found["Size"]

    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """Multipart uploads that were begun and not completed; see `Store.leftovers`."""
        check_prefix(prefix)
        with self.explained(prefix):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Uploads", []):
                    key, upload = found["Key"], found["UploadId"]
                    size = sum(part["Size"] for part in self._parts(key, upload))
                    yield Leftover(f"{upload}/{key}", key[len(self.prefix) :], size, found["Initiated"].timestamp())

    def discard(self, leftover: Leftover) -> None:
        """Aborts a multipart upload; see `Store.discard`."""
        upload, _, key = leftover.token.partition("/")
        if not key or key != self.prefix + leftover.key:
            raise InvalidArgumentError(
                f"{leftover.token!r} is no leftover of {self.url}", hint="Take it from `leftovers`."
            )
        with suppress(ObjectMissingError), self.explained(leftover.key):
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def _parts(self, key: str, upload: str) -> Iterator[dict[str, int]]:
        try:
            for page in self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload):
                for part in page.get("Parts", []):
                    yield {"Size": part["Size"]}
        except failures.ClientError as error:
            if _code(error) not in _MISSING:
                raise

    def _full(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _asked(self, key: str, ask: Callable[[], T]) -> T:
        """An answer, asked for again when its body breaks off: boto3 itself repeats only what comes before the body."""
        for left in reversed(range(_TRIES)):
            try:
                with self.explained(key):
                    return ask()
            except StorageUnavailableError:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _body(self, key: str, data: bytes, length: int) -> bytes:
        if len(data) != length:
            raise StorageUnavailableError(
                f"{self.url}: the answer for {key} broke off: expected {length} bytes, found {len(data)}",
                hint="Try again.",
            )
        return data

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turns what boto3 raises about a key into errors of ours.

        Raises:
            ObjectMissingError: There is no such object.
            StorageUnavailableError: The server did not answer.
            StorageError: It refused.
        """
        try:
            yield
        except failures.ClientError as error:
            raise self._refusal(key, error) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.ProfileNotFound) as error:
            raise StorageError(
                f"{self.url}: there are no credentials: {error}",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or use a connection or block.",
            ) from error
        except (failures.HTTPClientError, failures.BotoCoreError) as error:
            raise StorageUnavailableError(
                f"{self.url} did not answer for {key or 'a listing'}: {error}",
                hint="Check the network and the endpoint, then try again.",
            ) from error

    def _refusal(self, key: str, error: failures.ClientError) -> Exception:
        code = _code(error)
        if code in _MISSING:
            return ObjectMissingError(
                f"the store {self.url} has no object {key}", hint="Check that it is the right store."
            )
        if code in _TAKEN:
            return AlreadyExistsError(f"the store {self.url} has an object {key} already", hint="Read it instead.")
        if code in _BUSY:
            return _BusyError(f"{self.url}: somebody else is writing {key}", hint="Try again.")
        if code in _CUT:
            return _CutError(f"{self.url}: {key} is shorter than asked for")
        if code in _AGAIN:
            return StorageUnavailableError(f"{self.url} answered {code} for {key}, again and again", hint="Try later.")
        hints = {
            "NoSuchBucket": "Make the bucket, or mend the URL.",
            "RequestTimeTooSkewed": "Set this machine's clock.",
            "AccessDenied": "Check the permissions of these credentials on the bucket.",
            "403": "Check the permissions of these credentials on the bucket.",
        }
        detail = error.response.get("Error", {}).get("Message", "")
        return StorageError(
            f"{self.url} refused {key or 'a listing'}: {code} {detail}".rstrip(),
            hint=hints.get(code, "Check the URL, the credentials and the bucket's policy."),
        )


class _BusyError(StorageUnavailableError):
    """Another conditional write of the same key is under way."""


class _CutError(StorageError):
    """The range begins behind the end."""


def _code(error: failures.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _client(options: dict[str, str]) -> S3Client:
    config = Config(
        retries={"mode": "standard", "max_attempts": _TRIES},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=32,
        s3={"addressing_style": "path"} if options.get("style") == "path" else {},
    )
    try:
        session = boto3.session.Session(profile_name=options.get("profile"), region_name=options.get("region"))
        return session.client("s3", endpoint_url=options.get("endpoint"), config=config)
    except (failures.BotoCoreError, ValueError) as error:
        raise InvalidArgumentError(
            f"the options of the S3 store can't be used: {error}", hint="Check endpoint, region and profile."
        ) from error


class _S3Writer(Writer):
    """Gathers parts and sends them by a few threads; a small object goes in one request at commit."""

    def __init__(self, store: S3Store, key: str) -> None:
        self.store, self.key = store, key
        self._waiting = bytearray()
        self._upload = ""
        self._sent = 0
        self._size = 0
        self._parts: deque[Future[CompletedPartTypeDef]] = deque()
        self._done: list[CompletedPartTypeDef] = []
        self._pool: ThreadPoolExecutor | None = None
        self._is_over = False

    def write(self, data: Buffer) -> None:
        """Appends bytes; see `Writer.write`."""
        self._check()
        self._waiting += data
        self._size += len(data)
        limit = PART_BYTES << (self._sent // 1000)
        while len(self._waiting) >= limit:
            part = bytes(self._waiting[:limit])
            del self._waiting[:limit]
            self._send(part)

    def commit(self) -> None:
        """Makes the object visible, whole; see `Writer.commit`."""
        self._check()
        store = self.store
        if not self._upload:
            store.put(self.key, self._waiting)
            self._end()
            return
        if self._waiting:
            self._send(bytes(self._waiting))
        while self._parts:
            self._done.append(self._collected())
        with store.explained(self.key):
            store.client.complete_multipart_upload(
                Bucket=store.bucket,
                Key=store.prefix + self.key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._done},
            )
        self._upload = ""
        self._end()
        found = store.size(self.key)
        if found != self._size:
            raise StorageError(
                f"{store.url}: {self.key} has {found} bytes after the upload, expected {self._size}",
                hint="Run it again; the object is not used.",
            )

    def abort(self) -> None:
        """Drops what was written; see `Writer.abort`."""
        upload, self._upload = self._upload, ""
        self._end()
        if upload:
            with suppress(StorageError), self.store.explained(self.key):
                self.store.client.abort_multipart_upload(
                    Bucket=self.store.bucket, Key=self.store.prefix + self.key, UploadId=upload
                )

    def _send(self, part: bytes) -> None:
        store = self.store
        full = store.prefix + self.key
        if not self._upload:
            with store.explained(self.key):
                begun = store.client.create_multipart_upload(Bucket=store.bucket, Key=full)
            self._upload = begun["UploadId"]
            self._pool = ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="dataset-tasks-s3")
        assert self._pool is not None
        self._sent += 1
        number, upload = self._sent, self._upload

        def work() -> CompletedPartTypeDef:
            with store.explained(self.key):
                answer = store.client.upload_part(
                    Bucket=store.bucket, Key=full, UploadId=upload, PartNumber=number, Body=part
                )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        while len(self._parts) >= _PARTS_AT_ONCE:
            self._done.append(self._collected())
        self._parts.append(self._pool.submit(work))

    def _collected(self) -> CompletedPartTypeDef:
        return self._parts.popleft().result()

    def _check(self) -> None:
        if self._is_over:
            raise StorageError(f"the writer of {self.key} is closed", hint="Begin the object anew.")

    def _end(self) -> None:
        self._is_over = True
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._parts.clear()
