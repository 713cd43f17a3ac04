"""Stores that are kept open: the same one for a URL, until its connection says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks.connections import StoreOptions, register_resolver, unregister_resolver
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.store import opened
from dataset_tasks.store.opened import SECONDS, OpenStores
from dataset_tasks.store.s3 import S3Store
from dataset_tasks.testing.memory_store import MemoryStore

pytestmark = pytest.mark.usefixtures("only_local_connections")

LAKE = "s3://lake/data?connection=lake"


class Clock:
    """Stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def connect(home: Path, endpoint: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(f'[connections.lake]\nendpoint_url = "{endpoint}"\nregion = "r"\n')


def endpoint(stores: OpenStores, url: str = LAKE) -> str:
    store = stores(url)
    assert isinstance(store, S3Store)
    return store.client.meta.endpoint_url


def test_a_store_is_opened_once_as_long_as_its_connection_says_the_same(home: Path) -> None:
    connect(home, "http://one")
    stores = OpenStores()
    first = stores(LAKE)
    stores.look_again()
    assert stores(LAKE) is first
    assert stores(LAKE + "&region=other") is not first
    assert stores("s3://lake/other?connection=lake") is not first


def test_a_changed_connection_opens_another_store_at_once_when_it_is_looked_up_again(home: Path) -> None:
    connect(home, "http://one")
    stores = OpenStores()
    assert endpoint(stores) == "http://one"
    connect(home, "http://two")
    stores.look_again()
    assert endpoint(stores) == "http://two"


def test_a_changed_connection_is_seen_within_a_minute_anyway(home: Path) -> None:
    clock = Clock()
    connect(home, "http://one")
    stores = OpenStores(clock=clock)
    assert endpoint(stores) == "http://one"
    connect(home, "http://two")
    clock.now += SECONDS
    assert endpoint(stores) == "http://one"
    clock.now += 1
    assert endpoint(stores) == "http://two"


def test_a_name_means_what_the_home_at_hand_says(home: Path, tmp_path: Path) -> None:
    connect(home, "http://default")
    connect(tmp_path / "one", "http://one")
    connect(tmp_path / "two", "http://two")
    found = [endpoint(OpenStores(home=place)) for place in (tmp_path / "one", tmp_path / "two", None)]
    assert found == ["http://one", "http://two", "http://default"]


def test_what_a_resolver_says_is_looked_up_again_too(home: Path) -> None:
    said = StoreOptions(endpoint_url="http://one", region="r", access_key="a", secret_key="old")
    asked = []

    def resolver(name: str) -> StoreOptions | None:
        asked.append(name)
        return said

    register_resolver(resolver)
    try:
        stores = OpenStores()
        first = stores(LAKE)
        assert stores(LAKE) is first
        assert asked == ["lake"]
        said = StoreOptions(endpoint_url="http://one", region="r", access_key="a", secret_key="new")
        stores.look_again()
        assert stores(LAKE) is not first
    finally:
        unregister_resolver(resolver)


def test_a_connection_that_is_gone_is_an_error_at_the_start_of_an_operation_and_none_in_its_midst(home: Path) -> None:
    clock = Clock()
    connect(home, "http://one")
    stores = OpenStores(clock=clock)
    first = stores(LAKE)
    (home / "config.toml").unlink()
    clock.now += SECONDS + 1
    assert stores(LAKE) is first
    stores.look_again()
    for _ in range(2):
        with pytest.raises(NotFoundError, match="no connection 'lake'"):
            stores(LAKE)


def test_a_folder_and_an_opener_of_somebody_else_look_nothing_up(home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / "config.toml").write_text("this is no configuration")
    stores = OpenStores()
    assert stores(str(tmp_path)) is stores(str(tmp_path))
    with pytest.raises(InvalidArgumentError, match="can't be read"):
        stores(LAKE)
    store = MemoryStore()
    assert OpenStores(open_url=lambda _url: store)(LAKE) is store


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "_MOST", 2)
    stores = OpenStores()
    first, second = stores(str(tmp_path / "1")), stores(str(tmp_path / "2"))
    assert stores(str(tmp_path / "1")) is first
    stores(str(tmp_path / "3"))
    assert stores(str(tmp_path / "1")) is first
    assert stores(str(tmp_path / "2")) is not second
