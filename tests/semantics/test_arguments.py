"""Arguments of a wrong type: an error that names what was given, and nothing is changed."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, NotFoundError

MAKING = {
    "a number as project": lambda: Dataset.create("d", 7),
    "a number as name": lambda: Dataset.create(7, "demo"),
    "a number as version": lambda: Dataset.create("d", "demo", dataset_version=1),
    "a number as description": lambda: Dataset.create("d", "demo", description=5),
    "a number as store": lambda: Dataset.create("d", "demo", output_uri=3),
    "None among the tags": lambda: Dataset.create("d", "demo", dataset_tags=[None]),
    "a list as name": lambda: Dataset.get(dataset_name=["d"]),
    "a number as id": lambda: Dataset.get(7),
    "a number as wanted version": lambda: Dataset.get(dataset_name="d", dataset_version=1),
    "a text as moment": lambda: Dataset.get(dataset_name="d", as_of="yesterday"),
    "a moment without zone": lambda: Dataset.get(dataset_name="d", as_of=datetime(2026, 1, 1)),  # noqa: DTZ001
    "a number as part of names": lambda: Dataset.list_datasets(partial_name=5),
    "a number as listed project": lambda: Dataset.list_datasets(5),
    "a number as deleted id": lambda: Dataset.delete(5),
    "a single as pair": lambda: Dataset.squash("d", dataset_project_name_pairs=[("demo",)]),
    "a text as pair": lambda: Dataset.squash("d", dataset_project_name_pairs=["ab"]),
}
CHANGING = {
    "no path": lambda d, _: d.add_files(None),
    "a list as path": lambda d, _: d.add_files(["a"]),
    "a number as pattern": lambda d, p: d.add_files(p, 5),
    "None as a pattern": lambda d, p: d.add_files(p, [None]),
    "a number as base": lambda d, p: d.add_files(p, None, 5),
    "a number as place": lambda d, p: d.add_files(p, None, None, 5),
    "a text as threads": lambda d, p: d.add_files(p, max_workers="4"),
    "no folder": lambda d, _: d.sync_folder(None),
    "a number as URL": lambda d, _: d.add_external_files(5),
    "a number to remove": lambda d, _: d.remove_files(5),
    "a list to remove": lambda d, _: d.remove_files([]),
    "a text as chunk size": lambda d, _: d.upload(chunk_size="1"),
    "half a thread": lambda d, _: d.upload(max_workers=1.5),
    "a number that JSON can't hold": lambda d, p: d.add_files(p, max_workers=complex(2)),
    "a text as tries": lambda d, _: d.upload(retries="x"),
    "fewer than no tries": lambda d, _: d.upload(retries=-1),
    "no thread to pack": lambda d, _: d.upload(max_workers=0),
    "fewer than no thread to read": lambda d, p: d.add_files(p, max_workers=-2),
    "a number as store": lambda d, _: d.upload(output_url=5),
    "a number as listed pattern": lambda d, _: d.list_files(5),
    "a list as listed pattern": lambda d, _: d.list_files([]),
    "no description": lambda d, _: d.set_description(None),
    "a number as tags": lambda d, _: d.add_tags(5),
    "a number as metadata name": lambda d, _: d.set_metadata({}, 5),
    "a text as scalar": lambda d, _: d.get_logger().report_scalar("t", "s", "x", 1),
    "a number as table": lambda d, _: d.get_logger().report_table("t", "s", None, 5),
    "a text as height": lambda d, _: d.get_logger().report_histogram("t", "s", ["a"]),
}
READING = {
    "texts as part": lambda d: d.get_local_copy(part="0", num_parts="2"),
    "a number as files": lambda d: d.get_local_copy(files=5),
    "None among the files": lambda d: d.get_local_copy(files=[None]),
    "no file at all": lambda d: d.get_local_copy(files=[]),
    "no thread to copy": lambda d: d.get_local_copy(max_workers=0),
    "no target": lambda d: d.get_mutable_local_copy(None),
    "a number as copy": lambda d: d.verify_dataset_hash(5),
    "no file to open": lambda d: d.open(None),
}


@pytest.mark.parametrize("call", MAKING.values(), ids=MAKING)
def test_making_and_finding_refuse_a_value_of_another_type(call):
    with pytest.raises(InvalidArgumentError) as raised:
        call()
    assert raised.value.hint
    assert Dataset.list_datasets(only_completed=False) == []


@pytest.mark.parametrize("call", CHANGING.values(), ids=CHANGING)
def test_changing_a_draft_refuses_a_value_of_another_type(call, draft, folder):
    made = draft({"a": "1"})
    with pytest.raises(InvalidArgumentError) as raised:
        call(made, folder({"b": "2"}))
    assert raised.value.hint
    assert made.list_files() == ["a"]
    assert made.is_dirty()
    assert made.tags == []


@pytest.mark.parametrize("call", READING.values(), ids=READING)
def test_reading_a_version_refuses_a_value_of_another_type(call, final):
    with pytest.raises(InvalidArgumentError) as raised:
        call(final({"a": "1"}))
    assert raised.value.hint


def test_what_only_looks_like_another_type_is_taken(draft, folder):
    numpy = pytest.importorskip("numpy")
    made = draft({"a": "1"}, dataset_tags=(tag for tag in ("x", "y")))
    made.add_files(Path(folder({"b": "2"})), recursive=1)
    made.upload(chunk_size=numpy.float64(0.5))
    made.get_logger().report_scalar("t", "s", numpy.float32(0.5), 1)
    assert made.tags == ["x", "y"]
    assert made.finalize()
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_name="data", as_of=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_store_where_nothing_can_be_made_is_an_error_of_one_line(draft):
    made = draft({"a": "1"})
    with pytest.raises(Exception, match="/proc/none") as raised:
        made.upload(output_url="/proc/none")
    assert type(raised.value).__name__ == "StorageError"
    assert len(traceback.extract_tb(raised.value.__traceback__)) < 50
