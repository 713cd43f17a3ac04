"""What OpenLineage is told of a task: which versions it read and made. Loaded only where that provider is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import RunFacet, dataset_version_dataset, output_statistics_output_dataset

from dataset_tasks.errors import NotFoundError

if TYPE_CHECKING:
    from dataset_tasks.catalog.queries import Queries
    from dataset_tasks.model import Version
    from dataset_tasks.ops.requests import Result


@attr.define
class DatasetTasksRunFacet(RunFacet):
    """What OpenLineage has no word for: the catalog, the exact version, and whether anything was new."""

    operation: str
    catalogId: str  # noqa: N815  # as facets are written
    versionId: str  # noqa: N815
    version: str
    state: str
    contentHash: str  # noqa: N815
    unchanged: bool

    @staticmethod
    def _get_schema() -> str:
        return "https://dataset-tasks.readthedocs.io/en/latest/airflow.html#openlineage"


def describe(catalog: Queries, verb: str, result: Result) -> OperatorLineage[Dataset, RunFacet]:
    """What a task did: the versions read with their version facets, and the one made, where there is news of it.

    Args:
        catalog: Where the versions are looked up.
        verb: The operation.
        result: What it gave.
    """
    version = catalog.version(result.version_id)
    sources = [source.ref for source in version.inputs] + list(version.parents)
    inputs = [one for ref in dict.fromkeys(sources) if (one := _read(catalog, ref)) is not None]
    outputs: list[Dataset] = []
    if verb in ("get", "verify"):
        inputs = [_input(version)]
    elif not result.unchanged:
        outputs = [_output(version)]
    facet = DatasetTasksRunFacet(
        operation=verb,
        catalogId=version.catalog_id,
        versionId=version.id,
        version=version.version,
        state=str(version.state),
        contentHash=version.content_hash,
        unchanged=result.unchanged,
    )
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets={"datasetTasks": facet})


def _read(catalog: Queries, ref: str) -> Dataset | None:
    try:
        return _input(catalog.resolve(ref))
    except NotFoundError:
        return None


def _input(version: Version) -> Dataset:
    return InputDataset(
        namespace=f"dataset://{version.project}",
        name=version.name,
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version.version)},
    )


def _output(version: Version) -> Dataset:
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=version.bytes, fileCount=version.files
    )
    return OutputDataset(
        namespace=f"dataset://{version.project}",
        name=version.name,
        outputFacets={"outputStatistics": statistics},
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version.version)},
    )
