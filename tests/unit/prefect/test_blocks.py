"""The catalog block, and what it costs to load it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.utilities.dispatch import get_registry_for_type
from pydantic import SecretStr, ValidationError

from dataset_tasks.errors import InvalidArgumentError
from prefect_blocks.blocks import DatasetCatalog

URL = "postgresql+psycopg://ana:hunter2@db.example.org/datasets"


def test_a_catalog_that_nobody_named_is_not_made(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("DATASET_TASKS_CATALOG_URL", raising=False)
    monkeypatch.delenv("DATASET_TASKS_CATALOG", raising=False)
    with pytest.raises(InvalidArgumentError, match="split versions in silence") as caught:
        DatasetCatalog.from_environment()
    assert "DATASET_TASKS_CATALOG=embedded" in caught.value.hint
    with pytest.raises(ValidationError, match="split versions in silence"):
        DatasetCatalog()
    assert not home.exists()


def test_two_catalogs_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="Leave out one"):
        DatasetCatalog(catalog_url=SecretStr(URL), embedded=True)
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", URL)
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    with pytest.raises(InvalidArgumentError, match="embedded catalog is asked for too"):
        DatasetCatalog.from_environment()


def test_a_kind_of_catalog_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embeded")
    with pytest.raises(InvalidArgumentError, match="'embeded', expected 'server' or 'embedded'"):
        DatasetCatalog.from_environment()


def test_the_environment_names_the_catalog_where_no_block_does(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    embedded = DatasetCatalog.from_environment().settings()
    assert (embedded.catalog_url, embedded.store_url) == (f"sqlite:///{home / 'catalog.db'}", str(home / "store"))
    monkeypatch.delenv("DATASET_TASKS_CATALOG")
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", URL)
    monkeypatch.setenv("DATASET_TASKS_STORE_URL", "s3://lake/data")
    shared = DatasetCatalog.from_environment().settings()
    assert (shared.catalog_url, shared.store_url) == (URL, "s3://lake/data")


def test_an_embedded_block_stays_embedded_on_a_worker_whose_environment_names_another_catalog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", URL)
    settings = DatasetCatalog(embedded=True, home=str(tmp_path)).settings()
    assert settings.catalog_url == f"sqlite:///{tmp_path / 'catalog.db'}"


def test_the_catalog_url_shows_nowhere() -> None:
    block = DatasetCatalog(catalog_url=SecretStr(URL))
    assert "hunter2" not in repr(block)
    assert "hunter2" not in block.model_dump_json()


def test_blocks_on_one_place_share_a_session_of_the_process(tmp_path: Path) -> None:
    first = DatasetCatalog(embedded=True, home=str(tmp_path)).session()
    assert DatasetCatalog(embedded=True, home=str(tmp_path)).session() is first
    assert DatasetCatalog(embedded=True, home=str(tmp_path / "other")).session() is not first


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has after running the code."""
    script = f"{code}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_prefect_nor_the_core() -> None:
    assert not loaded_by("import prefect_blocks") & {"prefect", "pydantic", "dataset_tasks.session", "sqlalchemy"}


def test_what_prefect_loads_in_every_process_loads_nothing_heavy() -> None:
    (found,) = (one for one in entry_points(group="prefect.collections") if one.name == "dataset_tasks")
    before = loaded_by("import prefect.main, prefect.blocks.core")
    more = loaded_by(f"import prefect.main, prefect.blocks.core; import {found.value}") - before
    assert "prefect_blocks.blocks" in more, f"the entry point is {found.value}"
    heavy = (
        "sqlalchemy",
        "pyarrow",
        "pandas",
        "boto3",
        "dataset_tasks.session",
        "dataset_tasks.ops",
        "prefect_blocks.tasks",
    )
    assert not {name for name in more if name.startswith(heavy)}


def test_prefect_is_offered_the_blocks_that_the_page_names_and_no_other() -> None:
    registered = get_registry_for_type(Block) or {}
    ours = {kind.__name__ for kind in registered.values() if kind.__module__.startswith("prefect_blocks")}
    stores = {f"{cloud}{what}" for cloud in ("S3", "Azure", "Gcs") for what in ("Store", "Credentials")}
    assert ours == stores | {"DatasetCatalog"}
