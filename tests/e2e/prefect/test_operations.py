"""Tasks in flows written by hand, on Prefect's own server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import flow, unmapped
from prefect.states import State

from dataset_tasks.errors import ConflictError, NotFoundError
from dataset_tasks.session import Session
from prefect_blocks import (
    DatasetCatalog,
    add_files,
    create_dataset,
    delete_dataset,
    finalize_dataset,
    get_copy,
    publish_dataset,
    remove_files,
    squash_datasets,
    sync_folder,
    upload_dataset,
    verify_dataset,
)
from tests.e2e.prefect.conftest import Api, read_back, versions


def test_a_version_goes_through_its_whole_life(api: Api, catalog: DatasetCatalog, session: Session, data: Path) -> None:
    @flow
    def life() -> dict[str, Any]:
        draft = create_dataset("raw", "lab", catalog=catalog)
        sync_folder(draft, str(data), catalog=catalog)
        remove_files(draft, "2.csv", catalog=catalog)
        upload_dataset(draft, catalog=catalog)
        final = finalize_dataset(draft, catalog=catalog)
        assert verify_dataset(final, catalog=catalog)["bad"] == []
        publish_dataset(final, alias="prod", catalog=catalog)
        flat = squash_datasets("flat", [final], catalog=catalog)
        copy = get_copy("lab/raw@prod", catalog=catalog)
        delete_dataset(flat, catalog=catalog)
        return {"final": final, "copy": copy}

    result = life()
    assert result["final"]["files"] == 2
    assert read_back(session, "lab/raw@prod") == {"0.csv": "a,0\n", "1.csv": "a,1\n"}
    assert Path(result["copy"]["folder"], "0.csv").read_text() == "a,0\n"
    assert versions(session) == ["raw@1.0.0 published"]


def test_tasks_of_an_async_flow_are_called_and_submitted_the_same(
    api: Api, catalog: DatasetCatalog, session: Session, data: Path
) -> None:
    import asyncio

    @flow
    async def nightly() -> Any:
        draft = create_dataset("raw", "lab", catalog=catalog)
        added = add_files.submit(draft, str(data), catalog=catalog)
        upload = upload_dataset.submit(draft, catalog=catalog, wait_for=[added])
        final = finalize_dataset.submit(draft, catalog=catalog, wait_for=[upload])
        return await asyncio.to_thread(final.result)

    assert asyncio.run(nightly())["files"] == 3
    assert versions(session) == ["raw@1.0.0 completed"]


def test_fifty_datasets_are_made_by_map(api: Api, catalog: DatasetCatalog, session: Session, data: Path) -> None:
    names = [f"part{i:02}" for i in range(50)]

    @flow
    def parts() -> list[Any]:
        here = unmapped(catalog)
        drafts = create_dataset.map(names, project=unmapped("lab"), catalog=here)
        added = add_files.map(drafts, path=unmapped(str(data)), catalog=here)
        stored = upload_dataset.map(drafts, catalog=here, wait_for=added)
        final = finalize_dataset.map(drafts, catalog=here, wait_for=stored)
        return final.result()

    made = parts()
    assert [one["name"] for one in made] == names
    assert sorted(versions(session)) == [f"{name}@1.0.0 completed" for name in names]
    assert len({one["content_hash"] for one in made}) == 1


def test_a_flow_that_is_tried_again_makes_each_version_once(
    api: Api, catalog: DatasetCatalog, session: Session, data: Path
) -> None:
    tries: list[dict[str, Any]] = []

    @flow(retries=1)
    def shaky() -> None:
        draft = create_dataset("raw", "lab", catalog=catalog)
        add_files(draft, str(data), catalog=catalog)
        upload_dataset(draft, catalog=catalog)
        tries.append(finalize_dataset(draft, catalog=catalog))
        if len(tries) == 1:
            raise ConnectionError("the flow's own trouble")

    shaky()
    assert len(tries) == 2
    assert tries[0] == tries[1]
    assert versions(session) == ["raw@1.0.0 completed"]


def test_only_errors_that_may_pass_are_tried_again(
    api: Api, catalog: DatasetCatalog, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    error: Exception = ConflictError("moved")

    def fail(self: Session, request: Any, **how: Any) -> Any:
        tries.append(how["key"])
        raise error

    monkeypatch.setattr(Session, "run", fail)
    task = publish_dataset.with_options(retries=2, retry_delay_seconds=0)

    @flow
    def publish() -> State[Any]:
        return task("lab/raw", catalog=catalog, return_state=True)

    assert publish(return_state=True).is_failed()
    assert len(tries) == 3
    assert len(set(tries)) == 1, "all tries have one key"
    tries.clear()
    error = NotFoundError("nothing")
    assert publish(return_state=True).is_failed()
    assert len(tries) == 1


def test_a_saved_block_is_found_by_its_name_and_its_secret_is_masked(
    api: Api, home: Path, data: Path, session: Session
) -> None:
    from pydantic import SecretStr

    url = f"sqlite:///{home / 'catalog.db'}"
    session.catalog.id  # makes the catalog
    DatasetCatalog(catalog_url=SecretStr(url), home=str(home)).save("lab", overwrite=True)
    loaded = DatasetCatalog.load("lab")
    assert loaded.catalog_url is not None
    assert loaded.catalog_url.get_secret_value() == url
    documents = api.find("block_documents", block_documents={"name": {"any_": ["lab"]}})
    assert url not in str(documents)
    assert "catalog_url" in str(documents)

    @flow
    def named() -> Any:
        return create_dataset("raw", "lab", catalog="lab")

    assert named()["catalog_id"] == session.catalog.id


def test_nothing_is_made_where_no_catalog_is_named(api: Api, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASET_TASKS_CATALOG", raising=False)

    @flow
    def unnamed() -> None:
        create_dataset("raw", "lab")

    state = unnamed(return_state=True)
    assert state.is_failed()
    assert "no catalog is named" in (state.message or "")
    assert not home.exists()
