"""One Airflow for all tests that ask for it, and what they ask of it.

Tests of one file stay in one process; those that share the Airflow do so across files (`--dist loadgroup`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.session import Session, open_session
from tests.e2e.airflow_runs import HERE, SETTINGS

#: DAGs that are switched on from the beginning, because something else than a test starts them.
LISTENING = (
    "after_report", "consumer", "all_publishes", "by_partition", "watched", "watched_visits", "watched_late",
    "watched_kept", "watched_own",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            shared = "airflow" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("airflow" if shared else str(item.path)))


def bundles(dags: Path, specs: Path) -> str:
    """The setting with the folder of DAG files, and a bundle of specs."""
    folder = {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
              "kwargs": {"path": str(dags)}}  # fmt: skip
    spec = {"name": "specs", "classpath": "airflow_provider.bundles.specs.SpecDagBundle",
            "kwargs": {"specs": str(specs), "tags": ["bundle"]}}  # fmt: skip
    return json.dumps([folder, spec])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow on SQLite, with a triggerer, three users, and OpenLineage that writes to the file `openlineage.json`."""
    from example_flows.demo.airflow_server import AirflowServer

    home = tmp_path_factory.mktemp("airflow")
    for name in ("airflow_dags", "airflow_specs"):
        shutil.copytree(HERE / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    transport = {"type": "file", "log_file_path": str(home / "openlineage.json"), "append": True}
    settings = {
        **SETTINGS,
        "OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles(home / "airflow_dags", home / "airflow_specs"),
    }
    users = {"ada": "admin", "ana": "admin", "vera": "viewer"}
    with AirflowServer(home, home / "airflow_dags", settings=settings, users=users, triggerer=True) as server:
        server.unpause(*LISTENING)
        yield server
        if os.environ.get("SHOW_LOGS"):
            print(server.log_tails(60))


@pytest.fixture(scope="session")
def session(airflow: Any) -> Iterator[Session]:
    """The catalog that the tasks work on."""
    with open_session(home=airflow.env["DATASET_TASKS_HOME"]) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six small files of orders and visits."""
    for kind in ("orders", "visits"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            (tmp_path / kind / f"{kind}{number}.txt").write_text(f"{number} 1")
    return tmp_path
