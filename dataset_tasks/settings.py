"""Where the catalog, the store and the cache are: from arguments, else the environment, else the home folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME = "DATASET_TASKS_HOME"
CATALOG_URL = "DATASET_TASKS_CATALOG_URL"
STORE_URL = "DATASET_TASKS_STORE_URL"
CACHE_DIR = "DATASET_TASKS_CACHE_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The four places. `catalog_url` is an SQLAlchemy URL, `store_url` a folder or an object-store URL.

    `embedded` tells that the catalog is the home folder's own, made there when it is missing.
    """

    home: Path
    catalog_url: str
    store_url: str
    cache_dir: Path
    embedded: bool

    @classmethod
    def from_env(
        cls,
        *,
        home: str | Path | None = None,
        catalog_url: str | None = None,
        store_url: str | None = None,
        cache_dir: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings with each place taken from its argument, else its variable, else below the home folder."""
        env = os.environ if environ is None else environ
        base = Path(home or env.get(HOME) or Path.home() / ".dataset_tasks").expanduser().absolute()
        given = catalog_url or env.get(CATALOG_URL)
        return cls(
            home=base,
            catalog_url=given or f"sqlite:///{base / 'catalog.db'}",
            store_url=str(store_url or env.get(STORE_URL) or base / "store"),
            cache_dir=Path(cache_dir or env.get(CACHE_DIR) or base / "cache").expanduser().absolute(),
            embedded=given is None,
        )
