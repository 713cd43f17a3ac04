"""`dataset_task` in flows, on Prefect's own server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from dataset_tasks.errors import NotFoundError, TransformError
from dataset_tasks.session import Session
from prefect_blocks import DatasetCatalog, dataset_task
from tests.e2e.prefect.conftest import Api, read_back, versions

calls: list[str] = []


@dataset_task("crm/orders", publish=True)
def orders(inputs: Mapping[str, Path], output: Path, rows: int = 2) -> dict[str, int]:
    calls.append("orders")
    (output / "orders.csv").write_text("id\n" + "".join(f"{i}\n" for i in range(rows)))
    return {"rows": rows}


@dataset_task("crm/features", inputs={"orders": "crm/orders@published"}, check={"min_files": 1}, tags=["gold"])
def features(inputs: Mapping[str, Path], output: Path, top: int = 1) -> None:
    calls.append("features")
    lines = (inputs["orders"] / "orders.csv").read_text().splitlines()
    (output / "top.csv").write_text("\n".join(lines[: top + 1]))


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@flow
def shop(catalog: DatasetCatalog, rows: int = 2, top: int = 1) -> dict[str, Any]:
    made = orders(rows=rows, catalog=catalog)
    return {"orders": made, "features": features(top=top, inputs={"orders": made}, catalog=catalog)}


def test_what_the_function_writes_is_a_version_that_knows_what_it_was_made_from(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    made = shop(catalog)
    assert versions(session) == ["orders@1.0.0 published", "features@1.0.0 completed"]
    assert read_back(session, "crm/features@latest") == {"top.csv": "id\n0"}
    version = session.catalog.version(made["features"]["version_id"])
    assert [(one.name, one.ref) for one in version.inputs] == [("orders", made["orders"]["version_id"])]
    assert version.tags == ("gold",)
    assert version.origin["runner"] == "prefect"
    assert version.origin["flow"] == "shop"
    assert session.catalog.version(made["orders"]["version_id"]).metadata == {"rows": 2}


def test_nothing_is_made_when_nothing_changed_and_the_function_does_not_even_run(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    first = shop(catalog)
    calls.clear()
    state = shop(catalog, return_state=True)
    assert state.result() == first | {
        key: first[key] | {"unchanged": True} | {name: state.result()[key][name] for name in ("why", "added")}
        for key in first
    }
    assert calls == ["orders"], "what reads nothing runs, and its output is compared"
    assert len(session.catalog.versions()) == 2
    runs = api.task_runs(str(state.state_details.flow_run_id), count=2)
    assert {one["state"]["name"] for one in runs.values()} == {"Unchanged"}


def test_another_argument_makes_another_version(api: Api, catalog: DatasetCatalog, session: Session) -> None:
    shop(catalog)
    shop(catalog, top=2)
    assert versions(session)[2:] == ["features@1.0.1 completed"]


def test_a_function_that_raises_leaves_no_version_and_the_next_run_makes_it(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    trouble = [ValueError("half way"), None]

    @dataset_task("crm/shaky", options={"retries": 1, "retry_delay_seconds": 0})
    def shaky(inputs: Mapping[str, Path], output: Path) -> None:
        (output / "part").write_text("half")
        if error := trouble.pop(0):
            raise error
        assert [file.name for file in output.iterdir()] == ["part"]

    @flow
    def once() -> Any:
        return shaky(catalog=catalog)

    assert once()["version"] == "1.0.0"
    trouble[:] = [ValueError("half way"), ValueError("again")]
    (Path(session.settings.home) / "x").touch()
    changed = shaky.with_options(retries=0)

    @flow
    def failing() -> None:
        changed(catalog=catalog)

    with pytest.raises(TransformError, match="half way"):
        failing()
    assert versions(session) == ["shaky@1.0.0 completed"]
    with pytest.raises(NotFoundError):
        session.catalog.resolve("crm/shaky@published")


def test_inputs_are_read_only(api: Api, catalog: DatasetCatalog, session: Session) -> None:
    @dataset_task("crm/nosy")
    def nosy(inputs: Mapping[str, Path], output: Path) -> None:
        folder = inputs["orders"]
        (output / "modes").write_text(
            f"{folder.stat().st_mode & 0o777:o} {(folder / 'orders.csv').stat().st_mode & 0o777:o}"
        )

    @flow
    def look() -> None:
        made = orders.submit(catalog=catalog)
        nosy(inputs={"orders": made}, catalog=catalog)

    look()
    assert read_back(session, "crm/nosy@latest") == {"modes": "555 444"}


def test_many_are_made_by_map(api: Api, catalog: DatasetCatalog, session: Session) -> None:
    from prefect import unmapped

    @flow
    def rows() -> Any:
        return orders.map(rows=[1, 2, 3], catalog=unmapped(catalog)).result()

    made = rows()
    assert [one["version"] for one in sorted(made, key=lambda one: one["version"])] == ["1.0.0", "1.0.1", "1.0.2"]
    assert {session.catalog.version(one["version_id"]).metadata["rows"] for one in made} == {1, 2, 3}
