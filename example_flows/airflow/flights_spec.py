"""The flights spec as a DAG: one group of tasks a dataset, the same versions as `dataset-tasks run` makes.

To try it in a checkout, once `make demo` has put the source files there:

    export AIRFLOW__CORE__DAGS_FOLDER="$PWD/example_flows/airflow" DATASET_TASKS_CATALOG=embedded
    airflow db migrate && airflow dags test flights
"""

from __future__ import annotations

from pathlib import Path

from airflow_provider.dags import dag_from_spec

flights = dag_from_spec(
    Path(__file__).parent.parent / "specs" / "flights.yaml",
    conn_id="dataset_tasks_default",
    tags=["dataset-tasks", "example"],
)
