"""What people do in Prefect beside the examples: tasks in tasks, loops, maps, subflows, async, kept results, blocks that go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.exceptions import ParameterTypeError

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.session import Session
from prefect_blocks import (
    DatasetCatalog,
    create_dataset,
    dataset_task,
    dataset_version,
    flow_from_spec,
    publish_dataset,
)
from tests.e2e.prefect.conftest import Api, read_back, versions


def living(session: Session) -> list[str]:
    """What there is beside dropped drafts."""
    return sorted(one for one in versions(session) if not one.endswith("aborted"))


def test_a_block_in_a_task_that_is_mapped_makes_a_version_each(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    @task
    def write(name: str, day: int) -> Any:
        with dataset_version(f"crm/{name}", catalog=catalog) as version:
            (version.output / "day").write_text(str(day))
        return version.result

    @flow
    def all_days() -> Any:
        own = write.map(["a", "b", "c"], [1, 2, 3])
        return own.result() + write.map(["same", "same", "same"], [1, 2, 3]).result()

    made = all_days()
    assert len({one["version_id"] for one in made}) == 6
    assert [read_back(session, one["version_id"]) for one in made] == [{"day": str(day)} for day in (1, 2, 3)] * 2
    assert all(one.endswith("completed") for one in living(session))


def test_a_loop_in_a_flow_or_a_task_writes_a_dataset_again_and_again_and_a_retry_of_it_makes_nothing_twice(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    tries: list[int] = []

    def loop(name: str) -> list[Any]:
        made = []
        for day in range(3):
            with dataset_version(name, catalog=catalog) as version:
                (version.output / "day").write_text(str(day))
            made.append(version.result["version_id"])
        return made

    in_task = task(loop)

    @flow(retries=1)
    def days() -> Any:
        made = [loop("crm/in_flow"), in_task("crm/in_task")]
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("after all was done")
        return made

    made = days()
    assert len(tries) == 2
    assert living(session) == [f"{name}@1.0.{i} completed" for name in ("in_flow", "in_task") for i in range(3)]
    for ids in made:
        assert [read_back(session, one) for one in ids] == [{"day": str(day)} for day in range(3)]


def test_one_step_for_two_blocks_of_a_run_is_refused(api: Api, catalog: DatasetCatalog, session: Session) -> None:
    @flow
    def twice() -> None:
        for text in "12":
            with dataset_version("crm/orders", step="orders", catalog=catalog) as version:
                (version.output / "a").write_text(text)

    with pytest.raises(InvalidArgumentError, match="'orders' stands for another block of this run"):
        twice()
    assert versions(session) == ["orders@1.0.0 completed"]


def test_a_task_with_a_block_that_is_tried_again_begins_with_an_empty_folder(
    api: Api, catalog: DatasetCatalog, session: Session
) -> None:
    tries: list[int] = []

    @task(retries=1)
    @dataset_version("crm/orders", catalog=catalog, publish=True)
    async def shaky(version: Any, day: int) -> dict[str, int]:
        assert not list(version.output.iterdir())
        (version.output / f"{len(tries)}").touch()
        tries.append(day)
        await asyncio.sleep(0)
        if len(tries) == 1:
            raise ConnectionError("half way")
        return {"day": day}

    @flow
    async def outer() -> Any:
        return await shaky(day=3)

    made = asyncio.run(outer())
    assert tries == [3, 3]
    assert living(session) == ["orders@1.0.0 published"]
    assert read_back(session, made["version_id"]).keys() == {"1"}


def test_an_async_flow_holds_blocks_tasks_and_flows_of_specs(
    api: Api, catalog: DatasetCatalog, session: Session, data: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "sub.yaml"
    spec.write_text(
        "version: 1\nname: sub\nproject: lab\nparams: {day: {type: date, default: 2026-01-31}}\n"
        "datasets:\n  raw: {add: [{path: data}], metadata: {day: '${params.day}'}, on_unchanged: version}\n"
    )
    sub = flow_from_spec(spec, catalog=catalog)

    @dataset_task("crm/orders", catalog=catalog)
    def orders(inputs: Mapping[str, Path], output: Path, day: int = 1) -> None:
        (output / "a").write_text(str(day))

    @flow
    async def outer() -> Any:
        with dataset_version("crm/block", catalog=catalog) as version:
            (version.output / "a").touch()
        direct, later = orders(day=1), orders.submit(day=2)
        submitted = await asyncio.to_thread(later.result)
        return [version.result, direct, submitted, sub(), sub(day=date(2026, 2, 1))]

    made = asyncio.run(outer())
    assert [one["version"] for one in made[:3]] == ["1.0.0", "1.0.0", "1.0.1"]
    days = [session.catalog.version(one["raw"]["version_id"]).metadata["day"] for one in made[3:]]
    assert days == ["2026-01-31", "2026-02-01"], "each subflow is a run of its own"
    with pytest.raises(ParameterTypeError, match="day"):
        sub(day="soon")


def test_results_that_are_kept_are_small_json(
    api: Api, catalog: DatasetCatalog, session: Session, tmp_path: Path
) -> None:
    from prefect.filesystems import LocalFileSystem

    storage = LocalFileSystem(basepath=str(tmp_path / "results"))
    storage.save("results", overwrite=True)

    @dataset_task("crm/orders", catalog=catalog)
    def orders(inputs: Mapping[str, Path], output: Path) -> None:
        for i in range(300):
            (output / f"{i}").touch()

    @flow(persist_result=True, result_storage=storage, result_serializer="json")
    def kept() -> Any:
        made = orders.with_options(persist_result=True)()
        return publish_dataset(made, alias="prod", catalog=catalog)

    first, again = kept(), kept()
    assert (first["version_id"], again["unchanged"]) == (again["version_id"], True)
    files = [file for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert len(files) == 2, "of the flow; the catalog knows what tasks did"
    assert max(file.stat().st_size for file in files) < 4096
    for file in files:
        json.loads(file.read_text())
        assert first["version_id"] in file.read_text()


def test_a_block_that_was_deleted_or_never_saved_is_named(api: Api, home: Path) -> None:
    DatasetCatalog(embedded=True, home=str(home)).save("gone", overwrite=True)

    @flow
    def named() -> Any:
        return create_dataset("raw", "lab", catalog="gone")

    assert named()["version"] == "1.0.0"
    DatasetCatalog.delete("gone")
    state = named(return_state=True)
    assert state.is_failed()
    assert "gone" in (state.message or "")
