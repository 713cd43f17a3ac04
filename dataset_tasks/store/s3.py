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
    ObjectMissingError,
    StorageError,
)
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import Leftover, Writer, check_key, check_prefix, no_leftover
from dataset_tasks.store.bucket import ATTEMPT, MOST_AT_ONCE
from dataset_tasks.store.multipart import PartWriter
from dataset_tasks.store.s3_bucket import S3Bucket
from dataset_tasks.store.transfer import Trouble

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

T = TypeVar("T")


class S3Store(S3Bucket):
    """Objects below a prefix of a bucket. Thread-safe; a forked child makes connections of its own.

    Args:
        url: See the module.
        options: What the connection says; the URL's own options come first.
        patience: How long a store that does not answer is asked again.

    Raises:
        InvalidArgumentError: The URL can't be read, or holds credentials.
    """

    # --- writing

    def _put(self, key: str, data: Buffer, *, create_only: bool) -> None:
        full = self._full(key)
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

    def put_small(self, key: str, data: Buffer) -> None:
        """Writes an object by one request; see `Multipart.put_small`."""
        self._put(key, data, create_only=False)

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
        self.check_written(key, size)

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

    def _get(self, key: str) -> bytes | int:
        answer = self.client.get_object(Bucket=self.bucket, Key=self._full(key))
        size = answer["ContentLength"]
        if size > MOST_AT_ONCE:
            answer["Body"].close()
            return size
        return self._checked(key, answer["Body"].read(), size)

    def _get_range(self, key: str, offset: int, length: int) -> tuple[bytes, int]:
        asked = f"bytes={offset}-{offset + length - 1}"
        answer = self.client.get_object(Bucket=self.bucket, Key=self._full(key), Range=asked)
        given = answer.get("ContentRange", "")
        if not given:  # the range was not looked at, and this is the whole object
            size = answer["ContentLength"]
            return self._checked(key, answer["Body"].read(), size)[offset : offset + length], size
        span, _, total = given.removeprefix("bytes ").partition("/")
        end = min(offset + length, int(total)) - 1
        if span != f"{offset}-{end}":
            raise self._odd(key, f"bytes {span} were given, {offset}-{end} asked for")
        return self._checked(key, answer["Body"].read(), end + 1 - offset), int(total)

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
            raise no_leftover(leftover, self.url)
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
        super().close()
        self.client.close()


def _crc32(data: Buffer) -> str:
    """The checksum as S3 takes it."""
    return base64.b64encode(isal_zlib.crc32(data).to_bytes(4)).decode()
