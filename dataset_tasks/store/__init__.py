"""Where manifests and chunks live. `open_store` is the door; each kind of store is one module, loaded when needed."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from dataset_tasks.connections import StoreOptions, resolve
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.store.base import Leftover, ObjectReader, Store, Writer
from dataset_tasks.store.urls import refuse_credentials

__all__ = ["Leftover", "ObjectReader", "Store", "Writer", "connection_of", "is_url", "open_store"]

_GOOGLE = frozenset({"gs", "gcs"})
_OBJECT_STORES = _GOOGLE | {"s3", "azure", "az"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_url(text: str) -> bool:
    """Whether the text is a URL, not the path of a folder."""
    return _SCHEME.match(text) is not None


def connection_of(url: str, connection: str = "", *, home: Path | None = None) -> StoreOptions:
    """What the connection that a store's URL names says now; empty for a URL that names none.

    Args:
        url: As `open_store` takes it.
        connection: As `open_store` takes it.
        home: As `open_store` takes it.

    Raises:
        InvalidArgumentError: The URL holds credentials, or the connection can't be read.
        NotFoundError: Nobody knows the connection here.
    """
    found = _SCHEME.match(url)
    if not found or found[1].lower() not in _OBJECT_STORES:
        return StoreOptions()
    refuse_credentials(url)
    name = dict(parse_qsl(urlsplit(url).query)).get("connection") or connection
    return resolve(name, home=home) if name else StoreOptions()


def open_store(
    url: str | Path, connection: str = "", *, home: Path | None = None, options: StoreOptions | None = None
) -> Store:
    """Opens the store at a URL. Nothing is made before the first write.

    Args:
        url: A folder (`/data/store`, `~/store`, relative to the working folder), `file:///data/store`, or
            `s3://bucket/prefix`, `azure://container/prefix`, `gs://bucket/prefix`; see docs/stores.md for their options.
        connection: Name of the connection with endpoint and credentials; the URL's option of that name comes first.
        home: Folder of `config.toml`, where connections are looked up last; default as in `connections.resolve`.
        options: What the connection says, for who has looked it up already.

    Raises:
        InvalidArgumentError: No store has such a URL, or it holds credentials.
        NotFoundError: Nobody knows the connection here.
    """
    text = str(url)
    found = _SCHEME.match(text)
    if not found:
        return _open_folder(text)
    scheme = found[1].lower()
    refuse_credentials(text)
    if scheme == "file":
        return _open_folder(_path_of_file_url(text))
    if scheme not in _OBJECT_STORES:
        raise InvalidArgumentError(
            f"there is no store for {scheme}:// URLs",
            hint="Give a folder, such as `/data/store`, or `s3://bucket/prefix`, `azure://` or `gs://` likewise.",
        )
    if options is None:
        options = connection_of(text, connection, home=home)
    if scheme == "s3":
        from dataset_tasks.store.s3 import S3Store  # boto3: only for those who use it

        return S3Store(text, options=options)
    try:
        from dataset_tasks.store.object import AzureStore, GoogleStore
    except ModuleNotFoundError as error:
        extra = "gcs" if scheme in _GOOGLE else "azure"
        raise InvalidArgumentError(
            f"{scheme}:// URLs need the package obstore, which is not installed",
            hint=f"Install it with `pip install 'dataset-tasks[{extra}]'`.",
            kind="not_installed",
        ) from error
    return (GoogleStore if scheme in _GOOGLE else AzureStore)(text, options=options)


def _open_folder(path: str) -> Store:
    from dataset_tasks.store.local import LocalStore

    return LocalStore(path)


def _path_of_file_url(text: str) -> str:
    import os
    from urllib.parse import unquote_to_bytes

    parts = urlsplit(text)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise InvalidArgumentError(
            f"{text!r} is not the URL of a folder on this machine",
            hint="Write `file:///absolute/path`, with `?` as %3F, `#` as %23 and `%` as %25; or just the path.",
        )
    return path
