"""What a version started from: its direct parents' content, merged in memory."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_tasks.manifest import Manifest, merge
from dataset_tasks.model import Version
from dataset_tasks.objects import new_key
from dataset_tasks.session import Session


def inherited(session: Session, parents: Sequence[str]) -> Manifest:
    """The merged content of versions, the last wins; deleted ones count as empty. Nothing is stored.

    Args:
        session: Where they are.
        parents: Ids, in merge order.

    Raises:
        NotFoundError: An id is unknown.
        IntegrityError: A manifest can't be read.
    """
    versions = [session.catalog.version(each) for each in parents]
    return together(session, [version for version in versions if version.state.is_final])


def together(session: Session, versions: Sequence[Version]) -> Manifest:
    """The merged content of final versions."""
    if not versions:
        return Manifest.empty()
    manifests = [session.manifest(version) for version in versions]
    if len(manifests) == 1:
        return manifests[0]
    built = merge(manifests, new_key=lambda: new_key("pack"), store_id=versions[0].store_id)
    return built.manifest(session.objects.read)
