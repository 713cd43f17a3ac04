"""Objects in S3, or whatever speaks its protocol, through boto3: with `s3_bucket` and `s3_client` all that knows it.

The URL is `s3://bucket/prefix`, with what boto3's own configuration does not say behind a `?`: `endpoint`, `region`, `profile`,
`style=path`, `payer=requester`, or `connection`, the name of a connection that says it. Credentials come from the
connection, else from boto3's chain, never from the URL.

boto3 does not notice wrong bytes in ranged reads and in answers without a checksum header. Lengths and ranges are checked
here, hashes by whoever knows them (`Objects.read`, `members.unpack`). boto3 itself tries nothing twice: `Trouble` does,
which knows when to end, and what a try before may have left behind.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import botocore.exceptions as failures
from isal import isal_zlib

from dataset_tasks.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import (
    Leftover,
    ObjectReader,
    Store,
    Writer,
    check_key,
    check_prefix,
    check_range,
    cut_short,
)
from dataset_tasks.store.multipart import PART_BYTES, PartWriter
from dataset_tasks.store.s3_bucket import ATTEMPT, S3Bucket
from dataset_tasks.store.s3_client import CutError
from dataset_tasks.store.transfer import BLOCK_BYTES, ReadAhead, Trouble, read_blocks

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

T = TypeVar("T")


class S3Store(S3Bucket, Store):
    """Objects below a prefix of a bucket. Thread-safe; a forked child makes connections of its own.

    Args:
        url: See the module.
        options: What the connection says; the URL's own options come first.
        patience: How long a store that does not answer is asked again.

    Raises:
        InvalidArgumentError: The URL can't be read, or holds credentials.
    """

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    # --- writing

    def put(self, key: str, data: Buffer, *, create_only: bool = False) -> None:
        """Writes a whole object; see `Store.put`."""
        full = self._full(key)
        if len(data) > 2 * PART_BYTES and not create_only:
            with self.create(key) as writer:
                writer.write(data)
                writer.commit()
            return
        mark = secrets.token_hex(16)
        # Of what is no `bytes` boto3 makes no file: a file waits for leave to be sent, and goes in pieces of 16 KiB.
        body, condition = bytearray(data), {"IfNoneMatch": "*"} if create_only else {}
        is_unsure = False

        def ask() -> None:
            nonlocal is_unsure
            try:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=full,
                    Body=body,  # type: ignore[arg-type]  # any buffer, which the stubs don't know
                    ChecksumCRC32=_crc32(body),
                    Metadata={ATTEMPT: mark},
                    **condition,  # type: ignore[arg-type]  # the stubs want each name spelled out
                )
            except failures.ClientError as error:
                # The try before may have landed and only its answer been lost: then the object that stands is ours.
                if not isinstance(self._refusal(key, error), AlreadyExistsError) or not is_unsure:
                    raise
                if self._mark(full) != mark:
                    raise
            finally:
                is_unsure = True

        self._asked(key, ask)
        self._remember(full)

    put_small = put

    def create(self, key: str) -> Writer:
        """Begins an object of unknown size; see `Store.create`."""
        return PartWriter(self, check_key(key))

    def begin_upload(self, key: str, trouble: Trouble) -> str:
        """Begins a multipart upload; see `Multipart.begin_upload`. Its id is its attempt's mark too."""
        full = self._full(key)

        def ask() -> str:
            mark = secrets.token_hex(16)
            begun = self.client.create_multipart_upload(
                Bucket=self.bucket, Key=full, ChecksumAlgorithm="CRC32", Metadata={ATTEMPT: mark}
            )
            return f"{mark}/{begun['UploadId']}"

        return self._asked(key, ask, trouble)

    def put_part(self, key: str, upload: str, number: int, data: Buffer, trouble: Trouble) -> str:
        """Sends a part; see `Multipart.put_part`."""
        full, crc = self._full(key), _crc32(data)

        def ask() -> str:
            answer = self.client.upload_part(
                Bucket=self.bucket,
                Key=full,
                UploadId=upload.partition("/")[2],
                PartNumber=number,
                Body=data,  # type: ignore[arg-type]  # any buffer, which the stubs don't know
                ChecksumCRC32=crc,
            )
            return f"{crc}/{answer['ETag']}"

        return self._asked(key, ask, trouble)

    def complete_upload(self, key: str, upload: str, parts: list[str], size: int, trouble: Trouble) -> None:
        """Completes a multipart upload; see `Multipart.complete_upload`."""
        full = self._full(key)
        mark, _, name = upload.partition("/")
        listed = []
        for number, part in enumerate(parts, 1):
            crc, _, etag = part.rpartition("/")
            listed.append({"PartNumber": number, "ETag": etag, "ChecksumCRC32": crc})
        is_unsure = False

        def ask() -> None:
            nonlocal is_unsure
            try:
                self.client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=full,
                    UploadId=name,
                    MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]  # made above
                )
            except failures.ClientError as error:
                # Gone after a try without an answer: that one landed, if the object that stands is ours.
                if not isinstance(self._refusal(key, error), ObjectMissingError) or not is_unsure:
                    raise
                if self._mark(full) != mark:
                    raise
            finally:
                is_unsure = True

        self._asked(key, ask, trouble)
        self._remember(full)
        found = self.size(key)
        if found != size:
            raise StorageError(
                f"{self.url}: {key} has {found} bytes after the upload, expected {size}",
                hint="Run it again; the object is not used.",
            )

    def abort_upload(self, key: str, upload: str) -> None:
        """Drops a multipart upload; see `Multipart.abort_upload`."""
        with suppress(StorageError), self.explained(key):
            self.client.abort_multipart_upload(
                Bucket=self.bucket, Key=self._full(key), UploadId=upload.partition("/")[2]
            )

    def delete(self, key: str) -> None:
        """Removes an object; see `Store.delete`."""
        full = self._full(key)
        self._fresh.pop(full, None)
        with suppress(ObjectMissingError):
            self._asked(key, lambda: self.client.delete_object(Bucket=self.bucket, Key=full))

    # --- reading

    def get(self, key: str) -> bytes:
        """A whole object, a large one by several requests at once; see `Store.get`."""
        full = self._full(key)

        def ask() -> bytes | int:
            answer = self.client.get_object(Bucket=self.bucket, Key=full)
            if answer["ContentLength"] > 2 * BLOCK_BYTES:
                answer["Body"].close()
                return answer["ContentLength"]
            return self._body(key, answer, answer["ContentLength"])

        found = self._asked(key, ask)
        return found if isinstance(found, bytes) else self._blocks(key, 0, found)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; see `Store.read`."""
        check_key(key)
        check_range(key, offset, length)
        if not length:
            size = self.size(key)
            if offset > size:
                raise cut_short(key, offset, length, size)
            return b""
        return self._blocks(key, offset, length)

    def open(self, key: str, *, size: int | None = None) -> ObjectReader:
        """Opens an object for many ranged reads, which are read ahead of; see `Store.open`."""
        check_key(key)
        trouble = self.trouble()
        held = self.size(key) if size is None else size
        return ReadAhead(key, held, lambda at, length: self._range(key, at, length, trouble), self.threads)

    def size(self, key: str) -> int:
        """The size of an object in bytes; see `Store.size`."""
        full = self._full(key)
        return self._asked(key, lambda: self.client.head_object(Bucket=self.bucket, Key=full)["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes, sorted by key; see `Store.list`."""
        check_prefix(prefix)
        begins, after = self.prefix + prefix, ""
        while True:
            page = self._page(begins, after)
            found = page.get("Contents", [])
            for each in found:
                yield each["Key"][len(self.prefix) :], each["Size"]
            if not page.get("IsTruncated") or not found:
                return
            after = found[-1]["Key"]

    def _page(self, begins: str, after: str) -> ListObjectsV2OutputTypeDef:
        return self._asked(
            begins, lambda: self.client.list_objects_v2(Bucket=self.bucket, Prefix=begins, StartAfter=after)
        )

    # --- what attempts left

    def leftovers(self, prefix: str = "") -> Iterator[Leftover]:
        """Multipart uploads that were begun and not completed; see `Store.leftovers`."""
        check_prefix(prefix)
        with self.explained(prefix):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Uploads", []):
                    key, upload = found["Key"], found["UploadId"]
                    size = self._size_of_parts(key, upload)
                    yield Leftover(f"{upload}/{key}", key[len(self.prefix) :], size, found["Initiated"].timestamp())

    def discard(self, leftover: Leftover) -> None:
        """Aborts a multipart upload; see `Store.discard`."""
        upload, _, key = leftover.token.partition("/")
        if not key or key != self.prefix + leftover.key:
            raise InvalidArgumentError(
                f"{leftover.token!r} is no leftover of {self.url}", hint="Take it from `leftovers`."
            )
        with suppress(ObjectMissingError):
            self._asked(
                leftover.key,
                lambda: self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload),
            )

    def _size_of_parts(self, key: str, upload: str) -> int:
        pages = self.client.get_paginator("list_parts")
        try:
            listed = pages.paginate(Bucket=self.bucket, Key=key, UploadId=upload)
            return sum(part["Size"] for page in listed for part in page.get("Parts", []))
        except failures.ClientError as error:
            if not isinstance(self._refusal(key, error), ObjectMissingError):
                raise
            return 0  # completed or dropped since it was listed

    def close(self) -> None:
        """Gives back threads and connections; they are made anew when needed. See `Store.close`."""
        self.threads.close()
        self.client.close()

    # --- parts of objects

    def _blocks(self, key: str, offset: int, length: int) -> bytes:
        trouble = self.trouble()
        return read_blocks(lambda at, size: self._range(key, at, size, trouble), self.threads, offset, length)

    def _range(self, key: str, offset: int, length: int, trouble: Trouble) -> bytes:
        """A range by one request."""
        full = self._full(key)

        def ask() -> bytes:
            asked = f"bytes={offset}-{offset + length - 1}"
            answer = self.client.get_object(Bucket=self.bucket, Key=full, Range=asked)
            given = answer.get("ContentRange", "")
            if not given:  # the range was not looked at, and this is the whole object
                size = answer["ContentLength"]
                data = self._body(key, answer, size)[offset : offset + length]
            else:
                span, _, total = given.removeprefix("bytes ").partition("/")
                size = int(total)
                end = min(offset + length, size) - 1
                if span != f"{offset}-{end}":
                    raise self._odd(key, f"bytes {span} were given, {offset}-{end} asked for")
                data = self._body(key, answer, end + 1 - offset)
            if len(data) != length:
                raise cut_short(key, offset, length, size)
            return data

        try:
            return self._asked(key, ask, trouble)
        except CutError as error:
            raise cut_short(key, offset, length, self.size(key)) from error

    def _body(self, key: str, answer: GetObjectOutputTypeDef, length: int) -> bytes:
        data = answer["Body"].read()
        if len(data) != length:
            raise self._odd(key, f"the answer broke off: expected {length} bytes, found {len(data)}")
        return data

    def _odd(self, key: str, what: str) -> StorageUnavailableError:
        return StorageUnavailableError(f"{self.url}: {key}: {what}", hint="Try again.")


def _crc32(data: Buffer) -> str:
    """The checksum as S3 takes it."""
    return base64.b64encode(isal_zlib.crc32(data).to_bytes(4)).decode()
