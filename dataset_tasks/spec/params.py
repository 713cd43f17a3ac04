"""Parameters of a run: their types and the values of one run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec.plan import Param, Plan
from dataset_tasks.spec.problems import listed

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list, tuple),
    "dict": (dict,),
    "date": (str,),
}


def check_params(plan: Plan, given: Mapping[str, JsonValue] | None = None) -> dict[str, JsonValue]:
    """The value of every parameter of a run, defaults filled in.

    Args:
        plan: Whose parameters.
        given: Values by name. Text is taken for any type, as a command line gives it: `"3"` for an int,
            `'["a"]'` for a list.

    Raises:
        InvalidArgumentError: A name is unknown, a value has another type or can't stand in a field that it fills in, one
            without default is missing; the message holds all of them, with their places in the file.
    """
    values: dict[str, JsonValue] = {}
    wrong: list[str] = []
    known = {param.name: param for param in plan.params}
    for name, value in (given or {}).items():
        if name not in known:
            there = f"; there are {listed(list(known))}" if known else "; the spec has none"
            wrong.append(f"no parameter {name!r}{did_you_mean(name, known) or there}")
            continue
        read = _read(known[name], value)
        problem = None if read is None and known[name].default is None else param_problem(known[name], read)
        if problem:
            place = f" ({plan.source}:{known[name].line})" if known[name].line else ""
            wrong.append(f"{name}: {problem}{place}")
        else:
            wrong += (f"{name}: {held} ({plan.source}:{place})" for held, place in _unfit(known[name], read))
        values[name] = read
    for name, param in known.items():
        if name not in values:
            values[name] = param.default
            if param.required:
                wrong.append(f"{name}: has no default and must be given ({param.type})")
    if wrong:
        raise InvalidArgumentError(
            f"parameters of {plan.name}: " + "; ".join(wrong), hint="Give parameters as name=value."
        )
    return values


def param_problem(param: Param, value: JsonValue) -> str | None:
    """What is wrong with a value of a parameter, or None."""
    types = _TYPES[param.type]
    if not isinstance(value, types) or (isinstance(value, bool) and param.type != "bool"):
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        quote = f'; quote it: "{written}"' if param.type == "str" and isinstance(value, (int, float)) else ""
        return f"expected {param.type}, found {repr(value) if isinstance(value, str) else written}{quote}"
    if param.type == "date":
        try:
            date.fromisoformat(str(value))
        except ValueError:
            return f"expected a date such as 2013-01-31, found {value!r}"
    return None


def _unfit(param: Param, value: JsonValue) -> Iterator[tuple[str, str]]:
    """What the fields that the parameter fills in say against a value of its type, and where they stand."""
    for use in param.uses:
        if not use.bounds.holds(value):
            shown = json.dumps(value, ensure_ascii=False)
            yield f"expected {use.bounds.expected} for {use.path}, found {shown}", f"{use.line}:{use.column}"


def _refuse(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is not JSON")


def _read(param: Param, value: JsonValue) -> JsonValue:
    """The value, out of its text where the type is not text; a text that can't be read stays, and is refused."""
    if not isinstance(value, str) or param.type in ("str", "date"):
        return value
    try:
        read: JsonValue = json.loads(value, parse_constant=_refuse)
    except ValueError:
        return value
    return read
