"""Blocks of stores: where, with what, and what is pinned."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import InvalidArgumentError
from prefect_blocks import AzureStore, DatasetCatalog, GcsCredentials, GcsStore, S3Credentials, S3Store

KEY = "AKIAEXAMPLE"


def named(block: Any, name: str = "lake") -> Any:
    """The block as it is once it is saved."""
    block._block_document_name = name
    return block


def test_the_url_that_is_pinned_names_the_block_and_holds_nothing_of_it() -> None:
    store = named(S3Store(bucket="b", prefix="/a/b/", credentials=S3Credentials(access_key=KEY, secret_key="s3cret")))
    assert store.url() == "s3://b/a/b?connection=lake"
    assert store.options() == StoreOptions(access_key=KEY, secret_key="s3cret")
    assert "s3cret" not in repr(store)
    assert "s3cret" not in store.model_dump_json()


def test_a_store_that_is_nothing_but_a_place_need_not_be_saved() -> None:
    assert S3Store(bucket="b").url() == "s3://b"
    assert GcsStore(bucket="b", prefix="p").url() == "gs://b/p"
    assert AzureStore(container="abc").url() == "azure://abc"


def test_a_store_with_credentials_that_is_not_saved_is_refused_for_others_could_not_open_it() -> None:
    with pytest.raises(InvalidArgumentError, match="is not saved") as caught:
        GcsStore(bucket="b", credentials=GcsCredentials(service_account="{}")).url()
    assert "save" in caught.value.hint


class AwsCredentials(SimpleNamespace):
    """As prefect-aws has it."""


class AzureBlobStorageCredentials(SimpleNamespace):
    """As prefect-azure has it."""


class GcpCredentials(SimpleNamespace):
    """As prefect-gcp has it."""


def test_credentials_of_prefects_integrations_are_taken() -> None:
    aws = AwsCredentials(
        aws_access_key_id=KEY,
        aws_secret_access_key=SecretStr("s3cret"),
        aws_session_token=None,
        profile_name=None,
        region_name="eu-central-1",
        aws_client_parameters=SimpleNamespace(endpoint_url="https://s3.example.org"),
    )
    assert S3Store(bucket="b", credentials=aws).options() == StoreOptions(
        access_key=KEY, secret_key="s3cret", region="eu-central-1", endpoint_url="https://s3.example.org"
    )
    assert S3Store(bucket="b", credentials=aws, region="us-east-1").options().region == "us-east-1"
    text = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1:1/acc"
    azure = AzureBlobStorageCredentials(connection_string=SecretStr(text), account_url=None)
    assert AzureStore(container="abc", credentials=azure).options() == StoreOptions(
        account="acc", account_key="a2V5==", endpoint_url="http://127.0.0.1:1/acc"
    )
    by_url = AzureBlobStorageCredentials(connection_string=None, account_url="https://acc.blob.core.windows.net")
    assert AzureStore(container="abc", credentials=by_url).options() == StoreOptions(account="acc")
    info = SimpleNamespace(get_secret_value=lambda: {"type": "service_account"})
    gcp = GcpCredentials(service_account_info=info, service_account_file=None)
    assert json.loads(GcsStore(bucket="b", credentials=gcp).options().service_account) == {"type": "service_account"}


def test_saved_credentials_of_an_integration_stay_where_they_are() -> None:
    store = S3Store(bucket="b", credentials=named(AwsCredentials(), "team-aws"))
    assert (store.aws_credentials, store.credentials) == ("team-aws", None)


def test_an_integration_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_gcp.credentials", None)
    with pytest.raises(InvalidArgumentError, match="prefect_gcp, which is not installed") as caught:
        GcsStore(bucket="b", gcp_credentials="team").options()
    assert caught.value.hint == "pip install prefect-gcp"


def test_a_catalog_keeps_versions_in_the_store_of_its_block() -> None:
    store = named(S3Store(bucket="b", credentials=S3Credentials(profile="lake"), concurrency_limit="slow"))
    catalog = DatasetCatalog(embedded=True, store=store)
    assert catalog.settings().store_url == "s3://b?connection=lake"
    assert catalog.limit() == "slow"
    assert DatasetCatalog(embedded=True, concurrency_limit="own").limit() == "own"
    with pytest.raises(ValueError, match="the block of a store too"):
        DatasetCatalog(embedded=True, store=store, store_url="s3://other")
