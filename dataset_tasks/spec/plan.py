"""The compiled spec: steps in topological order as plain frozen data, with no word of any orchestrator in it.

A step's request may still hold references to other steps (`step:raw.build`) and run-time placeholders
(`${run.date}`, `${params.carrier}`); `bind` replaces both once the run is known. Pure: standard library only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests import Request

ParamType: TypeAlias = Literal["str", "int", "float", "bool", "list", "dict", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of a spec; without a default it must be given for each run."""

    name: str
    type: ParamType = "str"
    default: JsonValue = None
    required: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When to run: exactly one of `cron`, `every` (seconds) and `after` (datasets as `project/name`) is set."""

    cron: str | None = None
    every: float | None = None
    after: tuple[str, ...] = ()
    timezone: str = "UTC"
    start: str | None = None
    catchup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of a plan.

    `id` depends only on the spec's own names (`training.build`, `training.add.0`); `needs` are step ids;
    `retry_delay` and `timeout` in seconds.
    """

    id: str
    dataset: str
    request: Request
    needs: tuple[str, ...] = ()
    retries: int = 0
    retry_delay: float = 0.0
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDataset:
    """One dataset of a plan: its key in the spec, where its versions go, its steps in order, what it reads.

    `version_step` is the step whose result carries the version id (build, finalize or squash); `last_step` is the
    one that what is below waits for. `parents` and `inputs` are references (`step:...` for datasets of the spec).
    `airflow` and `prefect` are the closed option lists of the spec, for the back end of that name.
    """

    key: str
    project: str
    name: str
    steps: tuple[str, ...]
    version_step: str
    last_step: str
    publish_step: str | None = None
    parents: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    description: str = ""
    doc: str = ""
    partition: str | None = None
    connection: str | None = None
    airflow: Mapping[str, JsonValue] = field(default_factory=dict)
    prefect: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole spec, compiled. `digest` is the SHA-256 (hex) of the spec's text; `source` its absolute path."""

    name: str
    source: str
    digest: str
    steps: tuple[Step, ...]
    datasets: tuple[PlannedDataset, ...]
    description: str = ""
    project: str = ""
    params: tuple[Param, ...] = ()
    schedule: Schedule | None = None
    connection: str | None = None
    store: str | None = None

    def step(self, step_id: str) -> Step:
        """The step of that id.

        Raises:
            InvalidArgumentError: The plan has no such step.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise InvalidArgumentError(f"plan {self.name!r} has no step {step_id!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a run knows: its id, params, window, profile, and the version ids that earlier steps gave."""

    run_id: str = ""
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    profile: str = ""
    results: Mapping[str, str] = field(default_factory=dict)


#: `${output}` and `${inputs.name}` are left alone: they exist only while a transform runs.
PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_LATE = ("output", "inputs.")


def bind(request: Request, scope: Scope) -> Request:
    """The request with every step reference and placeholder replaced, once, and never evaluated.

    A placeholder that is a whole value keeps the value's type.

    Raises:
        InvalidArgumentError: A step has given no version yet, or a placeholder has no value in this run.
    """
    bound = _bind(request, scope)
    assert isinstance(bound, Request)
    return bound


def _bind(value: Any, scope: Scope) -> Any:  # Any: walks the fields of requests, whatever they hold
    if isinstance(value, str):
        return _bind_text(value, scope)
    if isinstance(value, tuple):
        return tuple(_bind(item, scope) for item in value)
    if isinstance(value, list):
        return [_bind(item, scope) for item in value]
    if isinstance(value, Mapping):
        return {key: _bind(item, scope) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            spec.name: bound
            for spec in dataclasses.fields(value)
            if (bound := _bind(held := getattr(value, spec.name), scope)) is not held
        }
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _bind_text(text: str, scope: Scope) -> JsonValue:
    if text.startswith("step:"):
        return scope.results.get(text[5:], text)
    whole = PLACEHOLDER.fullmatch(text)
    if whole and not whole[1].startswith(_LATE):
        return lookup(whole[1], scope)
    return PLACEHOLDER.sub(
        lambda found: found[0] if found[1].startswith(_LATE) else _show(lookup(found[1], scope)), text
    )


def _show(value: JsonValue) -> str:
    return {True: "true", False: "false", None: ""}.get(value, str(value)) if not isinstance(value, (list, dict)) else str(value)  # type: ignore[arg-type]  # fmt: skip


def lookup(name: str, scope: Scope) -> JsonValue:
    """The value of one placeholder, such as `run.date` or `run.interval_start:%Y-%m`.

    Raises:
        InvalidArgumentError: It has no value in this run.
    """
    name, _, form = name.partition(":")
    match name.split(".", 1):
        case ["params", key] if key in scope.params:
            return scope.params[key]
        case ["run", "id"]:
            return scope.run_id
        case ["profile", "name"]:
            return scope.profile
        case ["run", ("date" | "interval_start" | "interval_end") as which]:
            moment = scope.interval_end if which == "interval_end" else scope.interval_start
            if moment is not None:
                return moment.strftime(form or "%Y-%m-%d") if which == "date" or form else moment.isoformat()
            raise InvalidArgumentError(
                f"${{{name}}} has no value: this run has no window",
                hint="Give the instant with --date, or run it from a schedule.",
            )
    raise InvalidArgumentError(f"unknown placeholder ${{{name}}}")
