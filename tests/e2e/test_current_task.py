"""`use_current_task`: the version belongs to the running task, and a retry of it gets the same one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.session import open_session

PREFECT = """
import json, sys
from prefect import flow, task
from prefect.testing.utilities import prefect_test_harness
from dataset_tasks import Dataset
seen = []
@task(retries=1)
def make(name):
    made = [Dataset.create(name, "p", use_current_task=True).id for _ in range(2)]
    seen.append(made)
    if len(seen) == 1: raise RuntimeError("once")
    return made
@flow
def both():
    make("a")
    make("b")
with prefect_test_harness(server_startup_timeout=120):
    both()
print(json.dumps(seen))
"""

AIRFLOW = """
from datetime import timedelta
from pathlib import Path
from airflow.sdk import DAG, task
from dataset_tasks import Dataset
with DAG("current") as dag:
    @task(retries=1, retry_delay=timedelta(0))
    def make():
        made = [Dataset.create("a", "p", use_current_task=True).id for _ in range(2)]
        with open(Path(__file__).with_name("seen.txt"), "a") as seen: print(*made, file=seen)
        if len(Path(__file__).with_name("seen.txt").read_text().splitlines()) == 1: raise RuntimeError("once")
    make()
"""


def environment(home: Path) -> dict[str, str]:
    return os.environ | {
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "PREFECT_HOME": str(home / "prefect"),
    }


def test_outside_of_a_run_it_is_an_error_with_a_hint() -> None:
    with pytest.raises(InvalidArgumentError, match="no Airflow task and no Prefect task") as raised:
        Dataset.create("a", "p", use_current_task=True)
    assert raised.value.hint


@pytest.mark.skipif(importlib.util.find_spec("prefect") is None, reason="pip install dataset-tasks[prefect]")
def test_a_prefect_task_and_its_retry_get_one_version(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREFECT], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, retried, other = json.loads(done.stdout.splitlines()[-1])
    assert set(first) == set(retried) == {first[0]}
    assert set(other).isdisjoint(first)


@pytest.mark.skipif(importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]")
def test_an_airflow_task_and_its_retry_get_one_version(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "current.py").write_text(AIRFLOW)
    script = Path(__file__).with_name("run_dag_test.py")
    done = subprocess.run(
        [sys.executable, str(script), str(dags), "current"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    tries = [line.split() for line in (dags / "seen.txt").read_text().splitlines()]
    assert len(tries) == 2
    assert {each for one in tries for each in one} == {tries[0][0]}
    with open_session(home=tmp_path / "dataset_tasks") as session:
        assert len(session.catalog.versions()) == 1
