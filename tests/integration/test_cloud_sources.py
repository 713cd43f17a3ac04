"""Imports from and links to Azure and Google, against real servers: what S3 does, they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external.clouds import CloudReader
from dataset_tasks.store import open_store
from tests.services.buckets import make_bucket
from tests.services.running import Services


class Cloud:
    """A folder of its own in a bucket."""

    def __init__(self, url: str) -> None:
        top, _, self.query = url.partition("?")
        self.top = top.rstrip("/")
        self.inner = CloudReader(f"{self.top}?{self.query}", open_store)._store.inner
        self.folder = self.top.split("/", 3)[3]

    def url(self, path: str = "") -> str:
        return f"{self.top}/{path}?{self.query}"

    def put(self, path: str, body: bytes) -> None:
        obstore.put(self.inner, f"{self.folder}/{path}", body)


@pytest.fixture(params=["azurite", "gcs"])
def cloud(request: pytest.FixtureRequest, services: Services, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    return Cloud(make_bucket(request.param, services.url(request.param), monkeypatch, at=f"sources-{name}"))


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    def make(*parents: Dataset) -> Dataset:
        return Dataset.create("hourly", "noaa", list(parents))

    return make


def final(dataset: Dataset) -> Dataset:
    dataset.upload(show_progress=False)
    dataset.finalize()
    return dataset


def content(dataset: Dataset) -> dict[str, bytes]:
    folder = Path(dataset.get_local_copy() or "")
    return {path: (folder / path).read_bytes() for path in dataset.list_files()}


def test_a_prefix_is_mirrored_and_what_changed_is_read_again(cloud: Cloud, dataset: Callable[..., Dataset]) -> None:
    big = bytes(range(256)) * (9 << 12)
    for path, body in {"in/a b%.csv": b"one", "in/sub/é#.csv": b"two", "in/big": big, "other": b"x"}.items():
        cloud.put(path, body)
    first = dataset()
    assert first.sync_folder(cloud.url("in/")) == (0, 3)
    assert content(final(first)) == {"a b%.csv": b"one", "big": big, "sub/é#.csv": b"two"}
    child = dataset(first)
    assert child.sync_folder(cloud.url("in")) == (0, 0)
    cloud.put("in/a b%.csv", b"ONE")
    assert child.sync_folder(cloud.url("in")) == (0, 1)
    assert content(final(child))["a b%.csv"] == b"ONE"


def test_links_are_pinned_copied_and_verified(cloud: Cloud, dataset: Callable[..., Dataset]) -> None:
    cloud.put("in/a.csv", b"one")
    cloud.put("in/sub/b.csv", b"")
    links = dataset()
    assert links.add_external_files(cloud.url("in"), dataset_path="x") == 2
    assert links.add_external_files(cloud.url("in"), dataset_path="x") == 0
    links.finalize()
    assert content(links) == {"x/a.csv": b"one", "x/sub/b.csv": b""}
    cloud.put("in/a.csv", b"ONE")
    assert links.verify_dataset_hash() == ["x/a.csv"]
    with pytest.raises(SourceError, match="changed"), links.open("x/a.csv") as file:
        file.read()


def test_a_folder_alone_and_one_object_can_be_taken(cloud: Cloud, dataset: Callable[..., Dataset]) -> None:
    cloud.put("in/a.csv", b"one")
    cloud.put("in/sub/b.csv", b"two")
    draft = dataset()
    assert draft.add_files(cloud.url("in"), recursive=False) == 1
    assert draft.add_files(cloud.url("in/sub/b.csv"), dataset_path="one") == 1
    assert draft.list_files() == ["a.csv", "one/b.csv"]


def test_an_object_that_changes_between_add_and_upload_is_named(cloud: Cloud, dataset: Callable[..., Dataset]) -> None:
    cloud.put("in/a.csv", b"old")
    dataset().add_files(cloud.url("in"))
    draft = Dataset.create("daily", "noaa")
    draft.add_files(cloud.url("in"))
    cloud.put("in/a.csv", b"new")
    with pytest.raises(SourceError, match=r"a\.csv.* changed since it was added") as caught:
        draft.upload(show_progress=False)
    assert not caught.value.retryable


def test_what_is_not_there_is_told(cloud: Cloud, dataset: Callable[..., Dataset]) -> None:
    draft = dataset()
    with pytest.raises(SourceError, match="there is nothing at"):
        draft.add_files(cloud.url("nothing"))
    with pytest.raises(SourceError, match="there is nothing at"):
        draft.add_external_files(cloud.url("nothing"))
    with pytest.raises(InvalidArgumentError, match="color"):
        draft.add_files(cloud.url("in") + "&color=red")
