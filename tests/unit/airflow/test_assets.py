"""Datasets as assets."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_provider.assets import (
    PUBLISHED,
    create_asset,
    dataset_asset,
    record_publish,
    triggering_versions,
    version_extra,
)
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.requests import PublishResult


def published(**fields: Any) -> PublishResult:
    known = {
        "catalog_id": "c" * 32, "version_id": "a" * 32, "project": "crm/eu", "name": "orders", "version": "1.0.3",
        "files": 3, "bytes": 5, "content_hash": "f" * 64, "parents": ("b" * 32,),
    }  # fmt: skip
    return PublishResult(**known | fields)


def test_the_asset_of_a_dataset_is_the_one_that_its_uri_alone_gives() -> None:
    asset = dataset_asset("crm/eu/orders")
    assert (asset.name, asset.uri) == ("dataset://crm/eu/orders",) * 2
    assert asset == Asset("dataset://crm/eu/orders")
    assert create_asset(dataset="crm/orders", extra={"owner": "ana"}).extra == {"owner": "ana"}


@pytest.mark.parametrize("dataset", ["orders", "crm/", "/orders", "crm/orders@prod", "crm/or ders", "crm//orders", ""])
def test_what_does_not_name_a_dataset_is_no_asset(dataset: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        dataset_asset(dataset)
    assert "project/name" in caught.value.hint


@pytest.mark.parametrize("uri", ["dataset://crm", "dataset://crm/a b", "dataset://crm/orders?x=1", "dataset:///orders"])
def test_a_uri_that_names_no_dataset_is_refused_where_it_is_written(uri: str) -> None:
    with pytest.raises(ValueError, match="dataset://project/name"):
        Asset(uri)


def test_a_publish_fills_in_the_event_of_a_declared_outlet(context: dict[str, Any]) -> None:
    asset = dataset_asset("crm/eu/orders")
    outlets: list[object] = [asset]
    record_publish(published(), outlets, context)
    assert outlets == [asset]
    assert context["outlet_events"][asset].extra == version_extra(published())


def test_a_publish_reaches_an_asset_that_nobody_declared(context: dict[str, Any]) -> None:
    outlets: list[object] = []
    record_publish(published(), outlets, context)
    assert outlets == [PUBLISHED]
    (event,) = context["outlet_events"][PUBLISHED].asset_alias_events
    assert event.dest_asset_key.uri == "dataset://crm/eu/orders"
    assert event.extra["version_id"] == "a" * 32


def test_a_version_that_was_published_already_emits_nothing(context: dict[str, Any]) -> None:
    other = dataset_asset("crm/other")
    outlets: list[object] = [other, dataset_asset("crm/eu/orders")]
    record_publish(published(unchanged=True), outlets, context)
    assert outlets == [other]
    assert len(context["outlet_events"]) == 0


def test_the_event_lets_a_consumer_read_exactly_that_version() -> None:
    assert version_extra(published()) == {
        "version_id": "a" * 32, "version": "1.0.3", "content_hash": "f" * 64, "files": 3, "bytes": 5,
        "parents": ["b" * 32], "catalog_id": "c" * 32,
    }  # fmt: skip


def event(minute: int, extra: dict[str, Any] | None) -> SimpleNamespace:
    return SimpleNamespace(timestamp=datetime(2024, 1, 1, 0, minute, tzinfo=UTC), extra=extra)


def test_a_run_reads_each_triggering_version_once_oldest_first() -> None:
    asset = dataset_asset("crm/orders")
    first, second = event(1, {"version_id": "1"}), event(2, {"from_trigger": True, "payload": {"version_id": "2"}})
    events = [
        (asset, [second, first, event(3, {"version_id": "1"}), event(4, None)]),
        (AssetAlias("any"), [first]),
        (Asset("s3://bucket/key"), [event(5, {"version_id": "3"})]),
    ]
    given = SimpleNamespace(items=lambda: events)  # a mapping by asset, which has no hash before Airflow 3.2
    assert triggering_versions({"triggering_asset_events": given}) == {"crm/orders": ["1", "2"]}
    assert triggering_versions({}) == {}
