"""DAGs in which something goes wrong: killed in mid-upload, taken for dead, failed between setup and teardown."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, chain, get_current_context, task

from airflow_provider.operators import (
    DatasetAddOperator,
    DatasetCreateOperator,
    DatasetFinalizeOperator,
    DatasetPublishOperator,
    DatasetUploadOperator,
)
from airflow_provider.operators.guard import DatasetDropDraftOperator
from dataset_tasks.failpoints import Rule
from dataset_tasks.testing.failpoints import injected

FOLDER = {"folder": Param("", type="string")}
TIMEOUTS = {"overdue": timedelta(seconds=15)}
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=1)}


def tell(name: str, text: str) -> None:
    """Leaves word for the test."""
    place = Path(get_current_context()["params"]["folder"], name)
    place.with_suffix(".part").write_text(text)
    place.with_suffix(".part").rename(place)


def killed(point: str) -> None:
    """As the kernel does it when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def frozen(point: str) -> None:
    """The task and what watches over it stand still: its server hears nothing any more, and takes it for dead."""
    tell("frozen", f"{os.getpid()} {os.getppid()}")
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def stuck(point: str) -> None:
    """A store that does not answer any more."""
    tell("stuck", str(os.getpid()))
    threading.Event().wait(600)


#: By DAG.
TROUBLE = {
    "killed": [Rule("upload.after_chunk", killed, 2)],
    "overdue": [Rule("upload.after_chunk", stuck, 2)],
    "stopped": [Rule("upload.after_chunk", stuck, 2)],
    "zombie": [Rule("upload.before_commit", frozen)],
}


class TroubledUpload(DatasetUploadOperator):
    """Meets with trouble at a point of its first try."""

    def work(self, context):
        """Uploads."""
        rules = TROUBLE[context["ti"].dag_id] if context["ti"].try_number == 1 else ()
        with injected(rules):
            return super().work(context)


for dag_id in TROUBLE:
    with DAG(dag_id, schedule=None, params=FOLDER):
        create = DatasetCreateOperator(task_id="create", project=dag_id, name="orders")
        draft = create.output["version_id"]
        add = DatasetAddOperator(task_id="add", ref=draft, path="{{ params.folder }}/orders")
        upload = TroubledUpload(
            task_id="upload",
            ref=draft,
            chunk_size=0.001,
            max_workers=1,
            execution_timeout=TIMEOUTS.get(dag_id),
            **RETRIES,
        )
        finalize = DatasetFinalizeOperator(task_id="finalize", ref=draft, **RETRIES)
        publish = DatasetPublishOperator(task_id="publish", ref=finalize.output["version_id"], alias="prod")
        chain(create, add, upload, finalize)


def lost(context) -> None:
    """Dies in the first try, when what it made is in the catalog and Airflow has not heard of it: once the test lets it."""
    if context["ti"].try_number > 1:
        return
    name = f"lost_{context['ti'].task_id}"
    tell(name, str(os.getpid()))
    turn = Path(context["params"]["folder"], f"{name}.turn")
    while not turn.exists():
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


class LostCreate(DatasetCreateOperator):
    """Its first answer is lost."""

    def work(self, context):
        """Creates."""
        made = super().work(context)
        lost(context)
        return made


class LostPublish(DatasetPublishOperator):
    """Its first answer is lost."""

    def work(self, context):
        """Publishes."""
        made = super().work(context)
        lost(context)
        return made


with DAG("bystander", schedule=None, params=FOLDER):

    @task
    def other():
        """What is cleared meanwhile."""

    begun = LostCreate(task_id="create", project="bystander", name="orders", **RETRIES)
    draft = begun.output["version_id"]
    filled = DatasetAddOperator(task_id="add", ref=draft, path="{{ params.folder }}/orders")
    stored = DatasetUploadOperator(task_id="upload", ref=draft)
    made = DatasetFinalizeOperator(task_id="finalize", ref=draft)
    told = LostPublish(task_id="publish", ref=made.output["version_id"], alias="prod", **RETRIES)
    other()
    chain(begun, filled, stored, made)

with DAG("guarded", schedule=None, params=FOLDER):
    begun = DatasetCreateOperator(task_id="create", project="guarded", name="orders").as_setup()
    filled = DatasetAddOperator(task_id="add", ref=begun.output["version_id"], path="{{ params.folder }}/orders")

    @task
    def doubt():
        """Fails where the test says so."""
        if Path(get_current_context()["params"]["folder"], "doubt").exists():
            raise ValueError("these orders are wrong")

    stored = DatasetUploadOperator(task_id="upload", ref=begun.output["version_id"])
    made = DatasetFinalizeOperator(task_id="finalize", ref=begun.output["version_id"])
    drop = DatasetDropDraftOperator(task_id="drop", ref=begun.output["version_id"]).as_teardown(setups=begun)
    chain(begun, filled, doubt(), stored, made, drop)
