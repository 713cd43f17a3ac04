"""`DatasetCatalog`: the block that says where versions are kept.

Prefect loads this module in every process that looks up a block, so it imports nothing heavy.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, model_validator

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.settings import CATALOG_KIND, CATALOG_URL, Settings, check_one_catalog, is_embedded
from prefect_blocks.stores import StoreBlock

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: How a catalog is named in Prefect, for the error that none is.
HOW = "`catalog_url` of a DatasetCatalog block, or `embedded` of it"

_sessions: dict[Settings, Session] = {}
_lock = threading.Lock()


class DatasetCatalog(Block):
    """The catalog, store and cache that dataset tasks work on.

    Either `catalog_url` is given, or `embedded` says that an SQLite catalog in `home` is meant, which suits one machine
    only: a catalog of its own on each worker would split versions in silence, so none is made unasked.

    Args:
        catalog_url: Database of the catalog; kept as a secret.
        store_url: Folder or object-store URL that takes bytes; default below `home`.
        store: An `S3Store`, `AzureStore` or `GcsStore`, in place of `store_url`.
        cache_dir: Folder on the worker for verified copies; default below `home`.
        home: Folder of the embedded catalog, store and cache; default `DATASET_TASKS_HOME`, else `~/.dataset_tasks`.
        embedded: Whether the catalog is the SQLite file in `home`.
        concurrency_limit: A global concurrency limit of Prefect that uploads and copies take a slot of; the store's own
            comes first.

    Raises:
        InvalidArgumentError: Both of `catalog_url` and `embedded` are given, or neither; or both of `store_url` and
            `store` (as pydantic's error).

    Example::

        DatasetCatalog(catalog_url="postgresql+psycopg://db.example.org/datasets", store_url="s3://lake/data").save("lake")
        catalog = DatasetCatalog.load("lake")
        versions = catalog.session().catalog.versions(project="crm")
    """

    _block_type_name = "Dataset Catalog"
    _block_type_slug = "dataset-catalog"
    _description = "The catalog, store and cache of versioned datasets."

    catalog_url: SecretStr | None = Field(
        default=None,
        title="Catalog URL",
        description="Database of the catalog, such as postgresql+psycopg://user@db.example.org/datasets.",
    )
    store_url: str | None = Field(
        default=None, title="Store URL", description="Where bytes are kept: a folder, s3://, gs:// or azure://."
    )
    store: StoreBlock | None = Field(default=None, title="Store", description="A block of an object store.")
    cache_dir: str | None = Field(
        default=None, title="Cache folder", description="Folder on the worker for verified copies of versions."
    )
    home: str | None = Field(
        default=None, title="Home folder", description="Folder of the embedded catalog, store and cache."
    )
    embedded: bool = Field(
        default=False,
        title="Embedded catalog",
        description="Use an SQLite catalog in the home folder. For one machine, or a folder that all workers share.",
    )

    concurrency_limit: str | None = Field(
        default=None,
        title="Concurrency limit",
        description="A global concurrency limit of Prefect: uploads and copies take one of its slots.",
    )

    @model_validator(mode="after")
    def _one_catalog(self) -> Self:
        check_one_catalog(given=self.catalog_url is not None, embedded=self.embedded, how=HOW)
        if self.store is not None and self.store_url is not None:
            raise InvalidArgumentError(
                "a store URL is given, and the block of a store too", hint="Leave out one of the two."
            )
        return self

    @classmethod
    def from_environment(cls) -> Self:
        """The catalog that `DATASET_TASKS_CATALOG_URL`, or `DATASET_TASKS_CATALOG=embedded`, names.

        Raises:
            InvalidArgumentError: Neither does, or both do.
        """
        url = os.environ.get(CATALOG_URL)
        embedded = is_embedded(os.environ.get(CATALOG_KIND), CATALOG_KIND)
        check_one_catalog(given=bool(url), embedded=embedded, how=HOW)
        return cls(catalog_url=SecretStr(url) if url else None, embedded=embedded)

    def settings(self) -> Settings:
        """The four places. Store, cache and home that the block leaves open are the worker's (`DATASET_TASKS_*`)."""
        url = self.catalog_url.get_secret_value() if self.catalog_url is not None else None
        environ = {name: value for name, value in os.environ.items() if name != CATALOG_URL}
        store_url = self.store.url() if self.store is not None else self.store_url
        return Settings.from_env(
            home=self.home, catalog_url=url, store_url=store_url, cache_dir=self.cache_dir, environ=environ
        )

    def limit(self) -> str | None:
        """The concurrency limit of the store, else of the catalog."""
        of_store = self.store.concurrency_limit if self.store is not None else None
        return of_store or self.concurrency_limit

    def session(self) -> Session:
        """The session of this process on the catalog: opened once, shared by all threads.

        Raises:
            CatalogError: The catalog can't be used, once it is.
        """
        from dataset_tasks.session import Session  # loads SQLAlchemy

        settings = self.settings()
        with _lock:
            if settings not in _sessions:
                _sessions[settings] = Session(settings)
            return _sessions[settings]
