"""Texts that no type tells from good ones: empty ones, names of code, placeholders where none are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from dataset_tasks.spec import placeholders, schema
from dataset_tasks.spec.document import Map, Seq
from dataset_tasks.spec.places import Places
from dataset_tasks.spec.problems import Path

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
