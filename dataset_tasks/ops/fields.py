"""What stands in the fields of a request, held against their declared types before anything is done with it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from os import PathLike
from typing import Annotated, Any, get_args, get_origin

from dataset_tasks import model
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.requests import AtLeast, Request


def check_fields(request: Request) -> None:
    """Refuses values of another type than their field's, or below its bound. Whether a choice is known, its operation says.

    Raises:
        InvalidArgumentError: A field holds something else; names the first one.
    """
    kind: Any = type(request)  # Any: a type, which mypy takes for nothing hashable
    for name, hint in _types(kind).items():
        held = getattr(request, name)
        if not _fits(hint, held):
            raise InvalidArgumentError(
                f"{request.verb}: `{name}` is {held!r:.200}, expected {_words(hint)}", hint="Mend the call."
            )


@cache
def _types(cls: Any) -> dict[str, Any]:  # Any: a type, type hints
    hints = typing.get_type_hints(
        cls, localns=vars(model), include_extras=True
    )  # JsonValue is recursive: its names live there
    return {spec.name: hints[spec.name] for spec in dataclasses.fields(cls)}


def _fits(hint: Any, held: object) -> bool:  # Any: type hints
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(each, held) for each in args)
    if origin is Annotated:
        kind, *bounds = args
        lowest = max(bound.lowest for bound in bounds if isinstance(bound, AtLeast))
        return _fits(kind, held) and isinstance(held, int | float) and held >= lowest
    if origin is tuple:
        return isinstance(held, tuple | list) and all(_fits(args[0], each) for each in held)
    if origin is Mapping:
        return isinstance(held, Mapping)
    if hint is str:
        return isinstance(held, str | PathLike)
    if hint is float:
        return isinstance(held, int | float)
    if hint is bool or not isinstance(hint, type):  # anything is true or false; literals are their operations' matter
        return True
    return isinstance(held, hint)


def _words(hint: Any) -> str:  # Any: type hints
    """The type as Python writes it.

    >>> _words(tuple[str, ...] | None)
    'tuple[str, ...] | None'
    >>> _words(Annotated[int, AtLeast(1)] | None)
    'int of at least 1 | None'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(_words, args))
    if origin is Annotated:
        return " ".join([_words(args[0]), *(f"of at least {each.lowest}" for each in args[1:])])
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not args else str(hint)
