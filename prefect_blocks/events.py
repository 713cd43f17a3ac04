"""Events of Prefect that say what became of a version, so that automations can act on it.

Their resource is the dataset (`dataset://project/name`), their payload says which version. An event may come twice when a
task is tried again; its id, made from version and event, is the same then. A run that was killed after the catalog took a
version, and before Prefect took its event, leaves that to the next run, which finds the version unchanged.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from dataset_tasks.model import Version, asset_uri
from dataset_tasks.ops.requests import BuildResult, FinalizeResult, PublishResult, Result

if TYPE_CHECKING:
    from dataset_tasks.session import Session

FINALIZED: Final = "dataset-tasks.version.finalized"
PUBLISHED: Final = "dataset-tasks.version.published"
#: For how long a version's events are looked up and made up for. A server forgets old ones, by default after a week.
RECENT: Final = timedelta(days=1)

_log = get_logger("dataset_tasks")


def tell(session: Session, *results: Result | None) -> None:
    """Emits what operations brought about: a version that is final now, one that is published now."""
    for result in results:
        if result is None or result.unchanged:
            continue
        if isinstance(result, FinalizeResult | BuildResult):
            _emit(FINALIZED, session.catalog.version(result.version_id), None)
        elif isinstance(result, PublishResult):
            _emit(PUBLISHED, session.catalog.version(result.version_id), result.alias)


def make_up(session: Session, *results: Result | None) -> None:
    """Emits what an earlier run brought about and was killed before it told: of operations that found it done.

    An event that is under way is not known yet, and sent twice; its id keeps automations from acting on it twice.
    """
    for result in results:
        if result is None or not result.unchanged:
            continue
        if not isinstance(result, FinalizeResult | BuildResult | PublishResult):
            continue
        version = session.catalog.version(result.version_id)
        is_publish = isinstance(result, PublishResult)
        at = version.published if is_publish else version.finalized
        if at is None or session.clock() - at > RECENT or version.origin.get("runner") != "prefect":
            continue
        event, alias = (PUBLISHED, result.alias) if isinstance(result, PublishResult) else (FINALIZED, None)
        told_as: set[str | None] = {alias}
        if is_publish and alias is None:  # it may have been published under an alias
            aliases = session.catalog.aliases(version.project, version.name)
            told_as |= {name for name, version_id in aliases.items() if version_id == version.id}
        if not _knows_one([_id(event, version, name) for name in told_as]):
            _emit(event, version, alias)


def _knows_one(ids: Collection[UUID]) -> bool:
    """Whether Prefect has one of these events; also where it does not say, as it would take none then."""
    body = {"filter": {"id": {"id": [str(one) for one in ids]}}, "limit": 1}
    try:
        with get_client(sync_client=True) as client:  # the run's own: to make one costs more than to ask
            answer = client.request("POST", "/events/filter", json=body)
            return bool(answer.raise_for_status().json()["events"])
    except (httpx.HTTPError, PrefectException) as error:
        _log.warning("events of an earlier run could not be looked up: %s", error)
        return True


def _id(event: str, version: Version, alias: str | None) -> UUID:
    return uuid5(NAMESPACE_URL, f"{event}/{version.catalog_id}/{version.id}/{alias or ''}")


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
        id=_id(event, version, alias),
    )
