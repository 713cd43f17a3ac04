"""The core in an environment without Airflow and Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest


def test_neither_orchestrator_is_there() -> None:
    assert find_spec("airflow") is None
    assert find_spec("prefect") is None


def test_every_module_of_the_core_imports(import_all: Callable[[str], list[str]]) -> None:
    assert import_all("dataset_tasks") == []


def test_each_plug_in_says_what_is_missing() -> None:
    for package, extra in (("airflow_provider.dags", "airflow"), ("prefect_blocks.flows", "prefect")):
        with pytest.raises(ModuleNotFoundError) as raised:
            __import__(package)
        assert (raised.value.name or "").split(".")[0] == extra


def test_the_flights_spec_runs_and_then_has_nothing_to_do(flights_spec: Path) -> None:
    assert subprocess.run(_command("run", str(flights_spec)), check=False).returncode == 0
    assert subprocess.run(_command("run", str(flights_spec)), check=False).returncode == 3
    listed = subprocess.run(_command("list", "--json"), capture_output=True, text=True, check=True)
    assert [dataset["versions"] for dataset in json.loads(listed.stdout)["datasets"]] == [1] * 6


def _command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("dataset-tasks")), *arguments]
