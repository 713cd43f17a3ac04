"""Events of Prefect that say what became of a version, so that automations can act on it.

Their resource is the dataset (`dataset://project/name`), their payload says which version. An event may come twice when a
task is tried again; its id, made from version and event, is the same then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

from prefect.events import emit_event

from dataset_tasks.model import Version, asset_uri
from dataset_tasks.ops.requests import BuildResult, FinalizeResult, PublishResult, Result

if TYPE_CHECKING:
    from dataset_tasks.session import Session

FINALIZED: Final = "dataset-tasks.version.finalized"
PUBLISHED: Final = "dataset-tasks.version.published"


def tell(session: Session, *results: Result | None) -> None:
    """Emits what operations brought about: a version that is final now, one that is published now."""
    for result in results:
        if result is None or result.unchanged:
            continue
        if isinstance(result, FinalizeResult | BuildResult):
            _emit(FINALIZED, session.catalog.version(result.version_id), None)
        elif isinstance(result, PublishResult):
            _emit(PUBLISHED, session.catalog.version(result.version_id), result.alias)


def _emit(event: str, version: Version, alias: str | None) -> None:
    """Emits one event; it is sent in the background, so Prefect's API can't take the work down."""
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": asset_uri(version.project, version.name),
            "prefect.resource.name": version.dataset,
            "dataset-tasks.project": version.project,
            "dataset-tasks.name": version.name,
            "dataset-tasks.partition": version.partition or "",
            "dataset-tasks.alias": alias or "",
        },
        payload={
            "version_id": version.id,
            "version": version.version,
            "alias": alias,
            "content_hash": version.content_hash,
            "files": version.files,
            "bytes": version.bytes,
            "catalog_id": version.catalog_id,
        },
        id=uuid5(NAMESPACE_URL, f"{event}/{version.catalog_id}/{version.id}/{alias or ''}"),
    )
