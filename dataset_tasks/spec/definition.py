"""A spec that was understood: what the file says with the settings and the profile taken in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset_tasks.model import JsonValue
from dataset_tasks.spec import schema
from dataset_tasks.spec.plan import Param, Schedule
from dataset_tasks.spec.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One dataset of a spec: what the file says, and what it means with the settings taken in.

    `inputs` has the names a transform sees; `retry_delay` and `timeout` in seconds.
    """

    key: str
    project: str
    name: str
    model: schema.Dataset
    parents: tuple[Source, ...] = ()
    inputs: tuple[tuple[str, Source, tuple[str, ...]], ...] = ()
    squash: tuple[Source, ...] = ()
    store: str | None = None
    connection: str | None = None
    retries: int = 0
    retry_delay: float = 30.0
    timeout: float | None = None
    granularity: str = "dataset"
    on_unchanged: str = "skip"

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the spec that it reads, each once, in the order of the file."""
        named = (source.key for source in (*self.parents, *(held for _, held, _ in self.inputs), *self.squash))
        return tuple(dict.fromkeys(key for key in named if key is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A spec without problems, with its settings and profile taken in.

    `definitions` are in the order of need: each comes after what it reads. `digest` is the SHA-256 (hex) of the file,
    `folder` where its relative paths begin.
    """

    path: Path
    folder: Path
    digest: str
    pipeline: schema.Pipeline
    definitions: tuple[Definition, ...]
    params: tuple[Param, ...] = ()
    schedule: Schedule | None = None
    store: str | None = None
    connection: str | None = None
    profile: str = ""
    airflow: Mapping[str, JsonValue]
    prefect: Mapping[str, JsonValue]
