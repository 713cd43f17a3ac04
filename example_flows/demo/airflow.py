"""`make demo-airflow`: the flights spec as a DAG, run by a real scheduler in an Airflow home that is thrown away."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from dataset_tasks.session import open_session
from example_flows.demo.here import PUBLISHED
from example_flows.demo.services import (
    START_TIMEOUT,
    JsonObject,
    client,
    free_port,
    get,
    json_object,
    service,
    wait_for,
)
from example_flows.demo.source import EXAMPLES, put_source_files
from example_flows.demo.summary import console, show

DAGS = EXAMPLES / "airflow"
DAG = "flights"
RUN = "demo"
DAEMONS = ("api-server", "scheduler", "dag-processor")
#: Seconds: until the DAG file is parsed, until the run has ended.
PARSE_TIMEOUT, RUN_TIMEOUT = 120.0, 600.0
ENDED = ("success", "failed")


def main() -> int:
    """Runs the demo and returns its exit code."""
    started = time.perf_counter()
    out = console()
    put_source_files()
    with tempfile.TemporaryDirectory(prefix="dataset-tasks-airflow-") as folder:
        home = Path(folder)
        port = free_port()
        env = environment(home, port)
        airflow = [sys.executable, "-m", "airflow"]
        migrate = subprocess.run([*airflow, "db", "migrate"], env=env, capture_output=True, text=True, check=False)
        if migrate.returncode:
            out.print(migrate.stdout + migrate.stderr)
            return 1
        out.print(f"Airflow's database is made after {time.perf_counter() - started:.1f} s")
        with ExitStack() as stack:
            for daemon in DAEMONS:
                stack.enter_context(service(daemon, [*airflow, daemon], env=env, logs=home))
            server = stack.enter_context(client(f"http://127.0.0.1:{port}/"))
            run, tasks = run_dag(out, server, home, started)
        show_tasks(out, run, tasks)
        with open_session(home=env["DATASET_TASKS_HOME"]) as session:
            made = session.catalog.versions()
            if run["state"] == "success":
                show(session, out, published=PUBLISHED, made={version.id for version in made})
        if run["state"] != "success":
            show_logs(out, home)
    seconds = time.perf_counter() - started
    out.print(f"DAG run {DAG}: {run['state']}, {len(tasks)} tasks, {len(made)} versions made, in {seconds:.1f} s.")
    return 0 if run["state"] == "success" else 1


def environment(home: Path, port: int) -> dict[str, str]:
    """The environment of all daemons: homes of their own, one secret, free ports, quick to see new files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "DATASET_TASKS_"))}
    settings = {
        "CORE__DAGS_FOLDER": str(DAGS),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    return {
        **kept,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
    }


def run_dag(out: Console, server: httpx.Client, home: Path, started: float) -> tuple[JsonObject, list[JsonObject]]:
    """Waits for the servers and the DAG, triggers it over REST and gives the ended run with its tasks."""
    wait_for("Airflow", lambda: get(server, "api/v2/version"), timeout=START_TIMEOUT, log=home / "api-server.log")
    token = json_object(server.get("auth/token"))["access_token"]
    server.headers["Authorization"] = f"Bearer {token}"
    dag = f"api/v2/dags/{DAG}"
    wait_for(f"DAG {DAG}", lambda: get(server, dag), timeout=PARSE_TIMEOUT, log=home / "dag-processor.log")
    out.print(f"Airflow is up and knows the DAG after {time.perf_counter() - started:.1f} s")
    json_object(server.patch(dag, json={"is_paused": False}))
    json_object(server.post(f"{dag}/dagRuns", json={"dag_run_id": RUN, "logical_date": None}))

    told: dict[str, str] = {}

    def ended() -> JsonObject | None:
        for task in task_instances(server):
            if task["state"] and told.get(task["task_id"]) != task["state"]:
                told[task["task_id"]] = task["state"]
                out.print(f"  {task['task_id']}: {task['state']}")
        run = get(server, f"{dag}/dagRuns/{RUN}")
        return run if run and run["state"] in ENDED else None

    run = wait_for("the DAG run", ended, timeout=RUN_TIMEOUT, every=1.0, log=home / "scheduler.log")
    return run, task_instances(server)


def task_instances(server: httpx.Client) -> list[JsonObject]:
    """The task instances of the run, in the order they started."""
    found = json_object(server.get(f"api/v2/dags/{DAG}/dagRuns/{RUN}/taskInstances"))["task_instances"]
    return sorted(found, key=lambda task: (task["start_date"] or "~", task["task_id"]))


def show_tasks(out: Console, run: JsonObject, tasks: list[JsonObject]) -> None:
    """Prints tasks with their states."""
    out.print(f"\nDAG run {DAG}: {run['state']}")
    table = Table()
    for column in ("task", "state", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=True)
    for task in tasks:
        table.add_row(task["task_id"], str(task["state"]), f"{task['duration'] or 0:.1f}")
    out.print(table)


def show_logs(out: Console, home: Path) -> None:
    """Prints the last lines of each task's log: the home they are in will be gone."""
    for log in sorted((home / "logs").rglob("attempt=*.log")):
        out.print(f"--- {log.relative_to(home)}")
        out.print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
