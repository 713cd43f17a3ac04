"""A real Airflow runs DAGs: specs, operators, the decorator; again when nothing changed, killed, cleared, triggered."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import State
from dataset_tasks.session import Session
from tests.e2e.airflow_runs import content, ended, publishes, run, versions

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)


def test_a_spec_runs_publishes_and_is_left_alone_when_nothing_changed(
    airflow: Any, session: Session, folder: Path
) -> None:
    steps = ("orders.build", "visits.build", "totals.build", "report.build", "report.publish", "flat.squash")
    assert run(airflow, "shop", "first", folder) == dict.fromkeys(steps, "success")
    made = versions(session, "crm")
    assert {name: len(found) for name, found in made.items()} == dict.fromkeys(
        ("orders", "visits", "totals", "report", "flat"), 1
    )
    (report,) = made["report"]
    assert report.state is State.PUBLISHED
    assert session.catalog.aliases("crm", "report") == {"prod": report.id}
    assert [one.ref.removeprefix("id:") for one in made["totals"][0].inputs] == [
        made["orders"][0].id,
        made["visits"][0].id,
    ]
    assert report.origin["dag_id"] == "shop"
    assert report.origin["step"] == "report.build"
    left = airflow.xcom("shop", "first", "report.publish")
    (event,) = airflow.asset_events("dataset://crm/report")
    assert event["extra"]["version_id"] == left["version_id"] == report.id
    assert event["extra"]["content_hash"] == report.content_hash
    assert (event["extra"]["files"], event["extra"]["bytes"]) == (report.files, report.bytes)

    assert run(airflow, "shop", "second", folder) == dict.fromkeys(steps, "skipped")
    assert airflow.run("shop", "second")["state"] == "success"
    assert versions(session, "crm") == made
    assert airflow.xcom("shop", "second", "totals.build")["version_id"] == made["totals"][0].id
    assert airflow.xcom("shop", "second", "totals.build")["unchanged"] is True
    assert len(airflow.asset_events("dataset://crm/report")) == 1

    (folder / "orders" / "orders3.txt").write_text("9")
    states = run(airflow, "shop", "third", folder)
    assert [step for step, state in states.items() if state == "skipped"] == ["visits.build"]
    assert {name: len(found) for name, found in versions(session, "crm").items()} == {
        "orders": 2, "visits": 1, "totals": 2, "report": 2, "flat": 2,
    }  # fmt: skip
    assert len(airflow.asset_events("dataset://crm/report")) == 2
    _must_have_run_for_each_publish(airflow, session, [version.id for version in versions(session, "crm")["report"]])


def _must_have_run_for_each_publish(airflow: Any, session: Session, published: list[str]) -> None:
    from example_flows.demo.services import wait_for

    for dag in ("consumer", "after_report"):
        runs = wait_for(dag, lambda dag=dag: ended(airflow, dag, len(published)), timeout=120)
        assert [one["state"] for one in runs] == ["success"] * len(published)
    told = [airflow.xcom("consumer", one["dag_run_id"], "seen")["crm/report"] for one in airflow.runs("consumer")]
    assert [version_id for one in told for version_id in one] == published
    copies = versions(session, "crm-after")["copy"]
    assert [version.inputs[0].ref.removeprefix("id:") for version in copies] == published


def test_a_task_that_is_killed_goes_on_in_its_next_try(airflow: Any, session: Session, folder: Path) -> None:
    from example_flows.demo.services import wait_for

    before = len(versions(session, "crm")["totals"])
    for file in folder.rglob("*.txt"):
        file.write_text("5 5")
    (folder / "hold").touch()
    airflow.unpause("shop")
    airflow.trigger("shop", "killed", conf={"folder": str(folder)})
    pid = wait_for("the transform", lambda: _pid(folder), timeout=120)
    drafts = [version for version in versions(session, "crm")["totals"] if version.state is State.IN_PROGRESS]
    os.kill(pid, signal.SIGKILL)
    (folder / "hold").unlink()
    run = airflow.wait_for_run("shop", "killed")
    assert run["state"] == "success"
    tries = {task["task_id"]: task["try_number"] for task in airflow.tasks("shop", "killed")}
    assert tries["totals.build"] == 2
    made = versions(session, "crm")["totals"]
    assert len(made) == before + 1
    assert [made[-1].id] == [draft.id for draft in drafts]
    assert made[-1].state is State.COMPLETED
    assert "half.txt" in content(session, made[-1])  # the second try wrote it again
    assert made[-1].files == 7


def _pid(folder: Path) -> int | None:
    file = folder / "pid"
    return int(file.read_text()) if file.exists() and file.read_text() else None


def test_a_task_that_is_told_to_stop_cleans_up_and_leaves_nothing(airflow: Any, session: Session, folder: Path) -> None:
    from example_flows.demo.services import json_object, wait_for

    before = [version.id for version in versions(session, "crm")["totals"]]
    for file in folder.rglob("*.txt"):
        file.write_text("6 6")
    (folder / "hold").touch()
    airflow.unpause("shop")
    airflow.trigger("shop", "stopped", conf={"folder": str(folder)})
    pid = wait_for("the transform", lambda: _pid(folder), timeout=120)
    url = "api/v2/dags/shop/dagRuns/stopped/taskInstances/totals.build"
    json_object(airflow.rest.patch(url, json={"new_state": "failed"}))
    wait_for("the process to end", lambda: True if _gone(pid) else None, timeout=240)
    assert (folder / "hold").exists()
    states = {version.id: version.state for version in session.catalog.versions(project="crm", name="totals")}
    assert [state for version, state in states.items() if version not in before] in ([], [State.ABORTED])
    assert airflow.wait_for_run("shop", "stopped")["state"] == "failed"
    assert airflow.states("shop", "stopped")["report.build"] == "upstream_failed"

    (folder / "hold").unlink()
    airflow.clear("shop", "stopped", "totals.build", "report.build", "report.publish", "flat.squash")
    assert airflow.wait_for_run("shop", "stopped")["state"] == "success"
    assert len([one for one in versions(session, "crm")["totals"] if one.state is State.COMPLETED]) == len(before) + 1


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_task_an_operation_makes_and_leaves_alone_the_same(airflow: Any, session: Session, folder: Path) -> None:
    totals = [f"totals.{verb}" for verb in ("create", "transform", "upload", "finalize", "verify", "publish")]
    steps = [*(f"orders.{verb}" for verb in ("create", "sync", "upload", "finalize")), *totals]
    assert run(airflow, "shop_steps", "first", folder) == dict.fromkeys(steps, "success")
    made = {name: [version.id for version in found] for name, found in versions(session, "crm-steps").items()}
    assert {name: len(found) for name, found in made.items()} == {"orders": 1, "totals": 1}
    assert content(session, session.catalog.version(made["totals"][0])) == [
        "half.txt",
        *(f"orders{n}.txt" for n in range(3)),
    ]

    again = run(airflow, "shop_steps", "second", folder)
    assert [step for step, state in again.items() if state == "skipped"][-5:] == totals[1:]
    assert airflow.run("shop_steps", "second")["state"] == "success"
    assert airflow.xcom("shop_steps", "second", "totals.finalize")["version_id"] == made["totals"][0]
    standing = {
        name: [v.id for v in found if v.state.is_final] for name, found in versions(session, "crm-steps").items()
    }
    assert standing == made

    # A run that was deleted and made again has the id of the first one, and none of its results.
    airflow.rest.delete("api/v2/dags/shop_steps/dagRuns/second").raise_for_status()
    (folder / "orders" / "orders0.txt").write_text("7 7")
    assert run(airflow, "shop_steps", "second", folder) == dict.fromkeys(steps, "success")
    assert {name: len(found) for name, found in versions(session, "crm-steps").items()} == {"orders": 2, "totals": 2}


def test_a_window_comes_from_the_schedule(airflow: Any, session: Session, folder: Path) -> None:
    # Half past noon in New York: the last tick was at 6, the one before a day earlier.
    states = run(airflow, "shop_daily", "noon", folder, logical_date="2024-02-02T17:30:00Z")
    assert states == {"day.build": "success"}
    made = session.catalog.version(airflow.xcom("shop_daily", "noon", "day.build")["version_id"])
    assert made.metadata == {"date": "2024-02-01", "start": "2024-02-01T06:00:00-05:00"}
    known = [version.id for version in versions(session, "crm-daily")["day"]]
    assert run(airflow, "shop_daily", "early", folder, logical_date="2024-01-03T17:30:00Z") == {"day.build": "failed"}
    assert run(airflow, "shop_daily", "none", folder) == {"day.build": "failed"}
    assert [version.id for version in versions(session, "crm-daily")["day"]] == known
    # Switched on with a start in the past and no catch-up, the scheduler has run the last window by itself.
    scheduled = [one for one in airflow.runs("shop_daily") if one["run_type"] == "scheduled"]
    assert [one["state"] for one in scheduled] == ["success"]


def test_a_backfill_makes_one_version_a_window_in_any_order_and_however_often(
    airflow: Any, session: Session, folder: Path
) -> None:
    from example_flows.demo.services import wait_for

    days = ("2024-03-01", "2024-03-02", "2024-03-03")
    (folder / "2024-03-02").touch()
    given = {"run_backwards": True, "max_active_runs": 2, "dag_run_conf": {"folder": str(folder)}}
    airflow.unpause("filled")
    # Switched on, the DAG runs the last window by itself: that stays the latest whatever is filled in behind it.
    wait_for("the last window", lambda: _scheduled(airflow, "filled"), timeout=240)

    def fill(**options: Any) -> dict[str, int]:
        """How many versions of each day there are after a backfill that begins before the schedule's first window."""
        airflow.backfill("filled", "2024-02-28T00:00:00Z", "2024-03-03T23:00:00Z", **given | options)
        made = [version.partition for version in versions(session, "crm-filled")["day"] if version.state.is_final]
        return {day: made.count(day) for day in sorted(map(str, made)) if day < "2025"}

    assert fill() == {"2024-03-01": 1, "2024-03-03": 1}
    (folder / "2024-03-02").unlink()
    assert fill() == {"2024-03-01": 1, "2024-03-03": 1}  # Airflow leaves windows alone that have a run
    assert fill(reprocess_behavior="failed") == dict.fromkeys(days, 1)
    assert fill(reprocess_behavior="completed") == dict.fromkeys(days, 1)
    made = sorted(versions(session, "crm-filled")["day"], key=lambda version: str(version.partition))
    assert [version.partition for version in made][:3] == list(days)
    assert session.catalog.resolve("crm-filled/day@latest").id == made[-1].id
    assert session.catalog.aliases("crm-filled", "day") == {"prod": made[-1].id}
    assert [publishes(session, version) for version in made] == [1] * len(made)
    events = [event["extra"]["version_id"] for event in airflow.asset_events("dataset://crm-filled/day")]
    assert sorted(events) == sorted(version.id for version in made)


