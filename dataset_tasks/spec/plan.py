"""The compiled spec: steps in topological order as plain frozen data, with no word of any orchestrator in it.

A step's request may still hold references to other steps (`step:raw.build`) and run-time placeholders
(`${run.date}`, `${params.carrier}`); `bind` replaces both once the run is known. Pure: standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests import Build, Request
from dataset_tasks.spec.limits import Bounds, Kind, Use

ParamType: TypeAlias = Literal["str", "int", "float", "bool", "list", "dict", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of a spec; without a default it must be given for each run.

    `line` is where the file declares it, 0 when no file does; `uses` are the fields of numbers and flags that it fills in.
    """

    name: str
    type: ParamType = "str"
    default: JsonValue = None
    required: bool = False
    description: str = ""
    line: int = 0
    uses: tuple[Use, ...] = ()

    @property
    def ends(self) -> dict[str, float]:
        """The narrowest ends of the fields that it fills in, as JSON Schema says them."""
        ends: dict[str, float] = {}
        for use in self.uses:
            for word, end in use.bounds.ends.items():
                narrower = min if word == "maximum" else max
                ends[word] = narrower(ends.get(word, end), end)
        return ends


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
    one that what is below waits for; `approve_step` asks whether the version may be published. `parents` and `inputs` are
    references (`step:...` for datasets of the spec). `airflow` and `prefect` are the closed option lists of the spec, for
    the back end of that name.
    """

    key: str
    project: str
    name: str
    steps: tuple[str, ...]
    version_step: str
    last_step: str
    publish_step: str | None = None
    approve_step: str | None = None
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
    """A whole spec, compiled. `digest` is the SHA-256 (hex) of the spec's text; `source` its absolute path.

    Datasets and steps come after all they need. `airflow` and `prefect` are options of the whole DAG or flow.
    """

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
    profile: str = ""
    airflow: Mapping[str, JsonValue] = field(default_factory=dict)
    prefect: Mapping[str, JsonValue] = field(default_factory=dict)

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

    @property
    def facts(self) -> dict[str, JsonValue]:
        """What the origin of the run's versions tells of it: `window`, the start of its interval, in ISO 8601."""
        return {"window": self.interval_start.isoformat()} if self.interval_start else {}


#: What stands between `${` and `}`.
PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")
#: Fields that hold references; a text that only looks like one, in a description say, is not touched.
_REFERENCES: Final = frozenset({"ref", "refs", "parents"})
#: Fields whose values are the user's own: a placeholder that is a whole value keeps its type there.
_TYPED: Final = frozenset({"arguments", "metadata"})
#: Fields of numbers and flags: a placeholder that is a whole value keeps its type there too, and must be of theirs.
_NUMBERS: Final[Mapping[str, Kind]] = {
    "min_files": "integer", "max_files": "integer", "min_bytes": "integer", "max_change": "number",
    "chunk_size": "number", "max_workers": "integer", "recursive": "boolean",
}  # fmt: skip
#: Fields that hold the path of a source.
_PATHS: Final = frozenset({"path", "local_base_folder"})


def is_late(name: str) -> bool:
    """Whether a placeholder exists only while a transform runs: it is left alone until then."""
    return name == "output" or name.startswith("inputs.")


def bind(request: Request, scope: Scope) -> Request:
    """The request with every step reference and placeholder replaced, once, and never evaluated.

    A placeholder that is a whole value of a transform's arguments or of metadata keeps its type; elsewhere it becomes
    text. In the path of a source a value that is an absolute path or a URL takes the place of all before it, as with
    `os.path.join`; so a parameter can be relative to the spec or not. References between the stages of a build stay, as the build itself resolves them.

    Raises:
        InvalidArgumentError: A step has given no version yet, or a placeholder has no value in this run.
    """
    inner = frozenset(stage.id for stage in request.stages) if isinstance(request, Build) else frozenset()
    bound = _Binder(scope, inner).value(request)
    assert isinstance(bound, Request)
    return bound


