"""Operators that make and fill a draft: create, add, external, sync, remove, transform, check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from airflow_provider.operators.base import DatasetOperator
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.references import Inputs, Ref
from dataset_tasks.ops.requests import AddExternal, AddFiles, Check, Create, OnError, RemoveFiles, SyncFolder, Transform


class DatasetCreateOperator(DatasetOperator):
    """Makes a draft: the next version of a dataset, to be filled, uploaded and finalized.

    Args:
        name: The dataset's name.
        project: Its project; default the last parent's.
        parents: Versions whose content it starts with, the last wins.
        inputs: Versions it is made from without taking over their content.
        previous: Start with the content of the dataset's own last good version.
        version: Version string; default the next number.
        tags: Labels to find it by.
        description: What it is.
        metadata: JSON kept with it.
        store: URL of another store than the session's.
        partition: Which slice of the dataset this is.
        skip_unchanged: Let transform, upload and finalize drop the draft when it equals the last good version.
        recipe: Digest of everything else that shapes the content; part of what `skip_unchanged` compares.
        hold: What the final version waits for before any look-up by name finds it: `verify`, `approve`.
        keep: Retention of the dataset from now on, such as `{"last": 8, "published": 4, "seconds": 7_776_000}`.
        kwargs: See `DatasetOperator`.

    >>> from airflow.sdk import DAG
    >>> with DAG("orders"):
    ...     create = DatasetCreateOperator(task_id="create", project="crm", name="orders")
    >>> create.output["version_id"].key
    'version_id'
    """

    operation = Create
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "metadata": "json"}

    def __init__(
        self,
        *,
        name: str,
        project: str | None = None,
        parents: Sequence[Ref] | Ref = (),
        inputs: Inputs | None = None,
        previous: bool = False,
        version: str | None = None,
        tags: Sequence[str] = (),
        description: str = "",
        metadata: Mapping[str, JsonValue] | None = None,
        store: str | None = None,
        partition: str | None = None,
        skip_unchanged: bool = False,
        recipe: str = "",
        hold: Sequence[str] = (),
        keep: Mapping[str, int] | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.project = project
        self.parents = parents
        self.inputs = inputs
        self.previous = previous
        self.version = version
        self.tags = tags
        self.description = description
        self.metadata = metadata
        self.store = store
        self.partition = partition
        self.skip_unchanged = skip_unchanged
        self.recipe = recipe
        self.hold = hold
        self.keep = keep


class DatasetAddOperator(DatasetOperator):
    """Adds a file or a folder to a draft, or imports a URL. Files are read again by the upload, where they must be too.

    Args:
        ref: The draft, such as `create.output["version_id"]`.
        path: File, folder or object-store URL.
        wildcard: Patterns of what to take; default everything.
        exclude: Patterns of what to leave out.
        local_base_folder: Paths in the version are relative to it; default `path`.
        dataset_path: Folder of the version that it goes to.
        recursive: Whether patterns match at any depth.
        on_error: `skip` leaves unreadable files out and lists them in the result.
        max_workers: Threads that hash.
        connection: Name of the connection through which a URL is read.
        kwargs: See `DatasetOperator`.
    """

    operation = AddFiles

    def __init__(
        self,
        *,
        ref: Ref,
        path: str,
        wildcard: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str = (),
        local_base_folder: str | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        on_error: OnError = "raise",
        max_workers: int | None = None,
        connection: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.path = path
        self.wildcard = wildcard
        self.exclude = exclude
        self.local_base_folder = local_base_folder
        self.dataset_path = dataset_path
        self.recursive = recursive
        self.on_error = on_error
        self.max_workers = max_workers
        self.connection = connection


class DatasetExternalOperator(DatasetOperator):
    """Adds links to a draft: files that stay where they are, pinned as they are now.

    Args:
        ref: The draft, such as `create.output["version_id"]`.
        urls: `file://`, `s3://`, `gs://`, `azure://` or `http(s)://` URL of a file, folder or prefix; one or several.
        wildcard: Patterns of what to take; default everything.
        dataset_path: Folder of the version that it goes to.
        recursive: Whether patterns match at any depth.
        connection: Name of the connection through which the URLs are read.
        kwargs: See `DatasetOperator`.
    """

    operation = AddExternal

    def __init__(
        self,
        *,
        ref: Ref,
        urls: Sequence[str] | str,
        wildcard: Sequence[str] | str | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        connection: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.urls = urls
        self.wildcard = wildcard
        self.dataset_path = dataset_path
        self.recursive = recursive
        self.connection = connection


class DatasetSyncOperator(DatasetOperator):
    """Makes a draft, or the part of it under `dataset_path`, equal to a folder: adds, replaces, removes.

    Args:
        ref: The draft.
        path: Folder or object-store URL.
        dataset_path: Folder of the version; default all of it.
        wildcard: Patterns of what to take; default everything.
        exclude: Patterns of what to leave out.
        max_workers: Threads that hash.
        connection: Name of the connection through which a URL is read.
        kwargs: See `DatasetOperator`.
    """

    operation = SyncFolder

    def __init__(
        self,
        *,
        ref: Ref,
        path: str,
        dataset_path: str | None = None,
        wildcard: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str = (),
        max_workers: int | None = None,
        connection: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.path = path
        self.dataset_path = dataset_path
        self.wildcard = wildcard
        self.exclude = exclude
        self.max_workers = max_workers
        self.connection = connection


class DatasetRemoveOperator(DatasetOperator):
    """Removes what patterns match from a draft, in one commit.

    Args:
        ref: The draft.
        patterns: One pattern or several; None removes everything.
        recursive: Whether patterns match at any depth.
        kwargs: See `DatasetOperator`.
    """

    operation = RemoveFiles

    def __init__(
        self,
        *,
        ref: Ref,
        patterns: Sequence[str] | str | None,
        recursive: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.patterns = patterns
        self.recursive = recursive


class DatasetTransformOperator(DatasetOperator):
    """Runs code over a draft's inputs, in read-only folders, and adds what it writes to the output folder.

    Args:
        ref: The draft.
        call: `module:function`, called as `function(inputs, output, **arguments)`.
        run: An argument vector instead; no shell.
        arguments: JSON arguments of the function.
        env: Environment variables, recorded with the version.
        env_from: Names of the worker's variables to pass on; values are never recorded.
        python: Another interpreter.
        code_version: Stands for the code in the comparison that decides what is unchanged.
        always: Run even if nothing it depends on changed.
        folder: Where relative programs and modules are looked up.
        dataset_path: Folder of the version that the output goes to.
        kwargs: See `DatasetOperator`.
    """

    operation = Transform
    template_fields_renderers: ClassVar[dict[str, str]] = {"arguments": "json", "env": "json"}

    def __init__(
        self,
        *,
        ref: Ref,
        call: str | None = None,
        run: Sequence[str] | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
        env: Mapping[str, str] | None = None,
        env_from: Sequence[str] = (),
        python: str | None = None,
        code_version: str | None = None,
        always: bool = False,
        folder: str | None = None,
        dataset_path: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.call = call
        self.run = run
        self.arguments = arguments
        self.env = env
        self.env_from = env_from
        self.python = python
        self.code_version = code_version
        self.always = always
        self.folder = folder
        self.dataset_path = dataset_path


class DatasetCheckOperator(DatasetOperator):
    """Holds a draft against gates; what does not hold fails the task, or with `warn` is in its result.

    Args:
        ref: The draft.
        min_files: At least so many files.
        max_files: At most so many files.
        min_bytes: At least so many bytes.
        max_change: Largest share (0 to 1) of files that may differ from the previous version.
        tables: Pairs `{"files": pattern, "schema": pandera schema file}`.
        call: `module:function` that returns what it finds wrong.
        severity: `warn` records findings and goes on.
        folder: Where relative schemas and modules are looked up.
        kwargs: See `DatasetOperator`.
    """

    operation = Check
    template_fields_renderers: ClassVar[dict[str, str]] = {"tables": "json"}

    def __init__(
        self,
        *,
        ref: Ref,
        min_files: int | None = None,
        max_files: int | None = None,
        min_bytes: int | None = None,
        max_change: float | None = None,
        tables: Sequence[Mapping[str, str]] = (),
        call: str | None = None,
        severity: Literal["error", "warn"] = "error",
        folder: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.min_files = min_files
        self.max_files = max_files
        self.min_bytes = min_bytes
        self.max_change = max_change
        self.tables = tables
        self.call = call
        self.severity = severity
        self.folder = folder
