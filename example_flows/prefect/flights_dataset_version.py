"""Write, audit, publish inside of a flow of one's own: `dataset_version` opens a version, the block fills it.

What the block writes is checked, made final, read back and published as tasks at its end; when it raises, the draft goes and
nobody has seen it. The catalog is what the environment names. To keep versions in the home folder of this machine:

    DATASET_TASKS_CATALOG=embedded python example_flows/prefect/flights_dataset_version.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefect import flow, task

from example_flows.demo.source import FOLDER, put_source_files
from example_flows.transforms import flights
from prefect_blocks import dataset_version

PROJECT = "nyc/dataset_version"


@task
def put(source: str, output: Path) -> int:
    """An ordinary task that writes into the open version."""
    files = sorted(file for file in Path(source).iterdir() if file.is_file())
    for file in files:
        shutil.copyfile(file, output / file.name)
    return len(files)


@flow(name="flights-dataset-version", description="Source files, and flights by month after a check")
def flights_dataset_version(source: str = str(FOLDER)) -> dict[str, Any]:  # Any: the result as JSON
    """Two versions; the second is published as prod only when it has its twelve months."""
    with dataset_version(f"{PROJECT}/raw", tags=["source"]) as raw:
        raw.metadata["files"] = put(source, raw.output)
    with dataset_version(
        f"{PROJECT}/by_month", inputs={"raw": raw.result}, check={"min_files": 12}, verify=True, alias="prod"
    ) as months:
        flights.by_month(months.inputs, months.output)
    return months.result


if __name__ == "__main__":
    put_source_files()
    print(flights_dataset_version())
