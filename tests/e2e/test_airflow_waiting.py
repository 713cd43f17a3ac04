"""A real Airflow waits: for versions in sensors, for news from outside, for an answer."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, Publish, Upload
from dataset_tasks.session import Session
from tests.e2e.airflow_runs import ended, publishes, run, versions

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)


def made(session: Session, dataset: str, folder: Path, *, tags: tuple[str, ...] = ()) -> Version:
    """A completed version, made by a script."""
    project, _, name = dataset.rpartition("/")
    draft = session.run(Create(project=project, name=name, tags=tags)).version_id
    (folder / "outside.txt").write_text(draft)
    for request in (AddFiles(ref=draft, path=str(folder / "outside.txt")), Upload(ref=draft), Finalize(ref=draft)):
        session.run(request)
    return session.catalog.version(draft)


def test_sensors_wait_in_the_worker_and_in_the_triggerer(airflow: Any, session: Session, folder: Path) -> None:
    from example_flows.demo.services import wait_for

    airflow.unpause("waits")
    airflow.trigger("waits", "first")

    airflow.wait_until_parked("waits", "first", "published", timeout=120)

    def waiting() -> bool | None:
        return True if airflow.states("waits", "first").get("completed") == "running" else None

    wait_for("the other to wait", waiting, timeout=120)
    visit = made(session, "outside/visits", folder)
    order = made(session, "outside/orders", folder, tags=("eu",))
    session.run(Publish(ref=order.id))  # the alias is missing
    session.run(Publish(ref=made(session, "outside/orders", folder, tags=("us",)).id, alias="other"))
    session.run(Publish(ref=order.id, alias="prod"))
    assert airflow.wait_for_run("waits", "first")["state"] == "success"
    assert airflow.xcom("waits", "first", "read") == [order.id, visit.id]


def test_what_is_published_outside_starts_the_dags_that_watch_it(airflow: Any, session: Session, folder: Path) -> None:
    from example_flows.demo.services import wait_for

    published = [made(session, "watched/orders", folder), made(session, "watched/visits", folder)]
    for version in published:
        session.run(Publish(ref=version.id))
    for dag, version in zip(("watched", "watched_visits"), published, strict=True):
        (one,) = wait_for(dag, lambda dag=dag: ended(airflow, dag, 1), timeout=120)
        assert airflow.xcom(dag, one["dag_run_id"], "seen") == {version.dataset: [version.id]}


def test_a_version_that_is_published_here_and_watched_has_one_event(
    airflow: Any, session: Session, folder: Path
) -> None:
    from example_flows.demo.services import wait_for

    assert set(run(airflow, "makes_own", "first", {}).values()) == {"success"}
    (own,) = versions(session, "watched")["own"]
    outside = made(session, "watched/own", folder)
    session.run(Publish(ref=outside.id))  # the watcher comes to it after the other

    def both() -> list[Any] | None:
        events = airflow.asset_events("dataset://watched/own")
        return events if len(events) >= 2 else None

    events = wait_for("both events", both, timeout=120)
    told = [event["extra"].get("version_id") or event["extra"]["payload"]["version_id"] for event in events]
    assert sorted(told) == sorted([own.id, outside.id])
    assert sorted("payload" in event["extra"] for event in events) == [False, True]


def test_a_compiled_spec_that_publishes_what_is_watched_keeps_the_watcher(
    airflow: Any, session: Session, folder: Path
) -> None:
    from example_flows.demo.services import wait_for

    assert set(run(airflow, "keeps", "first", {}).values()) == {"success"}
    for dag in ("watched_kept", "keeps"):  # the files that name the asset: the last one's word counts
        airflow.parse_again(dag)
        found = airflow.rest.get("api/v2/assets", params={"uri_pattern": "dataset://watched/kept"}).json()
        assert [watcher["name"] for asset in found["assets"] for watcher in asset["watchers"]] == [
            "watched/kept published"
        ]
    (own,) = versions(session, "watched")["kept"]
    outside = made(session, "watched/kept", folder)
    session.run(Publish(ref=outside.id))

    def told() -> list[Any] | None:
        runs = ended(airflow, "watched_kept", 1) or []
        each = [airflow.xcom("watched_kept", one["dag_run_id"], "seen")["watched/kept"] for one in runs]
        ids = [version_id for ids in each for version_id in ids]
        return ids if outside.id in ids else None

    assert wait_for("both publishes", told, timeout=120) == [own.id, outside.id]


def test_partitions_start_a_run_each(airflow: Any, session: Session) -> None:
    from example_flows.demo.services import wait_for

    days = ("2024-02-01", "2024-02-02")
    for day in days:
        states = run(airflow, "by_day", day, {}, logical_date=f"2024-02-{int(day[-2:]) + 1:02d}T17:30:00Z")
        assert set(states.values()) == {"success"}
    told: dict[str, dict[str, list[str]]] = {}

    def all_told() -> bool | None:
        for one in ended(airflow, "by_partition", 1) or []:  # one of the last window of the schedule, too
            found = airflow.xcom("by_partition", one["dag_run_id"], "which")
            told[found.pop("key")] = found
        return True if set(days) <= set(told) else None

    wait_for("by_partition", all_told, timeout=120)
    made_for = {version.partition: version.id for version in versions(session, "crm-days")["day"]}
    assert {day: told[day]["crm-days/day"] for day in days} == {day: [made_for[day]] for day in days}


# --- approval --------------------------------------------------------------------------------------------------------


def asked(airflow: Any, name: str, folder: Path) -> None:
    """Starts a run and waits until it asks, and stands still."""
    airflow.unpause("shop_asks")
    airflow.trigger("shop_asks", name, conf={"folder": str(folder)})
    airflow.wait_until_parked("shop_asks", name, "offer.approve", timeout=180)


DETAIL = "api/v2/dags/shop_asks/dagRuns/{}/taskInstances/offer.approve/-1/hitlDetails"


def test_only_who_is_asked_can_let_a_version_be_published(airflow: Any, session: Session, folder: Path) -> None:
    asked(airflow, "answered", folder)
    (offer,) = versions(session, "crm-asks")["offer"]
    assert offer.state is State.COMPLETED
    assert "approval" in offer.quarantined
    held = airflow.rest.get(DETAIL.format("answered")).json()
    assert held["subject"] == f"Publish {offer.label}?"
    assert [user["id"] for user in held["assigned_users"]] == ["ana"]
    answer = {"chosen_options": ["Approve"], "params_input": {"note": "fine"}}
    assert airflow.rest.patch(DETAIL.format("answered"), json=answer).status_code == 403
    assert airflow.as_user("ana").patch(DETAIL.format("answered"), json=answer).status_code == 200
    assert airflow.wait_for_run("shop_asks", "answered")["state"] == "success"
    assert set(airflow.states("shop_asks", "answered").values()) == {"success"}
    kept = session.catalog.approval(offer.id)
    assert kept is not None
    assert (kept.state, kept.who, kept.note) == ("approved", "ana", "fine")
    assert session.catalog.version(offer.id).state is State.PUBLISHED
    assert publishes(session, offer) == 1
    assert len(airflow.asset_events("dataset://crm-asks/offer")) == 1

    again = run(airflow, "shop_asks", "unchanged", folder)
    assert set(again.values()) == {"skipped"}
    assert len(airflow.asset_events("dataset://crm-asks/offer")) == 1


def test_a_no_on_the_command_line_ends_the_wait_and_blocks_what_is_below(
    airflow: Any, session: Session, folder: Path
) -> None:
    (folder / "orders" / "new.txt").write_text("7")
    asked(airflow, "refused", folder)
    offer = versions(session, "crm-asks")["offer"][-1]
    command = [sys.executable, "-m", "airflow", "datasets", "reject", offer.id, "--who", "bob", "--note", "too late"]
    done = subprocess.run(command, env=airflow.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rejected by bob" in done.stdout
    assert airflow.wait_for_run("shop_asks", "refused")["state"] == "failed"
    assert airflow.states("shop_asks", "refused") == {
        "offer.build": "success", "offer.approve": "failed", "offer.publish": "upstream_failed",
        "letters.build": "upstream_failed",
    }  # fmt: skip
    assert airflow.rest.get(DETAIL.format("refused")).json()["response_received"]
    now = session.catalog.version(offer.id)
    assert (now.state, now.quarantined) == (State.COMPLETED, "rejected by bob")
    assert "letters" not in versions(session, "crm-asks") or len(versions(session, "crm-asks")["letters"]) == 1


def test_what_waits_while_the_triggerer_is_killed_goes_on_with_the_next_one_and_ends_once(
    airflow: Any, session: Session, folder: Path
) -> None:
    from example_flows.demo.services import wait_for

    airflow.unpause("waits_long", "asks_long")
    airflow.trigger("waits_long", "first")
    airflow.trigger("asks_long", "first", conf={"folder": str(folder)})
    airflow.wait_until_parked("waits_long", "first", "late", timeout=120)
    airflow.wait_until_parked("asks_long", "first", "offer.approve", timeout=120)
    heard = made(session, "watched/late", folder)
    session.run(Publish(ref=heard.id))
    wait_for("the watcher to tell", lambda: ended(airflow, "watched_late", 1), timeout=120)

    airflow.kill("triggerer")
    (offer,) = versions(session, "crm-long")["offer"]
    late, missed = made(session, "outside/late", folder), made(session, "watched/late", folder)
    for version in (late, missed):
        session.run(Publish(ref=version.id))
    session.catalog.answer(offer.id, True, "ana", "while nobody waited")
    airflow.start("triggerer")

    for dag in ("waits_long", "asks_long"):
        assert airflow.wait_for_run(dag, "first", timeout=180)["state"] == "success"
        assert {task["try_number"] for task in airflow.tasks(dag, "first")} == {1}
    assert airflow.xcom("waits_long", "first", "late")["version_id"] == late.id
    assert publishes(session, offer) == 1
    assert session.catalog.version(offer.id).state is State.PUBLISHED
    assert len(airflow.asset_events("dataset://crm-long/offer")) == 1
    runs = wait_for("both to be told of", lambda: ended(airflow, "watched_late", 2), timeout=120)
    told = [airflow.xcom("watched_late", one["dag_run_id"], "seen") for one in runs]
    assert told == [{"watched/late": [version.id]} for version in (heard, missed)]
    assert len(airflow.asset_events("dataset://watched/late")) == 2


def test_the_pages_answer_too_and_only_for_who_may(airflow: Any, session: Session, folder: Path) -> None:
    (folder / "orders" / "newer.txt").write_text("8")
    asked(airflow, "on_page", folder)
    offer = versions(session, "crm-asks")["offer"][-1]
    page = f"dataset-tasks/approvals/{offer.id}"
    form = {"answer": "approve", "note": "seen <b>it</b>"}
    ana, vera = airflow.as_user("ana"), airflow.as_user("vera")
    assert vera.post(page, data=form).status_code == 403  # a viewer changes nothing
    assert airflow.rest.post(page, data=form).status_code == 409  # ada is not asked
    assert "May" in ana.get("dataset-tasks/approvals").text
    assert ana.post(page, data=form).status_code == 303
    assert airflow.wait_for_run("shop_asks", "on_page")["state"] == "success"
    shown = vera.get(f"dataset-tasks/versions/{offer.id}").text
    assert "approved by ana" in shown
    assert "seen &lt;b&gt;it&lt;/b&gt;" in shown
    assert session.catalog.version(offer.id).state is State.PUBLISHED


# --- pages, links, commands ------------------------------------------------------------------------------------------


def test_the_pages_are_for_those_who_are_logged_in(airflow: Any, session: Session, folder: Path) -> None:
    import httpx

    run(airflow, "bundled", "paged", folder)
    (version,) = versions(session, "bundle")["orders"]
    anybody = httpx.Client(base_url=airflow.rest.base_url, trust_env=False)
    paths = [
        "",
        "approvals",
        "datasets/bundle/orders",
        f"versions/{version.id}",
        "dags/bundled",
        "dags/bundled/runs/paged",
    ]
    for path in paths:
        assert anybody.get(f"dataset-tasks/{path}").status_code == 401
        page = airflow.as_user("vera").get(f"dataset-tasks/{path}")
        assert page.status_code == 200
        assert "bundle/orders" in page.text or path == "approvals"
    with_cookie = anybody.get("dataset-tasks/", headers={"Cookie": f"_token={airflow.token('vera')}"})
    assert with_cookie.status_code == 200
    assert airflow.rest.get("dataset-tasks/versions/none").status_code == 404
    plugins = airflow.rest.get("api/v2/plugins").json()["plugins"]
    (own,) = [plugin for plugin in plugins if plugin["name"] == "dataset_tasks"]
    assert {view["destination"] for view in own["external_views"]} == {"nav", "dag", "dag_run"}


def test_a_task_links_to_its_version_and_a_version_to_its_task(airflow: Any, session: Session, folder: Path) -> None:
    run(airflow, "bundled", "linked", folder)
    (version,) = versions(session, "bundle")["orders"]
    links = airflow.rest.get("api/v2/dags/bundled/dagRuns/linked/taskInstances/orders.build/links").json()
    url = links["extra_links"]["Dataset version"]
    assert url == f"http://127.0.0.1:{airflow.port}/dataset-tasks/versions/{version.id}"
    assert airflow.rest.get(url).status_code == 200
    origin = version.origin
    assert (origin["dag_id"], origin["task_id"], origin["map_index"]) == ("bundled", "orders.build", -1)
    assert str(origin["url"]).startswith(f"http://127.0.0.1:{airflow.port}/dags/bundled/runs/")


def test_a_broken_spec_of_a_bundle_is_one_import_error(airflow: Any) -> None:
    errors = airflow.rest.get("api/v2/importErrors").json()["import_errors"]
    assert [error["filename"] for error in errors] == ["mistaken.yaml.py"]
    assert "mistaken.yaml:8:5: datasets.orders.publis" in errors[0]["stack_trace"]


def test_openlineage_hears_of_versions(airflow: Any, session: Session, folder: Path) -> None:
    run(airflow, "told", "first", folder)
    (copies,) = versions(session, "crm-told")["copies"]
    lines = [json.loads(line) for line in (airflow.home / "openlineage.json").read_text().splitlines()]
    (event,) = [line for line in lines if (line["eventType"], line["job"]["name"]) == ("COMPLETE", "told.copies.build")]
    (output,) = event["outputs"]
    (read,) = event["inputs"]
    assert (output["namespace"], output["name"]) == ("dataset://crm-told", "copies")
    assert output["facets"]["version"]["datasetVersion"] == copies.version
    assert output["outputFacets"]["outputStatistics"]["fileCount"] == copies.files
    assert (read["namespace"], read["name"]) == ("dataset://crm-told", "orders")
    assert event["run"]["facets"]["datasetTasks"]["versionId"] == copies.id


def test_the_commands_show_the_catalog_of_the_connection(airflow: Any, session: Session, folder: Path) -> None:
    run(airflow, "bundled", "shown", folder)
    (version,) = versions(session, "bundle")["orders"]
    found = {}
    for words in (("list", "-p", "bundle"), ("versions", "bundle/orders"), ("show", version.id)):
        command = [sys.executable, "-m", "airflow", "datasets", *words, "-o", "json"]
        done = subprocess.run(command, env=airflow.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[words[0]] = json.loads(done.stdout[done.stdout.index("[") :])
    assert [row["dataset"] for row in found["list"]] == ["bundle/orders"]
    assert [row["version"] for row in found["versions"]] == [version.version]
    assert {"property": "dag_id", "value": "bundled"} in found["show"]
