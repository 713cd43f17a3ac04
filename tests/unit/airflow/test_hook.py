"""From a connection, or the environment, to one session a process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_provider.compat import AirflowNotFoundException
from airflow_provider.hooks.dataset import DatasetHook, Place
from dataset_tasks.errors import InvalidArgumentError


@pytest.fixture(autouse=True)
def no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatasetHook, "_sessions", {})


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: DatasetHook, conn_id: str) -> Connection:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(DatasetHook, "get_connection", missing)


def connection(conn_type: str = "dataset_tasks", **fields: Any) -> Connection:
    extra = {name: value for name, value in fields.items() if name not in ("login", "password")}
    given = {name: value for name, value in fields.items() if name in ("login", "password")}
    return Connection(conn_id="lake", conn_type=conn_type, extra=json.dumps(extra), **given)


def test_a_connection_says_where_everything_is() -> None:
    place = Place.from_connection(
        connection(catalog_url="postgresql+psycopg://db/datasets", store_url="s3://lake", cache_dir="/var/cache")
    )
    assert place == Place(catalog_url="postgresql+psycopg://db/datasets", store_url="s3://lake", cache_dir="/var/cache")


def test_user_and_password_of_the_connection_complete_the_url() -> None:
    place = Place.from_connection(connection(catalog_url="postgresql://db:5433/x", login="ana", password="p@ss:/w"))
    assert place.catalog_url == "postgresql://ana:p%40ss%3A%2Fw@db:5433/x"
    own = Place.from_connection(connection(catalog_url="postgresql://bob@db/x", login="ana", password="p"))
    assert own.catalog_url == "postgresql://bob@db/x"


def test_without_a_catalog_url_nothing_is_made_unless_told(no_connections: None) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        DatasetHook().place()
    assert "'dataset_tasks_default'" in caught.value.message
    assert "none is made" in caught.value.message
    assert "DATASET_TASKS_CATALOG=embedded" in caught.value.hint
    assert "DATASET_TASKS_CATALOG_URL" in caught.value.hint
    with pytest.raises(InvalidArgumentError, match="'lake' has no catalog URL"):
        Place.from_connection(connection(store_url="s3://lake"))


def test_an_embedded_catalog_is_made_where_it_is_asked_for(
    no_connections: None, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    session = DatasetHook().get_session()
    assert session.settings.catalog_url == f"sqlite:///{home / 'catalog.db'}"


def test_an_embedded_connection_wins_over_the_environments_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", "postgresql://db/other")
    settings = Place.from_connection(connection(catalog="embedded", home=str(tmp_path))).settings()
    assert settings.catalog_url == f"sqlite:///{tmp_path / 'catalog.db'}"


def test_a_contradiction_is_named(no_connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="both a catalog URL and"):
        Place.from_connection(connection(catalog="embedded", catalog_url="sqlite:////x.db"))
    with pytest.raises(InvalidArgumentError, match="none of 'server' and 'embedded'"):
        Place.from_connection(connection(catalog="local"))
    with pytest.raises(InvalidArgumentError, match="of type 'http'"):
        Place.from_connection(connection("http"))
    with pytest.raises(InvalidArgumentError, match="'home': expected text"):
        Place.from_connection(connection(home=3))


def test_a_named_connection_that_is_missing_is_not_replaced_by_the_environment(
    no_connections: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", "sqlite:////x.db")
    assert DatasetHook().place().catalog_url == "sqlite:////x.db"
    with pytest.raises(AirflowNotFoundException):
        DatasetHook("lake").place()


def test_airflow_resolves_the_connection_from_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extra = json.dumps({"catalog": "embedded", "home": str(tmp_path)})
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "dataset_tasks", "extra": extra}))
    assert DatasetHook("lake").place() == Place(home=str(tmp_path), embedded=True)


def test_a_process_opens_one_session_and_its_fork_another(
    no_connections: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    first = DatasetHook().get_session()
    assert DatasetHook().get_conn() is first
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    assert DatasetHook().get_session() is not first


def test_what_a_connection_leaves_open_is_the_environments_of_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extra = json.dumps({"catalog": "embedded"})
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "dataset_tasks", "extra": extra}))
    for name in ("one", "other"):
        monkeypatch.setenv("DATASET_TASKS_HOME", str(tmp_path / name))
        assert DatasetHook("lake").get_session().settings.home == tmp_path / name


def test_the_test_button_says_which_catalog_answered(no_connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, why = DatasetHook().test_connection()
    assert not refused
    assert "hint:" in why
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    worked, said = DatasetHook().test_connection()
    assert worked
    assert DatasetHook().get_session().catalog.id in said
