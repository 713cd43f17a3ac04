"""Reads a spec: strict YAML, the schema, the rules; all problems of the file and its settings in one error."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Final

from dataset_tasks.errors import SpecError
from dataset_tasks.spec import schema
from dataset_tasks.spec.definition import Spec
from dataset_tasks.spec.document import Document, Map, read_document
from dataset_tasks.spec.problems import Problem, Problems, spec_error
from dataset_tasks.spec.rules import Rules
from dataset_tasks.spec.shared import Settings, read_settings
from dataset_tasks.spec.validate import read_model

PROFILE_VARIABLE: Final = "DATASET_TASKS_PROFILE"
_STAND_INS: Final[Mapping[str, object]] = {"version": 1, "name": "spec"}


def load_spec(
    path: str | os.PathLike[str],
    *,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    check_sources: bool = True,
) -> Spec:
    """Reads and checks a spec and the nearest `dataset-tasks.yaml`.

    Args:
        path: The YAML file.
        profile: Name of a profile of the settings file; default the variable DATASET_TASKS_PROFILE.
        environ: Environment variables, default the process's own.
        check_sources: Whether local paths of `add` and `sync` must exist here. An orchestrator that reads the file on
            a machine without the data turns it off.

    Raises:
        SpecError: The file has problems; `problems` holds all of them as `file:line:column: path: message`.
    """
    shown_path = os.fspath(path)
    variables = os.environ if environ is None else environ
    problems = Problems(shown_path)
    try:
        data = FilePath(path).read_bytes()
    except OSError as error:
        raise SpecError(
            f"the spec {shown_path} can't be read: {error.strerror}",
            problems=(f"{shown_path}:1:1: can't be read: {error.strerror}",),
            hint="Give the path of a YAML file.",
        ) from error
    absolute = FilePath(path).absolute()
    wanted = variables.get(PROFILE_VARIABLE, "") if profile is None else profile
    settings, of_settings = read_settings(absolute.parent, wanted, shown_path)
    spec = _read(absolute, data, settings, problems, check_sources=check_sources)
    found: Sequence[Problem] = (*problems.found, *of_settings)
    if found or spec is None:
        raise spec_error(shown_path, found)
    return spec


def _read(path: FilePath, data: bytes, settings: Settings, problems: Problems, *, check_sources: bool) -> Spec | None:
    document = read_document(data, problems)
    if document is None:
        return None
    if not isinstance(document.root, Map):
        problems.add((1, 1), (), "expected a mapping with the keys version, name and datasets at the top")
        return None
    keys = _keys(document)
    pipeline = read_model(schema.Pipeline, document, problems, stand_ins=_STAND_INS)
    if pipeline is None:
        return None
    digest = hashlib.sha256(data).hexdigest()
    rules = Rules(path, digest, document, pipeline, settings, keys, problems)
    return rules.check(check_sources=check_sources)


def _keys(document: Document) -> tuple[str, ...]:
    """The keys of all datasets, also of those that turn out to be wrong: naming one is then no second mistake."""
    assert isinstance(document.root, Map)
    datasets = document.root.get("datasets")
    return tuple(datasets) if isinstance(datasets, Map) else ()
