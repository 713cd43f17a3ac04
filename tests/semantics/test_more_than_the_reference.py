"""SEMANTICS, "More than the reference, in the same release"."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import AlreadyExistsError, IntegrityError, InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.handle.base import default_session
from dataset_tasks.model import State
from dataset_tasks.ops.requests import Publish

# --- properties and labels


def test_properties_say_what_the_version_is(final):
    parent = final({"a": "1"}, name="parent")
    before = datetime.now(UTC)
    version = final({"a": "1"}, [parent], dataset_version="2.1", dataset_tags=["y", "x"], description="words")
    assert len(version.id) == 32
    assert (version.name, version.project, version.version, str(version.state)) == ("data", "demo", "2.1", "completed")
    assert (version.tags, version.description, version.parents) == (["x", "y"], "words", [parent.id])
    assert before - timedelta(seconds=5) < version.created
    assert version.created.tzinfo == UTC
    assert version.id in repr(version)


def test_a_list_that_a_property_gave_may_be_changed_without_harm(final):
    version = final({"a": "1"}, dataset_tags=["x"])
    version.tags.append("y")
    version.parents.append("z")
    assert (version.tags, version.parents) == (["x"], [])


def test_tags_are_added_and_removed(final):
    version = final({"a": "1"})
    version.add_tags(["x", "y"])
    version.add_tags("z")
    version.add_tags(["x"])
    assert version.tags == ["x", "y", "z"]
    version.remove_tags("x")
    version.remove_tags(["y", "unknown"])
    assert Dataset.get(version.id).tags == ["z"]


@pytest.mark.parametrize(
    "value", [None, True, 1, 0.5, "text ünï", [], {"a": [1, {"b": None}]}, {"<b>": "'; DROP TABLE metadata; --"}]
)
def test_metadata_are_json_values(final, value):
    version = final({"a": "1"})
    version.set_metadata(value)
    assert Dataset.get(version.id).get_metadata() == value


def test_metadata_have_names_and_none_when_there_are_none(draft):
    version = draft()
    assert version.get_metadata() is None
    version.set_metadata({"a": 1})
    version.set_metadata({"b": 2}, "stats")
    version.set_metadata({"a": 3}, metadata_name="metadata")
    assert (version.get_metadata(), version.get_metadata("stats")) == ({"a": 3}, {"b": 2})
    assert version.get_metadata("other") is None


def test_metadata_may_be_a_pandas_frame(draft):
    pd = pytest.importorskip("pandas")
    version = draft()
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"], "when": pd.to_datetime(["2024-01-01", "2024-02-01"])})
    version.set_metadata(frame, "frame")
    pd.testing.assert_frame_equal(Dataset.get(version.id).get_metadata("frame"), frame, check_dtype=False)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, float("nan"), [float("inf")], b"bytes", {("a", "b"): 1}])
def test_metadata_that_are_no_json_are_refused(draft, value):
    version = draft()
    with pytest.raises(InvalidArgumentError, match="JSON"):
        version.set_metadata(value)
    assert version.get_metadata() is None


def test_a_description_is_free_text(final):
    version = final({"a": "1"})
    version.set_description("ünï\n<b>\x1b[1m")
    assert version.description == "ünï\n<b>\x1b[1m"
    version.set_description("")
    assert version.description == ""


# --- open


@pytest.mark.parametrize("compression", ["deflate", "store"])
def test_open_gives_a_seekable_binary_reader(draft, compression):
    data = bytes(range(256)) * 5000
    version = draft({"a": "before", "big": data, "z": "after"})
    version.upload(show_progress=False, compression=compression)
    version.finalize()
    with version.open("big") as reader:
        assert reader.readable()
        assert reader.seekable()
        assert reader.read() == data
        assert reader.read() == b""
        for at in (1_000_000, 5, len(data) - 3):
            assert reader.seek(at) == at
            assert reader.read(7) == data[at : at + 7]
        assert reader.seek(-10, os.SEEK_END) == len(data) - 10
        assert reader.read() == data[-10:]
        assert reader.tell() == len(data)
        assert reader.seek(len(data) + 5)
        assert reader.read() == b""
        with pytest.raises(ValueError, match="before"):
            reader.seek(-1)
    text = io.TextIOWrapper(version.open("a")).read()
    assert text == "before"


def test_open_reads_ranges_not_the_whole_chunk(draft, monkeypatch):
    from dataset_tasks.objects import Ranges

    read = []
    pread = Ranges.pread
    monkeypatch.setattr(Ranges, "pread", lambda self, at, n: read.append(n) or pread(self, at, n))
    version = draft({"big": "x" * 9_000_000, "small": "y" * 1000})
    version.upload(show_progress=False, compression="store")
    version.finalize()
    assert version.open("small").read() == b"y" * 1000
    with version.open("big") as reader:
        reader.seek(8_000_000)
        assert reader.read(10) == b"x" * 10
    assert sum(read) < 3_000_000


def test_open_of_what_is_not_there_or_not_final_is_an_error(final, draft):
    version = final({"sub/a": "1"})
    for path in ("x", "sub", "sub/", "/sub/a", "../sub/a", "", "\udcff"):
        with pytest.raises(NotFoundError):
            version.open(path)
    with pytest.raises(StateError):
        draft({"a": "1"}).open("a")


@pytest.mark.parametrize("compression", ["deflate", "store"])
@pytest.mark.parametrize("size", [0, 20, 3_000_000], ids=["emptied", "cut", "cut late"])
def test_open_names_the_file_that_a_damaged_chunk_can_not_give(draft, home, compression, size):
    version = draft({"big": os.urandom(4_000_000)})
    version.upload(show_progress=False, compression=compression)
    version.finalize()
    (chunk,) = home.rglob("chunks/*.zip")
    os.truncate(chunk, size)
    with pytest.raises(IntegrityError, match="big") as raised:
        version.open("big").read()
    assert raised.value.paths == ("big",)
    with pytest.raises(IntegrityError, match="big") as raised, version.open("big") as reader:
        while reader.read(300_000):
            pass
    assert raised.value.paths == ("big",)
    chunk.unlink()
    with pytest.raises(IntegrityError, match="big") as raised:
        version.open("big").read()
    assert (raised.value.paths, raised.value.kind) == (("big",), "object_missing")


# --- frames and differences


def test_files_frame_has_a_row_a_file(final, draft):
    pytest.importorskip("pandas")
    parent = final({"a": "12"})
    frame = draft({"a": "12", "b": "345"}, [parent]).files_frame()
    assert list(frame.columns) == ["path", "size", "hash", "parent_dataset_id"]
    assert frame["path"].tolist() == ["a", "b"]
    assert frame["size"].tolist() == [2, 3]
    assert frame["hash"][0] == parent.file_entries_dict["a"].hash
    assert frame["parent_dataset_id"][0] == parent.id
    assert len(draft(name="empty").files_frame()) == 0


def test_diff_lists_what_was_added_removed_and_modified_with_sizes(final, draft):
    old = final({"a": "1", "b": "22", "c": "333"})
    new = draft({"a": "1", "b": "new!", "d": ""}, [old])
    for other in (old, old.id):
        found = new.diff(other)
        assert [(each.path, each.old_size, each.new_size) for each in found.added] == [("d", None, 0)]
        assert [(each.path, each.old_size, each.new_size) for each in found.removed] == [("c", 3, None)]
        assert [(each.path, each.old_size, each.new_size) for each in found.modified] == [("b", 2, 4)]
    with pytest.raises(NotFoundError):
        new.diff("nonsense")


def test_a_diff_makes_a_frame(final):
    pd = pytest.importorskip("pandas")
    old, new = final({"a": "1", "b": "22"}), final({"b": "333", "c": "4"})
    frame = new.diff(old).to_frame()
    assert list(frame.columns) == ["change", "path", "old_size", "new_size"]
    assert dict(zip(frame["path"], frame["change"], strict=True)) == {"a": "removed", "b": "modified", "c": "added"}
    assert frame["new_size"].isna().tolist() == [False, False, True]
    assert len(new.diff(new).to_frame()) == 0
    assert isinstance(frame, pd.DataFrame)


def test_pandas_is_loaded_only_when_it_is_asked_for(tmp_path, monkeypatch):
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from dataset_tasks import Dataset\n"
        "d = Dataset.create('a', 'p'); d.add_files(sys.argv[1]); d.upload(show_progress=False); d.finalize()\n"
        "d.set_metadata({'a': 1}); d.get_metadata(); d.get_local_copy(); list(d.file_entries_dict); d.diff(d)\n"
        "assert 'pandas' not in sys.modules\n"
        "d.files_frame()\n"
        "assert 'pandas' in sys.modules\n"
    )
    (tmp_path / "x").write_text("1")
    subprocess.run([sys.executable, "-c", script, tmp_path / "x"], check=True, env=os.environ)


def test_a_sync_of_what_did_not_change_loads_only_what_it_needs(tmp_path):
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from dataset_tasks import Dataset\n"
        "d = Dataset.create('a', 'p', [sys.argv[2]] if sys.argv[2:] else None); print(d.id)\n"
        "assert d.sync_folder(sys.argv[1]) == (0, 0 if sys.argv[2:] else 1)\n"
        "if not sys.argv[2:]: d.upload(show_progress=False); d.finalize()\n"
        "else: assert not {'pyarrow.compute', 'sqlalchemy.dialects.postgresql', 'pandas', 'boto3'} & set(sys.modules)\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("1")

    def ran(*more):
        call = [sys.executable, "-c", script, tmp_path / "data", *more]
        return subprocess.run(call, check=True, env=os.environ, capture_output=True, text=True).stdout.strip()

    ran(ran())


# --- names


def test_rename_and_move_keep_ids_versions_and_aliases(final):
    first, second = final({"a": "1"}), final({"a": "2"})
    Dataset.set_alias("prod", first.id)
    first.rename("renamed")
    second.move_to_project("elsewhere")
    assert {(each["project"], each["name"]) for each in Dataset.list_datasets()} == {("elsewhere", "renamed")}
    assert [each["id"] for each in Dataset.list_datasets()] == [first.id, second.id]
    found = Dataset.get(dataset_project="elsewhere", dataset_name="renamed", dataset_version="prod")
    assert found.id == first.id
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_name="data")


def test_a_name_that_another_dataset_has_is_refused(final):
    version = final({"a": "1"})
    final({"a": "1"}, name="taken")
    final({"a": "1"}, project="elsewhere")
    with pytest.raises(AlreadyExistsError):
        version.rename("taken")
    with pytest.raises(AlreadyExistsError):
        version.move_to_project("elsewhere")
    with pytest.raises(InvalidArgumentError):
        version.rename("")
    version.rename("data")
    version.move_to_project("demo")
    assert (version.project, version.name) == ("demo", "data")


def test_get_num_chunks_counts_with_or_without_parents(final):
    parent = final({"a": "1"})
    child = final({"a": "1", "b": "2"}, [parent])
    assert (parent.get_num_chunks(), child.get_num_chunks()) == (1, 2)
    assert child.get_num_chunks(include_parents=False) == 1
    assert final({"a": "1"}, [parent]).get_num_chunks(include_parents=False) == 0


# --- aliases


def test_an_alias_names_one_version_of_a_dataset_and_moves(final):
    first, second = final({"a": "1"}), final({"a": "2"})
    other = final({"a": "3"}, name="other")
    Dataset.set_alias("prod", first.id)
    Dataset.set_alias("prod", other)
    assert Dataset.get(dataset_name="data", dataset_version="prod").id == first.id
    assert Dataset.get(dataset_name="other", dataset_version="prod").id == other.id
    Dataset.set_alias("prod", second)
    assert Dataset.get(dataset_project="demo", dataset_name="data", dataset_version="prod").id == second.id
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_name="data", dataset_version="staging")
    with pytest.raises(NotFoundError):
        Dataset.set_alias("prod", "0" * 32)


def test_alias_history_keeps_every_move_and_rollback_goes_one_back(final):
    first, second = final({"a": "1"}), final({"a": "2"})
    with pytest.raises(NotFoundError):
        first.rollback_alias("prod")
    Dataset.set_alias("prod", first)
    with pytest.raises(NotFoundError):
        first.rollback_alias("prod")
    Dataset.set_alias("prod", second)
    Dataset.set_alias("prod", second)
    assert second.rollback_alias("prod") == first.id
    assert Dataset.get(dataset_name="data", dataset_version="prod").id == first.id
    history = first.alias_history("prod")
    assert [version_id for version_id, _ in history] == [first.id, second.id, first.id]
    assert all(moment.tzinfo == UTC for _, moment in history)
    assert first.alias_history("unknown") == []


def test_a_version_string_goes_before_an_alias_of_the_same_name(final):
    first, second = final({"a": "1"}), final({"a": "2"})
    Dataset.set_alias("1.0.1", first)
    assert Dataset.get(dataset_name="data", dataset_version="1.0.1").id == second.id


@pytest.mark.parametrize("name", ["latest", "published", ""])
def test_no_alias_takes_a_name_that_would_never_find_it(final, name):
    version = final({"a": "1"})
    with pytest.raises(InvalidArgumentError, match="can't be an alias"):
        Dataset.set_alias(name, version)
    with pytest.raises(InvalidArgumentError, match="can't be an alias"):
        default_session().run(Publish(ref=version.id, alias=name))
    assert default_session().catalog.version(version.id).state is State.COMPLETED


def test_every_change_of_a_final_version_is_an_event(final):
    version = final({"a": "1"})
    version.add_tags("x")
    version.set_description("words")
    version.set_metadata(1)
    Dataset.set_alias("prod", version)
    version.rename("other")
    kinds = [event.kind for event in default_session().catalog.events(version_id=version.id)]
    assert kinds == ["finalized", "changed", "changed", "changed", "alias", "changed"]
