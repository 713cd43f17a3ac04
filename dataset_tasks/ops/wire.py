"""Requests and results as JSON, and requests with the texts in them changed."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from dataset_tasks import model
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Input, JsonValue, Keep
from dataset_tasks.ops import requests as r
from dataset_tasks.ops.requests import OPERATIONS, Request, Result

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
    if not isinstance(data, Mapping):
        raise InvalidArgumentError(f"a request is a JSON object, found {type(data).__name__}", hint="See `to_json`.")
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
        case Keep():
            return {s.name: kept for s in dataclasses.fields(value) if (kept := getattr(value, s.name)) is not None}
        case Input() | r.Stage() | r.TableCheck():
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
    if hint in (int, float, bool) and isinstance(held, str) and held.startswith("${") and held.endswith("}"):
        return held  # a placeholder in the request of a plan; binding it gives the value
    if hint is float and isinstance(held, (int, float)) and not isinstance(held, bool):
        return float(held)
    if isinstance(hint, type) and type(held) is hint:
        return held
    raise InvalidArgumentError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {held!r}")
