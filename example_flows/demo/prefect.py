"""`make demo-prefect`: the flights spec as a Prefect flow on a real server that lives as long as the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from dataset_tasks.session import open_session
from example_flows.demo.services import (
    START_TIMEOUT,
    JsonObject,
    ServiceError,
    client,
    free_port,
    get,
    json_object,
    service,
    wait_for,
)
from example_flows.demo.source import EXAMPLES, put_source_files
from example_flows.demo.summary import console, show

FLOW = EXAMPLES / "prefect" / "flights_spec.py"
#: Seconds until the server shows the last state of a run: it takes them in by and by.
SETTLE_TIMEOUT = 30.0


def main() -> int:
    """Runs the demo and returns its exit code."""
    started = time.perf_counter()
    out = console()
    put_source_files()
    with tempfile.TemporaryDirectory(prefix="dataset-tasks-prefect-") as folder:
        home = Path(folder)
        port = free_port()
        env = environment(home, port)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with service("server", command, env=env, logs=home), client(f"http://127.0.0.1:{port}/api/") as server:
            wait_for("Prefect server", lambda: get(server, "health"), timeout=START_TIMEOUT, log=home / "server.log")
            out.print(f"Prefect server is up after {time.perf_counter() - started:.1f} s")
            code = subprocess.run([sys.executable, str(FLOW)], env=env, check=False).returncode
            if code:
                return code
            run = wait_for("the flow run", lambda: finished_run(server), timeout=SETTLE_TIMEOUT)
            tasks = wait_for("all task runs", lambda: finished_tasks(server, run), timeout=SETTLE_TIMEOUT)
            show_run(out, run, tasks, artifacts(server, run))
        with open_session(home=env["DATASET_TASKS_HOME"]) as session:
            made = session.catalog.versions()
            show(session, out, made={version.id for version in made})
    seconds = time.perf_counter() - started
    state = run["state"]["name"]
    out.print(
        f"Flow run {run['name']}: {state}, {len(tasks)} task runs, {len(made)} versions made, in {seconds:.1f} s."
    )
    return 0 if run["state"]["type"] == "COMPLETED" else 1


def environment(home: Path, port: int) -> dict[str, str]:
    """The environment of server and flow: homes of their own, nothing of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DATASET_TASKS_"))}
    return {
        **kept,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "prefect" / "storage"),  # these two don't follow PREFECT_HOME
        "PREFECT_MEMO_STORE_PATH": str(home / "prefect" / "memo_store.toml"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
    }


def finished_run(server: httpx.Client) -> JsonObject | None:
    """The one flow run, once it has ended."""
    runs = query(server, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    return runs[0] if runs and runs[0]["end_time"] else None


def finished_tasks(server: httpx.Client, run: JsonObject) -> list[JsonObject] | None:
    """The task runs of a flow run in the order they started, once all have ended."""
    tasks = query(
        server, "task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
    )
    return tasks if tasks and all(task["end_time"] for task in tasks) else None


def artifacts(server: httpx.Client, run: JsonObject) -> list[JsonObject]:
    """The artifacts that a flow run made."""
    return query(server, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})


def query(server: httpx.Client, path: str, body: Mapping[str, object]) -> list[JsonObject]:
    """What a filter of the API finds.

    Raises:
        ServiceError: The server refused.
    """
    found = json_object(server.post(path, json=body))["items"]
    if not isinstance(found, list):
        raise ServiceError(f"{path}: expected a list, found {found!r}")
    return found


def show_run(out: Console, run: JsonObject, tasks: list[JsonObject], made: list[JsonObject]) -> None:
    """Prints task runs with their states, and the artifacts."""
    out.print(f"\nFlow run {run['name']}: {run['state']['name']}")
    table = Table()
    for column in ("task run", "state", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=True)
    for task in tasks:
        table.add_row(task["name"], task["state"]["name"], f"{task['total_run_time']:.1f}")
    out.print(table)
    for artifact in made:
        out.print(f"artifact {artifact['key'] or artifact['id']} ({artifact['type']}): {artifact['description'] or ''}")


if __name__ == "__main__":
    sys.exit(main())