def _scheduled(airflow: Any, dag: str) -> list[Any] | None:
    runs = [one for one in ended(airflow, dag, 1) or [] if one["run_type"] == "scheduled"]
    return runs or None


def test_mapped_operators_fill_one_draft(airflow: Any, session: Session, folder: Path) -> None:
    from example_flows.demo.services import wait_for

    states = run(airflow, "mapped", "first", folder)
    assert states == dict.fromkeys(("create", "parts", "add[0]", "add[1]", "upload", "finalize", "publish"), "success")
    (made,) = versions(session, "mapped")["orders"]
    assert made.state is State.PUBLISHED
    assert content(session, made) == sorted(f"{kind}/{kind}{n}.txt" for kind in ("orders", "visits") for n in range(3))
    (event,) = airflow.asset_events("dataset://mapped/orders")
    assert event["extra"]["version_id"] == made.id

    def told() -> list[Any] | None:
        """What the runs that listen to all publishes were told, once one of them heard of this one."""
        runs = ended(airflow, "all_publishes", 1) or []
        heard = [airflow.xcom("all_publishes", one["dag_run_id"], "told") for one in runs]
        return heard if any("mapped/orders" in each for each in heard) else None

    heard = wait_for("all_publishes", told, timeout=240)
    assert [each["mapped/orders"] for each in heard if "mapped/orders" in each] == [[made.id]]


