"""`dataset_version` in flows: nobody sees what was not finished."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prefect import flow
from prefect.transactions import transaction

from dataset_tasks.errors import CheckFailedError, StorageError
from dataset_tasks.session import Session
from prefect_blocks import DatasetCatalog, dataset_version, writing
from tests.e2e.prefect.conftest import Api, read_back, versions


def test_what_the_block_wrote_is_added_checked_stored_finalized_and_published_by_tasks(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    @flow
    def nightly() -> Any:
        with dataset_version(
            "crm/orders", check={"min_files": 1}, verify=True, alias="prod", catalog=catalog
        ) as version:
            assert versions(session) == ["orders@1.0.0 in_progress"]
            (version.output / "a.csv").write_text("id\n")
            version.metadata["rows"] = 0
        return version.result

    state = nightly(return_state=True)
    made = state.result()
    assert versions(session) == ["orders@1.0.0 published"]
    assert read_back(session, "crm/orders@prod") == {"a.csv": "id\n"}
    assert (made["version"], made["files"], made["unchanged"]) == ("1.0.0", 1, False)
    version = session.catalog.version(made["version_id"])
    assert version.metadata == {"rows": 0}
    assert version.origin["flow"] == "nightly"
    runs = api.task_runs(str(state.state_details.flow_run_id), count=8)
    verbs = {tag for run in runs.values() for tag in run["tags"]}
    assert {"create", "add", "check", "upload", "finalize", "verify", "publish"} <= verbs
    assert not list((session.settings.cache_dir / "scratch").rglob("a.csv"))


def test_the_same_content_again_makes_no_version_and_inputs_are_read_only_folders(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    @flow
    def both(text: str) -> Any:
        with dataset_version("crm/orders", catalog=catalog) as orders:
            (orders.output / "a.csv").write_text(text)
        with dataset_version("crm/sums", inputs={"o": orders.result}, catalog=catalog) as sums:
            (sums.output / "sum").write_text((sums.inputs["o"] / "a.csv").read_text() * 2)
            assert sums.inputs["o"].stat().st_mode & 0o777 == 0o555
        return [orders.result, sums.result]

    first, again = both("1"), both("1")
    assert [one["unchanged"] for one in again] == [True, True]
    assert [one["version_id"] for one in again] == [one["version_id"] for one in first]
    both("2")
    assert versions(session) == [
        "orders@1.0.0 completed",
        "sums@1.0.0 completed",
        "orders@1.0.1 completed",
        "sums@1.0.1 completed",
    ]
    assert read_back(session, "crm/sums@latest") == {"sum": "22"}


@pytest.mark.parametrize("where", ["block", "check", "upload"])
def test_a_failure_anywhere_fails_the_flow_and_drops_the_draft(
    api: Api, catalog: DatasetCatalog, session: Session, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"block": ValueError, "check": CheckFailedError, "upload": StorageError}[where]
    if where == "upload":
        run = Session.run

        def refuse(self: Session, request: Any, **how: Any) -> Any:
            if request.verb == "upload":
                raise StorageError("refused")
            return run(self, request, **how)

        monkeypatch.setattr(Session, "run", refuse)

    @flow
    def failing() -> None:
        gates = {"min_files": 2} if where == "check" else None
        with dataset_version("crm/orders", check=gates, publish=True, catalog=catalog) as version:
            (version.output / "a.csv").write_text("id\n")
            if where == "block":
                raise ValueError("no luck")

    state = failing(return_state=True)
    assert state.is_failed()
    with pytest.raises(error):
        state.result()
    assert versions(session) == ["orders@1.0.0 aborted"] or versions(session) == []
    assert not list((session.settings.cache_dir / "scratch").rglob("a.csv"))


def test_a_version_that_could_not_be_published_stays_final_and_the_flow_fails(
    api: Api, catalog: DatasetCatalog, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Session.run

    def refuse(self: Session, request: Any, **how: Any) -> Any:
        if request.verb == "publish":
            raise StorageError("refused")
        return run(self, request, **how)

    @flow
    def failing() -> None:
        with dataset_version("crm/orders", publish=True, catalog=catalog) as version:
            (version.output / "a.csv").write_text("id\n")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", refuse)
        assert failing(return_state=True).is_failed()
    assert versions(session) == ["orders@1.0.0 completed"], "others may have read it"
    assert failing(return_state=True).is_completed()
    assert versions(session) == ["orders@1.0.0 published"]


def test_a_transaction_around_the_block_rolls_back_the_draft_but_never_a_final_version(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    @flow
    def around() -> None:
        with transaction():
            with dataset_version("crm/done", catalog=catalog) as version:
                (version.output / "a").touch()
            raise ValueError("later")

    assert around(return_state=True).is_failed()
    assert versions(session) == ["done@1.0.0 completed"]


def test_a_decorated_function_takes_its_own_arguments_and_what_it_returns_is_metadata(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    @flow
    @dataset_version("crm/orders", catalog=catalog, alias="prod")
    def orders(version: writing.OpenVersion, rows: int = 2) -> dict[str, int]:
        (version.output / "a.csv").write_text("x\n" * rows)
        return {"rows": rows}

    @flow
    @dataset_version("crm/later", catalog=catalog)
    async def later(version: writing.OpenVersion) -> None:
        await asyncio.sleep(0)
        (version.output / "b.csv").write_text("y\n")

    assert list(orders.parameters.properties) == ["rows"]
    assert orders(rows=3)["version"] == "1.0.0"
    assert asyncio.run(later())["version"] == "1.0.0"
    assert read_back(session, "crm/orders@prod") == {"a.csv": "x\nx\nx\n"}
    assert session.catalog.resolve("crm/orders@prod").metadata == {"rows": 3}
    assert read_back(session, "crm/later@latest") == {"b.csv": "y\n"}


def test_a_flow_tried_again_after_it_was_done_makes_nothing_twice_and_after_a_failure_starts_empty(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    tries: list[str] = []

    @flow(retries=2)
    def shaky() -> Any:
        with dataset_version("crm/orders", publish=True, catalog=catalog) as version:
            assert not list(version.output.iterdir())
            (version.output / f"{min(1, len(tries))}.csv").write_text("id\n")
            tries.append(version.id)
            if len(tries) == 1:
                raise ConnectionError("half way")
        if len(tries) == 2:
            raise ConnectionError("after it was done")
        return version.result

    assert shaky()["version"] == "1.0.0"
    assert len(tries) == 3
    assert [one for one in versions(session) if "aborted" not in one] == ["orders@1.0.0 published"]
    assert read_back(session, "crm/orders@published") == {"1.csv": "id\n"}


def test_the_next_run_drops_what_a_dead_one_left_and_leaves_the_living_alone(
    api: Api, catalog: DatasetCatalog, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    def killed(name: str) -> None:
        """As after a kill: the draft is there, its last sign of life too, and nothing is rolled back."""
        made = writing.begin_version.fn(name, "crm", catalog=catalog)
        with writing._heartbeat(session, made["version_id"]):
            left.append(made["version_id"])

    killed("orders")
    killed("other")

    @flow
    def again() -> None:
        with dataset_version("crm/orders", catalog=catalog) as version:
            (version.output / "a").touch()

    again()
    assert session.catalog.version(left[0]).state == "in_progress", "its run was heard of a moment ago"
    monkeypatch.setattr(writing, "DEAD", -1.0)
    again()
    assert session.catalog.version(left[0]).state == "aborted"
    assert session.catalog.version(left[1]).state == "in_progress", "it is of another dataset"
