"""Every operation as a pair of plain values: a `Request` in, a `Result` out.

Both are frozen and JSON-safe (`to_json`, `from_json`), hold references, counts and digests, never file lists and
never secrets, and so can pass between tasks, processes and machines. `ref` fields take a reference as
`dataset_tasks.model.Reference` reads it: an id, `project/name@selector` or, inside a plan, `step:<step id>`.

A request that is `once` gives its recorded result when it comes again with the same operation key; the others
converge: they are done again against the draft and end in the same state. Standard library only.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args, get_origin

from dataset_tasks import model
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Input, JsonValue

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResult(Result):
    """`parents` are the ids that were resolved, in merge order."""

    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFiles(Request):
    """Adds a file or a folder to a draft; bytes are uploaded later."""

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
    """Adds links to a draft: files that stay at `file://`, `s3://` or `http(s)://` URLs, each pinned as it is now."""

    verb: ClassVar[str] = "external"
    ref: str
    urls: tuple[str, ...]
    wildcard: tuple[str, ...] | None = None
    dataset_path: str | None = None
    recursive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AddExternalResult(Result):
    """Counts of this call, as an add counts them; `files` and `bytes` are what the URLs lead to."""

    added: int = 0
    modified: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFolder(Request):
    """Makes the part of a draft under `dataset_path` equal to a folder."""

    verb: ClassVar[str] = "sync"
    ref: str
    path: str
    dataset_path: str | None = None
    wildcard: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    max_workers: int | None = None


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
    """Makes one standalone version from the content (one) or the changes (several) of versions."""

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
    | Publish
    | Squash
    | Verify
    | GetCopy
    | Delete
)

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
            (Publish, PublishResult),
            (Squash, SquashResult),
            (Verify, VerifyResult),
            (GetCopy, GetCopyResult),
            (Delete, DeleteResult),
        )
    }
)

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Request)


def with_versions(request: _R, versions: Mapping[str, str]) -> _R:
    """The request with each reference `step:<id>` replaced by the version that the step gave, where it is known."""

    def change(text: str) -> str:
        return versions.get(text[5:], text) if text.startswith("step:") else text

    changed: _R = rewritten(request, change)
    return changed


def rewritten(value: Any, change: Callable[[str], JsonValue]) -> Any:  # Any: whatever the fields of requests hold
    """The value with `change` applied to every text in it; the same object where nothing changed."""
    match value:
        case str():
            return change(value)
        case tuple() | list():
            items = [rewritten(item, change) for item in value]
            return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
        case Mapping():
            return {key: rewritten(item, change) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    held = {spec.name: getattr(value, spec.name) for spec in dataclasses.fields(value)}
    new = {name: rewritten(item, change) for name, item in held.items()}
    return dataclasses.replace(value, **{name: item for name, item in new.items() if item is not held[name]})


def to_json(value: Request | Result) -> dict[str, JsonValue]:
    """The value as JSON; a request carries its verb. Fields that have their default are left out."""
    out: dict[str, JsonValue] = {"verb": value.verb} if isinstance(value, Request) else {}
    for spec in dataclasses.fields(value):
        held = getattr(value, spec.name)
        if not _is_default(spec, held):
            out[spec.name] = _plain(held)
    return out


def request_from_json(data: Mapping[str, Any]) -> Request:  # Any: parsed JSON
    """The request that `to_json` wrote.

    Raises:
        InvalidArgumentError: The verb or a field is unknown, or a value has another type than the field.
    """
    verb = str(data.get("verb"))
    if verb not in OPERATIONS:
        raise InvalidArgumentError(f"{verb!r} is not an operation", hint=f"Known operations: {', '.join(OPERATIONS)}.")
    return _build(OPERATIONS[verb][0], {k: v for k, v in data.items() if k != "verb"}, verb)


def result_from_json(verb: str, data: Mapping[str, Any]) -> Result:  # Any: parsed JSON
    """The result of an operation that `to_json` wrote.

    Raises:
        InvalidArgumentError: As `request_from_json`.
    """
    return _build(OPERATIONS[verb][1], data, verb)


def _is_default(spec: dataclasses.Field[Any], held: object) -> bool:
    if spec.default is not dataclasses.MISSING:
        return held is spec.default or (type(held) is type(spec.default) and held == spec.default)
    return spec.default_factory is not dataclasses.MISSING and held == spec.default_factory()


def _plain(value: object) -> JsonValue:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Request():
            return to_json(value)
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case tuple() | list():
            return [_plain(v) for v in value]
        case Stage() | Input() | TableCheck():
            return {s.name: _plain(getattr(value, s.name)) for s in dataclasses.fields(value)}
        case _:
            raise InvalidArgumentError(f"{type(value).__name__} is not a JSON value: {value!r}")


@cache
def _hints(cls: Hashable) -> dict[str, Any]:  # Any: type hints
    return typing.get_type_hints(cls, localns=vars(model))  # JsonValue is recursive: its names live there


def _build(cls: type[_T], data: Mapping[str, Any], where: str) -> _T:
    fields = {spec.name: spec for spec in dataclasses.fields(typing.cast("Any", cls))}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise InvalidArgumentError(
            f"{where}: unknown field {', '.join(map(repr, unknown))}", hint=f"Fields: {', '.join(fields)}."
        )
    hints = _hints(typing.cast("Hashable", cls))
    values = {name: _read(hints[name], held, f"{where}.{name}") for name, held in data.items()}
    missing = [
        name
        for name, spec in fields.items()
        if name not in values and spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidArgumentError(f"{where}: missing field {', '.join(map(repr, missing))}")
    return cls(**values)


def _read(hint: Any, held: Any, where: str) -> Any:  # Any: type hints and parsed JSON
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if held is None and type(None) in args:
            return None
        return _read(next(a for a in args if a is not type(None)), held, where)
    if origin is Literal:
        if held in args:
            return held
        raise InvalidArgumentError(f"{where}: {held!r} is none of {', '.join(map(repr, args))}")
    if origin is tuple and isinstance(held, (list, tuple)):
        return tuple(_read(args[0], item, f"{where}[{i}]") for i, item in enumerate(held))
    if origin in (dict, Mapping) and isinstance(held, Mapping):
        return dict(held)
    if hint is Request and isinstance(held, Mapping):
        return request_from_json(held)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(held, Mapping):
        return _build(hint, held, where)
    if hint is float and isinstance(held, (int, float)) and not isinstance(held, bool):
        return float(held)
    if isinstance(hint, type) and type(held) is hint:
        return held
    raise InvalidArgumentError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {held!r}")
