"""Datasets as Airflow assets: `dataset://project/name`, with one event for each version that is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import Asset, AssetAlias

from airflow_provider.hooks.dataset import DEFAULT_CONN_ID
from dataset_tasks import model
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.function_build import dataset_parts
from dataset_tasks.ops.requests import PublishResult

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence
    from urllib.parse import SplitResult

    from airflow.sdk.definitions.context import Context
    from openlineage.client.event_v2 import Dataset

#: How a task emits for a dataset that its DAG does not declare as an outlet, because its name is only known at run time.
PUBLISHED = AssetAlias(name="dataset-tasks-published")


def dataset_asset(dataset: str) -> Asset:
    """The asset of a dataset, to schedule on or to declare as an outlet.

    Name and URI are equal, as they are for `Asset("dataset://crm/orders")`: both ways give the same asset.

    Args:
        dataset: `project/name`; a selector after `@` is not part of the asset and is refused.

    Raises:
        InvalidArgumentError: The text is not `project/name`.

    >>> dataset_asset("crm/orders").uri
    'dataset://crm/orders'
    """
    return asset_of(*dataset_parts(dataset))


def asset_of(project: str, name: str) -> Asset:
    """The asset of a dataset whose names are known to be right: what `dataset_asset` gives, made without a look at them.

    Airflow sends the URI of a new asset to whoever its scheme belongs to, and to find that out loads the hooks of every
    provider that has one (boto3, for one): a third of a second for each process that parses a file. `sanitize_uri` would find
    nothing to mend in it, so it is put in behind.
    """
    uri = model.asset_uri(project, name)
    asset = Asset(name=uri, uri="x-dataset")
    object.__setattr__(asset, "uri", uri)
    return asset


def watched_asset(
    dataset: str,
    *,
    event: Literal["published", "finalized", "alias"] = "published",
    alias: str | None = None,
    conn_id: str = DEFAULT_CONN_ID,
    poll_interval: float | None = None,
) -> Asset:
    """The asset of a dataset with a watcher, for versions that nothing in this Airflow publishes.

    Airflow keeps the watchers of an asset as the DAG file that it read last names them: give every DAG that names the asset
    (the one that publishes it too) this one, with the same arguments.

    Args:
        dataset: `project/name`.
        event: As in `DatasetEventTrigger`, like those below.
        alias: Only moves of this alias; only with the event `alias`.
        conn_id: Airflow connection; see `DatasetHook`.
        poll_interval: Seconds between two looks; equal for all that are to share them.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`.
    """
    from airflow.sdk import AssetWatcher

    from airflow_provider.triggers.dataset import DatasetEventTrigger  # what no watched asset needs is not loaded

    asset = dataset_asset(dataset)
    trigger = DatasetEventTrigger(
        dataset=dataset, event=event, alias=alias, conn_id=conn_id, poll_interval=poll_interval
    )
    asset.watchers = [AssetWatcher(name=f"{dataset} {alias or event}", trigger=trigger)]
    return asset


def create_asset(*, dataset: str, extra: dict[str, Any] | None = None) -> Asset:  # Any: as in version_extra
    """What Airflow's asset factory calls: `dataset_asset`, with extra."""
    asset = dataset_asset(dataset)
    asset.extra = dict(extra or {})
    return asset


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Checks a `dataset://project/name` URI when an `Asset` is made of it.

    Raises:
        ValueError: It does not name a project and a dataset, or names more than that.
    """
    words = [uri.netloc, *uri.path.removeprefix("/").split("/")]
    if len(words) < 2 or not all(model.is_dataset_word(word) for word in words) or uri.query:
        raise ValueError(
            f"{uri.geturl()!r} is not a dataset asset: expected dataset://project/name, "
            "letters, digits and `._-` in each part"
        )
    return uri


def to_openlineage(asset: Asset, lineage_context: object) -> Dataset:  # noqa: ARG001  # as that provider calls it
    """The asset as a dataset of OpenLineage: the same that operators tell of. Called only where its provider is installed."""
    from openlineage.client.event_v2 import Dataset

    project, name = dataset_parts(asset.uri.removeprefix("dataset://"))
    return Dataset(namespace=model.asset_uri(project, "").rstrip("/"), name=name)


def version_extra(
    result: PublishResult, partition: str | None = None
) -> dict[str, Any]:  # Any: JSON; Airflow's own alias of it is another
    """What an asset event says about the version: enough for a consumer to read exactly that one."""
    return {
        "version_id": result.version_id,
        "version": result.version,
        "content_hash": result.content_hash,
        "files": result.files,
        "bytes": result.bytes,
        "parents": list(result.parents),
        "catalog_id": result.catalog_id,
    } | ({"partition": partition} if partition is not None else {})


def record_publish(
    result: PublishResult,
    outlets: MutableSequence[object],
    context: Context,
    *,
    partition: str | None = None,
    as_key: bool = False,
) -> None:
    """Sees to it that the task's success emits one event for a version it published, and none otherwise.

    A declared outlet emits on every success, so it is taken out of `outlets` (the running task's own) when nothing was
    published; one that is not declared is reached through the alias `PUBLISHED`.

    Args:
        result: What the publish gave.
        outlets: The running task's own.
        context: The task's.
        partition: Which slice of the dataset the version is; part of the event's extra.
        as_key: The partition is the event's partition key, too: it then starts only DAGs with a partitioned timetable.

    Raises:
        InvalidArgumentError: `as_key`, and Airflow has no partition keys (before 3.2), or the asset is no declared outlet.
    """
    extra = version_extra(result, partition)
    asset = dataset_asset(f"{result.project}/{result.name}")
    outlet = declared(asset, outlets)
    if result.unchanged:
        outlets[:] = [other for other in outlets if not _same(other, asset)]
        return
    if outlet is not None:
        context["outlet_events"][outlet].extra = extra
    if as_key and partition is not None:
        outlet = must_take_keys(asset, outlets)
        context["outlet_events"][outlet].add_partitions(partition)
    elif outlet is None:
        outlets.append(PUBLISHED)
        context["outlet_events"][PUBLISHED].add(asset, extra=extra)


def must_take_keys(asset: Asset, outlets: Iterable[object]) -> Asset:
    """The outlet whose event can have a partition key: to be asked before a publish, since no event follows a later one.

    Raises:
        InvalidArgumentError: Airflow has no partition keys (before 3.2), or the asset is no declared outlet.
    """
    from airflow.sdk.execution_time.context import OutletEventAccessor  # of no use to a parse

    outlet = declared(asset, outlets)
    if outlet is None:
        raise InvalidArgumentError(
            f"only the event of a declared outlet can have a partition key, and {asset.uri} is none",
            hint=f"Give the task outlets=[dataset_asset({asset.uri.removeprefix('dataset://')!r})].",
        )
    if not hasattr(OutletEventAccessor, "add_partitions"):
        raise InvalidArgumentError("asset events have no partition keys in this Airflow", hint="Use 3.2 or newer.")
    return outlet


def declared(asset: Asset, outlets: Iterable[object]) -> Asset | None:
    """The outlet of a task that is this asset, whatever watchers and extra it was given; None where there is none."""
    return next((outlet for outlet in outlets if isinstance(outlet, Asset) and outlet.uri == asset.uri), None)


def triggering_versions(context: Context) -> dict[str, list[str]]:
    """Which versions a run was triggered for: ids by `project/name`, oldest first, each once.

    Airflow may start one run for several events, and emit one event more than once: a consumer that wants each version
    walks the list. Empty where the run was not triggered by datasets.
    """
    found: dict[str, list[str]] = {}
    for asset, events in (context.get("triggering_asset_events") or {}).items():
        if not isinstance(asset, Asset) or not asset.uri.startswith("dataset://"):
            continue  # an alias: its events are listed under their assets too
        dataset = asset.uri.removeprefix("dataset://")
        for event in sorted(events, key=lambda one: one.timestamp):
            extra = event.extra or {}
            version_id = extra.get("version_id") or (extra.get("payload") or {}).get("version_id")
            if isinstance(version_id, str) and version_id not in found.get(dataset, ()):
                found.setdefault(dataset, []).append(version_id)
    return found


def _same(outlet: object, asset: Asset) -> bool:
    return isinstance(outlet, Asset) and outlet.uri == asset.uri
