"""Operators from a draft to a version and on: upload, finalize, build, approve, publish, squash, verify, get, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider import approving, assets, running
from airflow_provider.hooks.dataset import DatasetHook
from airflow_provider.operators.base import DatasetOperator
from dataset_tasks.errors import IntegrityError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.references import Ref
from dataset_tasks.ops.requests import (
    Approve,
    ApproveResult,
    Build,
    Compression,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    PublishResult,
    Result,
    Squash,
    Stage,
    Upload,
    Verify,
    VerifyResult,
)

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class DatasetUploadOperator(DatasetOperator):
    """Stores the bytes of every file of a draft that is not stored yet; a retry uploads only what is missing.

    Args:
        ref: The draft.
        store: URL of another store than the session's.
        compression: `deflate` (stored where that does not help) or `store`.
        chunk_size: Size of the stored archives in MiB.
        max_workers: Threads that pack.
        store_retries: How often a request to the store is repeated; the task's own `retries` are Airflow's.
        kwargs: See `DatasetOperator`.
    """

    operation = Upload
    renamed: ClassVar[Mapping[str, str]] = {"retries": "store_retries"}

    def __init__(
        self,
        *,
        ref: Ref,
        store: str | None = None,
        compression: Compression = "deflate",
        chunk_size: float | None = None,
        max_workers: int | None = None,
        store_retries: int = 3,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.store = store
        self.compression = compression
        self.chunk_size = chunk_size
        self.max_workers = max_workers
        self.store_retries = store_retries


class DatasetFinalizeOperator(DatasetOperator):
    """Makes a draft a version that never changes again; every byte of it must be stored.

    Args:
        ref: The draft.
        kwargs: See `DatasetOperator`.
    """

    operation = Finalize

    def __init__(self, *, ref: Ref, **kwargs: Any) -> None:  # Any: BaseOperator's own arguments
        super().__init__(**kwargs)
        self.ref = ref


class DatasetBuildOperator(DatasetOperator):
    """Makes the next version of a dataset in one task: create, fill, check, upload, finalize, verify.

    One task instead of six costs a third of the overhead, and needs no folder that several workers see.

    Args:
        stages: The requests in order, as `Stage` or as the JSON of one; `step:<id>` in one names an earlier stage.
        kwargs: See `DatasetOperator`.
    """

    operation = Build
    template_fields_renderers: ClassVar[dict[str, str]] = {"stages": "json"}

    def __init__(
        self,
        *,
        stages: Sequence[Stage | Mapping[str, JsonValue]],
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.stages = stages


class DatasetApproveOperator(DatasetOperator):
    """Asks whether a version may be published, and waits for the answer without a worker.

    The question stands on Airflow's page of required actions, on the pages of this provider and in the catalog, where
    `dataset-tasks approve` answers it as well: the first answer holds. A no fails the task, so what is below never sees
    the version.

    Args:
        ref: The version.
        by: User names of those who are asked; nobody else may answer on Airflow's pages.
        timeout: Seconds after which `otherwise` is the answer.
        otherwise: The answer when nobody gave one in time.
        alias: The name that publishing will move; shown to whoever answers.
        kwargs: See `DatasetOperator`.
    """

    operation = Approve

    def __init__(
        self,
        *,
        ref: Ref,
        by: Sequence[str] | str = (),
        timeout: float | None = None,
        otherwise: Literal["reject", "approve"] = "reject",
        alias: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.by = by
        self.timeout = timeout
        self.otherwise = otherwise
        self.alias = alias

    def finish(self, result: Result, context: Context) -> None:
        """Waits while there is no answer; fails the task when it is no."""
        assert isinstance(result, ApproveResult)
        if result.state == "open":
            session = DatasetHook(self.conn_id).get_session()
            approving.wait_for_answer(self, result, context, session, conn_id=self.conn_id)
        approving.must_be_yes(result)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],  # Any: JSON
        version_id: str,
    ) -> dict[str, JsonValue]:
        """Takes the answer.

        Raises:
            AirflowFailException: It is no.
        """
        self.found_version = version_id
        return running.small(approving.take_answer(version_id, event, conn_id=self.conn_id))


class DatasetPublishOperator(DatasetOperator):
    """Publishes a final version, points an alias at it, and emits the dataset's asset event.

    The event is emitted once for a version, to `dataset://project/name`, and not when it was published already. Declare
    `outlets=[dataset_asset("crm/orders")]` to see the edge in the asset graph before the first run.

    Args:
        ref: The version.
        alias: A name that moves with each publish, such as `prod`.
        partition_events: The event of a version with a partition has it as its partition key (Airflow 3.2, declared
            outlets only). It then starts DAGs with a partitioned timetable, and no others.
        kwargs: See `DatasetOperator`.
    """

    operation = Publish

    def __init__(
        self,
        *,
        ref: Ref,
        alias: str | None = None,
        partition_events: bool = False,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.alias = alias
        self.partition_events = partition_events

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Publishes; see `DatasetOperator.work`.

        Raises:
            AirflowFailException: With `partition_events`, the event could not have its key: nothing was published then.
        """
        if self.partition_events:
            with running.translated():
                catalog = DatasetHook(self.conn_id).get_session().catalog
                request = self.request(catalog.id)
                assert isinstance(request, Publish)
                version = catalog.resolve(request.ref)
                if version.partition is not None:
                    assets.must_take_keys(assets.dataset_asset(version.dataset), self.outlets)
        return super().work(context)

    def finish(self, result: Result, context: Context) -> None:
        """Emits the asset event."""
        assert isinstance(result, PublishResult)
        partition = DatasetHook(self.conn_id).get_session().catalog.version(result.version_id).partition
        assets.record_publish(result, self.outlets, context, partition=partition, as_key=self.partition_events)


