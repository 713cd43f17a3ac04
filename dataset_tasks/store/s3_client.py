"""How boto3 is set up, and what its errors mean; with `s3` and `s3_bucket` all that knows it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.exceptions as failures
from botocore.config import Config

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import (
    AlreadyExistsError,
    DatasetError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.store.urls import StoreUrl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING: Final = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_TAKEN: Final = {"PreconditionFailed", "412"}
_BUSY: Final = {"ConditionalRequestConflict", "OperationAborted", "409"}
_CUT: Final = {"InvalidRange", "416"}
_AGAIN: Final = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "Throttling",
    "ThrottlingException", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded", "408", "429",
}  # fmt: skip
#: What was sent arrived otherwise.
_DAMAGED: Final = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_RIGHTS: Final = (
    "Check what these credentials may do in the bucket, and with its key where it is encrypted; a bucket whose "
    "requesters pay needs `payer=requester` in the URL."
)
_REGION: Final = "Name the bucket's region: `region=` in the URL, the connection or AWS_REGION."
_KEY: Final = "The key that the bucket is encrypted with is off or gone: ask whoever looks after it."
_HINTS: Final = {
    "NoSuchBucket": "Make the bucket, or mend the URL.",
    "RequestTimeTooSkewed": "Set this machine's clock: it is more than 15 minutes away from the service's.",
    "AccessDenied": _RIGHTS,
    "403": _RIGHTS,
    "ExpiredToken": "These credentials were temporary, and their time is over: get new ones and run it again.",
    "InvalidAccessKeyId": "The service does not know this access key: check the credentials and the endpoint.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key, or a proxy changes requests.",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "KMS.DisabledException": _KEY,
    "KMS.NotFoundException": _KEY,
    "KMS.KMSInvalidStateException": _KEY,
}
#: How long (seconds) a server may take to accept a connection, and then for each next part of its answer.
CONNECT_SECONDS: Final = 10
READ_SECONDS: Final = 30
_CONNECTIONS: Final = 32


class _NoTokens(logging.Filter):
    """botocore logs whole requests at level DEBUG, with the headers that say who asks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leaves out what holds them."""
        text = record.getMessage().lower()
        return "security-token" not in text and "authorization" not in text


_NO_TOKENS: Final = _NoTokens()
for _name in ("botocore.auth", "botocore.endpoint"):
    logging.getLogger(_name).addFilter(_NO_TOKENS)


class BusyError(StorageUnavailableError):
    """Another conditional write of the same key is under way."""


class CutError(StorageError):
    """The range begins behind the end."""


def make_client(place: StoreUrl, options: StoreOptions) -> S3Client:
    """A client of boto3 that tries everything once, signs what it sends and checks what has a checksum.

    Raises:
        InvalidArgumentError: An option can't be used.
    """
    own = place.options
    is_path = (own["style"] == "path") if "style" in own else options.path_style
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        # The hash of each body is part of its signature: services that ignore checksum headers notice damage too.
        s3={"payload_signing_enabled": True, **({"addressing_style": "path"} if is_path else {})},
    )
    try:
        session = boto3.session.Session(
            profile_name=own.get("profile") or options.profile or None,
            region_name=own.get("region") or options.region or None,
            aws_access_key_id=options.access_key or None,
            aws_secret_access_key=options.secret_key or None,
            aws_session_token=options.session_token or None,
        )
        client = session.client("s3", endpoint_url=place.endpoint(options), config=config)
    except (failures.BotoCoreError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise InvalidArgumentError(
            f"the options of the S3 store can't be used: {error}", hint="Check endpoint, region and profile."
        ) from error
    client.meta.events.register("before-call.s3.HeadBucket", _ask_once)
    if own.get("payer") == "requester":
        client.meta.events.register("before-call.s3", _pay)
    return client


def _ask_once(params: dict[str, Any], **_more: object) -> None:  # Any: a request as botocore holds it
    """boto3 asks so for the region after a redirect: one that is redirected too would ask for ever."""
    params.setdefault("context", {}).setdefault("s3_redirect", {})["redirected"] = True


def _pay(params: dict[str, Any], **_more: object) -> None:  # Any: a request as botocore holds it
    params["headers"]["x-amz-request-payer"] = "requester"


def refusal(url: str, key: str, error: failures.ClientError) -> DatasetError:
    """The error of ours for what the service of a store (its URL) answered about a key, empty for a listing."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    what = key or "a listing"
    if code in _MISSING:
        return ObjectMissingError(f"the store {url} has no object {key}", hint="Check that it is the right store.")
    if code in _TAKEN:
        return AlreadyExistsError(f"the store {url} has an object {key} already", hint="Read it instead.")
    if code in _BUSY:
        return BusyError(f"{url}: somebody else is writing {key}", hint="Try again.")
    if code in _CUT:
        return CutError(f"{url}: {key} is shorter than asked for", hint="It was cut after it was stored.")
    if code in _DAMAGED:
        return StorageUnavailableError(
            f"{url}: {key} arrived damaged: {code}", hint="Check the network, then try again."
        )
    if code in _AGAIN or status >= 500:
        return StorageUnavailableError(f"{url} answered {code} for {what}", hint="Try later.")
    detail = error.response.get("Error", {}).get("Message", "")
    return StorageError(
        f"{url} refused {what}: {code} {detail}".rstrip(),
        hint=_HINTS.get(code, "Check the URL, the credentials and the bucket's policy."),
    )
