"""Storing the bytes of a draft, and making it final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dataset_tasks.ops.requests.base import Compression, Count, Positive, Request, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Request):
    """Stores the bytes of every pending entry. `chunk_size` in MiB, fractions allowed; `store` is a URL."""

    verb: ClassVar[str] = "upload"
    ref: str
    store: str | None = None
    compression: Compression = "deflate"
    chunk_size: float | None = None
    max_workers: Positive | None = None
    retries: Count = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult(Result):
    """`files` and `bytes` were pending; `stored_bytes` went to the store in `chunks` objects."""

    files: int = 0
    bytes: int = 0
    stored_bytes: int = 0
    chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize(Request):
    """Makes a draft a final version; with `skip_unchanged` on the draft, may drop it instead."""

    verb: ClassVar[str] = "finalize"
    once: ClassVar[bool] = True
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeResult(Result):
    """The content of the version that stands: files, bytes, new bytes stored by it, content hash (hex)."""

    files: int = 0
    bytes: int = 0
    new_bytes: int = 0
    content_hash: str = ""
    parents: tuple[str, ...] = ()
