"""Making a draft, and which files are in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dataset_tasks.model import Input, JsonValue, Keep
from dataset_tasks.ops.requests.base import OnError, Positive, Request, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Request):
    """Makes a draft. `previous` starts it from the dataset's own last good version, where there is one.

    `skip_unchanged` lets upload and finalize drop the draft when it equals the last good version; `recipe` is the
    digest of everything in the dataset's definition that shapes its content. `store` is a URL, default the session's.
    `hold` says what the final version waits for (`verify`, `approve`) before any look-up by name finds it. `keep` is from
    now on the dataset's retention, an empty one takes it away, and None leaves it as it is.
    """

    verb: ClassVar[str] = "create"
    once: ClassVar[bool] = True
    name: str
    project: str | None = None
    parents: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    previous: bool = False
    version: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    store: str | None = None
    partition: str | None = None
    skip_unchanged: bool = False
    recipe: str = ""
    hold: tuple[str, ...] = ()
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResult(Result):
    """`parents` are the ids that were resolved, in merge order."""

    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFiles(Request):
    """Adds a file or a folder to a draft; bytes are uploaded later.

    `path` may be a URL of an object store; `connection` names the connection with its endpoint and credentials.
    """

    verb: ClassVar[str] = "add"
    ref: str
    path: str
    wildcard: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    local_base_folder: str | None = None
    dataset_path: str | None = None
    recursive: bool = True
    on_error: OnError = "raise"
    max_workers: Positive | None = None
    connection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFilesResult(Result):
    """Counts of this call: paths the version did not have, paths whose content changed, sources left out."""

    added: int = 0
    modified: int = 0
    skipped: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddExternal(Request):
    """Adds links to a draft: files that stay where their URLs lead to, each pinned as it is now.

    `connection` names the connection with endpoint and credentials; the links keep its name.
    """

    verb: ClassVar[str] = "external"
    ref: str
    urls: tuple[str, ...]
    wildcard: tuple[str, ...] | None = None
    dataset_path: str | None = None
    recursive: bool = True
    connection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddExternalResult(Result):
    """Counts of this call, as an add counts them; `files` and `bytes` are what the URLs lead to."""

    added: int = 0
    modified: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFolder(Request):
    """Makes the part of a draft under `dataset_path` equal to a folder, or to what lies below a URL."""

    verb: ClassVar[str] = "sync"
    ref: str
    path: str
    dataset_path: str | None = None
    wildcard: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    max_workers: Positive | None = None
    connection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFolderResult(Result):
    """Counts of this call; `files` and `bytes` describe the folder."""

    removed: int = 0
    added: int = 0
    modified: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFiles(Request):
    """Removes what a pattern matches from a draft; several patterns are one commit. None: everything."""

    verb: ClassVar[str] = "remove"
    ref: str
    patterns: tuple[str, ...] | None = None
    recursive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFilesResult(Result):
    """How many paths went."""

    removed: int = 0
