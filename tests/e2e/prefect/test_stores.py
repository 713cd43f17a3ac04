"""Blocks of stores, saved and nested, on Prefect's own server and a real S3 protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr

from dataset_tasks.connections import resolve
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from prefect_blocks import (
    DatasetCatalog,
    S3Credentials,
    S3Store,
    add_files,
    create_dataset,
    finalize_dataset,
    get_copy,
    upload_dataset,
)
from tests.e2e.prefect.conftest import Api
from tests.services.running import Services


@pytest.fixture
def lake(services: Services, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A saved store whose credentials are nowhere but in its block."""
    import boto3

    endpoint = services.url("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="s3cret"
    )
    client.create_bucket(Bucket="prefect-lake")
    credentials = S3Credentials(access_key=SecretStr("test"), secret_key=SecretStr("s3cret"))
    store = S3Store(
        bucket="prefect-lake",
        prefix="a",
        credentials=credentials,
        endpoint_url=endpoint,
        region="us-east-1",
        path_style=True,
    )
    store.save("lake", overwrite=True)
    return store


def whole(catalog: Any, data: Path) -> Any:
    """A flow that makes a version and copies it."""

    @flow
    def life() -> Any:
        draft = create_dataset("raw", "lab", catalog=catalog)
        add_files(draft, str(data), catalog=catalog)
        upload_dataset(draft, catalog=catalog)
        final = finalize_dataset(draft, catalog=catalog)
        return get_copy(final, catalog=catalog)

    return life()


def test_a_catalog_with_a_nested_store_keeps_versions_there_and_pins_no_secret(
    api: Api, home: Path, lake: S3Store, data: Path, tmp_path: Path
) -> None:
    DatasetCatalog(embedded=True, home=str(home), store=lake).save("on-the-lake", overwrite=True)
    loaded = DatasetCatalog.load("on-the-lake")
    assert loaded.settings().store_url == "s3://prefect-lake/a?connection=lake"
    copy = whole("on-the-lake", data)
    assert (Path(copy["folder"]) / "0.csv").read_text() == "a,0\n"
    session = loaded.session()
    version = session.catalog.version(copy["version_id"])
    assert version.state.is_final
    assert not (home / "store").exists(), "nothing went to the folder"

    documents = api.find("block_documents", block_documents={"name": {"any_": ["lake"]}})
    assert "s3cret" not in str(documents)

    pinned = "s3://prefect-lake/a?connection=lake"
    before = session.stores(pinned)
    rotated = S3Credentials(access_key=SecretStr("other"), secret_key=SecretStr("s3cret2"))
    S3Store(bucket="elsewhere", credentials=rotated, endpoint_url=lake.endpoint_url, path_style=True).save(
        "lake", overwrite=True
    )
    again = get_copy.fn(version.id, target=str(tmp_path / "copy"), catalog=loaded)
    assert (Path(again["folder"]) / "0.csv").read_text() == "a,0\n", "a version stays where the catalog says"
    assert session.stores(pinned) is not before, "and is read with what the block holds now"


def test_the_name_of_a_store_block_means_the_environments_catalog_with_that_store(
    api: Api, home: Path, lake: S3Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    assert (Path(whole("lake", data)["folder"]) / "1.csv").read_text() == "a,1\n"
    assert resolve("lake").secret_key == "s3cret"
    with pytest.raises(NotFoundError):
        resolve("pond")


def test_uploads_wait_for_a_slot_of_the_limit_that_the_store_names_and_one_that_is_not_there_is_an_error(
    api: Api, home: Path, data: Path
) -> None:
    catalog = DatasetCatalog(embedded=True, home=str(home), concurrency_limit="by-store")
    with pytest.raises(InvalidArgumentError, match="no concurrency limit 'by-store'"):
        whole(catalog, data)
    limit = {"name": "by-store", "limit": 1, "active": True}
    made = api.client.request("POST", "/v2/concurrency_limits/", json=limit)
    assert made.status_code == 201
    assert whole(catalog, data)["files"] == 3
