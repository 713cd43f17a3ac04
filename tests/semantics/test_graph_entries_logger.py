"""SEMANTICS, get_dependency_graph, file_entries_dict, get_default_storage and get_logger."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from dataset_tasks import Dataset, FileEntry
from dataset_tasks.errors import InvalidArgumentError, SourceError

# --- get_dependency_graph


def test_a_root_has_no_parents(draft):
    version = draft()
    assert version.get_dependency_graph() == {version.id: []}


def test_the_graph_is_complete_with_parents_in_order(final, draft):
    root = final({"a": "1"}, name="root")
    left, right = final({"b": "1"}, [root], name="left"), final({"c": "1"}, [root], name="right")
    aside = final({"d": "1"}, name="aside")
    child = draft(parents=[right, aside, left], name="child")
    assert child.get_dependency_graph() == {
        child.id: [right.id, aside.id, left.id],
        right.id: [root.id],
        aside.id: [],
        left.id: [root.id],
        root.id: [],
    }
    assert next(iter(child.get_dependency_graph())) == child.id
    assert child.id not in root.get_dependency_graph()


# --- file_entries_dict


def test_entries_say_path_hash_size_owner_chunk_and_local_path(final, draft, home):
    parent = final({"a": "12"})
    child = draft({"a": "12", "sub/b": "345"}, [parent])
    entries = child.file_entries_dict
    assert isinstance(entries, Mapping)
    kept, pending = entries["a"], entries["sub/b"]
    assert isinstance(kept, FileEntry)
    assert (kept.relative_path, kept.size, kept.parent_dataset_id) == ("a", 2, parent.id)
    assert kept.hash == hashlib.sha256(b"12").hexdigest()
    assert list(home.rglob(kept.artifact_name))
    assert kept.local_path is None
    assert (pending.size, pending.parent_dataset_id, pending.artifact_name) == (3, child.id, None)
    assert Path(pending.local_path).read_text() == "345"


def test_the_mapping_is_read_only_and_so_are_its_entries(draft):
    entries = draft({"a": "1"}).file_entries_dict
    with pytest.raises(TypeError):
        entries["b"] = entries["a"]
    with pytest.raises(TypeError):
        del entries["a"]
    with pytest.raises(AttributeError):
        entries["a"].hash = "x"


def test_it_behaves_as_a_dict_sorted_by_path(draft):
    version = draft({"b": "1", "a": "2", "sub/c": "3"})
    entries = version.file_entries_dict
    assert list(entries) == list(entries.keys()) == version.list_files() == ["a", "b", "sub/c"]
    assert [entry.relative_path for entry in entries.values()] == ["a", "b", "sub/c"]
    assert dict(entries.items()) == {path: entries[path] for path in entries}
    assert len(entries) == 3
    assert "a" in entries
    for absent in ("sub", "x", "", 5, None, "\udcff"):
        assert absent not in entries
    assert entries.get("x") is None
    with pytest.raises(KeyError):
        entries["x"]


def test_iterating_a_large_version_does_not_build_all_entries_at_once(draft, monkeypatch):
    from dataset_tasks.manifest import Entry

    made = 0
    to_model = Entry.to_model

    def counted(self):
        nonlocal made
        made += 1
        return to_model(self)

    version = draft({f"{number:05}": "x" for number in range(3000)})
    monkeypatch.setattr(Entry, "to_model", counted)
    entries = version.file_entries_dict
    assert len(entries) == 3000
    assert len(list(islice(entries.values(), 10))) == 10
    assert made <= 10


# --- get_default_storage


def test_the_default_storage_is_the_versions_store(final, home, tmp_path):
    assert final({"a": "1"}).get_default_storage() == str(home / "store")
    assert final({"a": "1"}, output_uri=str(tmp_path / "x")).get_default_storage() == str(tmp_path / "x")


# --- get_logger


def test_reports_are_kept_with_the_version(final, tmp_path):
    version = final({"a": "1"})
    logger = version.get_logger()
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    logger.report_text("words")
    logger.report_scalar("loss", "train", 0.5, 3)
    logger.report_table("rows", "head", table_plot=[{"x": 1}, {"x": 2}])
    logger.report_histogram("sizes", "bytes", [1, 2, 3], iteration=1)
    logger.report_image("look", "first", local_path=tmp_path / "x.png")
    logger.report_media("hear", "first", 7, str(tmp_path / "x.png"))
    found = Dataset.get(version.id).get_logger().reports()
    assert [each.kind for each in found] == ["text", "scalar", "table", "histogram", "image", "media"]
    assert [(each.title, each.series, each.iteration) for each in found[1:]] == [
        ("loss", "train", 3),
        ("rows", "head", None),
        ("sizes", "bytes", 1),
        ("look", "first", None),
        ("hear", "first", 7),
    ]
    assert [each.value for each in found[:4]] == ["words", 0.5, [{"x": 1}, {"x": 2}], [1, 2, 3]]
    assert [logger.read_media(each) for each in found[4:]] == [b"\x89PNG", b"\x89PNG"]
    assert final({"a": "1"}).get_logger().reports() == []


def test_a_table_is_a_pandas_frame(draft):
    pd = pytest.importorskip("pandas")
    logger = draft().get_logger()
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "<b>"]})
    logger.report_table("rows", "head", 0, frame)
    pd.testing.assert_frame_equal(logger.frame("rows", "head"), frame)


def test_scalars_come_back_as_a_series(draft):
    pytest.importorskip("pandas")
    logger = draft().get_logger()
    for iteration in range(3):
        logger.report_scalar("loss", "train", iteration / 2, iteration)
    assert logger.frame("loss", "train").values.tolist() == [[0, 0.0], [1, 0.5], [2, 1.0]]


def test_text_goes_to_the_runs_log(draft, caplog):
    with caplog.at_level(logging.INFO):
        draft().get_logger().report_text("rows: 100%s")
    assert "rows: 100%s" in caplog.text


def test_what_can_not_be_reported_is_refused(draft, tmp_path):
    logger = draft().get_logger()
    with pytest.raises(InvalidArgumentError):
        logger.report_scalar("a", "b", math.nan, 1)
    with pytest.raises(InvalidArgumentError):
        logger.report_table("a", "b")
    with pytest.raises(InvalidArgumentError):
        logger.report_image("a", "b")
    with pytest.raises(SourceError, match="missing"):
        logger.report_media("a", "b", local_path=tmp_path / "missing")
    assert logger.reports() == []


def test_users_text_is_kept_as_it_is(draft):
    logger = draft().get_logger()
    text = "<script>alert(1)</script> \x1b[31m '; DROP TABLE reports; -- ünï\n"
    logger.report_text(text)
    logger.report_scalar(text, text, 1, 0)
    first, second = logger.reports()
    assert (first.value, second.title, second.series) == (text, text, text)
