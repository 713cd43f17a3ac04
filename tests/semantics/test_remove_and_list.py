"""SEMANTICS, remove_files and list_files."""

from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError

FILES = ["a.txt", "c.txt", "sub/b.csv", "sub/c.txt", "sub/deep/d.txt", "subway/x", "top/sub/e.txt"]

#: Pattern, recursive, what it means.
PATTERNS = [
    ("*.txt", True, ["a.txt", "c.txt", "sub/c.txt", "sub/deep/d.txt", "top/sub/e.txt"]),
    ("c.txt", True, ["c.txt", "sub/c.txt"]),
    ("/c.txt", True, ["c.txt", "sub/c.txt"]),
    ("sub/*", True, ["sub/b.csv", "sub/c.txt", "sub/deep/d.txt"]),
    ("sub/*.txt", True, ["sub/c.txt", "sub/deep/d.txt"]),
    ("sub\\*.txt", True, ["sub/c.txt", "sub/deep/d.txt"]),
    ("*/c.txt", True, ["sub/c.txt"]),
    ("s*.txt", True, ["sub/c.txt", "sub/deep/d.txt", "top/sub/e.txt"]),
    ("*", True, FILES),
    (None, True, FILES),
    ("nothing", True, []),
    # a plain folder name from the root
    ("sub", True, ["sub/b.csv", "sub/c.txt", "sub/deep/d.txt"]),
    ("sub/", True, ["sub/b.csv", "sub/c.txt", "sub/deep/d.txt"]),
    ("/sub/deep/", True, ["sub/deep/d.txt"]),
    ("sub", False, ["sub/b.csv", "sub/c.txt"]),
    ("sub/deep", False, ["sub/deep/d.txt"]),
    # as many parts, each matched on its own
    ("*.txt", False, ["a.txt", "c.txt"]),
    ("*", False, ["a.txt", "c.txt"]),
    ("*/*", False, ["sub/b.csv", "sub/c.txt", "subway/x"]),
    ("*/*/*", False, ["sub/deep/d.txt", "top/sub/e.txt"]),
    ("s*/*.txt", False, ["sub/c.txt"]),
    ("sub/c.txt", False, ["sub/c.txt"]),
    (None, False, FILES),
]


@pytest.fixture
def version(draft):
    return draft(dict.fromkeys(FILES, "x"))


def test_list_takes_each_pattern_for_what_it_means(version):
    wrong = {}
    for pattern, recursive, expected in PATTERNS:
        found = version.list_files(pattern, recursive)
        if found != expected:
            wrong[pattern, recursive] = found
    assert wrong == {}


def test_s_star_also_means_everything_below_a_folder_that_it_names(version):
    assert version.list_files("su*") == ["sub/b.csv", "sub/c.txt", "sub/deep/d.txt", "subway/x", "top/sub/e.txt"]


@pytest.mark.parametrize(
    ("pattern", "recursive"), [("sub", False), ("sub/*", True), ("*.txt", False), ("nothing", True), (None, True)]
)
def test_remove_takes_a_pattern_as_list_does_and_returns_how_many_it_removed(version, pattern, recursive):
    meant = version.list_files(pattern, recursive)
    assert version.remove_files(pattern, recursive) == len(meant)
    assert version.list_files() == sorted(set(FILES) - set(meant))


def test_a_pattern_that_equals_a_path_matches_it_whatever_characters_it_holds(draft):
    names = ["[a]", "*", "what?", "{x}", "a[b", "(.*)", "!x"]
    version = draft({f"{name}/{name}": "1" for name in names} | {"a": "1", "whatx": "2"})
    for name in names:
        path = f"{name}/{name}"
        assert path in version.list_files(path)
        assert path in version.list_files(path, recursive=False)
    assert version.list_files("[a]/[a]") == ["[a]/[a]"]
    assert version.remove_files("[a]/[a]") == 1


def test_an_empty_pattern_is_an_error_for_remove_and_everything_for_list(version):
    for pattern in ("", "/", "\\"):
        with pytest.raises(InvalidArgumentError):
            version.remove_files(pattern)
        assert version.list_files(pattern) == FILES


@pytest.mark.parametrize("pattern", ["..", "sub/../*"])
def test_a_pattern_that_leads_out_is_refused(version, pattern):
    with pytest.raises(InvalidArgumentError):
        version.list_files(pattern)
    with pytest.raises(InvalidArgumentError):
        version.remove_files(pattern)
    assert version.list_files() == FILES


def test_list_is_sorted_by_path(draft):
    names = ["b", "a/z", "a!", "Z", "ü", "a"]
    listed = draft({name: "x" for name in names if name != "a"}).list_files()
    assert listed == ["Z", "a!", "a/z", "b", "ü"]


def test_list_with_an_id_keeps_entries_whose_bytes_that_version_brought(final, draft):
    parent = final({"a": "1", "b": "1"})
    child = draft({"a": "1", "b": "2", "c": "3"}, [parent])
    assert child.list_files(dataset_id=parent.id) == ["a"]
    assert child.list_files(dataset_id=child.id) == ["b", "c"]
    assert child.list_files("c", dataset_id=parent.id) == []


def test_an_unknown_id_gives_an_empty_list(version):
    assert version.list_files(dataset_id="0" * 32) == []
    assert version.list_files(dataset_id="nonsense") == []


def test_removing_from_a_child_leaves_the_parent_as_it_was(final, draft, finish, content):
    parent = final({"a": "1", "b": "2"})
    child = draft(parents=[parent])
    assert child.remove_files("a") == 1
    assert content(finish(child)) == {"b": "2"}
    assert content(parent) == {"a": "1", "b": "2"}


def test_verbose_prints_what_was_removed(version, capsys):
    version.remove_files("sub", verbose=True)
    assert capsys.readouterr().out == "- sub/b.csv\n- sub/c.txt\n- sub/deep/d.txt\n"
