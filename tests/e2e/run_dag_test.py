"""Runs `dag.test()` for DAGs of a folder and prints what became of their tasks; in a process of its own.

Arguments: the folder, then `dag_id` or `dag_id={"conf": ...}` for each run. AIRFLOW_HOME is the caller's.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(folder: str, runs: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    assert bag.import_errors == {}, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)
    found = []
    for asked in runs:
        dag_id, _, conf = asked.partition("=")
        run = bag.dags[dag_id].test(run_conf=json.loads(conf) if conf else None)
        tasks = {ti.task_id: ti.state for ti in run.get_task_instances()}
        found.append({"dag": dag_id, "state": run.state, "tasks": tasks})
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
