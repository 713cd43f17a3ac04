"""Every operation as a pair of plain values: a `Request` in, a `Result` out.

Both are frozen and JSON-safe (see `ops.wire`), hold references, counts and digests, never file lists and
never secrets, and so can pass between tasks, processes and machines. `ref` fields take a reference as
`dataset_tasks.model.Reference` reads it: an id, `project/name@selector` or, inside a plan, `step:<step id>`.

A request that is `once` gives its recorded result when it comes again with the same operation key; the others
converge: they are done again against the draft and end in the same state. Standard library only.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from dataset_tasks.model import Input, JsonValue, Keep

Compression: TypeAlias = Literal["deflate", "store"]
OnError: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an operation is asked to do."""

    verb: ClassVar[str]
    once: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an operation did, on which version.

    `unchanged` means that no version was made because `version_id` already holds just that; `why` says it in words.
    """

    catalog_id: str
    version_id: str
    project: str
    name: str
    version: str
    unchanged: bool = False
    why: str = ""


# --- making a draft ------------------------------------------------------------------------------------------------


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
    max_workers: int | None = None
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
    max_workers: int | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform(Request):
    """Runs the user's code over the draft's inputs and adds what it wrote.

    `call` is `module:function`, called as `function(inputs, output, **arguments)`; `run` is an argument vector for a
    program, no shell. Relative programs and modules are looked up beside `folder` (the spec's). `code_version`
    replaces the fingerprint of the code.
    """

    verb: ClassVar[str] = "transform"
    ref: str
    call: str | None = None
    run: tuple[str, ...] | None = None
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    env_from: tuple[str, ...] = ()
    python: str | None = None
    code_version: str | None = None
    always: bool = False
    folder: str | None = None
    dataset_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformResult(Result):
    """What the code wrote, as an add counts it, and how long it ran (seconds)."""

    added: int = 0
    modified: int = 0
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCheck:
    """Files that are read as tables and held against a pandera schema file."""

    files: str
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Request):
    """Gates on the content of a draft. What needs a previous version passes on the first, and says so.

    `max_change` is the share (0 to 1) of files that may be added, modified or removed against the previous version.
    """

    verb: ClassVar[str] = "check"
    ref: str
    min_files: int | None = None
    max_files: int | None = None
    min_bytes: int | None = None
    max_change: float | None = None
    tables: tuple[TableCheck, ...] = ()
    call: str | None = None
    severity: Literal["error", "warn"] = "error"
    folder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult(Result):
    """`findings` are what did not hold (with severity warn); `notes` what was passed over and why."""

    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# --- to a final version --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Request):
    """Stores the bytes of every pending entry. `chunk_size` in MiB, fractions allowed; `store` is a URL."""

    verb: ClassVar[str] = "upload"
    ref: str
    store: str | None = None
    compression: Compression = "deflate"
    chunk_size: float | None = None
    max_workers: int | None = None
    retries: int = 3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(Request):
    """Makes the next version of a dataset in one go: create, fill, check, upload, finalize, verify.

    `stages` run in order; a reference `step:<id>` in one names an earlier one. Ends early, with the draft dropped,
    when a stage finds the dataset unchanged.
    """

    verb: ClassVar[str] = "build"
    once: ClassVar[bool] = False
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One request of a build, under its step id (`training.add.0`)."""

    id: str
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult(Result):
    """The version that stands, and what changed against the one before it."""

    files: int = 0
    bytes: int = 0
    new_bytes: int = 0
    content_hash: str = ""
    parents: tuple[str, ...] = ()
    added: int = 0
    modified: int = 0
    removed: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(Request):
    """Asks whether a final version may be published; asked again, it looks whether there is an answer.

    There is one open question a version. `by` names who is asked; after `timeout` (seconds) without an answer,
    `otherwise` is the answer. `alias` is shown to whoever answers: the name that publishing will move.
    """

    verb: ClassVar[str] = "approve"
    ref: str
    by: tuple[str, ...] = ()
    timeout: float | None = None
    otherwise: Literal["reject", "approve"] = "reject"
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveResult(Result):
    """The question as it stands: `who` answered, with what `note`; `deadline` and `asked` in ISO 8601, UTC.

    `unchanged` when the version is published already, and there is nothing to ask.
    """

    state: Literal["open", "approved", "rejected"] = "open"
    who: str = ""
    note: str = ""
    asked: str | None = None
    deadline: str | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Request):
    """Publishes a final version and points an alias at it."""

    verb: ClassVar[str] = "publish"
    once: ClassVar[bool] = True
    ref: str
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult(Result):
    """`alias` is the one that now names the version; `unchanged` when it was published and aliased already."""

    alias: str | None = None
    files: int = 0
    bytes: int = 0
    content_hash: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Squash(Request):
    """Makes one standalone version from the content (one) or the changes (several) of versions. `hold`, `keep`: as `Create`."""

    verb: ClassVar[str] = "squash"
    once: ClassVar[bool] = True
    name: str
    refs: tuple[str, ...]
    project: str | None = None
    store: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    skip_unchanged: bool = False
    hold: tuple[str, ...] = ()
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SquashResult(FinalizeResult):
    """The squashed version, final."""