def test_the_decorator_survives_a_failed_try_and_makes_nothing_twice(
    airflow: Any, session: Session, folder: Path
) -> None:
    assert set(run(airflow, "decorated", "first", folder).values()) == {"success"}
    tries = {task["task_id"]: task["try_number"] for task in airflow.tasks("decorated", "first")}
    assert tries == {"words": 2, "count": 1, "read": 1}
    made = {name: [v for v in found if v.state.is_final] for name, found in versions(session, "decorated").items()}
    assert {name: len(found) for name, found in made.items()} == {"words": 1, "count": 1}
    words, count = made["words"][0], made["count"][0]
    assert content(session, words) == ["words.txt"]
    assert words.metadata == {"words": 3}
    assert [(one.name, one.ref.removeprefix("id:")) for one in count.inputs] == [("words", words.id)]
    assert count.state is State.PUBLISHED
    assert airflow.xcom("decorated", "first", "read") == count.id

    assert set(run(airflow, "decorated", "second", folder).values()) == {"success"}
    assert airflow.xcom("decorated", "second", "count")["unchanged"] is True
    assert {n: [v.id for v in f if v.state.is_final] for n, f in versions(session, "decorated").items()} == {
        "words": [words.id], "count": [count.id],
    }  # fmt: skip
    assert len(airflow.asset_events("dataset://decorated/count")) == 1


def test_a_broken_spec_is_a_dag_that_says_so(airflow: Any, folder: Path) -> None:
    assert run(airflow, "broken", "tried", folder) == {"spec_error": "failed"}
    details = airflow.rest.get("api/v2/dags/broken/details").json()
    assert "broken.yaml:6:14" in details["doc_md"]
    errors = airflow.rest.get("api/v2/importErrors").json()["import_errors"]
    assert [error["filename"] for error in errors if "broken" in error["filename"]] == []


def test_the_test_button_of_a_connection_opens_its_catalog(airflow: Any, session: Session) -> None:
    def tried(**fields: str) -> dict[str, Any]:
        body = {"connection_id": "lake", "conn_type": "dataset_tasks", "extra": json.dumps(fields)}
        return dict(airflow.rest.post("api/v2/connections/test", json=body).json())

    home = airflow.env["DATASET_TASKS_HOME"]
    assert tried(catalog="embedded", home=home) == {
        "status": True, "message": f"Connected to catalog {session.catalog.id}",
    }  # fmt: skip
    refused = tried(store_url="s3://lake")
    assert refused["status"] is False
    assert "none is made" in refused["message"]


def test_no_draft_is_left_behind_by_all_this(session: Session) -> None:
    left = [version.label for version in session.catalog.versions() if version.state is State.IN_PROGRESS]
    assert left == []
