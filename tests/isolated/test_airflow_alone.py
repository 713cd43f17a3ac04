"""The Airflow provider in an environment without Prefect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from dataset_tasks.model import State
from dataset_tasks.session import open_session


def _providers_have_commands() -> bool:
    """Whether this Airflow (3.2 and newer) asks providers for commands; from a file, as importing it here would need a home."""
    airflow = find_spec("airflow")
    assert airflow is not None
    return '"cli"' in Path(str(airflow.origin)).with_name("provider_info.schema.json").read_text()


def test_prefect_is_not_there() -> None:
    assert find_spec("prefect") is None


def test_every_module_of_core_and_provider_imports(import_all: Callable[[str], list[str]]) -> None:
    assert import_all("dataset_tasks") == []
    assert import_all("airflow_provider") == []


def test_airflow_lists_the_provider(tmp_path: Path) -> None:
    done = _airflow(tmp_path, "providers", "get", "dataset-tasks")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not _providers_have_commands(), reason="providers have no commands in this Airflow")
def test_airflow_has_the_commands(tmp_path: Path) -> None:
    done = _airflow(tmp_path, "datasets", "--help")
    assert done.returncode == 0, done.stderr
    assert "approve" in done.stdout


def test_airflow_has_the_plugin(tmp_path: Path) -> None:
    done = _airflow(tmp_path, "plugins", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "dataset_tasks" in done.stdout


def test_the_flights_spec_runs_as_a_dag(flights_spec: Path, tmp_path: Path, home: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "flights.py").write_text(
        f"from airflow_provider.dags import dag_from_spec\nflights = dag_from_spec({str(flights_spec)!r})\n"
    )
    for command in (["db", "migrate"], ["dags", "test", "flights"]):
        done = _airflow(tmp_path, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    with open_session(home=home) as session:
        assert session.catalog.resolve("nyc/training@prod").state is State.PUBLISHED


def _airflow(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "DATASET_TASKS_CATALOG": "embedded",
    }
    return subprocess.run(
        [sys.executable, "-m", "airflow", *command], env=env, capture_output=True, text=True, check=False
    )
