"""What comes after the flights: a DAG that each publish starts, and one that waits for a version that suits it.

Both know the exact version: by its id in the event, or by what the sensor found. Neither asks for "the latest".
Both read what flights_operators.py makes; the events that start the first come in a running scheduler only.
"""

from __future__ import annotations

from airflow.sdk import DAG, get_current_context, task

from airflow_provider.assets import dataset_asset, triggering_versions
from airflow_provider.operators import DatasetGetOperator
from airflow_provider.sensors import DatasetSensor

DATASET = "nyc/operators/by_month"

with DAG(
    "flights_on_publish",
    description="Runs for each version of the flights by month that is published",
    schedule=[dataset_asset(DATASET)],
    tags=["dataset-tasks", "example"],
):

    @task
    def report() -> list[str]:
        """The versions that started this run: several, when they were published while it could not start; none by hand."""
        found = triggering_versions(get_current_context()).get(DATASET, [])
        for version_id in found:
            print("published:", version_id)
        return found

    report()

with DAG(
    "flights_when_tagged",
    description="Waits for a version with the tag `monthly`, and copies the summer of it",
    schedule=None,
    tags=["dataset-tasks", "example"],
):
    # In the triggerer, without a worker, for at most a day.
    ready = DatasetSensor(task_id="ready", dataset=DATASET, tags=["monthly"], deferrable=True, timeout=24 * 3600)
    DatasetGetOperator(task_id="summer", ref=ready.output, files=["flights/2013-0[678].csv"])
