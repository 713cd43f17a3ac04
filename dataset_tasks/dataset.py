"""class Dataset: the reference API. Each method builds a request and runs it; nothing else lives here."""

from __future__ import annotations

import logging
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from dataset_tasks import lookup
from dataset_tasks.current import current_task_key
from dataset_tasks.errors import DatasetError, InvalidArgumentError, NotFoundError
from dataset_tasks.model import FileEntry, JsonValue, LinkEntry, State, Version
from dataset_tasks.ops import requests as r
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.view import VersionDiff, VersionView

if TYPE_CHECKING:
    import io

    import pandas as pd

_log = logging.getLogger("dataset_tasks")
T = TypeVar("T")
R = TypeVar("R", bound=r.Result)

#: A version: its id, or a handle.
VersionArg: TypeAlias = "str | Dataset"

_sessions: dict[Settings, Session] = {}
_sessions_lock = threading.Lock()


def default_session() -> Session:
    """The session of this process for the present environment variables, opened once."""
    settings = Settings.from_env()
    with _sessions_lock:
        if settings not in _sessions:
            _sessions[settings] = Session(settings)
        return _sessions[settings]


class Dataset:
    """A handle on one version of a dataset. Make one with `create`, `get` or `squash`.

    Example:
        >>> from dataset_tasks import Dataset
        >>> draft = Dataset.create("labels", "demo")
        >>> draft.upload()
        >>> draft.finalize()
        True
    """

    def __init__(self, version_id: str, *, session: Session | None = None) -> None:
        self._id = version_id
        self._session = session or default_session()

    def __repr__(self) -> str:
        return f"<Dataset {self._version.label} ({self._id})>"

    # --- making versions

    @classmethod
    def create(
        cls,
        dataset_name: str | None = None,
        dataset_project: str | None = None,
        parent_datasets: Sequence[VersionArg] | None = None,
        use_current_task: bool = False,
        *,
        dataset_tags: Sequence[str] | None = None,
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
                name=dataset_name or "",
                project=dataset_project,
                parents=tuple(_ids(parent_datasets or ())),
                version=dataset_version,
                tags=tuple(dataset_tags or ()),
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
        dataset_ids: Sequence[VersionArg] | None = None,
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
        refs = _ids(dataset_ids or ()) or [
            lookup.find(where.catalog, project=project, name=name).id
            for project, name in dataset_project_name_pairs or ()
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
        dataset_tags: Sequence[str] | None = None,
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
            tags=tuple(dataset_tags or ()),
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
        tags: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        only_completed: bool = True,
        *,
        session: Session | None = None,
    ) -> list[dict[str, Any]]:  # Any: a mix of texts, numbers and a moment
        """Versions by creation, as dicts: name, project, id, created (UTC), version, status, tags, files, bytes, parents.

        Args:
            dataset_project: Only of this project.
            partial_name: A literal part of the name, upper and lower case alike.
            tags: Tags that must all be there.
            ids: Only these; an empty list gives none.
            only_completed: Without drafts.
            session: Where.
        """
        where = session or default_session()
        found = where.catalog.versions(
            project=dataset_project,
            partial_name=partial_name,
            tags=tuple(tags or ()),
            ids=ids,
            states=(State.COMPLETED, State.PUBLISHED) if only_completed else None,
        )
        return [lookup.described(version) for version in found]

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

    # --- changing a draft

    def add_files(
        self,
        path: str | Path,
        wildcard: str | Sequence[str] | None = None,
        local_base_folder: str | Path | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        *,
        max_workers: int | None = None,
        on_error: r.OnError = "raise",
    ) -> int:
        """Adds a file or folder and hashes it; `upload` stores it.

        Args:
            path: File or folder.
            wildcard: Glob or globs relative to `path`.
            local_base_folder: Files land under their path relative to it.
            dataset_path: Folder of the dataset to land in.
            recursive: Globs match at any depth.
            verbose: Print what was added and modified.
            max_workers: Threads that read.
            on_error: `raise`, or `skip` to leave out what can't be read.

        Returns:
            How many paths were added that the version did not have.

        Raises:
            SourceError: Files can't be read; all are named and nothing changes.
            InvalidArgumentError: The base folder is not above `path`, or a pattern is no good.
            StateError: The version is no draft.
        """
        request = r.AddFiles(
            ref=self._id,
            path=str(path),
            wildcard=_patterns(wildcard),
            local_base_folder=str(local_base_folder) if local_base_folder is not None else None,
            dataset_path=dataset_path,
            recursive=recursive,
            max_workers=max_workers,
            on_error=on_error,
        )
        with self._telling(verbose):
            return self._run(request, r.AddFilesResult).added

    def sync_folder(
        self,
        local_path: str | Path,
        dataset_path: str | None = None,
        verbose: bool = False,
        *,
        wildcard: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
    ) -> tuple[int, int]:
        """Makes the part of the version under `dataset_path` equal to a folder.

        Returns:
            Files removed, and files added or modified.

        Raises:
            SourceError: The folder is missing or files in it can't be read; nothing changes.
            StateError: The version is no draft.
        """
        request = r.SyncFolder(
            ref=self._id,
            path=str(local_path),
            dataset_path=dataset_path,
            wildcard=_patterns(wildcard),
            exclude=_patterns(exclude) or (),
        )
        with self._telling(verbose):
            result = self._run(request, r.SyncFolderResult)
        return result.removed, result.added + result.modified

    def remove_files(self, dataset_path: str | None = None, recursive: bool = True, verbose: bool = False) -> int:
        """Removes what a pattern matches; None is everything. Returns how many files went.

        Raises:
            InvalidArgumentError: The pattern is empty.
            StateError: The version is no draft.
        """
        patterns = None if dataset_path is None else (dataset_path,)
        with self._telling(verbose):
            return self._run(
                r.RemoveFiles(ref=self._id, patterns=patterns, recursive=recursive), r.RemoveFilesResult
            ).removed

    def upload(
        self,
        show_progress: bool = True,
        verbose: bool = False,
        output_url: str | None = None,
        compression: int | str | None = None,
        *,
        chunk_size: float | None = None,
        max_workers: int | None = None,
        retries: int = 3,
        preview: bool = True,
    ) -> None:
        """Stores the bytes of every pending file; after an interruption only what is missing.

        Args:
            show_progress: Bars on a terminal, log lines elsewhere.
            verbose: Say at the end what was stored.
            output_url: URL of the version's store from now on.
            compression: A `zipfile` constant, `deflate` or `store`; None: deflate, stored where it does not help.
            chunk_size: MiB, fractions allowed.
            max_workers: Threads.
            retries: How often a store that does not answer is asked again.
            preview: Accepted for scripts written for the reference client.

        Raises:
            SourceError: Files changed or vanished since they were added; all are named.
            StorageError: The store refused.
            StateError: The version is aborted or deleted.
        """
        request = r.Upload(
            ref=self._id,
            store=output_url,
            compression=_compression(compression),
            chunk_size=chunk_size,
            max_workers=max_workers,
            retries=retries,
        )
        with _progress(show_progress) as progress:
            result = self._run(request, r.UploadResult, progress)
        if verbose:
            print(f"stored {result.files} files, {result.stored_bytes} bytes in {result.chunks} chunks")  # noqa: T201  # asked for

    def finalize(self, verbose: bool = False, raise_on_error: bool = True) -> bool:
        """Makes the draft final: it never changes again. True; again: True and no effect.

        Raises:
            StateError: Files are not uploaded yet; with `raise_on_error=False` False instead, for every such error.
        """
        done = self._or(raise_on_error, lambda: self._run(r.Finalize(ref=self._id), r.FinalizeResult))
        if done is not None and verbose:
            print(f"{self._version.label}: {done.files} files, {done.bytes} bytes")  # noqa: T201  # asked for
        return done is not None

    def publish(self, raise_on_error: bool = True) -> bool:
        """Tells everybody that the version may be used. True; again: True and no effect.

        Raises:
            StateError: It is not final; with `raise_on_error=False` False instead, for every such error.
        """
        done = self._or(raise_on_error, lambda: self._run(r.Publish(ref=self._id), r.PublishResult))
        return done is not None

    # --- what it is

    @property
    def id(self) -> str:
        """32 hex digits; it never changes and is never used again."""
        return self._id

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self._version.name

    @property
    def project(self) -> str:
        """Project of the dataset."""
        return self._version.project

    @property
    def version(self) -> str:
        """Version string."""
        return self._version.version

    @property
    def state(self) -> State:
        """Where the version is in its life."""
        return self._version.state

    @property
    def tags(self) -> list[str]:
        """Tags, sorted."""
        return list(self._version.tags)

    @property
    def description(self) -> str:
        """Free text."""
        return self._version.description

    @property
    def created(self) -> datetime:
        """When the draft was made, UTC."""
        return self._version.created

    @property
    def parents(self) -> list[str]:
        """Ids of the direct parents, in merge order."""
        return list(self._version.parents)

    @property
    def file_entries_dict(self) -> Mapping[str, FileEntry | LinkEntry]:
        """Path to entry, read-only; entries are made as they are looked at."""
        return self._view.entries()

    def is_dirty(self) -> bool:
        """Whether files are added whose bytes are not uploaded."""
        return self._version.pending > 0

    def is_final(self) -> bool:
        """Whether the version can't change any more."""
        return self._version.state.is_final

    def get_default_storage(self) -> str:
        """URL of the version's store."""
        return self._session.catalog.store_url(self._version.store_id)

    def get_dependency_graph(self) -> dict[str, list[str]]:
        """`{this: [parents in order], every ancestor: [its parents]}`."""
        found = self._session.catalog.ancestors(self._id)
        own = found.pop(self._id)
        graph = {self._id: list(own.parents)}
        todo = list(own.parents)
        while todo:
            each = todo.pop(0)
            if each not in graph:
                graph[each] = list(found[each].parents)
                todo += graph[each]
        return graph

    def list_files(
        self, dataset_path: str | None = None, recursive: bool = True, dataset_id: str | None = None
    ) -> list[str]:
        """Paths, sorted: all, or what a pattern matches, or what a version brought the bytes of."""
        return self._view.paths(dataset_path, recursive, dataset_id)

    def list_added_files(self, dataset_id: str | None = None) -> list[str]:
        """Paths that the parents together (or that version) do not have, sorted.

        Raises:
            NotFoundError: The id is unknown.
        """
        return [change.path for change in self._compared(dataset_id).added]

    def list_modified_files(self, dataset_id: str | None = None) -> list[str]:
        """Paths whose content differs from the parents' (or that version's), sorted.

        Raises:
            NotFoundError: The id is unknown.
        """
        return [change.path for change in self._compared(dataset_id).modified]

    def list_removed_files(self, dataset_id: str | None = None) -> list[str]:
        """Paths that the parents together (or that version) have and this one does not, sorted.

        Raises:
            NotFoundError: The id is unknown.
        """
        return [change.path for change in self._compared(dataset_id).removed]

    def diff(self, other: VersionArg) -> VersionDiff:
        """What changed from `other` to this version: added, modified, removed, with sizes (bytes); `.to_frame()`."""
        return self._view.compared(_id(other))

    def files_frame(self) -> pd.DataFrame:
        """A pandas frame of all files: path, size (bytes), hash, parent_dataset_id; sorted by path."""
        return self._view.frame()

    # --- reading the bytes

    def open(self, path: str) -> io.BufferedReader:
        """One file as a seekable binary reader; only what is read is fetched, a full read is checked by hash.

        Raises:
            NotFoundError: The version has no such file.
            StateError: The version is not final.
        """
        return self._view.open(path)

    def get_local_copy(
        self,
        use_soft_links: bool | None = None,
        raise_on_error: bool = True,
        *,
        part: int | None = None,
        num_parts: int | None = None,
        files: str | Sequence[str] | None = None,
        max_workers: int | None = None,
    ) -> str | None:
        """The shared read-only copy in the cache: complete, every file verified.

        Args:
            use_soft_links: None: whatever is safe and cheapest; True: a tree of soft links; False: no links at all.
            raise_on_error: False gives None instead of an error.
            part: Which of `num_parts` parts, from 0.
            num_parts: Into how many parts of like size the files are split.
            files: Patterns of the files wanted.
            max_workers: Threads.

        Raises:
            StateError: The version is not final.
            IntegrityError: Stored bytes are not what was finalized; the files are named.
        """
        return self._copy(
            r.GetCopy(
                ref=self._id,
                soft_links=use_soft_links,
                part=part,
                num_parts=num_parts,
                files=_patterns(files) or (),
                max_workers=max_workers,
            ),
            raise_on_error,
        )

    def get_mutable_local_copy(
        self,
        target_folder: str | Path,
        overwrite: bool = False,
        raise_on_error: bool = True,
        *,
        part: int | None = None,
        num_parts: int | None = None,
        files: str | Sequence[str] | None = None,
        max_workers: int | None = None,
    ) -> str | None:
        """A writable copy of one's own in a folder; it is there whole, or not at all.

        Args:
            target_folder: Where; it must be empty or absent.
            overwrite: Replace what is there, once the copy is complete.
            raise_on_error: False gives None instead of an error.
            part: As `get_local_copy`.
            num_parts: As `get_local_copy`.
            files: As `get_local_copy`.
            max_workers: Threads.

        Raises:
            TargetError: The folder can't take it.
            StateError: The version is not final.
            IntegrityError: Stored bytes are not what was finalized.
        """
        return self._copy(
            r.GetCopy(
                ref=self._id,
                target=str(target_folder),
                overwrite=overwrite,
                part=part,
                num_parts=num_parts,
                files=_patterns(files) or (),
                max_workers=max_workers,
            ),
            raise_on_error,
        )

    def verify_dataset_hash(
        self, local_copy_path: str | Path | None = None, skip_hash: bool = False, verbose: bool = False
    ) -> list[str]:
        """Compares a copy with the version; paths that differ, sorted. Without a path the cached copy is looked at.

        Raises:
            TargetError: There is no such folder.
            StateError: The version is not final.
        """
        path = local_copy_path if local_copy_path is not None else self.get_local_copy()
        mode: Any = "size" if skip_hash else "hash"  # Any: a literal mypy can't see through the conditional
        bad = self._run(r.Verify(ref=self._id, path=str(path), mode=mode), r.VerifyResult).bad
        for each in bad if verbose else ():
            print(each)  # noqa: T201  # asked for
        return list(bad)

    # --- names and notes

    def add_tags(self, tags: str | Iterable[str]) -> None:
        """Adds tags; those it has stay."""
        new = [tags] if isinstance(tags, str) else list(tags)
        self._change(lambda version: {"tags": [*version.tags, *new]})

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Takes tags away; those it does not have are ignored."""
        gone = {tags} if isinstance(tags, str) else set(tags)
        self._change(lambda version: {"tags": [tag for tag in version.tags if tag not in gone]})

    def set_description(self, description: str) -> None:
        """Sets the free text."""
        self._change(lambda _version: {"description": description})

    def set_metadata(self, metadata: JsonValue | pd.DataFrame, metadata_name: str = "metadata") -> None:
        """Keeps JSON values or a pandas frame with the version, under a name."""
        self._change(lambda _version: {"metadata": {metadata_name: lookup.to_metadata(metadata)}})

    def get_metadata(self, metadata_name: str = "metadata") -> Any:  # Any: whatever was set
        """What `set_metadata` kept under the name; None when there is nothing."""
        return lookup.from_metadata(self._version.metadata.get(metadata_name))

    def rename(self, name: str) -> None:
        """Gives the dataset, all its versions, another name; ids stay."""
        version = self._version
        self._session.move_dataset(version.project, version.name, to_project=version.project, to_name=name)

    def move_to_project(self, project: str) -> None:
        """Moves the dataset, all its versions, to another project; ids stay."""
        version = self._version
        self._session.move_dataset(version.project, version.name, to_project=project, to_name=version.name)

    def get_num_chunks(self, include_parents: bool = True) -> int:
        """How many chunks hold the version's files; without parents, how many it brought itself."""
        return self._view.chunk_count(include_parents)

    @classmethod
    def set_alias(cls, name: str, dataset_id: str, *, session: Session | None = None) -> None:
        """Points an alias of the version's dataset at it."""
        where = session or default_session()
        where.set_alias(where.catalog.version(dataset_id), name)

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
                hint="Point it at a version with `set_alias`.",
            )
        self._session.set_alias(self._session.catalog.version(before), name)
        return before

    # --- inside

    @property
    def _version(self) -> Version:
        return self._session.catalog.version(self._id)

    @property
    def _view(self) -> VersionView:
        return VersionView(self._session, self._version)

    def _compared(self, dataset_id: str | None) -> VersionDiff:
        return self._view.compared(dataset_id)

    def _run(self, request: r.Request, kind: type[R], progress: Progress = SILENT) -> R:
        return cast("R", self._session.run(request, progress=progress))

    def _or(self, raises: bool, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except InvalidArgumentError:
            raise
        except DatasetError as error:
            if raises:
                raise
            _log.error("%s", error)  # the caller asked for no traceback
            return None

    def _copy(self, request: r.GetCopy, raises: bool) -> str | None:
        done = self._or(raises, lambda: self._run(request, r.GetCopyResult))
        return done.folder if done is not None else None

    def _change(self, values: Callable[[Version], Mapping[str, Any]]) -> None:  # Any: texts, lists, JSON
        self._session.change(self._id, values)

    def _telling(self, verbose: bool) -> AbstractContextManager[object]:
        return self._view.telling() if verbose else nullcontext()


def _id(version: VersionArg) -> str:
    return version.id if isinstance(version, Dataset) else str(version)


def _ids(versions: Sequence[VersionArg]) -> list[str]:
    return [_id(version) for version in versions]


def _patterns(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def _compression(given: int | str | None) -> r.Compression:
    match given:
        case None | "deflate" | zipfile.ZIP_DEFLATED:
            return "deflate"
        case "store" | zipfile.ZIP_STORED:
            return "store"
    raise InvalidArgumentError(
        f"compression {given!r} is not known", hint="Give `zipfile.ZIP_DEFLATED`, `zipfile.ZIP_STORED` or None."
    )


def _progress(show: bool) -> AbstractContextManager[Progress]:
    if not show:
        return nullcontext(SILENT)
    from dataset_tasks.bars import shown_progress  # rich, only for those who watch

    return shown_progress()
