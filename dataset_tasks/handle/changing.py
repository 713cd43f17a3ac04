"""Changing a draft, and making it final."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.handle.base import Handle, path_of, texts_of
from dataset_tasks.ops import requests as r
from dataset_tasks.progress import SILENT, Progress

_log = logging.getLogger("dataset_tasks")


class Changing(Handle):
    """What changes a draft."""

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
        connection: str | None = None,
    ) -> int:
        """Adds a file or folder and hashes it; `upload` stores it.

        Args:
            path: File, folder, or `s3://`, `gs://`, `azure://` URL to import bytes from.
            wildcard: Glob or globs relative to `path`.
            local_base_folder: Files land under their path relative to it.
            dataset_path: Folder of the dataset to land in.
            recursive: Globs match at any depth.
            verbose: Print what was added and modified.
            max_workers: Threads that read.
            on_error: `raise`, or `skip` to leave out what can't be read.
            connection: Name of the connection through which a URL is read.

        Returns:
            How many paths were added that the version did not have.

        Raises:
            SourceError: Files can't be read; all are named and nothing changes.
            InvalidArgumentError: The base folder is not above `path`, or a pattern is no good.
            StateError: The version is no draft.
        """
        request = r.AddFiles(
            ref=self._id,
            path=path_of(path, "path"),
            wildcard=texts_of(wildcard),
            local_base_folder=path_of(local_base_folder, "local_base_folder")
            if local_base_folder is not None
            else None,
            dataset_path=dataset_path,
            recursive=recursive,
            max_workers=max_workers,
            on_error=on_error,
            connection=connection,
        )
        with self._telling(verbose):
            return self._run_watched(request, r.AddFilesResult).added

    def add_external_files(
        self,
        source_url: str | Sequence[str],
        wildcard: str | Sequence[str] | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        *,
        connection: str | None = None,
    ) -> int:
        """Adds links: files that stay where they are, pinned as they are now.

        Args:
            source_url: `file://`, `s3://`, `gs://`, `azure://` or `http(s)://` URL of a file, folder or prefix; one or several.
            wildcard: Glob or globs relative to the URL.
            dataset_path: Folder of the dataset to land in.
            recursive: Globs match at any depth.
            verbose: Print what was added and modified.
            connection: Name of the connection through which the URLs are read.

        Returns:
            How many paths were added that the version did not have.

        Raises:
            SourceError: URLs can't be reached; all are named and nothing changes.
            InvalidArgumentError: A URL can't be a link or holds credentials, or a pattern is no good.
            StateError: The version is no draft.
        """
        request = r.AddExternal(
            ref=self._id,
            urls=texts_of(source_url) or (),
            wildcard=texts_of(wildcard),
            dataset_path=dataset_path,
            recursive=recursive,
            connection=connection,
        )
        with self._telling(verbose):
            return self._run_watched(request, r.AddExternalResult).added

    def sync_folder(
        self,
        local_path: str | Path,
        dataset_path: str | None = None,
        verbose: bool = False,
        *,
        wildcard: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        connection: str | None = None,
    ) -> tuple[int, int]:
        """Makes the part of the version under `dataset_path` equal to a folder, or to what lies below a URL.

        Returns:
            Files removed, and files added or modified.

        Raises:
            SourceError: The folder is missing or files in it can't be read; nothing changes.
            StateError: The version is no draft.
        """
        request = r.SyncFolder(
            ref=self._id,
            path=path_of(local_path, "local_path"),
            dataset_path=dataset_path,
            wildcard=texts_of(wildcard),
            exclude=texts_of(exclude) or (),
            connection=connection,
        )
        with self._telling(verbose):
            result = self._run_watched(request, r.SyncFolderResult)
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
            compression: A `zipfile` constant, `deflate` or `store`; None: deflate, stored where it does not help. BZIP2 and
                LZMA, which not every unzip reads, count as deflate and are logged.
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


def _compression(given: int | str | None) -> r.Compression:
    match given:
        case None | "deflate" | zipfile.ZIP_DEFLATED:
            return "deflate"
        case zipfile.ZIP_BZIP2 | zipfile.ZIP_LZMA:
            _log.warning("compression %s is stored as deflate, which every unzip can read", given)
            return "deflate"
        case "store" | zipfile.ZIP_STORED:
            return "store"
    raise InvalidArgumentError(
        f"compression {given!r} is not known", hint="Give a constant of `zipfile`, `deflate`, `store` or None."
    )


def _progress(show: bool) -> AbstractContextManager[Progress]:
    if not show:
        return nullcontext(SILENT)
    from dataset_tasks.bars import shown_progress  # rich, only for those who watch

    return shown_progress()
