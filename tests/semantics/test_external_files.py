"""SEMANTICS, add_external_files, and add_files and sync_folder with a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, SourceError, StateError
from tests.integration.bucket_server import Bucket, served

DEEP = {"a.txt": "1", "b.csv": "2", "sub/a.txt": "3", "sub/deep/c.txt": "4"}


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, served(patch) as bucket:
        yield bucket


class Place:
    """Files below a URL."""

    def __init__(self, url: str, bucket: Bucket | None, folder: Path) -> None:
        self.top, self.bucket, self.folder = url, bucket, folder

    def url(self, path: str = "") -> str:
        return self.bucket.url(f"{self.top}/{path}") if self.bucket else f"{self.top}/{path}"

    def put(self, path: str, text: str) -> None:
        if self.bucket:
            self.bucket.put_key(f"{self.top}/{path}", text.encode())
            return
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, ns=(0, os.stat(file).st_mtime_ns + 1))  # within one tick of the clock it would seem untouched

    def drop(self, path: str) -> None:
        if self.bucket:
            self.bucket.client.delete_object(Bucket="lake", Key=f"{self.top}/{path}")
        else:
            (self.folder / path).unlink()


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, server: Bucket, tmp_path: Path) -> Place:
    if request.param == "s3":
        made = Place(tmp_path.name, server, tmp_path)
    else:
        made = Place((tmp_path / "data").as_uri(), None, tmp_path / "data")
    for path, text in DEEP.items():
        made.put(path, text)
    return made


@pytest.fixture
def lake(server: Bucket, tmp_path: Path) -> Place:
    """Files in a bucket."""
    made = Place(f"lake-{tmp_path.name}", server, tmp_path)
    for path, text in DEEP.items():
        made.put(path, text)
    return made


# --- add_external_files


def test_it_returns_the_number_of_links_added(draft, place):
    version = draft()
    assert version.add_external_files(place.url()) == 4
    assert version.add_external_files(place.url()) == 0
    place.put("b.csv", "22")
    assert version.add_external_files(place.url()) == 0  # it is modified, and so is not counted
    assert version.file_entries_dict["b.csv"].size == 2


def test_a_link_is_no_copy_and_nothing_waits_for_an_upload(draft, place):
    version = draft()
    version.add_external_files(place.url())
    assert not version.is_dirty()
    assert version.finalize()
    assert version.get_num_chunks() == 0


def test_size_and_a_pin_stand_with_the_link(draft, place):
    version = draft()
    version.add_external_files(place.url("a.txt"))
    entry = version.file_entries_dict["a.txt"]
    assert (entry.size, bool(entry.pin), entry.link.startswith(("file://", "s3://"))) == (1, True, True)


def test_one_url_or_a_list_of_them_is_taken(draft, place):
    version = draft()
    assert version.add_external_files(place.url("a.txt")) == 1
    assert version.add_external_files([place.url("b.csv"), place.url("sub/deep")]) == 2
    assert version.list_files() == ["a.txt", "b.csv", "c.txt"]


def test_wildcard_dataset_path_and_recursive_mean_what_they_mean_for_add_files(draft, place):
    for options, paths in [
        ({"wildcard": "*.txt"}, ["a.txt", "sub/a.txt", "sub/deep/c.txt"]),
        ({"wildcard": ["*.csv", "deep/*"]}, ["b.csv", "sub/deep/c.txt"]),
        ({"wildcard": "*.txt", "recursive": False}, ["a.txt"]),
        ({"recursive": False, "dataset_path": "/x"}, ["x/a.txt", "x/b.csv"]),
    ]:
        version = draft(name=f"data{len(paths)}{len(options)}")
        assert version.add_external_files(place.url(), **options) == len(paths)
        assert version.list_files() == paths


def test_one_that_can_not_be_reached_is_an_error_that_names_it_and_nothing_changes(draft, place):
    version = draft()
    with pytest.raises(SourceError, match=r"nothing\.txt") as caught:
        version.add_external_files([place.url("a.txt"), place.url("nothing.txt")])
    assert caught.value.hint
    assert version.list_files() == []


def test_one_that_changed_later_is_an_error_on_copy_and_listed_by_verify(draft, place):
    version = draft()
    version.add_external_files(place.url())
    version.finalize()
    place.put("sub/a.txt", "9")
    with pytest.raises(SourceError, match="changed since it was added"):
        version.get_local_copy()
    assert version.verify_dataset_hash() == ["sub/a.txt"]


def test_one_that_broke_later_is_an_error_on_copy_and_listed_by_verify(draft, place):
    version = draft()
    version.add_external_files(place.url())
    version.finalize()
    place.drop("b.csv")
    with pytest.raises(SourceError, match=r"b\.csv"):
        version.get_local_copy()
    assert version.get_mutable_local_copy(place.folder / "copy", raise_on_error=False) is None
    assert version.verify_dataset_hash() == ["b.csv"]


def test_a_copy_holds_the_bytes_of_the_pin(draft, place, content):
    version = draft()
    version.add_external_files(place.url())
    version.finalize()
    assert content(version.get_local_copy()) == DEEP
    assert version.verify_dataset_hash() == []


def test_links_of_a_parent_stay_and_are_removed_like_files(draft, place):
    first = draft()
    first.add_external_files(place.url())
    first.finalize()
    child = Dataset.create("data", "demo", [first])
    assert child.add_external_files(place.url()) == 0
    assert child.remove_files("*.csv") == 1
    assert child.list_removed_files() == ["b.csv"]
    assert child.list_files(dataset_id=first.id) == ["a.txt", "sub/a.txt", "sub/deep/c.txt"]


def test_a_final_version_takes_no_links(draft, place):
    version = draft()
    version.finalize()
    with pytest.raises(StateError):
        version.add_external_files(place.url())


# --- add_files and sync_folder with a URL


def test_path_may_be_a_url_to_import_bytes_from(draft, lake, finish, content):
    version = draft()
    assert version.add_files(lake.url()) == 4
    assert version.is_dirty()
    lake.drop("a.txt")
    lake.put("b.csv", "other")
    assert content(finish(version)) == DEEP  # the bytes are the version's own, whatever becomes of the bucket


def test_what_a_parent_has_with_the_same_hash_stays_the_parents(draft, lake, finish, folder):
    parent = finish(draft(DEEP))
    child = Dataset.create("data", "demo", [parent])
    assert child.add_files(lake.url()) == 0
    assert not child.is_dirty()
    assert {entry.parent_dataset_id for entry in child.file_entries_dict.values()} == {parent.id}


def test_an_import_counts_added_paths_alone(draft, lake):
    version = draft({"a.txt": "another", "z": "1"})
    assert version.add_files(lake.url()) == 3
    assert version.add_files(lake.url()) == 0


def test_a_url_at_which_there_is_nothing_is_an_error_and_nothing_changes(draft, lake):
    version = draft(DEEP)
    for do in (version.add_files, version.sync_folder):
        with pytest.raises(SourceError, match="there is nothing at"):
            do(lake.url("nothing/"))
    assert version.list_files() == sorted(DEEP)


def test_sync_makes_the_part_under_dataset_path_equal_to_a_url_and_returns_a_pair(draft, lake, finish, content):
    version = draft({"in/a.txt": "old", "in/gone": "1", "out": "2"})
    assert version.sync_folder(lake.url(), dataset_path="in") == (1, 4)
    assert content(finish(version)) == {"out": "2"} | {f"in/{path}": text for path, text in DEEP.items()}


def test_sync_with_a_url_takes_wildcard_and_exclude(draft, lake):
    version = draft(DEEP)
    assert version.sync_folder(lake.url(), wildcard="*.txt", exclude="deep") == (2, 0)
    assert version.list_files() == ["a.txt", "sub/a.txt"]


def test_a_base_that_is_not_above_the_url_is_an_error_before_anything_changes(draft, lake, tmp_path):
    version = draft()
    for base in (lake.url("other"), lake.url("su"), str(tmp_path)):
        with pytest.raises(InvalidArgumentError, match="is not above"):
            version.add_files(lake.url("sub"), local_base_folder=base)
    assert version.list_files() == []


def test_verbose_prints_what_was_imported(draft, lake, capsys):
    draft().add_files(lake.url(), verbose=True)
    assert "a.txt" in capsys.readouterr().out