# --- reading and ending --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Request):
    """Compares a version with its entries: read back from the store, or a copy in `path`.

    `size` mode skips the hashes. A failed check of the store quarantines a final version when `quarantine` is set.
    """

    verb: ClassVar[str] = "verify"
    ref: str
    path: str | None = None
    mode: Literal["hash", "size"] = "hash"
    quarantine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult(Result):
    """`bad` are the paths that differ, sorted; empty when all is well. `files` and `bytes` were looked at."""

    bad: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCopy(Request):
    """Gives a folder with the content: the shared read-only copy in the cache, or a writable one in `target`.

    `files` are patterns; `part` of `num_parts` splits the files into parts of like size. `soft_links` None takes
    what is safe and cheapest.
    """

    verb: ClassVar[str] = "get"
    ref: str
    target: str | None = None
    overwrite: bool = False
    soft_links: bool | None = None
    files: tuple[str, ...] = ()
    part: int | None = None
    num_parts: int | None = None
    max_workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCopyResult(Result):
    """`folder` holds the copy."""

    folder: str = ""
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Request):
    """Ends a version: a draft is dropped, a final one leaves a tombstone; bytes go later, by gc."""

    verb: ClassVar[str] = "delete"
    once: ClassVar[bool] = True
    ref: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult(Result):
    """`state` is what the version is now: `aborted` or `deleted`."""

    state: str = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelete(Request):
    """Brings back a final version that was deleted, as long as `gc` has not given up its bytes."""

    verb: ClassVar[str] = "undelete"
    once: ClassVar[bool] = True
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteResult(Result):
    """`state` is what the version is again: `completed` or `published`."""

    state: str = "completed"


# --- looking after the store: never steps of a plan -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(Request):
    """Ends what nobody needs: versions past their retention, dead drafts, and the bytes of what is gone.

    All times in seconds. `grace`: how long a deleted version can be brought back. `idle`: how long an object stays that
    nothing refers to, and how long ago a write was begun that never ended. `drafts`: how long ago anything was done to a
    draft. `now` sets the grace to nothing, for what is deleted and for what nothing refers to.
    """

    verb: ClassVar[str] = "gc"
    dry_run: bool = True
    now: bool = False
    grace: float = 7 * 86_400.0
    idle: float = 86_400.0
    drafts: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectResult(Result):
    """What was done, or would be with `dry_run`. It is about no version: `version_id` and what goes with it are empty.

    `dropped` drafts, versions `retired` by retention, tombstones `purged` that can't come back and those `kept` that can, as
    their grace is not over, as `project/name@version`.
    `condemned` objects that nothing refers to any more, which `waiting` counts with those of before; `deleted` objects,
    `unfinished` ones and `parts` that writers left among them; `bytes` were freed, `waiting_bytes` are next.
    """

    dry_run: bool = True
    retired: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    purged: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    condemned: int = 0
    deleted: int = 0
    bytes: int = 0
    unfinished: int = 0
    parts: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repack(Request):
    """Copies what is still needed of stored archives that are mostly dead, so that `gc` can free them.

    An archive is repacked when at most the share `live` (0 to 1) of its bytes is needed by any version; with 1 all are.
    """

    verb: ClassVar[str] = "repack"
    dry_run: bool = True
    live: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RepackResult(Result):
    """What was done, or would be with `dry_run`; about no version, as `CollectResult`.

    `chunks` were repacked, `copied` bytes written anew; `bytes` is what `gc` frees then. `versions` were pointed there.
    """

    dry_run: bool = True
    chunks: int = 0
    copied: int = 0
    bytes: int = 0
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair(Request):
    """Looks for damage in everything stored, and heals what it can from wherever the same bytes are.

    Args:
        refs: Versions to look at; all when empty.
        copies: Other stores (folders or URLs) that hold a copy of this catalog's objects.
        folders: Where files are that may be what is missing, under any name.
        dry_run: Only tell what is damaged and what could be healed.
    """

    verb: ClassVar[str] = "repair"
    refs: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult(Result):
    """What was done, or would be with `dry_run`; about no version, as `CollectResult`.

    `damaged` objects were found among `objects`; `restored` of them have their bytes again, `healed` files lie elsewhere
    now, in the `versions` named. `lost` are files (`project/name@version: path`) found nowhere; their versions are
    `quarantined`.
    """

    dry_run: bool = False
    objects: int = 0
    damaged: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    healed: int = 0
    versions: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()


AnyRequest: TypeAlias = (
    Create
    | AddFiles
    | AddExternal
    | SyncFolder
    | RemoveFiles
    | Transform
    | Check
    | Upload
    | Finalize
    | Build
    | Approve
    | Publish
    | Squash
    | Verify
    | GetCopy
    | Delete
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Request):
    """Copies a final version with its lineage into another catalog, or moves it to another store of its own.

    `to_catalog` is the URL of the other catalog, without a password; None: the version's own. `to_store` is the URL of
    the store its bytes come to, default the session's. `lineage` False leaves the bytes of what it was made from behind.
    """

    verb: ClassVar[str] = "copy"
    ref: str
    to_catalog: str | None = None
    to_store: str | None = None
    lineage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult(Result):
    """The version where it is now, in the catalog it came to; how much of it and of its lineage had to be copied.

    `unchanged` when all of it was there already.
    """

    versions: int = 0
    objects: int = 0
    bytes: int = 0


#: Every operation: its verb, request and result, in the order of a version's life.
OPERATIONS: Mapping[str, tuple[type[Request], type[Result]]] = types.MappingProxyType(
    {
        request.verb: (request, result)
        for request, result in (
            (Create, CreateResult),
            (AddFiles, AddFilesResult),
            (AddExternal, AddExternalResult),
            (SyncFolder, SyncFolderResult),
            (RemoveFiles, RemoveFilesResult),
            (Transform, TransformResult),
            (Check, CheckResult),
            (Upload, UploadResult),
            (Finalize, FinalizeResult),
            (Build, BuildResult),
            (Approve, ApproveResult),
            (Publish, PublishResult),
            (Squash, SquashResult),
            (Verify, VerifyResult),
            (GetCopy, GetCopyResult),
            (Delete, DeleteResult),
            (Undelete, UndeleteResult),
            (Collect, CollectResult),
            (Repack, RepackResult),
            (Repair, RepairResult),
            (Copy, CopyResult),
        )
    }
)
