"""`make demo-airflow`: the flights spec as a DAG, run by a real scheduler in an Airflow home that is thrown away."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dataset_tasks.session import open_session
from example_flows.demo.airflow_server import AirflowServer
from example_flows.demo.services import JsonObject, ServiceError
from example_flows.demo.source import EXAMPLES, put_source_files
from example_flows.demo.summary import console, show

DAGS = EXAMPLES / "airflow"
DAG = "flights"
RUN = "demo"


def main() -> int:
    """Runs the demo and returns its exit code."""
    started = time.perf_counter()
    out = console()
    put_source_files()
    with tempfile.TemporaryDirectory(prefix="dataset-tasks-airflow-") as folder:
        try:
            with AirflowServer(Path(folder), DAGS) as airflow:
                airflow.unpause(DAG)
                out.print(f"Airflow is up and knows the DAG after {time.perf_counter() - started:.1f} s")
                run, tasks = run_dag(out, airflow)
        except ServiceError as error:
            out.print(str(error))
            return 1
        show_tasks(out, run, tasks)
        with open_session(home=airflow.env["DATASET_TASKS_HOME"]) as session:
            made = session.catalog.versions()
            if run["state"] == "success":
                show(session, out, made={version.id for version in made})
        if run["state"] != "success":
            out.print(airflow.log_tails(), soft_wrap=True)
    seconds = time.perf_counter() - started
    out.print(f"DAG run {DAG}: {run['state']}, {len(tasks)} tasks, {len(made)} versions made, in {seconds:.1f} s.")
    return 0 if run["state"] == "success" else 1


def run_dag(out: Console, airflow: AirflowServer) -> tuple[JsonObject, list[JsonObject]]:
    """Triggers the DAG over REST and gives the ended run with its tasks, telling each change on the way."""
    told: dict[str, str] = {}

    def tell(tasks: list[JsonObject]) -> None:
        for task in tasks:
            if task["state"] and told.get(task["task_id"]) != task["state"]:
                told[task["task_id"]] = task["state"]
                out.print(f"  {task['task_id']}: {task['state']}")

    airflow.trigger(DAG, RUN)
    run = airflow.wait_for_run(DAG, RUN, look=tell)
    tell(tasks := airflow.tasks(DAG, RUN))
    return run, tasks


def show_tasks(out: Console, run: JsonObject, tasks: list[JsonObject]) -> None:
    """Prints tasks with their states."""
    out.print(f"\nDAG run {DAG}: {run['state']}")
    table = Table()
    for column in ("task", "state", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=True)
    for task in tasks:
        table.add_row(task["task_id"], str(task["state"]), f"{task['duration'] or 0:.1f}")
    out.print(table)


if __name__ == "__main__":
    sys.exit(main())
