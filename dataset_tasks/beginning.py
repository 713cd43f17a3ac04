"""Whether a catalog may be begun: not where the file of one was lost, and its data still lie in the store."""

from __future__ import annotations

import time
from pathlib import Path

from dataset_tasks.catalog.engine import file_of
from dataset_tasks.errors import CatalogError
from dataset_tasks.settings import Settings
from dataset_tasks.store import is_url

#: An empty file this old (seconds) is not one that another process is just making a catalog of.
_YOUNG = 60.0


def refuse_to_begin_again(settings: Settings) -> None:
    """Refuses to make an SQLite catalog in place of one that was lost: what it knew would be out of sight in silence.

    That is where the file is there and empty, and where the home folder has none but its own store holds the objects of
    a catalog. A store elsewhere may well belong to others.

    Raises:
        CatalogError: Of kind `lost_catalog`; the hint says how to bring it back.
    """
    file = file_of(settings.catalog_url)
    if file is None or _size(file):
        return
    was_there = _size(file) == 0
    store = None if is_url(settings.store_url) else Path(settings.store_url)
    is_own = settings.embedded and store is not None and store.is_relative_to(settings.home)
    owners = _owners(store) if store is not None and (was_there or is_own) else []
    if _size(file):  # looked at after the store: nothing is written there before the file has its first page
        return
    if was_there and (owners or _age(file) > _YOUNG):
        what = f"the catalog {file} is empty: the file was cut off"
    elif owners:
        what = f"there is no catalog at {file}"
    else:
        return
    held = f", and the store {store} holds what {', '.join(owners)} wrote" if owners else ""
    raise CatalogError(
        what + held,
        kind="lost_catalog",
        hint="Bring it back with `dataset-tasks catalog rebuild`, or put a copy of the file there; to begin anew, move the "
        f"{'store' if owners else 'empty file'} away.",
    )


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def _age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _owners(store: Path) -> list[str]:
    """Ids of the catalogs that own a part of a store."""
    return sorted(place.parent.name for place in store.glob("*/owner.json"))
