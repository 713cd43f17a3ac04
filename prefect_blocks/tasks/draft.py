"""The tasks that make and fill a draft. What their arguments have in common is told in `prefect_blocks.tasks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from dataset_tasks.model import JsonValue, Keep
from dataset_tasks.ops.references import Inputs, Ref
from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    Check,
    Create,
    OnError,
    RemoveFiles,
    SyncFolder,
    TableCheck,
    Transform,
)
from prefect_blocks.running import Catalog, Json, Work, many
from prefect_blocks.tasks.base import operation


@operation(Create)
def create_dataset(
    name: str,
    project: str | None = None,
    parents: Ref | Sequence[Ref] = (),
    inputs: Inputs | None = None,
    previous: bool = False,
    version: str | None = None,
    tags: str | Sequence[str] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    store: str | None = None,
    partition: str | None = None,
    skip_unchanged: bool = False,
    recipe: str = "",
    hold: str | Sequence[str] = (),
    keep: Keep | Mapping[str, int] | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Makes a draft of the next version of a dataset.

    Args:
        name: Of the dataset.
        project: Of the dataset; default the last parent's.
        parents: Final versions whose content it inherits; the last wins.
        inputs: Versions that a transform of it will read.
        previous: Whether it starts from the dataset's own last good version.
        version: Version string; default the next free number.
        tags: Of the version.
        description: Of the version.
        metadata: Of the version, JSON values.
        store: URL of the store; default the catalog block's.
        partition: Which line of versions it belongs to.
        skip_unchanged: Whether a draft that equals the last good version is dropped in its favour.
        recipe: Digest of what shapes the content, for telling "unchanged".
        hold: What the final version waits for before any look-up by name finds it: `verify`, `approve`.
        keep: Retention of the dataset from now on, such as `{"last": 8, "published": 4, "seconds": 7_776_000}`.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `CreateResult`.

    Raises:
        StateError: A parent is not final.
        AlreadyExistsError: The version string is taken.
        NotFoundError: There is no such parent or input.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        Create(
            name=name,
            project=project,
            parents=work.refs(parents),
            inputs=work.inputs(inputs),
            previous=previous,
            version=version,
            tags=many(tags),
            description=description,
            metadata=dict(metadata or {}),
            store=store,
            partition=partition,
            skip_unchanged=skip_unchanged,
            recipe=recipe,
            hold=many(hold),
            keep=Keep(**keep) if isinstance(keep, Mapping) else keep,
        )
    )


@operation(AddFiles)
def add_files(
    ref: Ref,
    path: str,
    wildcard: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    local_base_folder: str | None = None,
    dataset_path: str | None = None,
    recursive: bool = True,
    on_error: OnError = "raise",
    max_workers: int | None = None,
    connection: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Adds a file or a folder to a draft; the bytes are stored by `upload_dataset`, where the path must be visible too.

    Args:
        ref: The draft.
        path: File or folder on the worker, or a URL.
        wildcard: Only files that match one of these patterns.
        exclude: Not the files that match one of these.
        local_base_folder: Paths in the version are relative to it; default `path`.
        dataset_path: Folder in the version that takes the files.
        recursive: Whether folders inside are taken too.
        on_error: What to do about a file that can't be read.
        max_workers: Threads that hash; default the number of cores.
        connection: Name of the connection through which a URL is read.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `AddFilesResult`.

    Raises:
        SourceError: Files can't be read; all are listed.
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        AddFiles(
            ref=work.ref(ref),
            path=path,
            wildcard=None if wildcard is None else many(wildcard),
            exclude=many(exclude),
            local_base_folder=local_base_folder,
            dataset_path=dataset_path,
            recursive=recursive,
            on_error=on_error,
            max_workers=max_workers,
            connection=connection,
        )
    )


@operation(AddExternal)
def add_external_files(
    ref: Ref,
    urls: str | Sequence[str],
    wildcard: str | Sequence[str] | None = None,
    dataset_path: str | None = None,
    recursive: bool = True,
    connection: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Adds links to a draft: files that stay where they are, pinned as they are now.

    Args:
        ref: The draft.
        urls: `file://`, `s3://`, `gs://`, `azure://` or `http(s)://` URL of a file, folder or prefix; one or several.
        wildcard: Only files that match one of these patterns.
        dataset_path: Folder in the version that takes the links.
        recursive: Whether folders inside are taken too.
        connection: Name of the connection through which the URLs are read.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `AddExternalResult`.

    Raises:
        SourceError: URLs can't be reached; all are listed.
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        AddExternal(
            ref=work.ref(ref),
            urls=many(urls),
            wildcard=None if wildcard is None else many(wildcard),
            dataset_path=dataset_path,
            recursive=recursive,
            connection=connection,
        )
    )


@operation(SyncFolder)
def sync_folder(
    ref: Ref,
    path: str,
    dataset_path: str | None = None,
    wildcard: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    max_workers: int | None = None,
    connection: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Makes a draft, or its part under `dataset_path`, equal to a folder.

    Args:
        ref: The draft.
        path: Folder on the worker, or a URL.
        dataset_path: Folder in the version that mirrors it; default all of the version.
        wildcard: Only files that match one of these patterns.
        exclude: Not the files that match one of these.
        max_workers: Threads that hash; default the number of cores.
        connection: Name of the connection through which a URL is read.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `SyncFolderResult`.

    Raises:
        SourceError: The folder is missing, or files can't be read.
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        SyncFolder(
            ref=work.ref(ref),
            path=path,
            dataset_path=dataset_path,
            wildcard=None if wildcard is None else many(wildcard),
            exclude=many(exclude),
            max_workers=max_workers,
            connection=connection,
        )
    )


@operation(RemoveFiles)
def remove_files(
    ref: Ref,
    patterns: str | Sequence[str] | None = None,
    recursive: bool = True,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Removes what patterns match from a draft.

    Args:
        ref: The draft.
        patterns: On paths of the version; None is everything.
        recursive: Whether a pattern matches below folders too.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `RemoveFilesResult`.

    Raises:
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    chosen = None if patterns is None else many(patterns)
    return work.run(RemoveFiles(ref=work.ref(ref), patterns=chosen, recursive=recursive))


@operation(Transform, retries=0)
def transform_dataset(
    ref: Ref,
    call: str | None = None,
    run: Sequence[str] | None = None,
    arguments: Mapping[str, JsonValue] | None = None,
    env: Mapping[str, str] | None = None,
    env_from: str | Sequence[str] = (),
    python: str | None = None,
    code_version: str | None = None,
    always: bool = False,
    folder: str | None = None,
    dataset_path: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Runs code over the inputs of a draft and adds what it wrote. For a function at hand there is `dataset_task`.

    Args:
        ref: The draft.
        call: `module:function`, called as `function(inputs, output, **arguments)`.
        run: A program and its arguments instead; no shell.
        arguments: Of the function, JSON values.
        env: Environment variables of the program.
        env_from: Variables that are passed on from the worker, never recorded.
        python: Another interpreter.
        code_version: Stands for the code in its fingerprint.
        always: Whether it runs also when everything it reads is unchanged.
        folder: Where programs and modules are looked up.
        dataset_path: Folder of the version that takes the output.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `TransformResult`.

    Raises:
        TransformError: The code raised, or the program ended with an error.
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        Transform(
            ref=work.ref(ref),
            call=call,
            run=None if run is None else tuple(run),
            arguments=dict(arguments or {}),
            env=dict(env or {}),
            env_from=many(env_from),
            python=python,
            code_version=code_version,
            always=always,
            folder=folder,
            dataset_path=dataset_path,
        )
    )


@operation(Check, retries=0)
def check_dataset(
    ref: Ref,
    min_files: int | None = None,
    max_files: int | None = None,
    min_bytes: int | None = None,
    max_change: float | None = None,
    tables: Sequence[TableCheck | Mapping[str, str]] = (),
    call: str | None = None,
    severity: Literal["error", "warn"] = "error",
    folder: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Holds the content of a draft against gates.

    Args:
        ref: The draft.
        min_files: At least so many files.
        max_files: At most so many files.
        min_bytes: At least so many bytes.
        max_change: Share (0 to 1) of files that may differ from the version before.
        tables: Files to read as tables and the pandera schemas they must keep: `{"files": ..., "schema": ...}`.
        call: `module:function` that raises when the content is not good.
        severity: `warn` records what did not hold and goes on.
        folder: Where schemas and modules are looked up.
        catalog: See the module.
        step: See the module.
        origin: See the module.

    Returns:
        The fields of `CheckResult`.

    Raises:
        CheckFailedError: A gate did not hold.
    """
    work = Work.on(catalog, step, origin)
    return work.run(
        Check(
            ref=work.ref(ref),
            min_files=min_files,
            max_files=max_files,
            min_bytes=min_bytes,
            max_change=max_change,
            tables=tuple(table if isinstance(table, TableCheck) else TableCheck(**table) for table in tables),
            call=call,
            severity=severity,
            folder=folder,
        )
    )
