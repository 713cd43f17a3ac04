"""DAGs that wait: sensors, asset watchers, and a partitioned timetable."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, AssetWatcher, Param, PartitionedAssetTimetable, get_current_context, task

from airflow_provider.assets import dataset_asset, triggering_versions, watched_asset
from airflow_provider.dags import dag_from_spec, dataset_task_group
from airflow_provider.sensors.dataset import DatasetSensor
from airflow_provider.triggers.dataset import DatasetEventTrigger

HERE = Path(__file__).parent

with DAG("waits", schedule=None):
    published = DatasetSensor(
        task_id="published", dataset="outside/orders", alias="prod", tags=["eu"], deferrable=True, poke_interval=2,
        timeout=300,
    )  # fmt: skip
    completed = DatasetSensor(task_id="completed", dataset="outside/visits", until="completed", poke_interval=2)

    @task
    def read(order, visit):
        """The exact versions."""
        return [order, visit]

    read(published.output["version_id"], completed.output["version_id"])

with DAG("waits_long", schedule=None):
    DatasetSensor(task_id="late", dataset="outside/late", deferrable=True, poke_interval=2, timeout=300)


def watched(dataset: str) -> Asset:
    """The asset of a dataset, told of by the catalog."""
    asset = dataset_asset(dataset)
    trigger = DatasetEventTrigger(dataset=dataset, poll_interval=2)
    return Asset(name=asset.name, uri=asset.uri, watchers=[AssetWatcher(name=f"{dataset}-watch", trigger=trigger)])


#: One object for each: Airflow keeps the watchers of an asset as it read them last, in whatever DAG.
OWN = watched("watched/own")
WATCHED = {
    "watched": watched("watched/orders"),
    "watched_visits": watched("watched/visits"),
    "watched_late": watched("watched/late"),
    "watched_kept": watched_asset("watched/kept"),
    "watched_own": OWN,
}
for dag_id, asset in WATCHED.items():
    with DAG(dag_id, schedule=[asset]):

        @task
        def seen():
            """The versions that this run was started for."""
            return triggering_versions(get_current_context())

        seen()

with DAG("makes_own", schedule=None):

    @task.dataset("watched/own", publish=True, outlets=[OWN])
    def own(inputs, output, run):
        """A new version in each run."""
        (output / "run.txt").write_text(run)

    own(run="{{ run_id }}")

told = dag_from_spec(HERE / "parts" / "told.yaml")
by_day = dag_from_spec(HERE / "parts" / "days.yaml", partition_events=True)

with DAG("by_partition", schedule=PartitionedAssetTimetable(assets=dataset_asset("crm-days/day"))):

    @task
    def which():
        """The partition that this run is for."""
        context = get_current_context()
        return {"key": context["dag_run"].partition_key, **triggering_versions(context)}

    which()

with DAG("grouped", schedule=None, params={"folder": Param("", type="string")}):

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def before():
        """Something of somebody's own."""
        return "ana"

    @task
    def after(version_id):
        """Reads what the group made."""
        return version_id

    group = dataset_task_group(HERE / "parts" / "part.yaml", params={"who": "{{ ti.xcom_pull('before') }}"})
    before() >> group >> after("{{ ti.xcom_pull('part.orders.build')['version_id'] }}")
