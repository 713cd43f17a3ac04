"""The flights spec as a DAG: one group of tasks a dataset, the same versions as `dataset-tasks run` makes."""

from __future__ import annotations

from pathlib import Path

from airflow_provider.dags import dag_from_spec

flights = dag_from_spec(
    Path(__file__).parent.parent / "specs" / "flights.yaml",
    conn_id="dataset_tasks_default",
    tags=["dataset-tasks", "example"],
)
