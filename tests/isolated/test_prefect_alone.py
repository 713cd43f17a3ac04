"""The Prefect collection in an environment without Airflow."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from dataset_tasks.model import State
from dataset_tasks.session import open_session


def test_airflow_is_not_there() -> None:
    assert find_spec("airflow") is None


def test_every_module_of_core_and_collection_imports(import_all: Callable[[str], list[str]]) -> None:
    assert import_all("dataset_tasks") == []
    assert import_all("prefect_blocks") == []


def test_prefect_knows_the_catalog_block() -> None:
    from prefect.plugins import load_prefect_collections

    assert "dataset_tasks" in load_prefect_collections()


def test_the_flights_spec_runs_as_a_flow(flights_spec: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from prefect_blocks import flow_from_spec

    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    with prefect_test_harness(server_startup_timeout=120):
        made = flow_from_spec(flights_spec)()
    assert set(made) == {"raw", "weather", "by_month", "delays", "training", "training_flat"}
    with open_session(home=home) as session:
        assert session.catalog.resolve("nyc/training@prod").state is State.PUBLISHED