class DatasetSquashOperator(DatasetOperator):
    """Makes one version that stands alone from the content of one version, or from the changes of several.

    Args:
        name: The dataset it becomes a version of.
        refs: The versions, oldest first.
        project: Its project; default that of the first.
        store: URL of another store than the session's.
        tags: Labels to find it by.
        description: What it is.
        metadata: JSON kept with it.
        skip_unchanged: Make none when the last good version has the same content.
        hold: What it waits for before any look-up by name finds it: `verify`, `approve`.
        keep: Retention of the dataset from now on, such as `{"last": 8, "published": 4, "seconds": 7_776_000}`.
        kwargs: See `DatasetOperator`.
    """

    operation = Squash
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}

    def __init__(
        self,
        *,
        name: str,
        refs: Sequence[Ref] | Ref,
        project: str | None = None,
        store: str | None = None,
        tags: Sequence[str] = (),
        description: str = "",
        metadata: Mapping[str, JsonValue] | None = None,
        skip_unchanged: bool = False,
        hold: Sequence[str] = (),
        keep: Mapping[str, int] | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.refs = refs
        self.project = project
        self.store = store
        self.tags = tags
        self.description = description
        self.metadata = metadata
        self.skip_unchanged = skip_unchanged
        self.hold = hold
        self.keep = keep


class DatasetVerifyOperator(DatasetOperator):
    """Reads a version back and compares every file; fails when one differs.

    Args:
        ref: The version.
        path: A copy to compare; default what the store holds.
        mode: `size` skips the hashes.
        quarantine: Mark a version that does not verify, so that look-ups pass over it.
        fail_on_difference: False gives the differing paths in the result instead.
        kwargs: See `DatasetOperator`.
    """

    operation = Verify

    def __init__(
        self,
        *,
        ref: Ref,
        path: str | None = None,
        mode: Literal["hash", "size"] = "hash",
        quarantine: bool = False,
        fail_on_difference: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.path = path
        self.mode = mode
        self.quarantine = quarantine
        self.fail_on_difference = fail_on_difference

    def finish(self, result: Result, context: Context) -> None:
        """Fails the task when files differ."""
        assert isinstance(result, VerifyResult)
        if result.bad and self.fail_on_difference:
            raise differing(result)


def differing(result: VerifyResult) -> IntegrityError:
    """The error that names the files a verify found to differ."""
    shown = ", ".join(result.bad[:10]) + (f" and {len(result.bad) - 10} more" if len(result.bad) > 10 else "")
    return IntegrityError(
        f"{result.project}/{result.name}@{result.version}: {len(result.bad)} of {result.files} files differ: {shown}",
        paths=result.bad,
        hint="Nothing was changed. Restore the store's objects from a copy, or make the version anew.",
    )


class DatasetGetOperator(DatasetOperator):
    """Gives a folder with the content of a version, verified: on the worker that runs this task.

    Args:
        ref: The version.
        target: Folder for a writable copy; default the shared read-only one in the worker's cache.
        overwrite: Replace a target that is not empty.
        soft_links: A tree of links (True) or of real files (False); default what is safe and cheapest.
        files: Patterns of the files wanted; default all.
        part: Which of `num_parts` parts, from 0.
        num_parts: Into how many parts of like size to split the files.
        max_workers: Threads that copy.
        kwargs: See `DatasetOperator`.
    """

    operation = GetCopy

    def __init__(
        self,
        *,
        ref: Ref,
        target: str | None = None,
        overwrite: bool = False,
        soft_links: bool | None = None,
        files: Sequence[str] | str = (),
        part: int | None = None,
        num_parts: int | None = None,
        max_workers: int | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.target = target
        self.overwrite = overwrite
        self.soft_links = soft_links
        self.files = files
        self.part = part
        self.num_parts = num_parts
        self.max_workers = max_workers


class DatasetDeleteOperator(DatasetOperator):
    """Ends a version: a draft is dropped, a final one leaves a tombstone.

    Args:
        ref: The version.
        force: Also when other versions were made from it; those still read back.
        kwargs: See `DatasetOperator`.
    """

    operation = Delete

    def __init__(
        self,
        *,
        ref: Ref,
        force: bool = False,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.force = force
