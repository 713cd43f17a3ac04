"""What an import takes: listings that are in order, and those of buckets that list otherwise."""

from __future__ import annotations

import pytest

from dataset_tasks.errors import SourceError
from dataset_tasks.external import places
from dataset_tasks.external.base import Found, Listed
from dataset_tasks.external.places import Place
from dataset_tasks.store.opened import OpenStores


def listing(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Found(name.encode(), f"s3://lake/in/{name}", 1, '"1"') for name in names]
    monkeypatch.setattr(places, "look", lambda *_args, **_more: Listed(iter(files), is_folder=True))


def taken(url: str) -> list[list[bytes]]:
    return [[found.path for found in page] for page in Place.locate(url, dataset_path="x").pages(OpenStores())]


def test_a_listing_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PAGE", 2)
    listing(["a", "b", "c/d", "c0", "é"], monkeypatch)
    assert taken("s3://lake/in") == [[b"x/a", b"x/b"], [b"x/c/d", b"x/c0"], ["x/é".encode()]]


@pytest.mark.parametrize("names", [["b", "a"], ["a", "a"], ["a", "b", "a"]])
def test_a_listing_that_is_not_in_order_is_refused(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    listing(names, monkeypatch)
    with pytest.raises(SourceError, match="does not list its objects by name"):
        taken("s3://lake/in")


def test_a_bucket_that_lists_in_any_order_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    listing(["b", "a"], monkeypatch)
    assert taken("s3://lake--use1-az4--x-s3/in") == [[b"x/a", b"x/b"]]
