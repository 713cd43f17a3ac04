"""Where manifests and chunks live. `open_store` is the door; each kind of store is one module, loaded when needed."""

from __future__ import annotations

import re
from pathlib import Path

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.store.base import Leftover, ObjectReader, Store, Writer

__all__ = ["Leftover", "ObjectReader", "Store", "Writer", "is_url", "open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_url(text: str) -> bool:
    """Whether the text is a URL, not the path of a folder."""
    return _SCHEME.match(text) is not None


def open_store(url: str | Path) -> Store:
    """Opens the store at a URL. Nothing is made before the first write.

    Args:
        url: A folder (`/data/store`, `~/store`, relative to the working folder) or `file:///data/store`.

    Raises:
        InvalidArgumentError: No store has such a URL, or it holds credentials.
    """
    text = str(url)
    found = _SCHEME.match(text)
    if not found:
        return _open_folder(text)
    scheme = found[1].lower()
    if "@" in text[found.end() :].partition("/")[0]:
        raise InvalidArgumentError(
            f"the {scheme} URL of the store holds credentials",
            hint="Take them out of the URL: they belong in the environment, an Airflow connection or a Prefect block.",
        )
    if scheme == "file":
        return _open_folder(_path_of_file_url(text))
    if scheme == "s3":
        from dataset_tasks.store.s3 import S3Store  # boto3: only for those who use it

        return S3Store(text)
    raise InvalidArgumentError(
        f"there is no store for {scheme}:// URLs", hint="Give a folder, such as `/data/store`, or `s3://bucket/prefix`."
    )


def _open_folder(path: str) -> Store:
    from dataset_tasks.store.local import LocalStore

    return LocalStore(path)


def _path_of_file_url(text: str) -> str:
    import os
    from urllib.parse import unquote_to_bytes, urlsplit

    parts = urlsplit(text)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise InvalidArgumentError(
            f"{text!r} is not the URL of a folder on this machine",
            hint="Write `file:///absolute/path`, with `?` as %3F, `#` as %23 and `%` as %25; or just the path.",
        )
    return path
