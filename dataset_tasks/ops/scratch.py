"""Folders that transforms write into: one a draft, below the cache, until its bytes are uploaded or it is dropped."""

from __future__ import annotations

import shutil
from pathlib import Path

from dataset_tasks.model import Version
from dataset_tasks.session import Session


def folder(session: Session, version: Version) -> Path:
    """Where the scratch folders of a draft are; the same on every try."""
    return session.settings.cache_dir / "scratch" / version.catalog_id / version.id


def fresh(session: Session, version: Version, name: str) -> Path:
    """An empty folder of that name for a draft; what an earlier try left in it is gone."""
    place = folder(session, version) / name
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True, mode=0o700)
    return place


def clear(session: Session, version: Version) -> None:
    """Removes the scratch folders of a draft."""
    shutil.rmtree(folder(session, version), ignore_errors=True)
