"""One Prefect server for all these tests, and a catalog for each."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest

from dataset_tasks.session import Session
from example_flows.demo.prefect import environment, query
from example_flows.demo.services import START_TIMEOUT, client, free_port, get, json_object, service, wait_for

if importlib.util.find_spec("prefect") is None:
    collect_ignore_glob = ["test_*.py"]
if TYPE_CHECKING:
    from prefect_blocks import DatasetCatalog

EPHEMERAL_TIMEOUT = 120
#: Seconds until the server has taken in all that a run told it, on a busy machine.
SETTLE = 60.0
os.environ.update(
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=str(EPHEMERAL_TIMEOUT), PREFECT_LOGGING_TO_CONSOLE="false"
)

T = TypeVar("T")


@pytest.fixture(scope="session")
def harness() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=EPHEMERAL_TIMEOUT):
        yield


class Api:
    """What the server says."""

    def __init__(self) -> None:
        from prefect.client.orchestration import get_client

        self.client = get_client(sync_client=True)

    def find(self, what: str, **body: Any) -> list[dict[str, Any]]:
        answer = self.client.request("POST", f"/{what}/filter", json=body)  # type: ignore[arg-type]  # any path
        found = answer.json()
        return found["events"] if what == "events" else found

    def task_runs(self, flow_run: str, count: int) -> dict[str, dict[str, Any]]:
        """The task runs of a flow run by name, once there are so many and all have ended: states come in by and by."""

        def look() -> dict[str, dict[str, Any]] | None:
            runs = self.find("task_runs", flow_runs={"id": {"any_": [flow_run]}})
            ended = [one for one in runs if one["state"] and one["state"]["type"] in ENDED]
            return {one["name"]: one for one in ended} if len(ended) >= count else None

        return eventually(f"{count} ended task runs", look)

    def artifact(self, key: str, flow_run: str) -> dict[str, Any]:
        """The one artifact of a key in a flow run. Prefect's client writes one again whose answer came too late."""
        found = self.find("artifacts", artifacts={"key": {"any_": [key]}, "flow_run_id": {"any_": [flow_run]}})
        assert len({str(one["data"]) for one in found}) == 1, f"{key}: {len(found)} artifacts"
        return found[0]

    def materialized(self, uri: str, count: int) -> list[dict[str, Any]]:
        """The materializations of an asset, the first one first, once there are so many."""
        name = {"prefix": ["prefect.asset.materialization"]}

        def look() -> list[dict[str, Any]] | None:
            found = self.find("events", filter={"event": name, "resource": {"id": [uri]}})
            return sorted(found, key=lambda one: one["occurred"]) if len(found) >= count else None

        return eventually(f"{count} materializations of {uri}", look)


ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def eventually(what: str, look: Callable[[], T | None]) -> T:
    return wait_for(what, look, timeout=SETTLE, every=0.2)


@pytest.fixture
def api(harness: None) -> Api:
    return Api()


@pytest.fixture
def catalog(home: Path) -> DatasetCatalog:
    from prefect_blocks import DatasetCatalog

    return DatasetCatalog(embedded=True, home=str(home))


@pytest.fixture
def session(catalog: DatasetCatalog) -> Session:
    return catalog.session()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three small files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.csv").write_text(f"a,{i}\n")
    return folder


FLOWS = """
import os
import time
from pathlib import Path

from prefect import flow

from prefect_blocks import dataset_task, dataset_version, flow_from_spec, writing

writing.DEAD = 0.0  # who was not heard of at once is taken for dead
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


@flow
def writes():
    with dataset_version("own/written", publish=True) as version:
        (version.output / "half").touch()
        (HERE / "begun").touch()
        while (HERE / "wait").exists():
            time.sleep(0.05)
        (version.output / "whole").touch()


if __name__ == "__main__":
    import sys
    from prefect import serve

    if sys.argv[1:] == ["serve"]:
        serve(lab.to_deployment("lab"), own.to_deployment("own"), limit=1)
    else:
        globals()[sys.argv[1]]()
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
    """A real server, one for all tests of a process."""

    api: httpx.Client
    env: dict[str, str]
    logs: Path

    def get(self, path: str) -> dict[str, Any] | None:
        return get(self.api, path)

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

        return wait_for(f"{count} ended task runs", look, timeout=240)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    port = free_port()
    env = environment(home, port) | {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with service("server", command, env=env, logs=home), client(f"http://127.0.0.1:{port}/api/") as api:
        wait_for("Prefect server", lambda: get(api, "health"), timeout=START_TIMEOUT, log=home / "server.log")
        yield Server(api, env, home)


@pytest.fixture
def place(tmp_path: Path, server: Server, home: Path) -> Path:
    """A folder with flows, and a home for their versions."""
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "shouting.py").write_text(SHOUTING)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text(" world")
    server.env["DATASET_TASKS_HOME"] = str(home)
    return tmp_path


def versions(session: Session) -> list[str]:
    """`name@version state` of every version, in the order they were made."""
    return [f"{one.name}@{one.version} {one.state}" for one in session.catalog.versions()]


def read_back(session: Session, ref: str) -> Mapping[str, str]:
    """The text of every file of a version, read from the store."""
    from dataset_tasks.ops.requests import GetCopy, GetCopyResult

    result = session.run(GetCopy(ref=ref))
    assert isinstance(result, GetCopyResult)
    folder = Path(result.folder)
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}
