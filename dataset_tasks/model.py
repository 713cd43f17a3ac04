"""The values everything else passes around: frozen, standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import show

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


class State(StrEnum):
    """Where a version is in its life."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PUBLISHED = "published"
    ABORTED = "aborted"
    DELETED = "deleted"

    @property
    def is_final(self) -> bool:
        """Whether the content can't change any more and can be read."""
        return self in (State.COMPLETED, State.PUBLISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """One stored object: where it is and what its bytes must be.

    `key` is relative to `<catalog id>/` in the store `store_id`; `size` in bytes; `sha256` is the bare hex digest.
    """

    store_id: str
    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A version that a transform reads: recorded as lineage, its content not inherited.

    `ref` is a reference (see `Reference`); `files` narrows the copy to these patterns, all when empty.
    """

    name: str
    ref: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version as the catalog has it.

    `parents` are ids in merge order, the last wins; when `previous_id` is set it is the first of them.
    `files`, `bytes` and `content_hash` describe the content (of a draft: as it stands); `pending` counts the
    entries whose bytes are not stored yet; `new_bytes` is what the version added to the store; `window` is the start of
    the interval that its run stood for (UTC).
    """

    id: str
    catalog_id: str
    project: str
    name: str
    version: str
    state: State
    revision: int
    created: datetime
    sequence: int
    parents: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    previous_id: str | None = None
    partition: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    store_id: str = ""
    index: ObjectRef | None = None
    pending: int = 0
    pending_object: ObjectRef | None = None
    files: int = 0
    bytes: int = 0
    new_bytes: int = 0
    content_hash: str = ""
    fingerprint: str = ""
    recipe: str = ""
    skip_unchanged: bool = False
    quarantined: str = ""
    origin: Mapping[str, JsonValue] = field(default_factory=dict)
    finalized: datetime | None = None
    published: datetime | None = None
    window: datetime | None = None

    @property
    def dataset(self) -> str:
        """`project/name`."""
        return f"{self.project}/{self.name}"

    @property
    def label(self) -> str:
        """`project/name@version`, with the partition where there is one, escaped: what messages and tables show."""
        bare = f"{self.project}/{self.name}@{self.version}"
        return show(f"{bare} [{self.partition}]" if self.partition else bare)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a version; field names are those of the reference API.

    `hash` is the bare SHA-256 hex digest, `size` in bytes, `parent_dataset_id` the version that brought the
    content, `artifact_name` the chunk that holds it (None while pending), `local_path` where a pending file is read.
    """

    relative_path: str
    hash: str
    size: int
    parent_dataset_id: str
    artifact_name: str | None = None
    local_path: str | None = None


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """One entry whose bytes stay at an external URL, pinned by size and `pin` (ETag or version id)."""

    relative_path: str
    link: str
    size: int
    parent_dataset_id: str
    pin: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many files and bytes."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path in a diff; a size is None where the path does not exist on that side (bytes)."""

    path: str
    old_size: int | None = None
    new_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What differs between two versions, each tuple sorted by path; the three partition the difference."""

    added: tuple[Change, ...] = ()
    modified: tuple[Change, ...] = ()
    removed: tuple[Change, ...] = ()


ReportKind: TypeAlias = Literal["text", "scalar", "table", "histogram", "image", "media"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One thing that was reported; `value` is JSON, for media it says where the bytes are."""

    sequence: int
    kind: ReportKind
    title: str
    series: str
    iteration: int | None
    value: JsonValue
    created: datetime

    @property
    def file(self) -> ObjectRef | None:
        """Where the bytes of an image or media file are; None for what is no file."""
        if not isinstance(self.value, Mapping) or "key" not in self.value or self.kind not in ("image", "media"):
            return None
        fields = {name: self.value[name] for name in ("store_id", "key", "size", "sha256")}
        return ObjectRef(**fields)  # type: ignore[arg-type]  # as it was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which versions of a dataset stay: the last so many, the last published ones, those younger than `seconds`.

    A version stays when any of the three says so; None says nothing, and where none says anything all stay.
    """

    last: int | None = None
    published: int | None = None
    seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A question whether a version may be published, and its answer.

    `state` is `open`, `approved`, `rejected` or `expired`: nobody answered by the `deadline` (UTC), so that `otherwise`
    is the answer. `by` names who is asked, nobody in particular when empty; `who` answered, with a `note`.
    """

    sequence: int
    version_id: str
    state: Literal["open", "approved", "rejected", "expired"]
    requested: datetime
    by: tuple[str, ...] = ()
    otherwise: Literal["reject", "approve"] = "reject"
    deadline: datetime | None = None
    alias: str = ""
    origin: Mapping[str, JsonValue] = field(default_factory=dict)
    answered: datetime | None = None
    who: str = ""
    note: str = ""

    @property
    def outcome(self) -> Literal["open", "approved", "rejected"]:
        """What the question came to: of one that nobody answered in time, `otherwise`."""
        if self.state == "expired":
            return "approved" if self.otherwise == "approve" else "rejected"
        return self.state

    @property
    def told(self) -> str:
        """The answer in a few words: `rejected by ana`."""
        if self.state == "open":
            return "waits for approval"
        if self.state == "expired":
            return f"{self.outcome}: nobody answered by {self.deadline:%Y-%m-%d %H:%M} UTC"
        return f"{self.state} by {self.who}" if self.who else self.state


_HEX_ID = re.compile(r"[0-9a-f]{32}\Z")
_IN_PARTITION = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]\Z")
#: Words after `@` that always mean what they say, so that no alias can be called so.
RESERVED_ALIASES: Final = frozenset({"latest", "published"})
_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed reference: an id, `project/name@selector`, or (in plans only) `step:<id>`.

    The selector is a version string, `latest`, `published` or an alias; without one it is `published`. Where a dataset
    has partitions, one stands behind in brackets: `crm/orders@latest[2013-01]`; without it, any of them answers.
    """

    id: str | None = None
    step: str | None = None
    project: str = ""
    name: str = ""
    selector: str = "published"
    partition: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads a reference.

        Raises:
            InvalidArgumentError: The text is none of the four forms.

        >>> Reference.parse("nyc/labels@prod").selector
        'prod'
        >>> Reference.parse("nyc/labels@latest[2013-01]").partition
        '2013-01'
        """
        if text.startswith("step:") and len(text) > 5:
            return cls(step=text[5:])
        bare = text.removeprefix("id:")
        if _HEX_ID.match(bare):
            return cls(id=bare)
        in_part = _IN_PARTITION.match(text)
        whole, part = (in_part[1], in_part[2]) if in_part else (text, None)
        dataset, at, selector = whole.partition("@")
        project, slash, name = dataset.rpartition("/")
        if not slash or not project or not name or (at and not selector) or text.startswith("id:"):
            raise InvalidArgumentError(
                f"{text!r} is not a reference to a version",
                hint="Write an id (32 hex digits), `project/name`, `project/name@1.0.3`, `@published`, `@latest` "
                "or `@alias`.",
            )
        return cls(project=project, name=name, selector=selector or "published", partition=part)

    def __str__(self) -> str:
        if self.step is not None:
            return f"step:{self.step}"
        part = f"[{self.partition}]" if self.partition is not None else ""
        return f"id:{self.id}" if self.id is not None else f"{self.project}/{self.name}@{self.selector}{part}"


def check_dataset(project: str, name: str) -> None:
    """Refuses a name that reads as part of a project: `a/b/c` is the dataset `c` of the project `a/b`, and no other.

    Raises:
        InvalidArgumentError: The name holds a `/`.
    """
    if "/" in str(name):
        raise InvalidArgumentError(
            f"a dataset's name holds no `/`, found {name!r} in project {project!r}",
            hint="Give what stands before the last `/` as part of the project: `a/b/c` is the dataset `c` of the "
            "project `a/b`.",
        )


def is_dataset_word(text: str) -> bool:
    """Whether the text can be a name, or one part of a project, in a spec: `[A-Za-z0-9._-]+`."""
    return _NAME.match(text) is not None


def asset_uri(project: str, name: str) -> str:
    """The URI both orchestrators know a dataset by: `dataset://project/name`."""
    return f"dataset://{project}/{name}"
