"""Copies events from the catalog to the stores, so that a catalog can be rebuilt from what lies beside the bytes."""

from __future__ import annotations

from datetime import datetime, timedelta

from dataset_tasks.catalog.rows import to_micros
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.failpoints import failpoint
from dataset_tasks.objects import Objects

_LEFT = timedelta(seconds=30)


def flush(catalog: Catalog, objects: Objects, *, version_id: str | None = None, now: datetime | None = None) -> None:
    """Writes the journal object of every event that has none: those of this operation, and of one that was killed.

    Args:
        catalog: Whose events.
        objects: Where to.
        version_id: Only those of this version, and what others seem to have left: many writers at once would else all
            write the events of all.
        now: The present moment, for `version_id`.

    Raises:
        StorageError: A store refused or did not answer; the events stay waiting for the next call.
    """
    written = []
    before = now - _LEFT if now is not None else None
    for store_id, event in catalog.unjournaled(version_id, before=before):
        document = {
            "layout": 1,
            "sequence": event.sequence,
            "kind": event.kind,
            "created": to_micros(event.created),
            "version_id": event.version_id,
            "payload": dict(event.payload),
        }
        failpoint("journal.before_write")
        objects.put_journal(store_id, event.sequence, document)
        failpoint("journal.after_write")
        written.append(event.sequence)
    if written:
        catalog.mark_journaled(written)
        failpoint("journal.after_mark")
