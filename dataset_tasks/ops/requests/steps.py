"""Users' code over a draft, and several operations as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests.base import Count, Request, Result


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
    min_files: Count | None = None
    max_files: Count | None = None
    min_bytes: Count | None = None
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
