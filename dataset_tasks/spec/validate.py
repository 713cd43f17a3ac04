"""From a document to a model of the schema: pydantic's findings in our words, at their places in the file.

What is wrong is taken out and the rest is read again, so that the rules can look at all that could be understood.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec.document import Document, Map, Seq
from dataset_tasks.spec.limits import Bounds
from dataset_tasks.spec.problems import Path, Problems, listed

_M = TypeVar("_M", bound=BaseModel)

#: Each round takes out everything the one before complained of; nesting alone can need a second one.
_ROUNDS: Final = 6


def read_model(
    model: type[_M], document: Document, problems: Problems, *, stand_ins: Mapping[str, object] | None = None
) -> _M | None:
    """The model of a document, as far as it could be understood.

    Args:
        model: What the whole file is.
        document: Its value; what is wrong is taken out of it.
        problems: Takes everything that is wrong.
        stand_ins: Values of top-level keys that must be there, used after their absence was reported.

    Returns:
        The model without the parts that are wrong, or None when nothing that makes sense is left.
    """
    for tried in range(_ROUNDS):
        try:
            return model.model_validate(document.root)
        except ValidationError as error:
            findings = error.errors(include_url=False)
        for finding in findings:
            # A key that is missing only now was taken out for a reason the reader has been told.
            if not (tried and finding["type"] == "missing"):
                _report(model, document, finding, problems)
        if not isinstance(document.root, Map):
            return None
        _prune(document, [finding["loc"] for finding in findings])
        for key, value in (stand_ins or {}).items():
            document.root.setdefault(key, value)
    return None


def _report(model: type[BaseModel], document: Document, finding: ErrorDetails, problems: Problems) -> None:
    loc = finding["loc"]
    at, path, here = document.locate(loc)
    if finding["type"] == "extra_forbidden":
        key = str(loc[-1])
        mapping = document.locate(loc[:-1])[2]
        if isinstance(mapping, Map):
            at = mapping.keys_at.get(key, at)
        known = _known_keys(model, loc[:-1])
        near = did_you_mean(key, known)
        problems.add(at, path, f"unknown key {key!r}{near or f'; known are {listed(known, most=40)}'}")
    elif finding["type"] == "missing":
        problems.add(at, path, f"the key {str(loc[-1])!r} is missing")
    else:
        problems.add(at, path, _message(finding, path, here, document.written.get(at)))


#: Keys that take several forms, where pydantic speaks of the last one it tried.
_FORMS: Final[Mapping[Path, str]] = {
    ("publish",): "true, false or a mapping",
    ("publish", "approval"): "true, false or a mapping",
    ("verify",): "true, false, 'hash' or 'size'",
    ("inputs",): "a list or a mapping",
}
_KINDS: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _message(finding: ErrorDetails, path: Path, here: object, written: str | None) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    form = _FORMS.get(path[2:])
    if here is None:
        return f"has no value; expected {form or _KINDS.get(kind, 'one')}, or leave the key out"
    if form:
        return f"expected {form}, found {_what(here)}{_shown_value(here)}"
    if kind == "string_type" and written is not None:
        return f'expected text, found {_what(here)} {written}; quote it: "{written}"'
    if kind == "bool_type" and isinstance(here, str) and here.casefold() in ("true", "false", "yes", "no", "on", "off"):
        return f"expected true or false, found the text {here!r}; write it as true or false, in small letters"
    if kind in _KINDS:
        return f"expected {_KINDS[kind]}, found {_what(here)}{_shown_value(here)}"
    if kind == "literal_error":
        expected = context["expected"]
        if isinstance(here, str) and here in expected.split(", "):  # quoted words keep their quotes there
            return f"expected {expected}, found the text {here!r}; write it without quotes"
        near = did_you_mean(here, _quoted(expected)) if isinstance(here, str) else ""
        return f"expected {context['expected']}, found {_what(here)}{_shown_value(here)}{near}"
    if kind in ("greater_than_equal", "less_than_equal", "greater_than"):
        word = {"greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "more than"}[kind]
        return f"expected {word} {next(iter(context.values()))}, found {here}"
    if kind == "too_short":
        return "is empty"
    if kind == "value_error":
        hint = "; write a unit, such as 30s" if isinstance(here, (int, float)) and "duration" in str(context) else ""
        return f"{context['error']}{hint}"
    return finding["msg"]


def _quoted(expected: str) -> list[str]:
    return [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]


def _what(value: object) -> str:
    match value:
        case bool():
            return "the boolean"
        case int() | float():
            return "the number"
        case str():
            return "the text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _shown_value(value: object) -> str:
    if isinstance(value, bool):
        return f" {str(value).lower()}"
    return f" {value!r}" if isinstance(value, (str, int, float)) else ""


def _prune(document: Document, places: Iterable[Path]) -> None:
    """Takes what is wrong out of the document."""
    # From the back, so that indexes of a list that come earlier stay right.
    for place in sorted(set(places), key=_order, reverse=True):
        _take_out(document, place)


def _order(place: Path) -> tuple[tuple[bool, int, str], ...]:
    return tuple((isinstance(part, int), part if isinstance(part, int) else 0, str(part)) for part in place)


def _take_out(document: Document, place: Path) -> None:
    """Removes the deepest existing value on the way to the place, or what lacks a key that must be there."""
    way = list(document.steps(place))
    if not way:
        return
    holder, part = way[-1]
    if isinstance(holder, Seq):
        holder.remove_item(int(part))
    else:
        del holder[str(part)]


def bounds_at(model: type[BaseModel], path: Path) -> Bounds | None:
    """What the field at a path of a model takes, when it is one of numbers or flags."""
    kind: Any = model  # Any: a type annotation
    for part in path:
        kind = _inner(kind, part)
    return _bounds_in(kind)


def _bounds_in(kind: Any) -> Bounds | None:  # Any: a type annotation
    if isinstance(kind, Bounds):
        return kind
    return next((found for inner in get_args(kind) if (found := _bounds_in(inner)) is not None), None)


def _known_keys(model: type[BaseModel], loc: Path) -> list[str]:
    """The keys that the mapping at a place may have."""
    kind: Any = model  # Any: a type annotation
    for part in loc:
        kind = _inner(kind, part)
    found = next(iter(_models_in(kind)), None)
    return list(_fields(found)) if found else []


def _inner(kind: Any, part: str | int) -> Any:  # Any: type annotations
    if isinstance(part, str) and part.startswith("="):
        return kind
    for held in _models_in(kind):
        if part in _fields(held):
            return _fields(held)[str(part)]
    return kind


@cache
def _fields(model: type[BaseModel]) -> dict[str, Any]:  # Any: type annotations
    hints = typing.get_type_hints(model, include_extras=True)
    return {spec.alias or name: hints[name] for name, spec in model.model_fields.items()}


def _models_in(kind: Any) -> list[type[BaseModel]]:  # Any: a type annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models_in(inner)]
