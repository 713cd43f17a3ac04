"""SEMANTICS, add_files."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.handle.base import default_session
from dataset_tasks.ops.requests import AddFiles

DEEP = {"a.txt": "1", "b.csv": "2", "sub/a.txt": "3", "sub/deep/c.txt": "4", "top/sub/d.txt": "5", ".hidden/.x": "6"}


def add(version: Dataset, *args, **options) -> list[str]:
    """Adds to an empty draft and gives what landed."""
    version.remove_files()
    added = version.add_files(*args, **options)
    paths = version.list_files()
    assert added == len(paths)
    return paths


# --- path


def test_path_is_a_file_or_a_folder(draft, folder):
    source = folder(DEEP)
    assert add(draft(), source) == sorted(DEEP)
    assert add(draft(), source / "a.txt") == ["a.txt"]
    assert add(draft(), str(source / "sub")) == ["a.txt", "deep/c.txt"]


def test_path_is_resolved_first_when_it_is_a_link(draft, folder, tmp_path):
    source = folder(DEEP)
    (tmp_path / "link").symlink_to(source / "sub")
    (tmp_path / "other.txt").symlink_to(source / "a.txt")
    assert add(draft(), tmp_path / "link") == ["a.txt", "deep/c.txt"]
    assert add(draft(), tmp_path / "other.txt") == ["a.txt"]


def test_a_relative_path_is_taken_from_the_working_folder(draft, folder, monkeypatch):
    monkeypatch.chdir(folder(DEEP))
    assert add(draft(), "sub") == ["a.txt", "deep/c.txt"]
    assert add(draft(), ".") == sorted(DEEP)
    assert add(draft(), "sub/../a.txt") == ["a.txt"]


@pytest.mark.parametrize("path", ["missing", "missing/sub", "a.txt/x"])
def test_a_missing_path_is_an_error_and_nothing_changes(draft, folder, path):
    version = draft({"kept": "1"})
    with pytest.raises(SourceError) as raised:
        version.add_files(folder(DEEP) / path)
    assert raised.value.paths
    assert version.list_files() == ["kept"]


# --- wildcards


@pytest.mark.parametrize(
    ("wildcard", "expected"),
    [
        ("*.txt", ["a.txt", "sub/a.txt", "sub/deep/c.txt", "top/sub/d.txt"]),
        ("sub/*.txt", ["sub/a.txt", "top/sub/d.txt"]),
        (["*.csv", "c.*"], ["b.csv", "sub/deep/c.txt"]),
        ("?.csv", ["b.csv"]),
        ("[ab].*", ["a.txt", "b.csv", "sub/a.txt"]),
        ("*.none", []),
        (".*", [".hidden/.x"]),
    ],
)
def test_recursive_wildcards_match_at_any_depth(draft, folder, wildcard, expected):
    assert add(draft(), folder(DEEP), wildcard) == expected


@pytest.mark.parametrize(
    ("wildcard", "expected"),
    [
        ("*.txt", ["a.txt"]),
        ("sub/*.txt", ["sub/a.txt"]),
        ("*/*", [".hidden/.x", "sub/a.txt"]),
        ("*/*/*.txt", ["sub/deep/c.txt", "top/sub/d.txt"]),
        (None, ["a.txt", "b.csv"]),
    ],
)
def test_other_wildcards_match_from_the_top_with_as_many_parts(draft, folder, wildcard, expected):
    assert add(draft(), folder(DEEP), wildcard, recursive=False) == expected


def test_a_wildcard_is_ignored_for_a_single_file(draft, folder):
    assert add(draft(), folder(DEEP) / "a.txt", "*.csv") == ["a.txt"]


@pytest.mark.parametrize("wildcard", ["", "../*", "sub/../*"])
def test_a_wildcard_that_leads_out_or_is_empty_is_refused(draft, folder, wildcard):
    version = draft()
    with pytest.raises(InvalidArgumentError):
        version.add_files(folder(DEEP), wildcard)
    assert version.list_files() == []


# --- what is taken


def test_hidden_files_are_included(draft, folder):
    assert add(draft(), folder({".git/config": "1", ".x": "2"})) == [".git/config", ".x"]


def test_links_to_files_are_followed_and_stored_as_content(draft, folder, tmp_path, finish, content):
    outside = folder({"target": "far"})
    source = folder({"a": "1"})
    (source / "link").symlink_to(outside / "target")
    version = draft()
    version.add_files(source)
    (source / "link").unlink()
    (source / "link").write_text("far")
    assert content(finish(version)) == {"a": "1", "link": "far"}
    copy = Path(version.get_local_copy())
    assert not (copy / "link").is_symlink()


def test_linked_folders_are_not_entered(draft, folder):
    source = folder({"a": "1", "sub/b": "2"})
    (source / "sub" / "up").symlink_to("..")
    (source / "other").symlink_to(folder({"c": "3"}))
    assert add(draft(), source) == ["a", "sub/b"]


def test_empty_folders_are_not_kept(draft, folder):
    source = folder({"a": "1"})
    (source / "empty" / "deep").mkdir(parents=True)
    assert add(draft(), source) == ["a"]


def test_empty_files_are_kept(draft, folder, finish, content):
    version = draft({"empty": "", "sub/empty": ""})
    assert content(finish(version)) == {"empty": "", "sub/empty": ""}


def test_fifos_and_sockets_are_left_out_and_logged(draft, folder, caplog, monkeypatch):
    source = folder({"a": "1"})
    os.mkfifo(source / "pipe")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        os.rename(f"{short}/s", source / "sock")
        assert add(draft(), source) == ["a"]
    assert "pipe" in caplog.text
    assert "sock" in caplog.text


def test_a_fifo_or_device_as_path_itself_is_a_source_error(draft, folder):
    source = folder({})
    os.mkfifo(source / "pipe")
    version = draft()
    for path in (source / "pipe", "/dev/null"):
        with pytest.raises(SourceError):
            version.add_files(path)
        with pytest.raises(SourceError):
            version.add_files(path, on_error="skip")


# --- where it lands


def test_files_land_under_dataset_path(draft, folder):
    source = folder(DEEP)
    assert add(draft(), source / "sub", dataset_path="x/y") == ["x/y/a.txt", "x/y/deep/c.txt"]
    assert add(draft(), source / "a.txt", dataset_path="x") == ["x/a.txt"]
    assert add(draft(), source / "a.txt", dataset_path="/") == ["a.txt"]


def test_files_land_by_their_path_relative_to_the_base_folder(draft, folder):
    source = folder(DEEP)
    assert add(draft(), source / "sub", local_base_folder=source) == ["sub/a.txt", "sub/deep/c.txt"]
    assert add(draft(), source / "sub" / "deep" / "c.txt", local_base_folder=source) == ["sub/deep/c.txt"]
    landed = add(draft(), source / "sub" / "deep", local_base_folder=source / "sub", dataset_path="x")
    assert landed == ["x/deep/c.txt"]
    assert add(draft(), source / "sub", local_base_folder=source / "sub") == ["a.txt", "deep/c.txt"]


def test_a_base_that_is_no_ancestor_is_an_error_before_anything_changes(draft, folder):
    source = folder({**DEEP, "subordinate/x": "1"})
    version = draft()
    for base in (source / "top", source / "sub" / "deep", folder({}), source / "su"):
        with pytest.raises(InvalidArgumentError, match="local_base_folder"):
            version.add_files(source / "sub", local_base_folder=base)
    with pytest.raises(InvalidArgumentError, match="local_base_folder"):
        version.add_files(source / "subordinate", local_base_folder=source / "sub")
    assert version.list_files() == []


def test_in_dataset_path_and_patterns_a_backslash_counts_as_a_slash(draft, folder):
    assert add(draft(), folder(DEEP) / "a.txt", dataset_path="\\x\\y\\") == ["x/y/a.txt"]
    assert add(draft(), folder(DEEP), "deep\\*.txt") == ["sub/deep/c.txt"]


def test_a_leading_slash_of_dataset_path_is_dropped(draft, folder):
    assert add(draft(), folder(DEEP) / "a.txt", dataset_path="//x//y/") == ["x/y/a.txt"]


@pytest.mark.parametrize("dataset_path", ["..", "x/../y", "a\\..\\b", "C:\\x", "x\0y", "\udcff"])
def test_a_dataset_path_that_leads_out_is_refused(draft, folder, dataset_path):
    version = draft()
    with pytest.raises(InvalidArgumentError):
        version.add_files(folder(DEEP), dataset_path=dataset_path)
    assert version.list_files() == []


@pytest.mark.parametrize(("name", "shown"), [(b"back\\slash", r"back\\slash"), (b"not\xffutf8", r"not\xffutf8")])
def test_a_source_name_that_no_dataset_path_can_hold_is_an_error_that_shows_it_escaped(draft, folder, name, shown):
    source = folder({"a": "1"})
    (Path(os.fsdecode(os.path.join(os.fsencode(source), name)))).write_text("x")
    version = draft()
    with pytest.raises(SourceError) as raised:
        version.add_files(source)
    assert shown in str(raised.value)
    str(raised.value).encode()
    assert version.list_files() == []
    assert version.add_files(source, on_error="skip") == 1


# --- what can't be read


def test_unreadable_sources_are_one_error_that_lists_them_all_and_nothing_changes(draft, folder):
    source = folder({"a": "1"})
    for name in ("x", "y"):
        (source / name).symlink_to("nowhere")
    version = draft({"kept": "1"})
    with pytest.raises(SourceError) as raised:
        version.add_files(source)
    assert len(raised.value.paths) == 2
    assert all(f"{source}/{name}" in str(raised.value) for name in ("x", "y"))
    assert version.list_files() == ["kept"]


def test_skip_leaves_them_out_and_logs_them(draft, folder, caplog):
    source = folder({"a": "1"})
    (source / "x").symlink_to("nowhere")
    version = draft()
    assert version.add_files(source, on_error="skip") == 1
    assert f"{source}/x" in caplog.text


def test_what_was_left_out_is_recorded_with_the_operation(draft, folder):
    source = folder({"a": "1"})
    (source / "x").symlink_to("nowhere")
    session = default_session()
    session.run(AddFiles(ref=draft().id, path=str(source), on_error="skip"), key="add/1")
    recorded = session.catalog.recorded("add/1")
    assert recorded is not None
    (skipped,) = recorded.result["skipped"]
    assert f"{source}/x" in skipped


def test_another_word_for_on_error_is_refused(draft, folder):
    with pytest.raises(InvalidArgumentError, match="on_error"):
        draft().add_files(folder({"a": "1"}), on_error="ignore")


# --- what is counted


def test_it_returns_how_many_paths_the_version_did_not_have(draft, folder):
    version = draft({"a": "1", "b": "2"})
    assert version.add_files(folder({"a": "changed", "b": "2", "c": "3"})) == 1
    assert version.add_files(folder({"a": "changed", "b": "2", "c": "3"})) == 0


def test_same_path_and_same_hash_as_a_parent_keeps_the_parents_entry(final, draft, folder):
    parent = final({"a": "1", "b": "2"})
    child = draft(parents=[parent])
    assert child.add_files(folder({"a": "1", "b": "new"})) == 0
    assert child.file_entries_dict["a"] == parent.file_entries_dict["a"]
    assert child.file_entries_dict["b"].parent_dataset_id == child.id


def test_what_was_changed_and_changed_back_keeps_the_parents_entry_as_well(final, draft, folder):
    parent = final({"a": "1"})
    child = draft(parents=[parent])
    child.add_files(folder({"a": "2"}))
    child.add_files(folder({"a": "1"}))
    assert child.list_modified_files() == []


def test_added_again_before_upload_with_the_same_content_is_still_one_entry(draft, folder, finish, content):
    source = folder({"a": "1"})
    version = draft()
    assert (version.add_files(source), version.add_files(source)) == (1, 0)
    assert len(version.file_entries_dict) == 1
    assert content(finish(version)) == {"a": "1"}


def test_added_again_from_elsewhere_before_upload_the_later_one_counts(draft, folder, finish, content):
    version = draft()
    version.add_files(folder({"a": "1"}))
    version.add_files(folder({"a": "2"}))
    assert content(finish(version)) == {"a": "2"}


def test_verbose_prints_what_was_added_and_modified(draft, folder, capsys):
    version = draft({"a": "1"})
    version.add_files(folder({"a": "2", "b\x1b[31m": "3"}), verbose=True)
    printed = capsys.readouterr().out
    assert "~ a\n" in printed
    assert "+ b" in printed
    assert "\x1b" not in printed
