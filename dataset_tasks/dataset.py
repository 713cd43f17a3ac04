"""class Dataset: the reference API. Each method builds a request and runs it; nothing else lives here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dataset_tasks import lookup
from dataset_tasks.catalog.rows import checked_text
from dataset_tasks.current import current_task_key
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.handle.base import VersionArg, default_session, id_of, ids_of, texts_of
from dataset_tasks.handle.changing import Changing
from dataset_tasks.handle.labels import Labels
from dataset_tasks.handle.reading import Reading
from dataset_tasks.model import State
from dataset_tasks.ops import requests as r
from dataset_tasks.session import Session


class Dataset(Changing, Reading, Labels):
    """A handle on one version of a dataset. Make one with `create`, `get` or `squash`.

    It may be copied, and pickled for another process, which must reach the same catalog and store.

    Example:
        >>> from dataset_tasks import Dataset
        >>> draft = Dataset.create("labels", "demo")
        >>> draft.upload()
        >>> draft.finalize()
        True
    """

    # --- making versions

    @classmethod
    def create(
        cls,
        dataset_name: str,
        dataset_project: str | None = None,
        parent_datasets: VersionArg | Sequence[VersionArg] | None = None,
        use_current_task: bool = False,
        *,
        dataset_tags: str | Sequence[str] | None = None,
        dataset_version: str | None = None,
        output_uri: str | None = None,
        description: str | None = None,
        session: Session | None = None,
    ) -> Dataset:
        """Makes a draft.

        Args:
            dataset_name: Name of the dataset; with `use_current_task`, what the running task calls it.
            dataset_project: Project; without one the last parent's.
            parent_datasets: Ids or handles of final versions; per path the last one wins.
            use_current_task: The version belongs to the running Airflow task or Prefect task: a retry gets the same.
            dataset_tags: Tags of the version.
            dataset_version: Version string; without one the next number.
            output_uri: URL of its store; without one the session's.
            description: Free text.
            session: Where; without one the environment's.

        Raises:
            InvalidArgumentError: No name, no project, not in a task, or parents whose paths can't stand together.
            NotFoundError: A parent is not there.
            StateError: A parent is not final.
            AlreadyExistsError: The version string is taken.
        """
        where = session or default_session()
        key = current_task_key(f"{dataset_project or ''}/{dataset_name}") if use_current_task else None
        result = where.run(
            r.Create(
                name=dataset_name,
                project=dataset_project,
                parents=tuple(ids_of(parent_datasets or ())),
                version=dataset_version,
                tags=texts_of(dataset_tags) or (),
                description=description or "",
                store=output_uri,
            ),
            key=key,
        )
        return cls(result.version_id, session=where)

    @classmethod
    def squash(
        cls,
        dataset_name: str,
        dataset_ids: VersionArg | Sequence[VersionArg] | None = None,
        dataset_project_name_pairs: Sequence[tuple[str, str]] | None = None,
        output_url: str | None = None,
        *,
        session: Session | None = None,
    ) -> Dataset:
        """Makes one standalone final version: the whole content of one version, or the changes of several in order.

        Args:
            dataset_name: Name of the new version, made in the project of the first one.
            dataset_ids: Ids or handles, oldest first.
            dataset_project_name_pairs: Instead of ids: pairs of project and name, the version that `get` gives of each.
            output_url: URL of its store.
            session: Where.

        Raises:
            InvalidArgumentError: Both or neither list, or an ancestor after its descendant.
            StateError: A version is not final.
        """
        if bool(dataset_ids) == bool(dataset_project_name_pairs):
            raise InvalidArgumentError(
                "squash needs versions", hint="Give either `dataset_ids` or `dataset_project_name_pairs`."
            )
        where = session or default_session()
        refs = ids_of(dataset_ids or ()) or [
            lookup.find(where.catalog, project=project, name=name).id
            for project, name in map(_pair, dataset_project_name_pairs or ())
        ]
        result = where.run(r.Squash(name=dataset_name, refs=tuple(refs), store=output_url))
        return cls(result.version_id, session=where)

    # --- finding versions

    @classmethod
    def get(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        dataset_tags: str | Sequence[str] | None = None,
        only_completed: bool = False,
        only_published: bool = False,
        *,
        dataset_version: str | None = None,
        as_of: datetime | None = None,
        session: Session | None = None,
    ) -> Dataset:
        """Opens a version; whatever its number of files this is one look into the catalog.

        Args:
            dataset_id: Its id; the filters below hold all the same.
            dataset_project: Its project; alone: the latest version created in it.
            dataset_name: Its name; with or without project: the highest semantic version, else the latest created.
            dataset_tags: Tags it must all have.
            only_completed: Only a final one.
            only_published: Only a published one.
            dataset_version: Its version string, or an alias.
            as_of: Only what was created until then (UTC).
            session: Where.

        Raises:
            InvalidArgumentError: Nothing given, or an id together with a project or name.
            NotFoundError: Nothing answers.
        """
        where = session or default_session()
        found = lookup.find(
            where.catalog,
            version_id=dataset_id,
            project=dataset_project,
            name=dataset_name,
            tags=texts_of(dataset_tags) or (),
            only_completed=only_completed,
            only_published=only_published,
            version=dataset_version,
            as_of=as_of,
        )
        return cls(found.id, session=where)

    @classmethod
    def list_datasets(
        cls,
        dataset_project: str | None = None,
        partial_name: str | None = None,
        tags: str | Sequence[str] | None = None,
        ids: VersionArg | Sequence[VersionArg] | None = None,
        only_completed: bool = True,
        *,
        session: Session | None = None,
    ) -> lookup.Listing:
        """Versions by creation, as dicts: name, project, id, created (UTC), version, status, tags, files, bytes, parents.

        It is a list; `.to_frame()` makes a pandas frame of it.

        Args:
            dataset_project: Only of this project.
            partial_name: A literal part of the name, upper and lower case alike.
            tags: Tags that must all be there.
            ids: Only these; an empty list gives none.
            only_completed: Without drafts.
            session: Where.
        """
        where = session or default_session()
        for text, what in ((dataset_project, "project"), (partial_name, "partial_name")):
            if text is not None:
                checked_text(text, what)
        found = where.catalog.versions(
            project=dataset_project,
            partial_name=partial_name,
            tags=texts_of(tags) or (),
            ids=None if ids is None else ids_of(ids),
            states=(State.COMPLETED, State.PUBLISHED) if only_completed else None,
        )
        return lookup.Listing(lookup.described(version) for version in found)

    @classmethod
    def delete(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        force: bool = False,
        *,
        session: Session | None = None,
    ) -> None:
        """Deletes one version: a draft is dropped, a final one leaves a tombstone.

        Args:
            dataset_id: Its id.
            dataset_project: Its project, with a name.
            dataset_name: Its name.
            force: Also when other versions were made from it; they keep their content.
            session: Where.

        Raises:
            NotFoundError: Nothing answers.
            InvalidArgumentError: Several answer, or only a project is given; they are listed.
            StateError: Others were made from it.
        """
        where = session or default_session()
        found = lookup.only_one(where.catalog, version_id=dataset_id, project=dataset_project, name=dataset_name)
        where.run(r.Delete(ref=found.id, force=force))

    @classmethod
    def set_alias(cls, name: str, dataset_id: VersionArg, *, session: Session | None = None) -> None:
        """Points an alias of the version's dataset at it."""
        where = session or default_session()
        where.set_alias(where.catalog.version(id_of(dataset_id)), name)


def _pair(given: object) -> tuple[str, str]:
    match given:
        case str(project), str(name):
            return project, name
    raise InvalidArgumentError(f"{given!r} in `dataset_project_name_pairs` is no pair", hint="Write `(project, name)`.")
