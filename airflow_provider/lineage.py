"""What OpenLineage is told of a task: which versions it read and made. Called only where its provider is installed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from dataset_tasks.errors import NotFoundError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import DatasetFacet, RunFacet

    from dataset_tasks.catalog.queries import Queries
    from dataset_tasks.model import Version
    from dataset_tasks.ops.requests import Result

_SCHEMA = "https://dataset-tasks.readthedocs.io/en/latest/airflow.html#openlineage"


def describe(catalog: Queries, verb: str, result: Result) -> OperatorLineage[Dataset, RunFacet]:
    """What a task did: the versions read with their version facets, and the one made, where there is news of it.

    Args:
        catalog: Where the versions are looked up.
        verb: The operation.
        result: What it gave.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    version = catalog.version(result.version_id)
    sources = [source.ref for source in version.inputs] + list(version.parents)
    inputs = [one for ref in dict.fromkeys(sources) if (one := _read(catalog, ref)) is not None]
    outputs: list[Dataset] = []
    if verb in ("get", "verify"):
        inputs = [_input(version)]
    elif not result.unchanged:
        outputs = [_output(version)]
    facet = _facet_class()(
        operation=verb,
        catalogId=version.catalog_id,
        versionId=version.id,
        version=version.version,
        state=str(version.state),
        contentHash=version.content_hash,
        unchanged=result.unchanged,
    )  # type: ignore[call-arg]  # the fields of the class below
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets={"datasetTasks": facet})


@cache
def _facet_class() -> type[RunFacet]:
    """The facet for what OpenLineage has no word for: the catalog, the exact version, and whether anything was new."""
    import attr
    from openlineage.client.facet_v2 import RunFacet

    @attr.define
    class DatasetTasksRunFacet(RunFacet):
        operation: str
        catalogId: str  # noqa: N815  # as facets are written
        versionId: str  # noqa: N815
        version: str
        state: str
        contentHash: str  # noqa: N815
        unchanged: bool

        @staticmethod
        def _get_schema() -> str:
            return _SCHEMA

    return DatasetTasksRunFacet


def _read(catalog: Queries, ref: str) -> Dataset | None:
    try:
        return _input(catalog.resolve(ref))
    except NotFoundError:
        return None


def _input(version: Version) -> Dataset:
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(namespace=f"dataset://{version.project}", name=version.name, facets=_version_facet(version))


def _output(version: Version) -> Dataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    facet = statistics.OutputStatisticsOutputDatasetFacet(size=version.bytes, fileCount=version.files)
    return OutputDataset(
        namespace=f"dataset://{version.project}",
        name=version.name,
        outputFacets={"outputStatistics": facet},
        facets=_version_facet(version),
    )


def _version_facet(version: Version) -> dict[str, DatasetFacet]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version.version)}
