"""Looking into a version and getting its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset_tasks.errors import SourceError
from dataset_tasks.handle.base import Handle, VersionArg, id_of, path_of, wanted_of
from dataset_tasks.model import FileEntry, LinkEntry
from dataset_tasks.ops import requests as r
from dataset_tasks.view import VersionDiff

if TYPE_CHECKING:
    import io

    import pandas as pd


class Reading(Handle):
    """What reads a version."""

    @property
    def file_entries_dict(self) -> Mapping[str, FileEntry | LinkEntry]:
        """Path to entry, read-only; entries are made as they are looked at."""
        return self._view.entries()

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
        return [change.path for change in self._view.compared(dataset_id).added]

    def list_modified_files(self, dataset_id: str | None = None) -> list[str]:
        """Paths whose content differs from the parents' (or that version's), sorted.

        Raises:
            NotFoundError: The id is unknown.
        """
        return [change.path for change in self._view.compared(dataset_id).modified]

    def list_removed_files(self, dataset_id: str | None = None) -> list[str]:
        """Paths that the parents together (or that version) have and this one does not, sorted.

        Raises:
            NotFoundError: The id is unknown.
        """
        return [change.path for change in self._view.compared(dataset_id).removed]

    def diff(self, other: VersionArg) -> VersionDiff:
        """What changed from `other` to this version: added, modified, removed, with sizes (bytes); `.to_frame()`."""
        return self._view.compared(id_of(other))

    def files_frame(self) -> pd.DataFrame:
        """A pandas frame of all files: path, size (bytes), hash, parent_dataset_id; sorted by path."""
        return self._view.frame()

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
            files: Patterns of the files wanted; each must match one.
            max_workers: Threads.

        Raises:
            NotFoundError: A pattern of `files` matches none.
            StateError: The version is not final.
            IntegrityError: Stored bytes are not what was finalized; the files are named.
            SourceError: Links are gone or changed; they are named.
        """
        return self._copy(
            r.GetCopy(
                ref=self._id,
                soft_links=use_soft_links,
                part=part,
                num_parts=num_parts,
                files=wanted_of(files),
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
            NotFoundError: As `get_local_copy`.
            TargetError: The folder can't take it.
            StateError: The version is not final.
            IntegrityError: Stored bytes are not what was finalized.
            SourceError: Links are gone or changed; they are named.
        """
        return self._copy(
            r.GetCopy(
                ref=self._id,
                target=path_of(target_folder, "target_folder"),
                overwrite=overwrite,
                part=part,
                num_parts=num_parts,
                files=wanted_of(files),
                max_workers=max_workers,
            ),
            raise_on_error,
        )

    def verify_dataset_hash(
        self, local_copy_path: str | Path | None = None, skip_hash: bool = False, verbose: bool = False
    ) -> list[str]:
        """Compares a copy with the version; paths that differ, sorted. Nothing is healed.

        Links are looked at where they lead, too. When one of them leaves nothing to make the copy from, the store is
        compared instead.

        Args:
            local_copy_path: The copy; without one that in the cache, made if there is none.
            skip_hash: Compare sizes only.
            verbose: Print what differs.

        Raises:
            TargetError: There is no such folder.
            StateError: The version is not final.
        """
        path = local_copy_path if local_copy_path is not None else self._view.cached()
        try:
            path = path if path is not None else self.get_local_copy()
        except SourceError as error:  # a link: which ones, the verify will tell
            if error.retryable:
                raise
        folder = path_of(path, "local_copy_path") if path is not None else None
        mode: Any = "size" if skip_hash else "hash"  # Any: a literal mypy can't see through the conditional
        bad = self._run_watched(r.Verify(ref=self._id, path=folder, mode=mode), r.VerifyResult).bad
        for each in bad if verbose else ():
            print(each)  # noqa: T201  # asked for
        return list(bad)

    def _copy(self, request: r.GetCopy, raises: bool) -> str | None:
        done = self._or(raises, lambda: self._run_watched(request, r.GetCopyResult))
        return done.folder if done is not None else None
