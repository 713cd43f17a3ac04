"""SEMANTICS, sync_folder."""

from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError, SourceError


def test_it_makes_the_version_equal_to_the_folder_and_returns_a_pair(draft, folder, finish, content):
    version = draft({"a": "1", "b": "2", "sub/c": "3"})
    found = version.sync_folder(folder({"a": "1", "b": "new", "d": "4"}))
    assert found == (1, 2)
    assert isinstance(found, tuple)
    assert version.list_files() == ["a", "b", "d"]


def test_only_the_part_under_dataset_path_changes(draft, folder):
    version = draft({"a": "1", "sub/b": "2", "sub/deep/c": "3", "sub-x": "4", "sub0": "5"})
    assert version.sync_folder(folder({"n": "1"}), "/sub/") == (2, 1)
    assert version.list_files() == ["a", "sub-x", "sub/n", "sub0"]


def test_a_folder_that_is_equal_changes_nothing(draft, folder):
    files = {"a": "1", "sub/b": "2"}
    version = draft(files)
    assert version.sync_folder(folder(files)) == (0, 0)


def test_an_empty_folder_empties_it(final, draft, folder):
    version = draft({"a": "1", "b": "2"})
    assert version.sync_folder(folder({})) == (2, 0)
    assert version.list_files() == []
    assert not version.is_dirty()


def test_a_missing_folder_is_an_error_and_nothing_changes(draft, folder, tmp_path):
    version = draft({"a": "1"})
    with pytest.raises(SourceError):
        version.sync_folder(tmp_path / "missing")
    with pytest.raises(InvalidArgumentError):
        version.sync_folder(folder({"x": "1"}) / "x")
    assert version.list_files() == ["a"]


def test_a_source_that_can_not_be_read_is_an_error_and_nothing_is_removed(draft, folder):
    version = draft({"a": "1", "b": "2"})
    source = folder({"a": "1"})
    (source / "broken").symlink_to("nowhere")
    with pytest.raises(SourceError, match="broken"):
        version.sync_folder(source)
    assert version.list_files() == ["a", "b"]


def test_wildcard_and_exclude_say_what_the_folder_counts_as(draft, folder):
    version = draft({"old": "1"})
    source = folder({"a.txt": "1", "b.csv": "2", "sub/c.txt": "3", "tmp/d.txt": "4"})
    assert version.sync_folder(source, wildcard="*.txt", exclude=["tmp"]) == (1, 2)
    assert version.list_files() == ["a.txt", "sub/c.txt"]


def test_what_equals_the_parent_keeps_its_entry(final, draft, folder):
    parent = final({"a": "1", "b": "2"})
    child = draft(parents=[parent])
    assert child.sync_folder(folder({"a": "1"})) == (1, 0)
    assert child.file_entries_dict["a"] == parent.file_entries_dict["a"]
    assert not child.is_dirty()


def test_verbose_prints_what_changed(draft, folder, capsys):
    version = draft({"a": "1", "b": "2"})
    version.sync_folder(folder({"a": "new", "c": "3"}), verbose=True)
    assert sorted(capsys.readouterr().out.splitlines()) == ["+ c", "- b", "~ a"]
