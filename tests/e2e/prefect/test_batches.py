"""Batches on Prefect's own server: fewer task runs, the same catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.errors import StorageUnavailableError
from dataset_tasks.model import Version
from dataset_tasks.session import Session
from prefect_blocks import DatasetCatalog, flow_from_spec
from tests.e2e.prefect.conftest import Api, read_back, versions

PARTS, BATCH = 12, 8


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A dataset of many adds, each its own operation."""
    for i in range(PARTS):
        (tmp_path / "data" / f"p{i}").mkdir(parents=True)
        (tmp_path / "data" / f"p{i}" / "a.csv").write_text(f"{i}\n")
    adds = ", ".join(f"{{path: data/p{i}, dataset_path: d{i}}}" for i in range(PARTS))
    file = tmp_path / "many.yaml"
    file.write_text(
        "version: 1\nname: many\nproject: lab\ndefaults: {granularity: operation, retries: 1, retry_delay: 0s}\n"
        f"prefect: {{batch: {BATCH}}}\n"
        f"datasets:\n  raw:\n    add: [{adds}]\n    remove: [d4]\n    publish: {{alias: prod}}\n"
    )
    return file


def told(version: Version) -> dict[str, Any]:
    """What a catalog knows of a version, but for ids, times and who made it."""
    names = ("project", "name", "version", "state", "content_hash", "files", "bytes", "parents", "inputs")
    return {name: getattr(version, name) for name in names}


def test_batches_make_the_same_catalog_in_fewer_task_runs(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, tmp_path: Path
) -> None:
    state = flow_from_spec(spec, catalog=catalog)(return_state=True)
    runs = api.task_runs(str(state.state_details.flow_run_id), count=7)
    own = {"raw.create", "raw.add.0-7", "raw.add.8-11", "raw.remove", "raw.upload", "raw.finalize", "raw.publish"}
    assert {name for name in runs if not name.startswith("record")} == own
    assert set(runs["raw.add.0-7"]["tags"]) == {"dataset-tasks", "add"}

    alone = DatasetCatalog(embedded=True, home=str(tmp_path / "alone"))
    flow_from_spec(spec, catalog=alone, batch=1)()
    other = alone.session()
    assert [told(one) for one in session.catalog.versions()] == [told(one) for one in other.catalog.versions()]
    assert read_back(session, "lab/raw@prod") == read_back(other, "lab/raw@prod")
    assert len(read_back(session, "lab/raw@prod")) == PARTS - 1

    again = flow_from_spec(spec, catalog=catalog)()
    assert again["raw"]["unchanged"]
    assert versions(session) == ["raw@1.0.0 published"]


def test_a_batch_that_fails_half_way_is_tried_again_from_there(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = Session.run, []

    def once_refused(self: Session, request: Any, **how: Any) -> Any:
        if request.verb == "add":
            asked.append(Path(request.path).name)
            if asked.count("p5") == 1 and asked[-1] == "p5":
                raise StorageUnavailableError("not now")
        return run(self, request, **how)

    monkeypatch.setattr(Session, "run", once_refused)
    state = flow_from_spec(spec, catalog=catalog)(return_state=True)
    assert state.is_completed()
    assert asked == [f"p{i}" for i in range(6)] + [f"p{i}" for i in range(5, PARTS)], "no part is done twice"
    runs = api.task_runs(str(state.state_details.flow_run_id), count=7)
    assert (runs["raw.add.0-7"]["run_count"], runs["raw.add.8-11"]["run_count"]) == (2, 1)
    assert len(read_back(session, "lab/raw@prod")) == PARTS - 1
