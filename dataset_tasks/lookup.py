"""Finding versions the way the reference API asks for them, and describing what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from dataset_tasks import versioning
from dataset_tasks.catalog.queries import Queries
from dataset_tasks.catalog.rows import checked_text
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.model import JsonValue, State, Version

if TYPE_CHECKING:
    import pandas as pd

_FRAME = "dataset-tasks/frame"
_COLUMNS = ("name", "project", "id", "created", "version", "status", "tags", "files", "bytes", "parents")
_LOOK = "See what there is with `Dataset.list_datasets()`."


def find(
    catalog: Queries,
    *,
    version_id: str | None = None,
    project: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    only_completed: bool = False,
    only_published: bool = False,
    version: str | None = None,
    as_of: datetime | None = None,
) -> Version:
    """The version that `Dataset.get` opens.

    With a name: the highest semantic version, else the latest created; with a project alone: the latest created.

    Raises:
        InvalidArgumentError: Nothing given, an id together with a name or project, or what is no text.
        NotFoundError: Nothing answers.
    """
    for given, what in ((version_id, "id"), (project, "project"), (name, "name"), (version, "version")):
        if given is not None:
            checked_text(given, what)
    if version_id is None and project is None and name is None:
        raise InvalidArgumentError("nothing to look for", hint="Give an id, a name, or a project.")
    if version_id is not None and (project is not None or name is not None):
        raise InvalidArgumentError("an id needs no project and no name", hint="Give either the id or the others.")
    found = catalog.versions(
        project=project,
        name=name,
        tags=tags,
        ids=None if version_id is None else [version_id],
        states=_states(only_completed=only_completed, only_published=only_published, by_id=version_id is not None),
        created_before=as_of,
    )
    if version_id is None:
        found = [each for each in found if not each.quarantined or each.version == version]
    if version is not None:
        found = [each for each in found if each.version == version] or _aliased(catalog, found, version)
    if not found:
        asked = _nothing(
            id=version_id, project=project, name=name, tags=list(tags) or None, version=version,
            as_of=as_of, only_completed=only_completed or None, only_published=only_published or None,
        )  # fmt: skip
        raise NotFoundError(asked, hint=_LOOK)
    if name is None:
        return found[-1]
    return max(found, key=lambda each: (versioning.sort_key(each.version), each.sequence))


def _nothing(**asked: object) -> str:
    shown = ", ".join(f"{what} {value!r}" for what, value in asked.items() if value is not None)
    return f"no version with {shown}"


def _states(*, only_completed: bool, only_published: bool, by_id: bool) -> tuple[State, ...] | None:
    if only_published:
        return (State.PUBLISHED,)
    if only_completed:
        return (State.COMPLETED, State.PUBLISHED)
    return (State.IN_PROGRESS, State.COMPLETED, State.PUBLISHED, State.ABORTED) if by_id else None


def _aliased(catalog: Queries, candidates: Sequence[Version], alias: str) -> list[Version]:
    datasets = {(each.project, each.name) for each in candidates}
    named = {catalog.aliases(project, name).get(alias) for project, name in datasets}
    return [each for each in candidates if each.id in named]


def only_one(
    catalog: Queries, *, version_id: str | None = None, project: str | None = None, name: str | None = None
) -> Version:
    """The one version that answers: what `Dataset.delete` ends.

    Raises:
        InvalidArgumentError: Several answer, or no id and no name is given; they are listed.
        NotFoundError: Nothing answers.
    """
    if version_id is not None or (project is None and name is None):
        return find(catalog, version_id=version_id, project=project, name=name)
    found = catalog.versions(project=project, name=name)
    if name is not None and len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(_nothing(project=project, name=name), hint=_LOOK)
    listed = "".join(f"\n- {each.label} {each.id} ({each.state})" for each in found)
    raise InvalidArgumentError(
        f"{len(found)} versions answer to project {project!r}, name {name!r}:{listed}", hint="Give the id of one."
    )


class Listing(list[dict[str, Any]]):  # Any: a mix of texts, numbers and a moment
    """What `Dataset.list_datasets` gives: a list of dicts, and a pandas frame for those who want one."""

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame with a row a version; its columns are there also when no version is."""
        import pandas as pd

        return pd.DataFrame(list(self), columns=list(_COLUMNS)).astype({"created": "datetime64[us, UTC]"})


def described(version: Version) -> dict[str, Any]:  # Any: a mix of texts, numbers and a moment
    """A version as a row of `Dataset.list_datasets`."""
    values = (
        version.name, version.project, version.id, version.created, version.version, str(version.state),
        list(version.tags), version.files, version.bytes, list(version.parents),
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def to_metadata(value: JsonValue | pd.DataFrame) -> JsonValue:
    """Metadata as JSON; a pandas frame becomes an object that `from_metadata` makes a frame of again.

    Raises:
        InvalidArgumentError: It holds something that JSON can't.
    """
    if "pandas" in sys.modules:  # else nobody can hold a frame, and pandas need not be loaded
        import pandas as pd

        if isinstance(value, pd.DataFrame):
            return {"format": _FRAME, "table": value.to_json(orient="table", index=False)}
    try:
        return cast("JsonValue", json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"the metadata is not JSON: {error}", hint="Give texts, finite numbers, lists, dicts or a pandas frame."
        ) from error


def from_metadata(value: JsonValue) -> Any:  # Any: whatever was kept
    """The inverse of `to_metadata`."""
    if isinstance(value, dict) and value.get("format") == _FRAME:
        from io import StringIO

        import pandas as pd

        return pd.read_json(StringIO(str(value["table"])), orient="table")
    return value
