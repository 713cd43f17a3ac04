"""Folders that transforms write into: one a draft, below the cache, until its bytes are uploaded or it is dropped."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from dataset_tasks.model import Version
from dataset_tasks.session import Session


def folder(session: Session, version: Version) -> Path:
    """Where the scratch folders of a draft are."""
    return session.settings.cache_dir / "scratch" / version.catalog_id / version.id


def fresh(session: Session, version: Version, name: str) -> Path:
    """An empty folder for a draft, whose name begins so; those of earlier tries are gone.

    Each try has one of its own: what was taken for dead, and still writes, does not write into that of its retry.
    """
    place = folder(session, version)
    for left in place.glob(f"{name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    made = place / f"{name}.{secrets.token_hex(8)}"
    made.mkdir(parents=True, mode=0o700)
    return made


def clear(session: Session, version: Version) -> None:
    """Removes the scratch folders of a draft."""
    shutil.rmtree(folder(session, version), ignore_errors=True)
