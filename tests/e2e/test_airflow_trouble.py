"""A real Airflow in trouble: whatever happens to a task, each run makes one version and one publish event."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import State, Version
from dataset_tasks.session import Session
from tests.e2e.airflow_runs import content, publishes, run, versions

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)


@pytest.fixture
def noise(folder: Path) -> Path:
    """Files that don't shrink, each a chunk of its own."""
    for number in range(4):
        (folder / "orders" / f"noise{number}.bin").write_bytes(secrets.token_bytes(3000))
    return folder


def only(session: Session, airflow: Any, project: str) -> Version:
    """The one version that there is, published once."""
    (version,) = versions(session, project)["orders"]
    assert version.state is State.PUBLISHED
    assert publishes(session, version) == 1
    assert session.catalog.aliases(project, "orders") == {"prod": version.id}
    (event,) = airflow.asset_events(f"dataset://{project}/orders")
    assert event["extra"]["version_id"] == version.id
    return version


def tries(airflow: Any, dag: str, name: str) -> dict[str, int]:
    return {task["task_id"]: task["try_number"] for task in airflow.tasks(dag, name)}


def test_a_task_that_is_killed_in_mid_upload_goes_on_where_it_was(airflow: Any, session: Session, noise: Path) -> None:
    states = run(airflow, "killed", "first", noise)
    assert set(states.values()) == {"success"}
    assert tries(airflow, "killed", "first")["upload"] == 2
    version = only(session, airflow, "killed")
    assert len(content(session, version)) == 7
    log = "\n".join(
        path.read_text() for path in airflow.home.glob("logs/dag_id=killed/**/task_id=upload/attempt=2.log")
    )
    assert "try 1 came to" in log
    chunks = session.catalog.objects_of(version.id, "chunk")
    stored = airflow.xcom("killed", "first", "upload")
    assert stored["files"] == 7
    assert len(chunks) == stored["chunks"]  # what the first try had stored was taken over

    airflow.clear("killed", "first", "upload", "finalize", "publish")
    assert airflow.wait_for_run("killed", "first")["state"] == "success"
    assert only(session, airflow, "killed") == version


def test_a_task_that_is_told_to_stop_in_mid_upload_ends_at_once_and_its_retry_goes_on(
    airflow: Any, session: Session, noise: Path
) -> None:
    from example_flows.demo.services import wait_for

    airflow.unpause("stopped")
    airflow.trigger("stopped", "first", conf={"folder": str(noise)})
    stuck = noise / "stuck"
    pid = wait_for("the upload to stand still", lambda: int(stuck.read_text()) if stuck.exists() else None, timeout=120)
    (draft,) = versions(session, "stopped")["orders"]
    before = len(session.catalog.objects_of(draft.id, "chunk"))
    os.kill(pid, signal.SIGTERM)
    asked = time.monotonic()
    wait_for("the task to end", lambda: True if _gone(pid) else None, timeout=30)
    print(f"SIGTERM to end: {time.monotonic() - asked:.1f} s, with an upload that hangs")

    assert airflow.wait_for_run("stopped", "first")["state"] == "success"
    assert tries(airflow, "stopped", "first")["upload"] == 2
    version = only(session, airflow, "stopped")
    assert version.id == draft.id  # it was left for the retry
    assert len(content(session, version)) == 7
    assert 0 < before < len(session.catalog.objects_of(version.id, "chunk"))


def test_an_upload_that_hangs_past_its_execution_timeout_ends_and_its_retry_goes_on(
    airflow: Any, session: Session, noise: Path
) -> None:
    assert set(run(airflow, "overdue", "first", noise).values()) == {"success"}
    assert tries(airflow, "overdue", "first")["upload"] == 2
    assert len(content(session, only(session, airflow, "overdue"))) == 7


def test_a_task_that_was_taken_for_dead_changes_nothing_when_it_wakes(
    airflow: Any, session: Session, noise: Path
) -> None:
    from example_flows.demo.services import wait_for

    airflow.unpause("zombie")
    airflow.trigger("zombie", "first", conf={"folder": str(noise)})
    frozen = noise / "frozen"
    pids = wait_for(
        "the task to stand still", lambda: frozen.read_text().split() if frozen.exists() else None, timeout=120
    )
    try:
        assert airflow.wait_for_run("zombie", "first", timeout=240)["state"] == "success"
        version = only(session, airflow, "zombie")
    finally:
        for pid in map(int, pids):
            os.kill(pid, signal.SIGCONT)
    wait_for("the zombie to end", lambda: True if _gone(int(pids[0])) else None, timeout=120)
    assert tries(airflow, "zombie", "first")["upload"] == 2
    assert airflow.run("zombie", "first")["state"] == "success"
    assert only(session, airflow, "zombie") == version
    assert len(content(session, version)) == 7


def test_a_task_that_is_cleared_changes_nothing_for_another_of_its_run_that_is_tried_again(
    airflow: Any, session: Session, noise: Path
) -> None:
    from example_flows.demo.services import wait_for

    airflow.unpause("bystander")
    airflow.trigger("bystander", "first", conf={"folder": str(noise)})
    for task in ("create", "publish"):
        there = noise / f"lost_{task}"
        wait_for(f"{task} to be done", lambda: True if there.exists() else None, timeout=240)  # noqa: B023  # called at once
        wait_for(
            "the other to be done",
            lambda: True if airflow.states("bystander", "first")["other"] == "success" else None,
            timeout=120,
        )
        airflow.clear("bystander", "first", "other")
        there.with_suffix(".turn").touch()
    assert airflow.wait_for_run("bystander", "first")["state"] == "success"
    made = tries(airflow, "bystander", "first")
    assert (made["create"], made["publish"], made["other"]) == (2, 2, 3)
    version = only(session, airflow, "bystander")  # no second draft, and its asset event was not lost

    airflow.clear("bystander", "first", "create", "add", "upload", "finalize", "publish")
    assert airflow.wait_for_run("bystander", "first")["state"] == "success"
    assert len(versions(session, "bystander")["orders"]) == 2  # what was cleared itself begins anew
    assert airflow.xcom("bystander", "first", "create")["version_id"] != version.id


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_draft_is_dropped_when_the_work_between_setup_and_teardown_fails(
    airflow: Any, session: Session, folder: Path
) -> None:
    (folder / "doubt").touch()
    states = run(airflow, "guarded", "failed", folder)
    assert airflow.run("guarded", "failed")["state"] == "failed"
    assert (states["doubt"], states["finalize"], states["drop"]) == ("failed", "upstream_failed", "success")
    assert versions(session, "guarded") == {}
    (folder / "doubt").unlink()
    states = run(airflow, "guarded", "good", folder)
    assert airflow.run("guarded", "good")["state"] == "success"
    assert states["drop"] == "skipped"
    assert [version.state for version in versions(session, "guarded")["orders"]] == [State.COMPLETED]


def test_a_spec_is_a_part_of_a_dag_of_ones_own(airflow: Any, session: Session, folder: Path) -> None:
    assert set(run(airflow, "grouped", "first", folder).values()) == {"success"}
    (orders,) = versions(session, "crm-part")["orders"]
    assert orders.metadata == {"who": "ana"}
    assert airflow.xcom("grouped", "first", "after") == orders.id
    assert airflow.xcom("grouped", "first", "part.orders.build")["version_id"] == orders.id
