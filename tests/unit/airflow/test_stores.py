"""What an Airflow connection says of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection

from airflow_provider import stores
from airflow_provider.compat import AirflowNotFoundException
from dataset_tasks import connections
from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.store.opened import OpenStores
from dataset_tasks.store.s3 import S3Store


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, only_local_connections: None) -> Iterator[dict[str, Connection]]:
    """Airflow's connections by name."""
    found: dict[str, Connection] = {}

    def look(name: str) -> Connection:
        if name not in found:
            raise AirflowNotFoundException(name)
        return found[name]

    monkeypatch.setattr(BaseHook, "get_connection", look)
    stores.install()
    yield found
    connections.unregister_resolver(stores.resolve)


def connection(conn_type: str, extra: dict[str, Any] | None = None, **fields: str) -> Connection:
    return Connection(conn_id="lake", conn_type=conn_type, extra=json.dumps(extra or {}), **fields)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            connection("aws", {"region_name": "eu", "endpoint_url": "http://e"}, login="id", password="key"),
            StoreOptions(endpoint_url="http://e", region="eu", access_key="id", secret_key="key"),
        ),
        (
            connection(
                "aws",
                {
                    "service_config": {"s3": {"endpoint_url": "http://s3"}},
                    "endpoint_url": "http://all",
                    "config_kwargs": {"s3": {"addressing_style": "path"}},
                    "aws_session_token": "token",
                    "profile_name": "p",
                },
            ),
            StoreOptions(endpoint_url="http://s3", path_style=True, session_token="token", profile="p"),
        ),
        (connection("wasb", login="acc", password="key"), StoreOptions(account="acc", account_key="key")),
        (
            connection("wasb", {"sas_token": "sas"}, host="https://acc.blob.core.windows.net"),
            StoreOptions(account="acc", sas_token="sas"),
        ),
        (
            connection("wasb", login="acc", host="http://127.0.0.1:10000/acc"),
            StoreOptions(account="acc", endpoint_url="http://127.0.0.1:10000/acc"),
        ),
        (connection("google_cloud_platform", {"key_path": "/k.json"}), StoreOptions(service_account="/k.json")),
        (connection("google_cloud_platform", {"keyfile_dict": {"a": 1}}), StoreOptions(service_account='{"a": 1}')),
    ],
)
def test_a_connection_becomes_options(held: dict[str, Connection], found: Connection, expected: StoreOptions) -> None:
    held["lake"] = found
    assert connections.resolve("lake") == expected


def test_a_connection_of_another_type_is_refused_by_name(held: dict[str, Connection]) -> None:
    held["lake"] = connection("http", password="canary")
    with pytest.raises(InvalidArgumentError, match="'http'") as caught:
        connections.resolve("lake")
    assert "aws" in caught.value.hint
    assert "canary" not in str(caught.value)


def test_a_name_that_airflow_does_not_know_is_looked_up_further(held: dict[str, Connection], home: Any) -> None:
    with pytest.raises(NotFoundError, match="no connection 'lake'"):
        connections.resolve("lake")
    home.mkdir(parents=True)
    (home / "config.toml").write_text('[connections.lake]\nregion = "eu"\n')
    assert connections.resolve("lake") == StoreOptions(region="eu")


def test_an_open_store_goes_where_its_connection_says_now(held: dict[str, Connection]) -> None:
    opened = OpenStores()
    for endpoint in ("http://before", "http://after"):
        held["lake"] = connection("aws", {"region_name": "eu", "endpoint_url": endpoint}, login="id", password="key")
        opened.look_again()
        store = opened("s3://lake/data?connection=lake")
        assert isinstance(store, S3Store)
        assert store.client.meta.endpoint_url == endpoint
