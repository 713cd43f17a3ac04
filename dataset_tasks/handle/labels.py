"""Names and notes: what may change on a final version too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dataset_tasks import lookup
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.handle.base import Handle, texts_of
from dataset_tasks.model import JsonValue, Version, check_dataset
from dataset_tasks.report import Logger

if TYPE_CHECKING:
    import pandas as pd


class Labels(Handle):
    """What names and describes a version."""

    def add_tags(self, tags: str | Iterable[str]) -> None:
        """Adds tags; those it has stay."""
        new = texts_of(tags) or ()
        self._change(lambda version: {"tags": [*version.tags, *new]})

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Takes tags away; those it does not have are ignored."""
        gone = texts_of(tags) or ()
        self._change(lambda version: {"tags": [tag for tag in version.tags if tag not in gone]})

    def get_logger(self) -> Logger:
        """Reports about the version: texts, numbers, tables, histograms, images; kept with it."""
        return Logger(self._session, self._id)

    def set_description(self, description: str) -> None:
        """Sets the free text."""
        self._change(lambda _version: {"description": description})

    def set_metadata(self, metadata: JsonValue | pd.DataFrame, metadata_name: str = "metadata") -> None:
        """Keeps JSON values or a pandas frame with the version, under a name.

        Raises:
            InvalidArgumentError: It holds something that JSON can't.
        """
        self._change(lambda _version: {"metadata": {metadata_name: lookup.to_metadata(metadata)}})

    def get_metadata(self, metadata_name: str = "metadata") -> Any:  # Any: whatever was set
        """What `set_metadata` kept under the name; None when there is nothing."""
        return lookup.from_metadata(self._version.metadata.get(metadata_name))

    def rename(self, name: str) -> None:
        """Gives the dataset, all its versions, another name; ids and aliases stay.

        Raises:
            AlreadyExistsError: A dataset of the project has that name.
        """
        self._move(self.project, name)

    def move_to_project(self, project: str) -> None:
        """Moves the dataset, all its versions, to another project; ids and aliases stay.

        Raises:
            AlreadyExistsError: The project has a dataset of that name.
        """
        self._move(project, self.name)

    def get_num_chunks(self, include_parents: bool = True) -> int:
        """How many chunks hold the version's files; without parents, how many it brought itself."""
        return self._view.chunk_count(include_parents)

    def alias_history(self, name: str) -> list[tuple[str, datetime]]:
        """Every version the alias of this dataset named, oldest first, with the moment."""
        version = self._version
        moves = self._session.catalog.alias_history(version.project, version.name, name)
        return [(version_id, moment) for _, version_id, moment in moves]

    def rollback_alias(self, name: str) -> str:
        """Points the alias at the version it named before; gives that id.

        Raises:
            NotFoundError: It named none before.
        """
        moves = [version_id for version_id, _ in self.alias_history(name)]
        before = next((each for each in reversed(moves[:-1]) if each != moves[-1]), None)
        if before is None:
            raise NotFoundError(
                f"alias {name!r} of {self._version.dataset} named no other version before",
                hint="Point it at a version with `dataset-tasks alias set`.",
            )
        self._session.set_alias(self._session.catalog.version(before), name)
        return before

    def _move(self, project: str, name: str) -> None:
        version = self._version
        if not project or not name:
            raise InvalidArgumentError(
                f"{version.dataset} needs a project and a name", hint="Give one that is not empty."
            )
        if (project, name) != (version.project, version.name):
            check_dataset(project, name)
            self._session.move_dataset(version.project, version.name, to_project=project, to_name=name)

    def _change(self, values: Callable[[Version], Mapping[str, Any]]) -> None:  # Any: texts, lists, JSON
        self._session.change(self._id, values)
