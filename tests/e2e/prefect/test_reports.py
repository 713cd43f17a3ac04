"""What a flow run shows beside its task runs: progress, checks, lineage, events, and what a version's logger reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from dataset_tasks.dataset import Dataset
from dataset_tasks.errors import CheckFailedError
from dataset_tasks.ops.requests import UploadResult
from dataset_tasks.progress import Progress
from dataset_tasks.session import Session
from prefect_blocks import (
    DatasetCatalog,
    add_external_files,
    add_files,
    check_dataset,
    create_dataset,
    dataset_task,
    events,
    finalize_dataset,
    get_copy,
    live,
    publish_dataset,
    upload_dataset,
)
from tests.e2e.prefect.conftest import Api, eventually


@pytest.fixture
def flow_run_of() -> Any:
    """Runs a flow and gives the id of its run."""

    def run(function: Any) -> str:
        return str(flow(function)(return_state=True).state_details.flow_run_id)

    return run


def by_key(api: Api, flow_run: str) -> dict[str, dict[str, Any]]:
    found = api.find("artifacts", artifacts={"flow_run_id": {"any_": [flow_run]}})
    return {one["key"]: one for one in found}


def test_a_check_is_shown_gate_by_gate_whether_it_holds_or_not(
    api: Api, catalog: DatasetCatalog, data: Path, flow_run_of: Any
) -> None:
    def gates() -> None:
        draft = create_dataset("raw", "lab", catalog=catalog)
        add_files(draft, str(data), catalog=catalog)
        check_dataset(draft, min_files=1, max_files=3, max_change=0.5, catalog=catalog)
        with pytest.raises(CheckFailedError):
            check_dataset(draft, min_files=1, min_bytes=1000, catalog=catalog, step="second")

    found = api.find("artifacts", artifacts={"flow_run_id": {"any_": [flow_run_of(gates)]}})
    each = {one["task_run_id"]: one for one in found}.values()  # Prefect's client may write one again
    tables = [json.loads(one["data"]) for one in sorted(each, key=lambda one: one["created"])]
    outcomes = [{row["gate"]: row["outcome"] for row in rows} for rows in tables]
    assert outcomes == [
        {"min_files": "held", "max_files": "held", "max_change": "passed over"},
        {"min_files": "held", "min_bytes": "failed"},
    ]
    assert tables[1][1]["found"] == "expected at least 1000 bytes, found 12"


def test_a_failed_check_of_a_dataset_function_is_shown_though_no_version_was_made(
    api: Api, catalog: DatasetCatalog, flow_run_of: Any
) -> None:
    @dataset_task("crm/small", check={"min_files": 2})
    def small(inputs: Mapping[str, Path], output: Path) -> None:
        (output / "one").touch()

    run = flow_run_of(lambda: small(catalog=catalog))
    (row,) = json.loads(by_key(api, run)["crm-small-check"]["data"])
    assert (row["gate"], row["outcome"]) == ("min_files", "failed")


def test_long_work_has_a_progress_bar_and_short_work_has_none(
    api: Api, catalog: DatasetCatalog, flow_run_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Session, request: Any, *, progress: Progress, **_: Any) -> UploadResult:
        with progress.task("lab/raw: upload", files=4) as bar:
            bar.advance(files=1)
            if request.chunk_size:
                monkeypatch.setattr(live, "EVERY", 0.0)
            bar.advance(files=1)
        return UploadResult(catalog_id="c", version_id="v", project="lab", name="raw", version="1.0.0")

    monkeypatch.setattr(Session, "run", slow)
    assert "lab-raw-upload" not in by_key(api, flow_run_of(lambda: upload_dataset("lab/raw", catalog=catalog)))
    monkeypatch.setattr(live, "EVERY", 0.0)
    shown = by_key(api, flow_run_of(lambda: upload_dataset("lab/raw", catalog=catalog)))["lab-raw-upload"]
    assert (shown["type"], shown["data"]) == ("progress", 100.0)
    assert shown["task_run_id"] is not None


def test_what_a_version_was_made_from_is_a_page_with_a_picture(
    api: Api, catalog: DatasetCatalog, flow_run_of: Any
) -> None:
    @dataset_task("crm/orders")
    def orders(inputs: Mapping[str, Path], output: Path) -> None:
        (output / "a").write_text("1")

    @dataset_task("crm/features", parents=["crm/orders@latest"], inputs={"o": "crm/orders@latest"})
    def features(inputs: Mapping[str, Path], output: Path) -> None:
        (output / "b").write_text("2")

    def both() -> None:
        orders(catalog=catalog)
        features(catalog=catalog)

    shown = by_key(api, flow_run_of(both))
    assert "crm-orders-lineage" not in shown, "it was made from nothing"
    page = shown["crm-features-lineage"]["data"]
    assert '  v0["crm/features@1.0.0"]\n  v1["crm/orders@1.0.0"]\n  v1 --> v0\n  v1 -.-> v0\n' in page
    assert "crm/orders@1.0.0 (parent), crm/orders@1.0.0 (input)" in page


def test_links_lead_to_external_files_and_to_copies(
    api: Api, catalog: DatasetCatalog, data: Path, tmp_path: Path, flow_run_of: Any
) -> None:
    def linked() -> None:
        draft = create_dataset("far", "lab", catalog=catalog)
        add_external_files(draft, (data / "0.csv").as_uri(), catalog=catalog)
        final = finalize_dataset(draft, catalog=catalog)
        get_copy(final, target=str(tmp_path / "copy"), catalog=catalog)

    shown = by_key(api, flow_run_of(linked))
    (row,) = json.loads(shown["lab-far-changes"]["data"])
    assert row["link"] == (data / "0.csv").as_uri()
    assert (tmp_path / "copy").as_uri() in shown["lab-far-copy"]["data"]


def test_finalizing_and_publishing_are_events_of_the_dataset_that_come_once(
    api: Api, catalog: DatasetCatalog, data: Path, session: Session
) -> None:
    @flow
    def twice() -> Any:
        for _ in range(2):
            draft = create_dataset("told", "lab", skip_unchanged=True, catalog=catalog, step="same")
            add_files(draft, str(data), catalog=catalog)
            upload_dataset(draft, catalog=catalog)
            final = finalize_dataset(draft, catalog=catalog)
            made = publish_dataset(final, alias="prod", catalog=catalog)
        return made

    made = twice()

    def look() -> list[dict[str, Any]] | None:
        found = api.find("events", filter={"event": {"prefix": ["dataset-tasks.version"]}})
        mine = [one for one in found if one["resource"]["prefect.resource.id"] == "dataset://lab/told"]
        return mine if {one["event"] for one in mine} == {events.FINALIZED, events.PUBLISHED} else None

    found = eventually("both events", look)
    assert len({one["id"] for one in found}) == 2
    published = next(one for one in found if one["event"] == events.PUBLISHED)
    assert published["payload"]["version_id"] == made["version_id"]
    assert published["payload"]["files"] == 3
    assert published["resource"]["dataset-tasks.alias"] == "prod"
    assert "prefect.flow-run." in str(published["related"])


def test_what_the_logger_of_a_version_reports_is_shown_in_the_run(
    api: Api, session: Session, home: Path, tmp_path: Path, flow_run_of: Any
) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG small")

    @task
    def train() -> None:
        made = Dataset.create("model", "lab")
        log = made.get_logger()
        log.report_text("first *words*")
        log.report_text("second")
        for i in range(5):
            log.report_scalar("loss", "train", 1.0 / (i + 1), i)
        log.report_table("scores", "test", table_plot=[{"fold": 1, "parts": [1, 2]}])
        log.report_histogram("ages", "all", [3, 4])
        log.report_image("curve", "roc", local_path=picture)
        log.report_media("notes", "all", local_path=picture)

    run = flow_run_of(train)

    def look() -> dict[str, dict[str, Any]] | None:
        shown = by_key(api, run)
        rows = json.loads(shown["lab-model-loss"]["data"])
        return shown if len(rows) == 5 and "second" in shown["lab-model-text"]["data"] else None

    shown = eventually("all reports", look)
    assert shown["lab-model-text"]["data"] == "- first \\*words\\*\n- second"
    assert json.loads(shown["lab-model-loss"]["data"])[4] == {"series": "train", "iteration": 4, "value": 0.2}
    assert json.loads(shown["lab-model-scores-test"]["data"]) == [{"fold": 1, "parts": "[1, 2]"}]
    assert [row["value"] for row in json.loads(shown["lab-model-ages-all"]["data"])] == [3.0, 4.0]
    assert shown["lab-model-curve-roc"]["data"].startswith("![dot.png](data:image/png;base64,")
    assert shown["lab-model-notes-all"]["data"] == "dot.png, 10 bytes, kept with the version"
    assert shown["lab-model-text"]["task_run_id"] is not None


def test_outside_of_a_run_nothing_is_shown(api: Api, session: Session) -> None:
    before = len(api.find("artifacts"))
    Dataset.create("model", "lab").get_logger().report_text("hello")
    assert len(api.find("artifacts")) == before
