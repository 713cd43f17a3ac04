"""Files in Google Cloud Storage (`gs://bucket/name`) and Azure Blob Storage (`azure://container/name`), through obstore.

Pinned by size and ETag. Options behind a `?`: `endpoint`, `account` (Azure), `connection`. Where neither a connection nor the
environment gives credentials, requests go without: public data can be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dataset_tasks.connections import StoreOptions, resolve
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external.base import GONE, PIECE, Found, Listed, Pinned, changed, gone, unavailable
from dataset_tasks.paths import show

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import AzureConfig, AzureStore, ClientConfig, GCSConfig, GCSStore, RetryConfig

_SAFE = "/!$&'()*+,;=:@~"
_STATUS = re.compile(r"status code: (\d{3})")
_PAGE = 1000
_RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


class CloudReader:
    """Reads the `gs://` or `azure://` URLs of one bucket.

    Args:
        url: Any of them: scheme, bucket and options count.

    Raises:
        InvalidArgumentError: An option is not known or can't be used, or obstore is not installed.
        NotFoundError: There is no such connection.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._top = f"{parts.scheme}://{parts.netloc}"
        self._query = f"?{urlencode(parse_qsl(parts.query, keep_blank_values=True))}" if parts.query else ""
        self._store = _bucket(self._top + self._query)

    def list(self, url: str, *, deep: bool) -> Listed:
        """The one object, or those whose names start with the URL's path and a `/`; see `Reader.list`."""
        key = _key(url)
        if key and not key.endswith("/"):
            try:
                size, pin = self.stat(url)
            except SourceError as error:
                if error.kind != GONE:
                    raise
            else:
                return Listed([Found(key.rpartition("/")[2].encode(), url, size, pin)], is_folder=False)
        files = self._below(url, f"{key.strip('/')}/" if key else "", deep=deep)
        first = next(files, None)
        if first is None:
            raise gone(url)
        return Listed(chain((first,), files), is_folder=True)

    def stat(self, url: str) -> Pinned:
        """Size and ETag; see `Reader.stat`."""
        import obstore

        with _explained(url):
            return _pinned(url, obstore.head(self._store, _key(url)))

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes, if their ETag is that of the pin; see `Reader.open`."""
        import obstore

        options: GetOptions = {"if_match": pin}
        if start:
            options["range"] = {"offset": start}
        with _explained(url, pin):
            answer = obstore.get(self._store, _key(url), options=options)
            found = _pinned(url, answer.meta).pin
            pieces = iter(answer.stream(min_chunk_size=PIECE))
        if found != pin:
            raise changed(url, found, pin)
        if answer.range[0] != start:
            raise unavailable(url, "its server gives no part of it")
        while True:
            with _explained(url):
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def _below(self, url: str, prefix: str, *, deep: bool) -> Iterator[Found]:
        import obstore

        pages: Iterator[Sequence[ObjectMeta]]
        with _explained(url):
            if deep:
                pages = obstore.list(self._store, prefix or None, chunk_size=_PAGE)
            else:
                pages = iter([obstore.list_with_delimiter(self._store, prefix or None)["objects"]])
        while True:
            with _explained(url):
                page = next(pages, None)
            if page is None:
                return
            for each in page:
                key = each["path"]
                where = f"{self._top}/{quote(key, safe=_SAFE)}{self._query}"
                size, pin = _pinned(where, each)
                yield Found(key[len(prefix) :].encode(), where, size, pin)


def _key(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"), errors="strict")


def _pinned(url: str, meta: ObjectMeta) -> Pinned:
    """Size and ETag; listings write it without quotes, answers with."""
    tag = (meta["e_tag"] or "").strip('"')
    if not tag:
        raise SourceError(
            f"{show(url)} can't be pinned: its server tells no ETag", paths=(url,), hint="Add a downloaded copy of it."
        )
    return Pinned(meta["size"], f'"{tag}"')


@lru_cache(maxsize=16)
def _bucket(url: str) -> GCSStore | AzureStore:
    """The client of a bucket, kept with its connections."""
    try:
        from obstore import exceptions as failures
    except ImportError as error:
        raise InvalidArgumentError(
            f"{show(url)} can't be read without obstore", hint="Install `dataset-tasks[gcs]` or `dataset-tasks[azure]`."
        ) from error
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - {"endpoint", "account", "connection"})
    if unknown:
        raise InvalidArgumentError(
            f"{show(url)}: unknown option {', '.join(map(show, unknown))}",
            hint="Behind the `?` there may be endpoint, account (Azure) and connection.",
        )
    held = resolve(options["connection"]) if options.get("connection") else StoreOptions()
    endpoint = options.get("endpoint") or held.endpoint_url
    try:
        if parts.scheme == "gs":
            return _google(parts.netloc, endpoint, held)
        return _azure(parts.netloc, endpoint, options.get("account") or held.account, held)
    except (failures.BaseError, ValueError, TypeError):  # their words may hold what is secret
        raise InvalidArgumentError(
            f"the options of {show(url)} can't be used", hint="Check endpoint, account and the connection's fields."
        ) from None


def _google(bucket: str, endpoint: str, held: StoreOptions) -> GCSStore:
    from obstore.store import GCSStore

    config: GCSConfig = {}
    if endpoint:
        config["base_url"] = endpoint
    if held.service_account.lstrip().startswith("{"):
        config["service_account_key"] = held.service_account
    elif held.service_account:
        config["service_account"] = held.service_account
    elif not _has_google_credentials():
        config["skip_signature"] = True
    return GCSStore(bucket, config=config, client_options=_client(endpoint), retry_config=_RETRIES)


def _azure(container: str, endpoint: str, account: str, held: StoreOptions) -> AzureStore:
    from obstore.store import AzureStore

    config: AzureConfig = {}
    if account:
        config["account_name"] = account
    if endpoint:
        config["endpoint"] = endpoint
    if held.account_key:
        config["account_key"] = held.account_key
    if held.sas_token:
        config["sas_key"] = held.sas_token
    named = any(name.startswith("AZURE_") for name in os.environ)
    if not (held.account_key or held.sas_token or named or _runs_on("Microsoft")):
        config["skip_signature"] = True
    return AzureStore(container, config=config, client_options=_client(endpoint), retry_config=_RETRIES)


def _has_google_credentials() -> bool:
    names = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
    default = os.path.expanduser("~/.config/gcloud/application_default_credentials.json")
    return any(os.environ.get(name) for name in names) or os.path.exists(default) or _runs_on("Google")


def _runs_on(vendor: str) -> bool:
    """Whether this is a machine of a cloud, which then knows who it is without being told."""
    try:
        with open("/sys/class/dmi/id/sys_vendor", encoding="ascii", errors="replace") as file:
            return file.read().startswith(vendor)
    except OSError:
        return False


def _client(endpoint: str) -> ClientConfig:
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=10),
        "timeout": timedelta(hours=12),  # of a whole answer: what comes too slowly is given up by whoever reads
        "user_agent": "dataset-tasks",
    }


@contextmanager
def _explained(url: str, pin: str = "") -> Iterator[None]:
    """Turns what obstore raises into errors of ours; its own words may hold a signed URL and are not repeated."""
    from obstore import exceptions as failures

    try:
        yield
    except FileNotFoundError as error:
        raise gone(url) from error
    except failures.PreconditionError as error:
        raise changed(url, "another ETag", pin) from error
    except (failures.PermissionDeniedError, failures.UnauthenticatedError) as error:
        raise SourceError(
            f"{show(url)} is refused: its server answers {_status(error) or 'that it may not be read'}",
            paths=(url,),
            hint="Check the credentials: those of the `connection`, else of the environment.",
        ) from error
    except failures.InvalidPathError as error:
        raise InvalidArgumentError(
            f"{show(url)}: a name in it holds `//`, a `.` or a `..` part, which can't be read here",
            hint="Rename it, or take another folder.",
        ) from error
    except failures.BaseError as error:
        raise unavailable(url, f"its server answers {_status(error)}" if _status(error) else "no answer") from error


def _status(error: Exception) -> str:
    found = _STATUS.search(str(error))
    return found[1] if found else ""
