"""The example DAGs: they load, serialize, and run with `dag.test()` on a small part of the flights."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import State
from dataset_tasks.session import open_session

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_flows" / "airflow"


def test_every_example_loads_and_serializes() -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(str(EXAMPLES))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [
        "flights", "flights_on_publish", "flights_operators", "flights_taskflow", "flights_when_tagged",
    ]  # fmt: skip
    for dag in bag.dags.values():
        again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
        assert sorted(again.task_ids) == sorted(dag.task_ids)


def run(dags: Path, home: Path, *runs: str) -> list[dict[str, Any]]:
    environment = os.environ | {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
    }
    command = [sys.executable, str(Path(__file__).with_name("run_dag_test.py")), str(dags), *runs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_examples_make_the_same_months(flights_spec: Path, tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    shutil.copytree(EXAMPLES, dags, ignore=shutil.ignore_patterns("__pycache__", "flights_spec.py"))
    (dags / "flights_spec.py").write_text(
        f"from airflow_provider.dags import dag_from_spec\nflights = dag_from_spec({str(flights_spec)!r})\n"
    )
    source = json.dumps({"source": str(tmp_path / "data" / "nycflights13")})
    names = [
        "flights",
        f"flights_operators={source}",
        f"flights_taskflow={source}",
        "flights",
        f"flights_taskflow={source}",
        "flights_when_tagged",
    ]
    runs = run(dags, tmp_path, *names)
    assert [one["state"] for one in runs] == ["success"] * 6
    assert set(runs[0]["tasks"].values()) == {"success"}
    assert set(runs[3]["tasks"].values()) == {"skipped"}
    assert set(runs[4]["tasks"].values()) == {"success"}
    with open_session(home=tmp_path / "dataset_tasks") as session:
        months = [
            session.catalog.resolve(f"{project}/by_month@latest")
            for project in ("nyc", "nyc/operators", "nyc/taskflow")
        ]
        assert len({version.content_hash for version in months}) == 1
        assert [len(session.catalog.versions(project=p, name="by_month")) for p in ("nyc", "nyc/taskflow")] == [1, 1]
        assert session.catalog.resolve("nyc/taskflow/delays@prod").state is State.PUBLISHED
        assert [v.label for v in session.catalog.versions() if v.state is State.IN_PROGRESS] == []


def test_the_dag_that_the_docs_begin_with_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "airflow.md").read_text(encoding="utf-8")
    first = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "crm_dag.py").write_text(f"# airflow\n{first}")
    runs = run(dags, tmp_path, "crm", "crm")
    assert [(one["state"], set(one["tasks"].values())) for one in runs] == [("success", {"success"})] * 2
    with open_session(home=tmp_path / "dataset_tasks") as session:
        (features,) = session.catalog.versions(project="crm", name="features")
        assert features.metadata == {"rows": 1}
        assert session.catalog.aliases("crm", "features") == {"prod": features.id}
