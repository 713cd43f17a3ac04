"""SEMANTICS, list_added_files, list_modified_files and list_removed_files."""

from __future__ import annotations

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import NotFoundError


def changes(version: Dataset, other: str | None = None) -> tuple[list[str], list[str], list[str]]:
    return version.list_added_files(other), version.list_modified_files(other), version.list_removed_files(other)


def test_of_a_root_without_an_id_everything_is_added(draft):
    assert changes(draft({"b": "1", "a": "2"})) == (["a", "b"], [], [])


def test_without_an_id_it_is_against_the_merge_of_the_direct_parents(final, draft):
    grandparent = final({"old": "1", "a": "0"}, name="grandparent")
    one = final({"a": "1", "b": "1", "gone": "1"}, [grandparent], name="one")
    other = final({"b": "2", "c": "2"}, name="other")
    child = draft({"a": "1", "b": "1", "c": "2", "new": "3"}, [one, other])
    assert changes(child) == (["new"], ["b"], ["gone"])


def test_with_an_id_it_is_against_that_version(final, draft):
    first = final({"a": "1", "b": "1", "c": "1"})
    second = final({"a": "1", "b": "2"}, [first])
    third = draft({"b": "3", "c": "1", "d": "1"}, [second])
    assert changes(third, first.id) == (["d"], ["b"], ["a"])
    assert changes(third, second.id) == (["c", "d"], ["b"], ["a"])
    assert changes(third, third.id) == ([], [], [])
    assert changes(first, third.id) == (["a"], ["b"], ["d"])


def test_any_version_can_be_compared_with_also_of_another_dataset_or_a_draft(final, draft):
    version = final({"a": "1"})
    assert changes(version, draft({"a": "2", "b": "1"}, name="other").id) == ([], ["a"], ["b"])


def test_they_are_sorted_and_partition_the_difference(final, draft):
    old = {f"{number}": "1" for number in range(40)}
    new = {f"{number}": "2" if number % 3 else "1" for number in range(20, 60)}
    child = draft(new, [final(old)])
    added, modified, removed = changes(child)
    for paths in (added, modified, removed):
        assert paths == sorted(paths)
    differing = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    assert {*added, *modified, *removed} == differing
    assert len(added) + len(modified) + len(removed) == len(differing)


def test_a_file_that_was_changed_and_changed_back_is_not_modified(final, draft, folder):
    child = draft(parents=[final({"a": "1"})])
    child.add_files(folder({"a": "2"}))
    child.add_files(folder({"a": "1"}))
    assert changes(child) == ([], [], [])


def test_an_unknown_id_is_an_error(draft):
    version = draft({"a": "1"})
    for unknown in ("0" * 32, "nonsense"):
        for method in (version.list_added_files, version.list_modified_files, version.list_removed_files):
            with pytest.raises(NotFoundError, match=unknown):
                method(unknown)
