"""A real server, flows in processes of their own: served, triggered, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.session import Session
from example_flows.demo.prefect import query
from example_flows.demo.services import START_TIMEOUT, get, json_object, service, wait_for
from tests.e2e.prefect.conftest import Server, read_back, versions


@pytest.fixture
def served(server: Server, place: Path) -> Iterator[Server]:
    """The flows of the place, served by a process that runs one at a time."""
    with service("serve", [sys.executable, str(place / "flows.py"), "serve"], env=server.env, logs=server.logs):
        yield server


def test_a_spec_is_served_triggered_and_shows_what_it_made(served: Server, session: Session) -> None:
    first = served.trigger("lab/lab", text="hello")
    assert served.ended(first)["state_name"] == "Completed"
    assert versions(session) == ["raw@1.0.0 completed", "shout@1.0.0 published"]
    assert read_back(session, "lab/shout@prod") == {"a.txt": "hello world"}
    artifacts = query(served.api, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [first]}}})
    assert {"lab-versions", "lab-lineage", "lab-raw-changes", "lab-shout-changes"} == {one["key"] for one in artifacts}

    second = served.trigger("lab/lab")
    assert served.ended(second)["state_name"] == "Completed"
    steps = dict.fromkeys(("raw.build", "shout.build", "shout.publish"), "Unchanged")
    assert served.task_runs(second, 3) == steps
    assert len(versions(session)) == 2

    third = served.trigger("lab/lab", text="bye")
    assert served.ended(third)["state_name"] == "Completed"
    assert read_back(session, "lab/shout@prod") == {"a.txt": "bye world"}
    assert served.flow_run(third)["parameters"] == {"text": "bye"}


def begun(place: Path) -> bool | None:
    return (place / "begun").exists() or None


def started(place: Path, server: Server, flow: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(place / "flows.py"), flow], env=server.env, start_new_session=True)


def test_a_killed_run_shows_no_version_and_the_next_run_makes_it(server: Server, place: Path, session: Session) -> None:
    (place / "wait").touch()
    process = started(place, server, "own")
    wait_for("the function to begin", lambda: begun(place), timeout=START_TIMEOUT)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert versions(session) == ["slow@1.0.0 in_progress"], "a draft, which no reference finds"

    (place / "wait").unlink()
    assert started(place, server, "own").wait() == 0
    finished = [one for one in session.catalog.versions() if one.state.is_final]
    assert len(finished) == 1
    assert session.catalog.resolve("own/slow@latest").id == finished[0].id
    assert read_back(session, "own/slow@latest").keys() == {"half", "whole"}


def test_a_run_killed_and_retried_under_its_id_goes_on_with_its_draft(
    served: Server, place: Path, session: Session
) -> None:
    (place / "wait").touch()
    run = served.trigger("own/own")
    wait_for("the function to begin", lambda: begun(place), timeout=START_TIMEOUT, log=served.logs / "serve.log")
    (draft,) = session.catalog.versions()
    output = next(Path(session.settings.home).rglob("half"))
    os.kill(int(output.read_text()), signal.SIGKILL)
    assert served.ended(run)["state_type"] == "CRASHED"

    (place / "wait").unlink()
    state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
    answer = served.api.post(f"flow_runs/{run}/set_state", json={"state": state, "force": True})
    assert json_object(answer)["status"] == "ACCEPT"

    def again() -> dict[str, Any] | None:
        found = served.flow_run(run)
        return found if found["state_type"] == "COMPLETED" else None

    wait_for("the run's second try", again, timeout=START_TIMEOUT, log=served.logs / "serve.log")
    (version,) = session.catalog.versions()
    assert (version.id, str(version.state)) == (draft.id, "completed")
    assert version.metadata == {"done": True}
    assert read_back(session, version.id).keys() == {"half", "whole"}


def test_the_flow_shows_the_types_of_its_parameters(served: Server, place: Path) -> None:
    served.trigger("lab/lab")
    deployment = get(served.api, "deployments/name/lab/lab")
    assert deployment is not None
    assert deployment["parameter_openapi_schema"]["properties"]["text"]["type"] == "string"
    assert deployment["entrypoint"].endswith("flows.py:lab")


def test_a_block_that_is_told_to_end_drops_its_draft_and_after_a_kill_the_next_run_does(
    server: Server, place: Path, session: Session
) -> None:
    (place / "wait").touch()
    for sign, left in ((signal.SIGTERM, []), (signal.SIGKILL, ["written@1.0.0 in_progress"])):
        process = started(place, server, "writes")
        wait_for("the block to begin", lambda: begun(place), timeout=START_TIMEOUT)
        os.kill(process.pid, sign)
        assert process.wait() != 0
        assert [one for one in versions(session) if "aborted" not in one] == left
        (place / "begun").unlink()
    (dead,) = [one for one in session.catalog.versions() if one.state == "in_progress"]

    (place / "wait").unlink()
    assert started(place, server, "writes").wait() == 0
    assert session.catalog.version(dead.id).state == "aborted"
    assert [one for one in versions(session) if "aborted" not in one] == ["written@1.0.0 published"]
    assert read_back(session, "own/written@published").keys() == {"half", "whole"}


STORES = """
from pathlib import Path

from prefect import flow

from prefect_blocks.tasks import add_files, create_dataset, upload_dataset

HERE = Path(__file__).parent


