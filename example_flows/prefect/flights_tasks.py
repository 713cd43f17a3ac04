"""The flights pipeline as a Prefect flow with one task an operation: the finest grain, for a flow that exists already.

The catalog is what the environment names. To keep versions in the home folder of this machine:

    DATASET_TASKS_CATALOG=embedded python example_flows/prefect/flights_tasks.py
"""

from __future__ import annotations

from prefect import flow

from dataset_tasks.model import JsonValue
from example_flows.demo.source import FOLDER, put_source_files
from prefect_blocks.tasks import (
    check_dataset,
    create_dataset,
    finalize_dataset,
    publish_dataset,
    sync_folder,
    transform_dataset,
    upload_dataset,
    verify_dataset,
)

PROJECT = "nyc/tasks"


@flow(name="flights-tasks", description="Flights by month, one task an operation")
def flights_tasks(source: str = str(FOLDER)) -> dict[str, JsonValue]:
    """Versions the source files and the flights by month; a killed run that is run again goes on from there."""
    # `previous` starts the draft from the last version: the sync then stores only what changed.
    draft = create_dataset("raw", PROJECT, previous=True)
    sync_folder(draft, source, exclude=["weather.csv"])
    upload_dataset(draft)
    raw = finalize_dataset(draft)

    # An input is read and recorded as lineage; a parent would be inherited.
    draft = create_dataset("by_month", PROJECT, inputs={"raw": raw}, tags=["monthly"])
    transform_dataset(draft, "example_flows.transforms.flights:by_month")
    check_dataset(draft, min_files=12, max_files=12)
    upload_dataset(draft)
    months = finalize_dataset(draft)
    verify_dataset(months, quarantine=True)
    return publish_dataset(months, alias="prod")


if __name__ == "__main__":
    put_source_files()
    print(flights_tasks())
