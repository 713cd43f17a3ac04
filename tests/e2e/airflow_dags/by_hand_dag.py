"""DAGs written by hand: mapped operators, the task decorator, a consumer of asset events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, chain, get_current_context, task

from airflow_provider.assets import PUBLISHED, dataset_asset, triggering_versions
from airflow_provider.operators import (
    DatasetAddOperator,
    DatasetCreateOperator,
    DatasetFinalizeOperator,
    DatasetPublishOperator,
    DatasetUploadOperator,
)

FOLDER = {"folder": Param("", type="string")}

with DAG("mapped", schedule=None, params=FOLDER):
    create = DatasetCreateOperator(task_id="create", project="mapped", name="orders", tags=["by-hand"])
    draft = create.output["version_id"]

    @task
    def parts() -> list[dict[str, str]]:
        """What there is to add, known only now."""
        folder = get_current_context()["params"]["folder"]
        return [{"path": f"{folder}/{name}", "dataset_path": name} for name in ("orders", "visits")]

    add = DatasetAddOperator.partial(task_id="add", ref=draft, max_active_tis_per_dagrun=2).expand_kwargs(parts())
    upload = DatasetUploadOperator(task_id="upload", ref=draft)
    finalize = DatasetFinalizeOperator(task_id="finalize", ref=create.output)
    publish = DatasetPublishOperator(task_id="publish", ref=finalize.output["version_id"], alias="prod")
    chain(create, add, upload, finalize)

with DAG("decorated", schedule=None, params=FOLDER):

    @task.dataset("decorated/words", retries=2, retry_delay=timedelta(seconds=1))
    def words(inputs, output, folder):
        """Fails the first time, with a file half written."""
        (output / "words.txt").write_text("a b c")
        tried = Path(folder, "tried")
        if not tried.exists():
            tried.touch()
            (output / "half.txt").write_text("half done")
            raise ConnectionError("the source is away")
        return {"words": 3}

    @task.dataset("decorated/count", inputs={"words": words(folder="{{ params.folder }}")}, publish=True)
    def count(inputs, output, unit):
        """Counts."""
        text = (inputs["words"] / "words.txt").read_text()
        (output / "count.txt").write_text(f"{len(text.split())} {unit}")

    made = count(unit="words")

    @task
    def read(version_id):
        """Knows the exact version."""
        return version_id

    read(made["version_id"])

with DAG("consumer", schedule=[dataset_asset("crm/report")]):

    @task
    def seen():
        """The versions that this run was started for."""
        return triggering_versions(get_current_context())

    seen()

with DAG("all_publishes", schedule=PUBLISHED):

    @task
    def told():
        """As `seen`, for datasets that no DAG declares."""
        return triggering_versions(get_current_context())

    told()
