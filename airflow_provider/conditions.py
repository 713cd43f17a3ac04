"""What a sensor waits for: plain values that go to a trigger as JSON, and the one look that tells whether it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.model import Reference, State, Version
from dataset_tasks.ops.function_build import dataset_parts

if TYPE_CHECKING:
    from dataset_tasks.catalog.queries import Queries
    from dataset_tasks.model import JsonValue

Until: TypeAlias = Literal["published", "completed"]
_FINAL = (State.COMPLETED, State.PUBLISHED)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A version of a dataset that is waited for.

    Args:
        dataset: `project/name`.
        until: State it must have reached; a published version is completed too.
        alias: It must be the one that this alias names.
        tags: It must have all of these.
        partition: It must be of this slice of the dataset.
        newer_than: It must have come after this version (a reference, an id or a version string), or reached its state
            (or the alias moved) after this moment (ISO 8601; without an offset in UTC). An alias that has moved back to
            an older version counts as newer than the one it named.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`, or `until` is no state to wait for.
    """

    dataset: str
    until: Until = "published"
    alias: str | None = None
    tags: tuple[str, ...] = ()
    partition: str | None = None
    newer_than: str | None = None

    def __post_init__(self) -> None:
        dataset_parts(self.dataset)
        if self.until not in get_args(Until):
            raise InvalidArgumentError(
                f"a dataset can't be waited for until {self.until!r}", hint="Wait until 'published' or 'completed'."
            )

    def __str__(self) -> str:
        parts = [f"{self.dataset} {self.until}"]
        parts += [f"named {self.alias}"] if self.alias else []
        parts += [f"tagged {', '.join(self.tags)}"] if self.tags else []
        parts += [f"of partition {self.partition}"] if self.partition is not None else []
        parts += [f"newer than {self.newer_than}"] if self.newer_than else []
        return ", ".join(parts)

    def look(self, catalog: Queries) -> Version | None:
        """The newest version that fulfils it now; None while there is none.

        Raises:
            NotFoundError: `newer_than` names a version that does not exist.
        """
        version = self._newest(catalog)
        return version if version is not None and self._is_newer(catalog, version) else None

    def _newest(self, catalog: Queries) -> Version | None:
        project, name = dataset_parts(self.dataset)
        if self.alias is not None:
            aliased = catalog.aliases(project, name).get(self.alias)
            version = catalog.version(aliased) if aliased else None
            return version if version is not None and self._fits(version) else None
        if not self.tags and self.partition is None:
            selector = "published" if self.until == "published" else "latest"
            try:
                return catalog.resolve(f"{self.dataset}@{selector}")
            except NotFoundError:
                return None
        found = catalog.versions(project=project, name=name, tags=self.tags)
        return max((one for one in found if self._fits(one)), key=lambda one: one.sequence, default=None)

    def _fits(self, version: Version) -> bool:
        wanted = (State.PUBLISHED,) if self.until == "published" else _FINAL
        slice_fits = self.partition is None or version.partition == self.partition
        return (
            version.state in wanted
            and not version.quarantined
            and slice_fits
            and set(self.tags) <= set(version.tags)
        )  # fmt: skip

    def _is_newer(self, catalog: Queries, version: Version) -> bool:
        if not self.newer_than:
            return True
        if _DATE.fullmatch(self.newer_than):
            return self._reached(catalog, version) > _moment(self.newer_than)
        old = catalog.resolve(_reference(self.dataset, self.newer_than))
        return version.id != old.id if self.alias is not None else version.sequence > old.sequence

    def _reached(self, catalog: Queries, version: Version) -> datetime:
        """When the condition came to hold for a version."""
        if self.alias is not None:
            project, name = dataset_parts(self.dataset)
            return catalog.alias_history(project, name, self.alias)[-1][2]
        moment = version.published if self.until == "published" else version.finalized
        return moment or version.created

    def to_json(self) -> dict[str, JsonValue]:
        """As keyword arguments of `from_json`."""
        return {
            "dataset": self.dataset,
            "until": self.until,
            "alias": self.alias,
            "tags": list(self.tags),
            "partition": self.partition,
            "newer_than": self.newer_than,
        }

    @classmethod
    def from_json(cls, held: Mapping[str, JsonValue]) -> Condition:
        """Reads what `to_json` gave."""
        fields = {name: held.get(name) for name in ("dataset", "until", "alias", "partition", "newer_than")}
        tags = held.get("tags") or ()
        assert isinstance(tags, list | tuple)
        return cls(**fields, tags=tuple(map(str, tags)))  # type: ignore[arg-type]  # checked in __post_init__


def facts(version: Version) -> dict[str, JsonValue]:
    """A version as sensors and triggers hand it on: as much as an asset event says of it."""
    return {
        "catalog_id": version.catalog_id,
        "version_id": version.id,
        "project": version.project,
        "name": version.name,
        "version": version.version,
        "content_hash": version.content_hash,
        "files": version.files,
        "bytes": version.bytes,
        "parents": list(version.parents),
    }


def _reference(dataset: str, text: str) -> str:
    try:
        return str(Reference.parse(text))
    except InvalidArgumentError:
        return f"{dataset}@{text}"


def _moment(text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"newer_than: {text!r} is neither a moment nor a version", hint="Write 2026-01-31T06:00, or a version."
        ) from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)
