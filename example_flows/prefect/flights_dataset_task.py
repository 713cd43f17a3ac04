"""The flights pipeline as a Prefect flow with `dataset_task`: one task a version, nothing to clean up, nothing made twice.

The catalog is what the environment names. To keep versions in the home folder of this machine:

    DATASET_TASKS_CATALOG=embedded python example_flows/prefect/flights_dataset_task.py
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from prefect import flow

from dataset_tasks.model import JsonValue
from example_flows.demo.source import FOLDER, put_source_files
from example_flows.transforms import flights
from prefect_blocks import dataset_task

PROJECT = "nyc/dataset_task"


# It reads a folder that no version is made of, so it runs each time; what it writes decides whether there is news.
@dataset_task(f"{PROJECT}/raw", tags=["source"])
def raw(inputs: Mapping[str, Path], output: Path, source: str) -> dict[str, int]:
    """Copies the source files."""
    files = sorted(file for file in Path(source).iterdir() if file.is_file())
    for file in files:
        shutil.copyfile(file, output / file.name)
    return {"files": len(files)}


@dataset_task(f"{PROJECT}/by_month")
def by_month(inputs: Mapping[str, Path], output: Path) -> dict[str, int]:
    """One file of flights a month."""
    return flights.by_month(inputs, output)


@dataset_task(f"{PROJECT}/delays", alias="prod")
def delays(inputs: Mapping[str, Path], output: Path, late: int) -> dict[str, float]:
    """When and in what weather flights leave late."""
    return flights.delays(inputs, output, late=late)


@flow(name="flights-dataset-task", description="Flights by month and their delays, one task a version")
def flights_dataset_task(source: str = str(FOLDER), late: int = 15) -> dict[str, JsonValue]:
    """Three datasets, each a function from read-only folders to an output folder."""
    files = raw(source=source)
    months = by_month(inputs={"raw": files})
    return delays(inputs={"by_month": months, "weather": files}, late=late)


if __name__ == "__main__":
    put_source_files()
    print(flights_dataset_task())
