"""Runs a spec by one of the three runners, in a process of its own: local, airflow or prefect, then the spec's path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.run import run_plan


def local(spec: str) -> None:
    from dataset_tasks.session import open_session

    with open_session() as session:
        report = run_plan(compile_spec(spec), session)
    assert report.ok, report


def prefect(spec: str) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from prefect_blocks import flow_from_spec

    with prefect_test_harness(server_startup_timeout=120):
        flow_from_spec(spec)()


def airflow(spec: str) -> None:
    folder = Path(spec).parent / "dags"
    folder.mkdir(exist_ok=True)
    (folder / "shop.py").write_text(
        f"from airflow_provider.dags import dag_from_spec\nshop = dag_from_spec({spec!r})\n"
    )
    script = Path(__file__).with_name("run_dag_test.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), "shop"], check=True, capture_output=True, text=True
    )
    assert '"state": "success"' in done.stdout.splitlines()[-1], done.stdout[-4000:]


if __name__ == "__main__":
    {"local": local, "prefect": prefect, "airflow": airflow}[sys.argv[1]](sys.argv[2])
