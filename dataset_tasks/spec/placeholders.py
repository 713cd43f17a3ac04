"""Which placeholders (`${...}`) a value of a spec may use, and which time it asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec.document import Map, Seq
from dataset_tasks.spec.plan import PLACEHOLDER
from dataset_tasks.spec.problems import Path

_PART: Final = re.compile(r"\$\{(?:([^{}]*)\})?")
_WINDOW: Final = frozenset({"run.date", "run.interval_start", "run.interval_end"})
_PLAIN: Final = frozenset({"run.id", "profile.name"})

#: Keys of a dataset whose text is used before a run is known, or must not change with it.
FIXED: Final[Mapping[tuple[str, ...], str]] = {
    ("name",): "the asset of a dataset has one name",
    ("project",): "the asset of a dataset has one name",
    ("connection",): "it is looked up before the run",
    ("transform", "call"): "code is named, not computed",
    ("transform", "python"): "code is named, not computed",
    ("check", "call"): "code is named, not computed",
    ("airflow",): "it is used before the run",
    ("prefect",): "it is used before the run",
}
#: Keys whose text is shown as it stands.
LITERAL: Final = frozenset({"doc"})


def texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The texts in a value that may hold a placeholder, with their paths; keys of mappings are none."""
    if isinstance(value, str):
        if "${" in value:
            yield path, value
        return
    parts: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, Map):
        parts = value.items()
    elif isinstance(value, Seq):
        parts = enumerate(value)
    for part, held in parts:
        if isinstance(held, str):  # not by way of the next call: most values are texts without one
            if "${" in held:
                yield (*path, part), held
        elif isinstance(held, (Map, Seq)):
            yield from texts(held, (*path, part))


def used(text: str) -> list[str]:
    """The names of the placeholders of a text, in order."""
    return PLACEHOLDER.findall(text) if "${" in text else []


def needs_window(name: str) -> bool:
    """Whether a placeholder has a value only in a run that stands for a stretch of time."""
    return name.partition(":")[0] in _WINDOW


def parts(text: str) -> list[str]:
    """The placeholders of a text as they stand in it, in order; of one that is not closed the opening."""
    return [found[0] for found in _PART.finditer(text)]


def complaints(
    text: str, path: Path, params: Collection[str], inputs: Collection[str], *, after: Collection[str] = ()
) -> Iterator[tuple[int | None, str]]:
    """What is wrong with the placeholders of a text of a dataset: which of `parts`, None for all of them, and a sentence.

    Args:
        text: The value.
        path: Where it stands, from the dataset on.
        params: Parameters of the spec.
        inputs: Inputs of the dataset.
        after: Datasets whose publishing starts a run, where one does.
    """
    for size in (1, 2):
        reason = FIXED.get(tuple(str(part) for part in path[:size]))
        if reason:
            yield None, f"placeholders are not read here: {reason}"
            return
    running = path[:2] == ("transform", "run")
    for number, part in enumerate(_PART.finditer(text)):
        name = part[1]
        if name is None:
            yield number, "a placeholder ${ is not closed by }"
            continue
        found = _complaint_about(name, params, inputs, running=running)
        if found is None and after and needs_window(name):
            found = f"${{{name}}} has no value: a run after {', '.join(after)} stands for no window"
        if found is not None:
            yield number, found


def _complaint_about(name: str, params: Collection[str], inputs: Collection[str], *, running: bool) -> str | None:
    bare, colon, form = name.partition(":")
    if bare in _WINDOW:
        return f"${{{name}}} has no format after the colon" if colon and not form else None
    if colon:
        return f"${{{name}}}: only run.date, run.interval_start and run.interval_end take a format"
    if bare in _PLAIN:
        return None
    group, dot, key = bare.partition(".")
    if group == "params" and dot:
        if key in params:
            return None
        return f"no parameter {key!r}{did_you_mean(key, params) or '; declare it under params'}"
    if bare == "output" or (group == "inputs" and dot):
        if not running:
            return f"${{{name}}} exists only in the arguments of transform.run"
        if bare == "output" or key in inputs:
            return None
        return f"no input {key!r}{did_you_mean(key, inputs)}"
    known = [*_WINDOW, *_PLAIN, "output", *(f"params.{param}" for param in params)]
    more = did_you_mean(bare, known) or "; environment variables are passed on with transform.env_from"
    return f"unknown placeholder ${{{name}}}{more}"
