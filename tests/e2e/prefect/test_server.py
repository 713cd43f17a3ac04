"""A real server, flows in processes of their own: served, triggered, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dataset_tasks.session import Session, open_session
from example_flows.demo.prefect import environment, query
from example_flows.demo.services import START_TIMEOUT, client, free_port, get, json_object, service, wait_for
from tests.e2e.prefect.conftest import ENDED, read_back, versions

FLOWS = """
import os
import time
from pathlib import Path

from prefect import flow

from prefect_blocks import dataset_task, flow_from_spec

HERE = Path(__file__).parent
lab = flow_from_spec(HERE / "spec.yaml")


@dataset_task("own/slow")
def slow(inputs, output):
    (output / "half").write_text(str(os.getpid()))
    (HERE / "begun").touch()
    while (HERE / "wait").exists():
        time.sleep(0.05)
    (output / "whole").touch()
    return {"done": True}


@flow
def own():
    return slow()


if __name__ == "__main__":
    import sys
    from prefect import serve

    if sys.argv[1:] == ["serve"]:
        serve(lab.to_deployment("lab"), own.to_deployment("own"), limit=1)
    else:
        own()
"""
SPEC = """
version: 1
name: lab
project: lab
params: {text: {type: str, default: hello}}
datasets:
  raw: {add: [{path: data}]}
  shout:
    inputs: [raw]
    transform: {call: "shouting:shout", with: {text: "${params.text}"}}
    publish: {alias: prod}
"""
SHOUTING = """
def shout(inputs, output, text):
    for file in inputs["raw"].iterdir():
        (output / file.name).write_text(text + file.read_text())
"""


@dataclass
class Server:
    api: httpx.Client
    env: dict[str, str]
    logs: Path

    def flow_run(self, run_id: str) -> dict[str, Any]:
        return json_object(self.api.get(f"flow_runs/{run_id}"))

    def trigger(self, deployment: str, **parameters: Any) -> str:
        found = wait_for(
            f"deployment {deployment}",
            lambda: get(self.api, f"deployments/name/{deployment}"),
            timeout=START_TIMEOUT,
            log=self.logs / "serve.log",
        )
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(json_object(self.api.post(f"deployments/{found['id']}/create_flow_run", json=body))["id"])

    def ended(self, run_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            run = self.flow_run(run_id)
            return run if run["state_type"] in ENDED else None

        return wait_for("the end of the run", look, timeout=START_TIMEOUT, log=self.logs / "serve.log")

    def task_runs(self, run_id: str, count: int) -> dict[str, str]:
        """State by name of the task runs that have ended, once there are so many."""

        def look() -> dict[str, str] | None:
            runs = query(self.api, "task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
            ended = {one["name"]: one["state_name"] for one in runs if one["state_type"] in ENDED}
            return ended if len(ended) >= count else None

        return wait_for(f"{count} ended task runs", look, timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    port = free_port()
    env = environment(home, port) | {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with service("server", command, env=env, logs=home), client(f"http://127.0.0.1:{port}/api/") as api:
        wait_for("Prefect server", lambda: get(api, "health"), timeout=START_TIMEOUT, log=home / "server.log")
        yield Server(api, env, home)


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Path:
    """A folder with flows, and a home for their versions."""
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "shouting.py").write_text(SHOUTING)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text(" world")
    server.env["DATASET_TASKS_HOME"] = str(tmp_path / "home")
    return tmp_path


@pytest.fixture
def session(place: Path) -> Iterator[Session]:
    with open_session(home=place / "home") as opened:
        yield opened


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


def test_a_killed_run_shows_no_version_and_the_next_run_makes_it(server: Server, place: Path, session: Session) -> None:
    (place / "wait").touch()
    process = subprocess.Popen([sys.executable, str(place / "flows.py")], env=server.env, start_new_session=True)
    wait_for("the function to begin", lambda: begun(place), timeout=START_TIMEOUT)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert versions(session) == ["slow@1.0.0 in_progress"], "a draft, which no reference finds"

    (place / "wait").unlink()
    subprocess.run([sys.executable, str(place / "flows.py")], env=server.env, check=True)
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
    output = next((place / "home").rglob("half"))
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
