"""The same spec on every task runner: threads are what the other tests use, here are processes and a Dask cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.task_runners import ProcessPoolTaskRunner

from dataset_tasks.errors import TransformError
from dataset_tasks.session import Session
from prefect_blocks import DatasetCatalog, flow_from_spec
from tests.e2e.prefect.conftest import Api, read_back, versions

SPEC = """
version: 1
name: runners
project: lab
params: {{text: {{type: str, default: "+"}}}}
datasets:
  raw: {{add: [{{path: data}}]}}
  one:
    inputs: [raw]
    transform: {{call: "{module}:shout", with: {{text: "${{params.text}}"}}}}
  two:
    parents: [raw]
    transform: {{call: "{module}:where", always: true}}
  both: {{parents: [one, two], publish: {{alias: prod}}}}
"""
CODE = """
import os
def shout(inputs, output, text):
    if text == "bad": raise ValueError("no luck")
    for file in inputs["raw"].iterdir():
        (output / ("up-" + file.name)).write_text(file.read_text() + text)
def where(inputs, output):
    (output / "pid").write_text(str(os.getpid()))
"""


def dask() -> Any:
    prefect_dask = pytest.importorskip("prefect_dask", reason="pip install prefect-dask")
    return prefect_dask.DaskTaskRunner(
        cluster_kwargs={"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None, "host": "127.0.0.1"}
    )


def processes() -> Any:
    return ProcessPoolTaskRunner(max_workers=2)


@pytest.fixture
def spec(tmp_path: Path, data: Path) -> Path:
    module = f"shouting_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(CODE)
    file = tmp_path / "runners.yaml"
    file.write_text(SPEC.format(module=module))
    return file


@pytest.mark.parametrize("runner", [processes, dask])
def test_a_spec_makes_its_versions_in_other_processes_and_names_of_states_survive(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, runner: Any
) -> None:
    import os

    flow = flow_from_spec(spec, catalog=catalog, task_runner=runner())
    made = flow()
    assert sorted(versions(session)) == [
        "both@1.0.0 published",
        "one@1.0.0 completed",
        "raw@1.0.0 completed",
        "two@1.0.0 completed",
    ]
    found = read_back(session, "lab/both@prod")
    assert found["up-0.csv"] == "a,0\n+"
    assert int(found["pid"]) != os.getpid()

    state = flow(text="bad", return_state=True)
    assert state.is_failed()
    with pytest.raises(TransformError, match="no luck"):
        state.result()
    runs = api.task_runs(str(state.state_details.flow_run_id), count=6)
    names = {name: one["state"]["name"] for name, one in runs.items()}
    assert names["raw.build"] == "Unchanged"
    assert names["one.build"] == "Failed"
    assert names["both.build"] == names["both.publish"] == "Skipped"
    assert made["raw"]["version_id"] == session.catalog.resolve("lab/raw@latest").id