@flow
def stores():
    draft = create_dataset("many", "own")
    add_files(draft, str(HERE / "many"))
    upload_dataset.submit(draft, chunk_size=0.001, max_workers=1).result()


stores()
"""


def test_an_upload_in_a_thread_stops_at_the_next_chunk_when_its_flow_is_told_to_end(
    server: Server, place: Path, session: Session
) -> None:
    (place / "stores.py").write_text(STORES)
    (place / "many").mkdir()
    for number in range(300):
        (place / "many" / f"{number}.bin").write_bytes(os.urandom(1100))
    held = {"DATASET_TASKS_FAILPOINTS": f"upload.after_chunk=barrier:{place}"}
    process = subprocess.Popen([sys.executable, str(place / "stores.py")], env=server.env | held)
    reached, go = place / "upload.after_chunk.reached", place / "upload.after_chunk.go"
    wait_for("the first chunk", lambda: reached.exists() or None, timeout=START_TIMEOUT)
    process.send_signal(signal.SIGTERM)
    go.touch()
    assert process.wait() != 0
    stored = list(Path(session.settings.home, "store").glob("*/chunks/*"))
    assert 0 < len(stored) < 300
    assert versions(session) == ["many@1.0.0 in_progress"]

    def crashed() -> dict[str, Any] | None:
        runs = query(server.api, "task_runs/filter", {"task_runs": {"tags": {"all_": ["upload"]}}})
        return next((one for one in runs if one["state_type"] == "CRASHED"), None)

    wait_for("the task run to be known as crashed", crashed, timeout=START_TIMEOUT)


TURNS = """
import time
from pathlib import Path


def turns(inputs, output):
    (Path(__file__).parent / "begun").touch()
    while True:
        time.sleep(0.01)


def sleeps(inputs, output):
    (Path(__file__).parent / "begun").touch()
    time.sleep(3600)
"""
TURNING = """
import sys

from prefect_blocks import flow_from_spec

flow_from_spec(sys.argv[1])()
"""


@pytest.mark.parametrize(
    "transform",
    [
        'call: "turning:turns"',
        'call: "turning:sleeps", env: {OWN: process}',
        "run: [sh, -c, 'touch begun; sleep 3600']",
    ],
    ids=["function", "own process", "program"],
)
def test_a_users_own_function_or_program_is_stopped_when_its_flow_is_told_to_end(
    server: Server, place: Path, session: Session, transform: str
) -> None:
    (place / "turning.py").write_text(TURNS)
    (place / "main.py").write_text(TURNING)
    spec = place / "turning.yaml"
    text = transform.replace("touch begun", f"touch {place}/begun")
    spec.write_text(f"version: 1\nname: turning\nproject: own\ndatasets:\n  made: {{transform: {{{text}}}}}\n")
    process = subprocess.Popen([sys.executable, str(place / "main.py"), str(spec)], env=server.env)
    try:
        wait_for("the function to begin", lambda: begun(place), timeout=START_TIMEOUT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_TIMEOUT) != 0
    finally:
        process.kill()
        process.wait()
    assert not [one for one in versions(session) if "aborted" not in one and "in_progress" not in one]


@pytest.mark.parametrize("killed_at", ["finalize.after_commit", "publish.after_commit"])
def test_events_that_a_killed_run_did_not_tell_are_told_by_the_next_one(
    server: Server, place: Path, session: Session, killed_at: str
) -> None:
    (place / "main.py").write_text(TURNING)
    name = killed_at.partition(".")[0]
    (place / "told.yaml").write_text(
        f"version: 1\nname: told\nproject: {name}\ndatasets:\n  raw: {{add: [{{path: data}}], publish: true}}\n"
    )
    command = [sys.executable, str(place / "main.py"), str(place / "told.yaml")]
    killed = subprocess.run(command, env=server.env | {"DATASET_TASKS_FAILPOINTS": f"{killed_at}=kill"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    subprocess.run(command, env=server.env, check=True)
    (version,) = session.catalog.versions()
    body = {"filter": {"event": {"prefix": ["dataset-tasks"]}, "resource": {"id": [f"dataset://{name}/raw"]}}}

    def told() -> list[str] | None:
        found = json_object(server.api.post("events/filter", json=body))["events"]
        assert {one["payload"]["version_id"] for one in found} <= {version.id}
        return sorted(one["event"].rpartition(".")[2] for one in found) if len(found) >= 2 else None

    assert wait_for("both events", told, timeout=START_TIMEOUT) == ["finalized", "published"]


BLOCK = """
import time
from pathlib import Path

from prefect import flow, task

from prefect_blocks import dataset_version


@task
def write():
    with dataset_version("own/turned") as version:
        (version.output / "half").touch()
        (Path(__file__).parent / "begun").touch()
        while True:
            time.sleep(0.01)


@flow
def writes():
    write.submit().result()


writes()
"""


def test_a_block_in_a_thread_drops_its_draft_when_its_flow_is_told_to_end(
    server: Server, place: Path, session: Session
) -> None:
    (place / "block.py").write_text(BLOCK)
    process = subprocess.Popen([sys.executable, str(place / "block.py")], env=server.env)
    try:
        wait_for("the block to begin", lambda: begun(place), timeout=START_TIMEOUT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_TIMEOUT) != 0
    finally:
        process.kill()
        process.wait()
    assert [one for one in versions(session) if "aborted" not in one] == []
