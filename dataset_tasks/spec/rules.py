"""What the keys of a spec say about each other: names, sources, exclusions, time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Final

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.external.policy import check_url
from dataset_tasks.external.urls import canonical, of_a_bucket, with_connection
from dataset_tasks.model import RESERVED_ALIASES, JsonValue, is_dataset_word
from dataset_tasks.spec import placeholders, schema
from dataset_tasks.spec.definition import Definition, Spec
from dataset_tasks.spec.document import Document
from dataset_tasks.spec.head import Head
from dataset_tasks.spec.limits import Use
from dataset_tasks.spec.places import Places
from dataset_tasks.spec.plan import Param, Schedule
from dataset_tasks.spec.problems import Path, Problems
from dataset_tasks.spec.shared import Settings
from dataset_tasks.spec.sources import KEY, Source, read_source, sorted_by_need
from dataset_tasks.spec.texts import check_callable, check_hook, check_placeholders, check_texts

#: Keys that a squash leaves no room for: it takes whole versions and ends in a final one.
NOT_WITH_SQUASH: Final = (
    "parents", "inputs", "previous", "add", "external", "sync", "remove", "transform", "check", "upload",
    "partition",
)  # fmt: skip

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Rules:
    """One check of one file; `check` gives the spec when it has no problem."""

    def __init__(
        self,
        path: FilePath,
        digest: str,
        document: Document,
        pipeline: schema.Pipeline,
        settings: Settings,
        keys: Sequence[str],
        problems: Problems,
    ) -> None:
        self.path, self.digest, self.document, self.pipeline = path, digest, document, pipeline
        self.settings, self.keys, self.problems = settings, dict.fromkeys(keys), problems
        self.places = Places(document, problems)
        self.params: dict[str, Param] = {}
        self.uses: dict[str, list[Use]] = {}

    def check(self, *, check_sources: bool) -> Spec | None:
        """Looks at everything; None when there was a problem, now or before."""
        pipeline = self.pipeline
        if not is_dataset_word(pipeline.name):
            self.places.at_value(("name",), f"{pipeline.name!r} can't be a name; use letters, digits, '.', '_' and '-'")
        head = Head(pipeline, self.settings, self.keys, self.places)
        self.params = {param.name: param for param in head.params()}
        schedule = head.schedule()
        definitions = {key: self._definition(key, model) for key, model in pipeline.datasets.items()}
        for key, definition in definitions.items():
            self._dataset(definition, schedule)
            self._paths(key, definition.model, check_sources=check_sources)
            self._urls(key, definition.model)
        check_texts(self.places, pipeline, self.params)
        self._assets(definitions)
        order = self._order(definitions)
        if self.problems:
            return None
        profile, shared = self.settings.profile, self.settings.shared
        return Spec(
            path=self.path,
            folder=self.path.parent,
            digest=self.digest,
            pipeline=pipeline,
            definitions=tuple(definitions[key] for key in order),
            params=tuple(replace(param, uses=tuple(self.uses.get(name, ()))) for name, param in self.params.items()),
            schedule=schedule,
            store=profile.store or pipeline.store or shared.store,
            connection=profile.connection or pipeline.connection or shared.connection,
            profile=self.settings.profile_name,
            airflow=_options(pipeline.airflow, profile.airflow),
            prefect=_options(pipeline.prefect, profile.prefect),
        )

    # --- one dataset --------------------------------------------------------------------------------------------

    def _definition(self, key: str, model: schema.Dataset) -> Definition:
        pipeline, profile, shared = self.pipeline, self.settings.profile, self.settings.shared
        path: Path = ("datasets", key)
        if not KEY.match(key):
            self.places.at_key(path, f"{key!r} can't be a key; use small letters, digits and '_', a letter first")
        project = model.project or pipeline.project or ""
        if not project and not self.places.within(("project",)):
            self.places.at_key(path, "has no project; give one here or at the top of the file")
        if profile.project_prefix and project:
            project = f"{profile.project_prefix.strip('/')}/{project}"
        for which, text in (("project", project), ("name", model.name or "")):  # a key was looked at above
            parts = text.split("/") if which == "project" else [text]
            if text and not all(is_dataset_word(part) for part in parts):
                place = (*path, which) if getattr(model, which) else (which,)
                self.places.at_value(place, f"{text!r} can't be a {which}; use letters, digits, '.', '_' and '-'")
        layers = (model, pipeline.defaults, shared.defaults)

        def setting(name: str, default: object) -> object:
            return next((value for layer in layers if (value := getattr(layer, name)) is not None), default)

        return Definition(
            key=key,
            project=project,
            name=model.name or key,
            model=model,
            parents=tuple(source for _, source in self._sources((*path, "parents"), model.parents)),
            inputs=tuple(self._inputs((*path, "inputs"), model)),
            squash=tuple(source for _, source in self._sources((*path, "squash"), model.squash or [])),
            store=model.store or profile.store or pipeline.store or shared.store,
            connection=model.connection or profile.connection or pipeline.connection or shared.connection,
            retries=setting("retries", 0),  # type: ignore[arg-type]  # the models hold the types
            retry_delay=setting("retry_delay", 30.0),  # type: ignore[arg-type]
            timeout=setting("timeout", None),  # type: ignore[arg-type]
            granularity=setting("granularity", "dataset"),  # type: ignore[arg-type]
            on_unchanged=setting("on_unchanged", "skip"),  # type: ignore[arg-type]
        )

    def _source(self, path: Path, text: str) -> Source | None:
        try:
            return read_source(text, self.keys)
        except InvalidArgumentError as error:
            self.places.at_value(path, error.message)
            return None

    def _sources(self, path: Path, words: Sequence[str]) -> Iterator[tuple[int, Source]]:
        seen: dict[str, int] = {}
        for place, text in enumerate(words):
            if text in seen:
                self.places.at_value((*path, place), f"{text!r} is listed twice")
                continue
            seen[text] = place
            source = self._source((*path, place), text)
            if source is not None:
                yield place, source

    def _inputs(self, path: Path, model: schema.Dataset) -> Iterator[tuple[str, Source, tuple[str, ...]]]:
        taken: dict[str, str] = {}
        named: list[tuple[str, Path, Source, tuple[str, ...]]]
        if isinstance(model.inputs, list):
            named = [
                (source.last_part, (*path, place), source, ()) for place, source in self._sources(path, model.inputs)
            ]
        else:
            named = []
            for name, held in model.inputs.items():
                text, files = (held, ()) if isinstance(held, str) else (held.ref, tuple(held.files or ()))
                place = (*path, name) if isinstance(held, str) else (*path, name, "ref")
                if not isinstance(held, str) and held.partition is not None:
                    text = self._in_partition((*path, name, "partition"), text, held.partition)
                source = self._source(place, text)
                if source is not None:
                    named.append((name, (*path, name), source, files))
        for name, at, source, files in named:
            if not name:
                self.places.at_value(
                    at, f"{source.text!r} gives the input no name; write it as a mapping: {{name: reference}}"
                )
            elif not is_dataset_word(name):
                self.places.at_value(
                    at, f"{name!r} can't be the name of an input; use letters, digits, '.', '_' and '-'"
                )
            elif (form := _variable(name)) in taken:
                other = taken[form]
                same = (
                    f"two inputs are named {name!r}"
                    if other == name
                    else f"the inputs {other!r} and {name!r} differ too little"
                )
                self.places.at_value(at, f"{same}; name them in a mapping: {{first: ..., second: ...}}")
            else:
                taken[form] = name
                yield name, source, files

    def _in_partition(self, path: Path, text: str, partition: str) -> str:
        """The reference with the partition in brackets, as `Reference` reads it."""
        if text in self.keys:
            self.places.at_value(path, f"{text!r} is made by this spec: its version of this run is read")
        elif not partition or "[" in partition or "]" in partition:
            self.places.at_value(path, f"{partition!r} can't be a partition; it is text without brackets")
        elif not text.endswith("]"):
            return f"{text}[{partition}]"
        return text

    def _dataset(self, definition: Definition, schedule: Schedule | None) -> None:
        model, path = definition.model, ("datasets", definition.key)
        if model.squash is not None:
            self._squash(model, path)
        else:
            self._content(model, path)
        if model.transform is not None:
            self._transform(model.transform, (*path, "transform"))
        if model.check is not None:
            self._check(model.check, (*path, "check"))
        if model.keep is not None and model.keep == schema.Keep() and not self.places.within((*path, "keep")):
            self.places.at_value((*path, "keep"), "says nothing; give it last, published or for")
        if isinstance(model.publish, schema.Publish) and model.publish.alias is not None:
            self._alias(model.publish.alias, (*path, "publish", "alias"))
        for group, key in (("airflow", "max_active_runs"), ("prefect", "work_pool"), ("prefect", "task_runner")):
            if getattr(getattr(model, group), key, None) is not None:
                self.places.at_key(
                    (*path, group, key),
                    f"is an option of the whole pipeline; write it under {group} at the top of the file",
                )
        check_hook(self.places, model.airflow, (*path, "airflow"))
        if model.partition is not None and (schedule is None or schedule.start is None):
            self.places.at_value((*path, "partition"), "partition needs schedule.start, the first window")
        after = schedule.after if schedule is not None else ()
        inputs = [name for name, _, _ in definition.inputs]
        for name, use in check_placeholders(self.places, path, self.params, inputs, after):
            self.uses.setdefault(name, []).append(use)

    def _squash(self, model: schema.Dataset, path: Path) -> None:
        for key in NOT_WITH_SQUASH:
            if key in model.model_fields_set:
                self.places.at_key(
                    (*path, key), f"{key} can't stand beside squash, which takes whole versions as they are"
                )
        if not model.squash and not self.places.within((*path, "squash")):
            self.places.at_value((*path, "squash"), "names no version to squash")

    def _content(self, model: schema.Dataset, path: Path) -> None:
        if self.places.within(path):
            return
        fills = model.parents or model.previous or model.add or model.external or model.sync or model.transform
        if not fills:
            self.places.at_key(
                path, "nothing fills it; give it parents, add, external, sync, transform, previous or squash"
            )
        if model.inputs and model.transform is None:
            self.places.at_key(
                (*path, "inputs"), "inputs are only read by a transform, and there is none; parents are inherited"
            )
        if model.sync and model.parents and model.sync.dataset_path is None:
            self.places.at_value(
                (*path, "sync"),
                "sync beside parents needs dataset_path, the folder that it mirrors; else it would take out what the parents bring",
            )

    def _transform(self, transform: schema.Transform, path: Path) -> None:
        chosen = [key for key in ("call", "run") if getattr(transform, key) is not None]
        if len(chosen) != 1 and not self.places.within(path):
            self.places.at_value(path, f"expected one of call and run, found {' and '.join(chosen) or 'none'}")
        if transform.call is not None:
            check_callable(self.places, transform.call, (*path, "call"))
        if transform.run is not None and transform.with_:
            self.places.at_key((*path, "with"), "with gives a call its arguments; write those of run in its list")
        for place, name in enumerate(transform.env_from):
            if not _VARIABLE.match(name):
                self.places.at_value(
                    (*path, "env_from", place), f"{name!r} is not the name of a variable; values go under env"
                )
        if transform.run and not transform.run[0]:
            self.places.at_value((*path, "run", 0), "is empty; the first item is the program")

    def _check(self, check: schema.Check, path: Path) -> None:
        if not (check.model_fields_set - {"severity"}) and not self.places.within(path):
            self.places.at_value(
                path, "holds no gate; give it min_files, max_files, min_bytes, max_change, tables or call"
            )
        if check.call is not None:
            check_callable(self.places, check.call, (*path, "call"))
        limits = (check.min_files, check.max_files)
        known = all(isinstance(limit, int) for limit in limits)  # a placeholder is known to the run only
        if known and check.min_files is not None and check.max_files is not None and check.min_files > check.max_files:
            self.places.at_value(
                (*path, "max_files"), f"is less than min_files, {check.min_files}: no version could pass"
            )

    def _alias(self, alias: str, path: Path) -> None:
        if placeholders.used(alias):
            return
        if not is_dataset_word(alias) or alias in RESERVED_ALIASES or alias[0].isdigit():
            self.places.at_value(
                path,
                f"{alias!r} can't be an alias; use letters, digits, '.', '_' and '-', a letter first, and neither "
                "latest nor published",
            )

    def _paths(self, key: str, model: schema.Dataset, *, check_sources: bool) -> None:
        places: list[tuple[Path, str]] = [(("add", place, "path"), add.path) for place, add in enumerate(model.add)]
        if model.sync is not None:
            places.append((("sync", "path"), model.sync.path))
        if model.check is not None:
            places += [
                (("check", "tables", place, "schema"), held.schema_) for place, held in enumerate(model.check.tables)
            ]
        for path, text in places:
            absolute = self.path.parent / os.path.expanduser(text)
            if "://" in text:
                continue
            if check_sources and "${" not in text and not absolute.exists():
                self.places.at_value(("datasets", key, *path), f"there is no {text!r} in {self.path.parent}")

    def _urls(self, key: str, model: schema.Dataset) -> None:
        """URLs are looked at as text; where a placeholder is left, when the run fills it in."""
        held: list[tuple[Path, str, str | None, bool]] = [
            (("external", place, "url"), link.url, link.connection, False) for place, link in enumerate(model.external)
        ]
        held += [(("add", place, "path"), add.path, add.connection, True) for place, add in enumerate(model.add)]
        if model.sync is not None:
            held.append((("sync", "path"), model.sync.path, model.sync.connection, True))
        for path, text, connection, is_import in held:
            if "${" in text:
                continue
            try:
                if not is_import:
                    check_url(with_connection(canonical(text), connection))
                elif "://" in text:
                    check_url(with_connection(of_a_bucket(text), connection))
                elif connection is not None:
                    self.places.at_key(
                        ("datasets", key, *path[:-1], "connection"),
                        f"is for URLs, and {text!r} is a path of this machine",
                    )
            except InvalidArgumentError as error:
                self.places.at_value(("datasets", key, *path), error.message)

    # --- all datasets -------------------------------------------------------------------------------------------

    def _assets(self, definitions: Mapping[str, Definition]) -> None:
        taken: dict[str, Definition] = {}
        for key, definition in definitions.items():
            label = f"{definition.project}/{definition.name}"
            other = taken.setdefault(label.replace("-", "_"), definition)
            if other is definition:
                continue
            line = self.places.position_of_key(("datasets", other.key))[0]
            if (other.project, other.name) == (definition.project, definition.name):
                message = f"makes {label}, as {other.key!r} in line {line} does; a dataset is made in one place"
            else:
                message = f"{label} and {other.project}/{other.name} of line {line} differ only by '_' and '-'"
            self.places.at_key(("datasets", key), message)

    def _order(self, definitions: Mapping[str, Definition]) -> list[str]:
        needs = {
            key: [need for need in definition.needs if need in definitions] for key, definition in definitions.items()
        }
        order, cycles = sorted_by_need(needs)
        for cycle in cycles:
            if len(cycle) == 1:
                message = "needs itself; previous: true starts it from its own last version"
            else:
                message = f"is part of a cycle: {' needs '.join((*cycle, cycle[0]))}"
            self.places.at_key(("datasets", cycle[0]), message)
        return order


def _variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


def _options(*layers: schema.Airflow | schema.Prefect | None) -> dict[str, JsonValue]:
    """The options of several layers as one mapping; the last that gives a key wins."""
    return {
        key: value
        for layer in layers
        if layer is not None
        for key, value in layer.model_dump(exclude_none=True).items()
    }
