"""A spec as a flow: states, lineage, artifacts, failures, on Prefect's own server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from dataset_tasks.errors import InvalidArgumentError, TransformError
from dataset_tasks.session import Session
from prefect_blocks import DatasetCatalog, flow_from_spec
from tests.e2e.prefect.conftest import Api, read_back, versions

SPEC = """
version: 1
name: lab-night
project: lab
description: Small and quick
params:
  times: {{type: int, default: 2}}
{defaults}
datasets:
  raw:
    sync: {{path: data}}
  twice:
    inputs: [raw]
    transform: {{call: "{module}:repeat", with: {{times: "${{params.times}}"}}}}
  both:
    parents: [raw, twice]
    add: [{{path: data, dataset_path: "more"}}]
    remove: ["more/1.csv"]
    check: {{min_files: 3}}
    verify: true
    publish: {{alias: prod}}
  flat:
    squash: [both]
  apart:
    add: [{{path: data}}]
"""
CODE = """
def repeat(inputs, output, times):
    if times > 90:
        raise ValueError("no <b>luck</b>")
    for file in sorted(inputs["raw"].iterdir()):
        (output / ("x" + file.name)).write_text(file.read_text() * times)
    return {"times": times}
"""


@pytest.fixture
def spec(tmp_path: Path, data: Path, request: pytest.FixtureRequest) -> Path:
    """The spec above with a module of its own beside it."""
    module = f"steps_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{module}.py").write_text(CODE)
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC.format(module=module, defaults=""))
    return file


def run(flow: Any, **params: Any) -> tuple[str, Any]:
    """Flow run id and state."""
    state = flow(**params, return_state=True)
    return str(state.state_details.flow_run_id), state


def test_a_spec_makes_its_versions_once_and_says_unchanged_from_then_on(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session
) -> None:
    flow = flow_from_spec(spec, catalog=catalog, tags=["lab"])
    first, state = run(flow)
    made = state.result()
    assert made.keys() == {"raw", "twice", "both", "flat", "apart"}
    expected = ["raw@1.0.0 completed", "twice@1.0.0 completed", "both@1.0.0 published", "flat@1.0.0 completed"]
    assert sorted(versions(session)) == sorted([*expected, "apart@1.0.0 completed"])
    assert read_back(session, "lab/flat@latest")["x1.csv"] == "a,1\na,1\n"
    assert session.catalog.version(made["twice"]["version_id"]).metadata == {"times": 2}

    steps = ["raw.build", "twice.build", "both.build", "both.publish", "flat.squash", "apart.build"]
    runs = api.task_runs(first, count=6 + 5)  # five versions were recorded as assets
    assert {name: one["state"]["name"] for name, one in runs.items() if name in steps} == dict.fromkeys(
        steps, "Completed"
    )
    assert set(runs["twice.build"]["tags"]) == {"dataset-tasks", "build", "lab"}
    assert {one["id"] for one in runs["twice.build"]["task_inputs"]["wait_for"]} == {runs["raw.build"]["id"]}

    second, state = run(flow)
    assert state.is_completed()
    runs = api.task_runs(second, count=6)
    assert {name: one["state"]["name"] for name, one in runs.items()} == dict.fromkeys(steps, "Unchanged")
    assert {one["state"]["type"] for one in runs.values()} == {"COMPLETED"}
    assert "same content" in runs["twice.build"]["state"]["message"]
    assert {key: one["version_id"] for key, one in state.result().items()} == {
        key: one["version_id"] for key, one in made.items()
    }
    assert len(session.catalog.versions()) == 5


def test_only_what_depends_on_a_change_is_made_again(
    api: Api, spec: Path, data: Path, catalog: DatasetCatalog, session: Session
) -> None:
    flow = flow_from_spec(spec, catalog=catalog)
    flow()
    made = flow(times=3)
    assert {key for key, one in made.items() if not one["unchanged"]} == {"twice", "both", "flat"}
    assert read_back(session, "lab/twice@latest")["x0.csv"] == "a,0\n" * 3


def test_assets_are_new_versions_with_their_lineage_and_none_of_unchanged_ones(
    api: Api, spec: Path, catalog: DatasetCatalog
) -> None:
    spec.write_text(spec.read_text().replace("project: lab", "project: assets"))
    flow = flow_from_spec(spec, catalog=catalog)
    made = flow()
    flow()
    flow(times=3)
    first, second = api.materialized("dataset://assets/twice", 2)
    assert first["payload"] == {
        "version_id": made["twice"]["version_id"],
        "version": "1.0.0",
        "content_hash": made["twice"]["content_hash"],
        "files": 3,
        "bytes": 24,
        "catalog_id": made["twice"]["catalog_id"],
    }
    assert second["payload"]["version"] == "1.0.1"
    related = {one["prefect.resource.id"] for one in first["related"] if one["prefect.resource.role"] == "asset"}
    assert related == {"dataset://assets/raw"}
    (raw,) = api.materialized("dataset://assets/raw", 1)
    assert not [one for one in raw["related"] if one["prefect.resource.role"] == "asset"]
    flat, _ = api.materialized("dataset://assets/flat", 2)
    related = {one["prefect.resource.id"] for one in flat["related"] if one["prefect.resource.role"] == "asset"}
    assert "dataset://assets/both" in related


def test_artifacts_show_what_was_made_what_changed_and_from_what(api: Api, spec: Path, catalog: DatasetCatalog) -> None:
    run_id, _ = run(flow_from_spec(spec, catalog=catalog))
    table = api.artifact("lab-night-versions", run_id)
    rows = {row["dataset"]: row for row in json.loads(table["data"])}
    assert rows["lab/both"]["outcome"] == "made, published"
    assert (rows["lab/twice"]["files"], rows["lab/twice"]["bytes"]) == (3, 24)
    lineage = api.artifact("lab-night-lineage", run_id)
    assert "d_raw -.-> d_twice" in lineage["data"]
    assert "| lab/flat | 1.0.0 | both (squash) |" in lineage["data"]
    changes = api.artifact("lab-both-changes", run_id)
    paths = {row["path"]: row for row in json.loads(changes["data"])}
    assert {"0.csv", "x0.csv", "more/0.csv"} <= paths.keys()
    assert "more/1.csv" not in paths
    assert paths["x0.csv"] == {"change": "added", "path": "x0.csv", "bytes before": None, "bytes now": 8}


def test_a_failure_skips_what_is_below_it_with_the_reason_and_nothing_else(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session
) -> None:
    flow = flow_from_spec(spec, catalog=catalog)
    run_id, state = run(flow, times=99)
    assert state.is_failed()
    with pytest.raises(TransformError, match="no <b>luck</b>") as caught:
        state.result()
    assert caught.value.__notes__ == [
        "raised by step twice.build; failed in all: twice.build; skipped: both.build, both.publish, flat.squash"
    ]
    assert sorted(versions(session)) == ["apart@1.0.0 completed", "raw@1.0.0 completed"]
    runs = api.task_runs(run_id, count=6 + 2)
    states = {name: (one["state"]["type"], one["state"]["name"]) for name, one in runs.items()}
    assert states["twice.build"] == ("FAILED", "Failed")
    for skipped in ("both.build", "both.publish", "flat.squash"):
        assert states[skipped] == ("CANCELLED", "Skipped")
        assert "twice.build failed" in runs[skipped]["state"]["message"]
    assert states["apart.build"] == ("COMPLETED", "Completed")
    below = runs["flat.squash"]["task_inputs"]["wait_for"]
    assert [one["id"] for one in below] == [runs["twice.build"]["id"]], "the picture leads to the failure"
    table = api.artifact("lab-night-versions", run_id)
    assert {row["dataset"]: row["outcome"] for row in json.loads(table["data"])} == {
        "lab/raw": "made",
        "lab/apart": "made",
        "lab/twice": "failed",
        "lab/both": "skipped",
        "lab/flat": "skipped",
    }

    made = flow(times=2)
    assert {key for key, one in made.items() if one["unchanged"]} == {"raw", "apart"}


def test_a_step_is_tried_again_as_often_as_the_spec_says(
    api: Api, spec: Path, data: Path, catalog: DatasetCatalog, tmp_path: Path
) -> None:
    module = spec.read_text().split('call: "')[1].split(":")[0]
    (tmp_path / f"{module}.py").write_text(
        "from pathlib import Path\n"
        "def repeat(inputs, output, times):\n"
        f"    tries = Path({str(tmp_path / 'tries')!r})\n"
        "    tries.write_text((tries.read_text() if tries.exists() else '') + 'x')\n"
        "    if len(tries.read_text()) < 3: raise OSError('not yet')\n"
        "    (output / 'done').touch()\n"
    )
    spec.write_text(SPEC.format(module=module, defaults="defaults: {retries: 2, retry_delay: 0s}"))
    assert flow_from_spec(spec, catalog=catalog)()["twice"]["version"] == "1.0.0"
    assert (tmp_path / "tries").read_text() == "xxx"


def test_a_step_whose_time_is_up_ends_and_leaves_no_version(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, tmp_path: Path
) -> None:
    module = spec.read_text().split('call: "')[1].split(":")[0]
    endless = "import time\ndef repeat(inputs, output, times):\n    while True: time.sleep(0.01)\n"
    (tmp_path / f"{module}.py").write_text(endless)
    spec.write_text(spec.read_text().replace("    inputs: [raw]", "    timeout: 1s\n    inputs: [raw]"))
    run_id, state = run(flow_from_spec(spec, catalog=catalog))
    assert state.is_failed()
    runs = api.task_runs(run_id, count=6 + 2)
    assert runs["twice.build"]["state"]["name"] == "TimedOut"
    assert runs["flat.squash"]["state"]["name"] == "Skipped"
    assert "twice" not in {one.name for one in session.catalog.versions() if one.state != "aborted"}


def test_one_task_an_operation_makes_the_same_versions(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session
) -> None:
    made = flow_from_spec(spec, catalog=catalog)()
    again = spec.with_name("fine.yaml")
    again.write_text(spec.read_text().replace("datasets:", "defaults: {granularity: operation}\ndatasets:"))
    flow = flow_from_spec(again, catalog=catalog)
    run_id, state = run(flow)
    runs = api.task_runs(run_id, count=20)
    assert {"both.add.0", "both.check", "both.verify", "twice.transform"} <= runs.keys()
    assert {name: one["state"]["name"] for name, one in runs.items() if name.endswith((".finalize", ".publish"))} == {
        "raw.finalize": "Unchanged",
        "twice.finalize": "Unchanged",
        "both.finalize": "Unchanged",
        "both.publish": "Unchanged",
        "apart.finalize": "Unchanged",
    }
    ids = {key: one["version_id"] for key, one in state.result().items()}
    assert ids == {key: one["version_id"] for key, one in made.items()}
    assert {one.state for one in session.catalog.versions()} <= {"completed", "published"}


def test_bad_parameters_are_refused_before_anything_is_made(
    api: Api, spec: Path, catalog: DatasetCatalog, home: Path
) -> None:
    flow = flow_from_spec(spec, catalog=catalog)
    with pytest.raises(ParameterTypeError, match="times"):
        flow(times="many")
    assert not home.exists()


def test_a_run_without_a_window_makes_nothing_where_the_spec_asks_for_its_date(
    api: Api, spec: Path, catalog: DatasetCatalog, home: Path
) -> None:
    text = spec.read_text().replace("datasets:", 'schedule: {cron: "0 6 * * *", start: "2026-01-01"}\ndatasets:')
    spec.write_text(text.replace("  flat:", '  dated: {parents: [raw], metadata: {day: "${run.date}"}}\n  flat:'))
    with pytest.raises(InvalidArgumentError, match="this run stands for no window"):
        flow_from_spec(spec, catalog=catalog)()
    assert not home.exists()