@dataclass(frozen=True, slots=True)
class _Binder:
    scope: Scope
    inner: frozenset[str]

    def value(self, value: Any, field_name: str = "") -> Any:  # Any: walks the fields of requests, whatever they hold
        if isinstance(value, str):
            return self.reference(value) if field_name in _REFERENCES else self.text(value, field_name)
        if isinstance(value, tuple):
            return tuple([bound for item in value for bound in self.items(item, field_name)])
        if isinstance(value, list):
            return [self.value(item, field_name) for item in value]
        if isinstance(value, Mapping):
            return {key: self.value(item, field_name) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed = {
                spec.name: bound
                for spec in dataclasses.fields(value)
                if (bound := self.value(held := getattr(value, spec.name), spec.name)) is not held
            }
            return dataclasses.replace(value, **changed) if changed else value
        return value

    def items(self, item: Any, field_name: str) -> Sequence[Any]:  # Any: as value
        """What an item of a list becomes: several, where it is a placeholder of a list."""
        whole = PLACEHOLDER.fullmatch(item) if isinstance(item, str) else None
        if whole and whole[1].startswith("params."):
            given = lookup(whole[1], self.scope)
            if isinstance(given, Sequence) and not isinstance(given, str):
                return [self.reference(str(one)) if field_name in _REFERENCES else one for one in given]
        return [self.value(item, field_name)]

    def number(self, text: str, field_name: str) -> JsonValue:
        found = PLACEHOLDER.fullmatch(text)
        value = lookup(found[1], self.scope) if found else text
        bounds = Bounds(kind=_NUMBERS[field_name])
        if not bounds.holds(value):
            raise InvalidArgumentError(f"{field_name}: expected {bounds.expected}, found {value!r} for {text}")
        return value

    def reference(self, text: str) -> str:
        if not text.startswith("step:"):
            return _show(self.text(text, ""))
        step = text[5:]
        if step in self.inner:
            return text
        if step not in self.scope.results:
            raise InvalidArgumentError(
                f"the step {step!r} has given no version in this run", hint="Run it first, or select it too."
            )
        return self.scope.results[step]

    def text(self, text: str, field_name: str) -> JsonValue:
        if "${" not in text:
            return text
        if field_name in _NUMBERS:
            return self.number(text, field_name)
        whole = PLACEHOLDER.fullmatch(text)
        if whole and field_name in _TYPED and not is_late(whole[1]):
            return lookup(whole[1], self.scope)
        if field_name in _PATHS:
            return self.path(text)
        return PLACEHOLDER.sub(self.shown, text)

    def shown(self, found: re.Match[str]) -> str:
        return found[0] if is_late(found[1]) else _show(lookup(found[1], self.scope))

    def path(self, text: str) -> str:
        """A path with its placeholders replaced; a value that is absolute or a URL stands for all before it."""
        path = ""
        end = 0
        for found in PLACEHOLDER.finditer(text):
            path += text[end : found.start()]
            value = self.shown(found)
            whole = (os.path.isabs(value) or "://" in value) and path.endswith("/")
            path = value if whole else path + value
            end = found.end()
        path += text[end:]
        return path if "://" in path else os.path.normpath(path)


def filled(text: str, scope: Scope) -> str:
    """A text with its placeholders replaced.

    Raises:
        InvalidArgumentError: One has no value in this run.
    """
    return PLACEHOLDER.sub(lambda found: _show(lookup(found[1], scope)), text)


def _show(value: JsonValue) -> str:
    """The value as part of a text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def lookup(name: str, scope: Scope) -> JsonValue:
    """The value of one placeholder, such as `run.date` or `run.interval_start:%Y-%m`.

    Raises:
        InvalidArgumentError: It has no value in this run.
    """
    bare, _, form = name.partition(":")
    match bare.split(".", 1):
        case ["params", key] if key in scope.params:
            return scope.params[key]
        case ["params", key]:
            raise InvalidArgumentError(
                f"the parameter {key!r} has no value in this run", hint=f"Give it as {key}=value."
            )
        case ["run", "id"]:
            return scope.run_id
        case ["profile", "name"]:
            return scope.profile
        case ["run", ("date" | "interval_start" | "interval_end") as which]:
            moment = scope.interval_end if which == "interval_end" else scope.interval_start
            if moment is not None:
                return moment.strftime(form or "%Y-%m-%d") if which == "date" or form else moment.isoformat()
            raise InvalidArgumentError(
                f"${{{name}}} has no value: this run stands for no window of time",
                hint="Give the instant with --date, or run it from a schedule.",
            )
    raise InvalidArgumentError(f"unknown placeholder ${{{name}}}")


def placeholders_of(request: Request) -> frozenset[str]:
    """The names of all placeholders in a request, formats included, but those that a running transform fills in."""
    found: set[str] = set()
    _collect(request, found)
    return frozenset(name for name in found if not is_late(name))


def _collect(value: object, found: set[str]) -> None:
    if isinstance(value, str):
        if "${" in value:
            found.update(PLACEHOLDER.findall(value))
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)
    elif dataclasses.is_dataclass(value):
        for spec in dataclasses.fields(value):
            _collect(getattr(value, spec.name), found)
