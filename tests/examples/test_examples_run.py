"""The examples run to their end, twice where that shows something, over a thousandth of the data.

The DAGs are run by `tests/e2e/test_airflow_examples.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tasks.model import State, Version
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.run import run_plan

MONTHS = 12


def _versions(home: Path) -> dict[str, list[Version]]:
    """The final versions of each dataset, in the order they were made."""
    made: dict[str, list[Version]] = {}
    with open_session(home=home) as session:
        for version in session.catalog.versions():
            if version.state.is_final:
                made.setdefault(version.dataset, []).append(version)
    return made


def _python(*arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_spec_makes_six_datasets_and_then_nothing(flights_spec: Path, home: Path) -> None:
    with open_session(home=home) as session:
        first = run_plan(compile_spec(flights_spec), session)
        second = run_plan(compile_spec(flights_spec), session)
    made = _versions(home)
    assert first.ok
    assert first.changed
    assert second.ok
    assert not second.changed
    names = ("raw", "weather", "by_month", "delays", "training", "training_flat")
    assert {name: [version.version for version in versions] for name, versions in made.items()} == {
        f"nyc/{name}": ["1.0.0"] for name in names
    }
    assert made["nyc/training"][0].content_hash == made["nyc/training_flat"][0].content_hash
    assert made["nyc/training"][0].files == MONTHS + 4


def test_the_parameter_of_the_spec_reaches_the_transform(flights_spec: Path, home: Path) -> None:
    with open_session(home=home) as session:
        run_plan(compile_spec(flights_spec), session)
        run_plan(compile_spec(flights_spec), session, params={"late": 60})
    again = {name for name, versions in _versions(home).items() if len(versions) > 1}
    assert again == {"nyc/delays", "nyc/training", "nyc/training_flat"}


def test_the_script_versions_only_what_changed(flights_source: Path, home: Path) -> None:
    for _ in range(2):
        _python("-m", "example_flows.script", str(flights_source))
    raw, again = _versions(home)["nyc/script/raw"]
    assert again.parents == (raw.id,)
    assert again.content_hash == raw.content_hash
    assert _versions(home)["nyc/script/by_month"][-1].state is State.PUBLISHED


@pytest.mark.prefect
@pytest.mark.slow
def test_the_flows_by_hand_run(flights_source: Path, home: Path, tmp_path: Path) -> None:
    code = (
        "from prefect.testing.utilities import prefect_test_harness\n"
        "from example_flows.prefect.flights_dataset_task import flights_dataset_task\n"
        "from example_flows.prefect.flights_dataset_version import flights_dataset_version\n"
        "from example_flows.prefect.flights_tasks import flights_tasks\n"
        "with prefect_test_harness(server_startup_timeout=120):\n"
        f"    flights_tasks(source={str(flights_source)!r})\n"
        f"    flights_dataset_task(source={str(flights_source)!r})\n"
        f"    flights_dataset_version(source={str(flights_source)!r})\n"
        f"    again = flights_dataset_task(source={str(flights_source)!r})\n"
        "assert again['unchanged'], again\n"
    )
    _python("-c", code, DATASET_TASKS_CATALOG="embedded", PREFECT_HOME=str(tmp_path / "prefect"))
    made = _versions(home)
    for project in ("nyc/tasks", "nyc/dataset_task", "nyc/dataset_version"):
        assert made[f"{project}/by_month"][0].files == MONTHS
        assert [read.name for read in made[f"{project}/by_month"][0].inputs] == ["raw"]
    assert made["nyc/dataset_task/delays"][0].state is State.PUBLISHED
    assert made["nyc/dataset_version/by_month"][0].state is State.PUBLISHED
