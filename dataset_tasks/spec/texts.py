"""Texts that no type tells from good ones: empty ones, names of code, placeholders where none are read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from dataset_tasks.spec import placeholders, schema
from dataset_tasks.spec.document import Map, Seq
from dataset_tasks.spec.limits import Bounds, Use
from dataset_tasks.spec.places import Places
from dataset_tasks.spec.plan import PLACEHOLDER, Param
from dataset_tasks.spec.problems import Path, shown
from dataset_tasks.spec.validate import bounds_at

#: Keys at or below which an empty text says something.
_FREE: Final = frozenset(
    {"description", "doc", "metadata", "with", "env", "run", "dataset_path", "default", "params", "local_base_folder"}
)
#: Keys at the top whose text is used before a run is known.
_EARLY: Final = ("connection", "airflow", "prefect")


def check_texts(places: Places, pipeline: schema.Pipeline, params: Collection[str]) -> None:
    """Takes down what is wrong with texts of the whole document, but for placeholders of datasets."""
    document = places.document
    if '""' in document.text or "''" in document.text:
        for path in _empty(document.root):
            if not places.within(path):
                places.at_value(path, "is empty; give it a value, or leave the key out")
    top = document.root if isinstance(document.root, Map) else {}
    for key in _EARLY:
        for path, _ in placeholders.texts(top.get(key), (key,)):
            places.at_value(path, "placeholders are not read here: it is used before the run")
    for path, text in placeholders.texts(top.get("store"), ("store",)):
        for number, wrong in placeholders.complaints(text, path, params, ()):
            places.in_value(path, placeholders.parts(text)[: (number or 0) + 1], wrong)
    check_hook(places, pipeline.airflow, ("airflow",))
    runner = pipeline.prefect.task_runner if pipeline.prefect is not None else None
    if runner is not None and not runner.isidentifier():  # a word is Prefect's to know, such as threads
        check_callable(places, runner, ("prefect", "task_runner"), "module:name")


def check_placeholders(
    places: Places, dataset: Path, params: Mapping[str, Param], inputs: Collection[str], after: Collection[str]
) -> Iterator[tuple[str, Use]]:
    """Takes down what is wrong with the placeholders of a dataset; gives each field of numbers that a parameter fills in.

    Args:
        places: Takes the problems.
        dataset: Where the dataset stands.
        params: Parameters of the spec by name.
        inputs: Names of the dataset's inputs.
        after: Datasets whose publishing starts a run, where one does.
    """
    mapping = places.document.locate(dataset)[2]
    for path, text in placeholders.texts(mapping):
        if path[0] in placeholders.LITERAL:
            continue
        wrong = list(placeholders.complaints(text, path, params, inputs, after=after))
        for number, message in wrong:
            if number is None:
                places.at_value((*dataset, *path), message)
            else:
                places.in_value((*dataset, *path), placeholders.parts(text)[: number + 1], message)
        bounds = None if wrong or not PLACEHOLDER.fullmatch(text) else bounds_at(schema.Dataset, path)
        if bounds is not None:
            yield from _filled(places, (*dataset, *path), text, bounds, params)


def _filled(
    places: Places, path: Path, text: str, bounds: Bounds, params: Mapping[str, Param]
) -> Iterator[tuple[str, Use]]:
    """The use of a parameter as a number or flag, or a problem where its type or its default is not one that fits."""
    name = placeholders.used(text)[0].removeprefix("params.")
    param = params.get(name) if text.startswith("${params.") else None
    if param is None:
        places.at_value(path, f"expected {bounds.expected}, found {text}, which is text")
    elif places.within(("params", name)):
        return  # told already; mended, it may fit
    elif not bounds.suits(param.type):
        places.at_value(
            path,
            f"expected {bounds.expected}, found {text}, whose type is {param.type}; "
            f"declare it with type: {bounds.param_type} in line {param.line}",
        )
    elif param.default is None and not param.required:
        places.at_value(
            path,
            f"expected {bounds.expected}, found {text}, which may be null; give its default in line {param.line} a value",
        )
    elif not param.required and not bounds.holds(param.default):
        default = json.dumps(param.default)
        places.at_value(
            path, f"expected {bounds.expected}, found {default}, the default of {text} in line {param.line}"
        )
    else:
        at, shown_path, _ = places.document.locate(path)
        yield name, Use(bounds=bounds, path=shown(shown_path), line=at[0], column=at[1])


def check_hook(places: Places, options: schema.Airflow | None, path: Path) -> None:
    """Checks the function that options of Airflow name, where they do."""
    if options is not None and options.on_failure_callback is not None:
        check_callable(places, options.on_failure_callback, (*path, "on_failure_callback"))


def check_callable(places: Places, text: str, path: Path, form: str = "module:function") -> None:
    """Takes it down when a text can't name code."""
    module, colon, function = text.partition(":")
    words = (*module.split("."), *function.split("."))
    if not (colon and all(word.isidentifier() for word in words)) and not places.within(path):
        places.at_value(path, f'expected "{form}", found {text!r}')


def _empty(value: object, path: Path = ()) -> Iterator[Path]:
    if value == "" and path:
        yield path
    elif isinstance(value, Map):
        for key, held in value.items():
            if key not in _FREE or (path == ("datasets",)):
                yield from _empty(held, (*path, key))
    elif isinstance(value, Seq):
        for place, held in enumerate(value):
            yield from _empty(held, (*path, place))
