"""SEMANTICS, States."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks import Dataset, State
from dataset_tasks.errors import InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.handle.base import default_session
from dataset_tasks.ops.requests import Verify


def test_a_version_is_a_draft_then_completed_then_published(draft, finish):
    version = draft({"a": "1"})
    assert (version.state, version.is_final()) == (State.IN_PROGRESS, False)
    finish(version)
    assert (version.state, version.is_final()) == (State.COMPLETED, True)
    version.publish()
    assert (version.state, version.is_final()) == (State.PUBLISHED, True)
    assert version.state == "published"


def test_adding_nothing_and_removing_do_not_make_a_version_dirty(draft, final, folder):
    child = draft(parents=[final({"a": "1", "b": "2"})])
    child.add_files(folder({}))
    assert not child.is_dirty()
    child.remove_files("a")
    assert not child.is_dirty()


def test_adding_and_removing_the_same_file_does_not_make_a_version_dirty(draft, folder):
    version = draft()
    version.add_files(folder({"a": "1"}))
    assert version.is_dirty()
    version.remove_files("a")
    assert not version.is_dirty()
    assert version.finalize()


def test_adding_what_a_parent_has_does_not_make_a_version_dirty(draft, final, folder):
    child = draft(parents=[final({"a": "1"})])
    assert child.add_files(folder({"a": "1"})) == 0
    assert not child.is_dirty()


def test_a_child_that_changes_nothing_finalizes_without_an_upload(draft, final, content):
    child = draft(parents=[final({"a": "1"})])
    assert child.finalize()
    assert content(child) == {"a": "1"}


def test_a_final_version_refuses_every_change_whatever_handle_it_comes_from(draft, finish, folder, content):
    before = draft({"a": "1"})
    other_handle = Dataset.get(before.id)
    finish(before)
    seen = (other_handle.id, other_handle.version, dict(other_handle.file_entries_dict), other_handle.parents)
    for change in (
        lambda: other_handle.add_files(folder({"b": "2"})),
        lambda: other_handle.sync_folder(folder({})),
        lambda: other_handle.remove_files("a"),
    ):
        with pytest.raises(StateError) as raised:
            change()
        assert raised.value.kind == "finalized"
        assert "child" in raised.value.hint
    assert (before.id, before.version, dict(before.file_entries_dict), before.parents) == seen
    assert content(before) == {"a": "1"}


def test_upload_finalize_and_publish_on_a_final_version_do_nothing(final):
    version = final({"a": "1"})
    version.upload(show_progress=False)
    assert version.finalize()
    assert version.publish()
    assert version.publish()
    version.upload(show_progress=False, output_url="/nowhere/at/all")
    assert version.get_default_storage() != "/nowhere/at/all"
    assert not Path("/nowhere").exists()


def test_tags_metadata_description_and_aliases_of_a_final_version_may_change(final):
    version = final({"a": "1"})
    version.add_tags("x")
    version.set_description("words")
    version.set_metadata({"rows": 1})
    Dataset.set_alias("prod", version.id)
    again = Dataset.get(dataset_project="demo", dataset_name="data", dataset_version="prod")
    assert (again.id, again.tags, again.description, again.get_metadata()) == (version.id, ["x"], "words", {"rows": 1})
    assert again.list_files() == ["a"]


def test_rename_and_move_change_the_catalog_only(final, home: Path, content):
    version = final({"a": "1"})
    chunks = sorted((home / "store").rglob("*.zip"))
    version.rename("other")
    version.move_to_project("elsewhere")
    assert (version.name, version.project, content(version)) == ("other", "elsewhere", {"a": "1"})
    assert sorted((home / "store").rglob("*.zip")) == chunks
    assert Dataset.get(dataset_project="elsewhere", dataset_name="other").id == version.id


def test_latest_and_alias_look_ups_pass_over_a_quarantined_version(final, home: Path):
    first, second = final({"a": "1"}), final({"a": "2"})
    second.publish()
    Dataset.set_alias("prod", second.id)
    for key in default_session().manifest(default_session().catalog.version(second.id)).index.chunks:
        (next((home / "store").iterdir()) / key).write_bytes(b"")
    assert default_session().run(Verify(ref=second.id, quarantine=True)).bad == ("a",)
    assert Dataset.get(dataset_project="demo", dataset_name="data").id == first.id
    assert Dataset.get(dataset_project="demo").id == first.id
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_project="demo", dataset_name="data", only_published=True)
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_project="demo", dataset_name="data", dataset_version="prod")
    assert Dataset.get(second.id).id == second.id
    assert Dataset.get(dataset_name="data", dataset_version=second.version).id == second.id


def test_an_aborted_version_is_not_final_and_refuses_every_change_but_delete(draft, folder):
    version = draft({"a": "1"})
    Dataset.delete(version.id)
    assert (version.state, version.is_final()) == (State.ABORTED, False)
    for change in (
        lambda: version.add_files(folder({"b": "2"})),
        lambda: version.sync_folder(folder({})),
        lambda: version.remove_files("a"),
        lambda: version.upload(show_progress=False),
        version.finalize,
        version.publish,
        version.get_local_copy,
    ):
        with pytest.raises(StateError) as raised:
            change()
        assert raised.value.kind == "aborted"
    Dataset.delete(version.id)


def test_an_aborted_version_is_found_only_by_id_or_state(draft):
    version = draft({"a": "1"})
    Dataset.delete(version.id)
    assert Dataset.get(version.id).state is State.ABORTED
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_project="demo", dataset_name="data")
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_project="demo", dataset_name="data", dataset_version=version.version)
    assert Dataset.list_datasets(only_completed=False) == []
    assert [each.id for each in default_session().catalog.versions(states=[State.ABORTED])] == [version.id]


def test_a_path_can_not_be_both_a_file_and_a_folder(draft, folder):
    version = draft({"x": "1"})
    for add in (
        lambda: version.add_files(folder({"x/y": "2"})),
        lambda: version.add_files(folder({"y": "2", "z": "3"}), dataset_path="x"),
        lambda: version.sync_folder(folder({"y": "2"}), dataset_path="x"),
    ):
        with pytest.raises(InvalidArgumentError, match="x"):
            add()
        assert version.list_files() == ["x"]


def test_a_path_can_not_be_both_a_file_and_a_folder_by_merging_parents(final):
    one, other = final({"x": "1"}, name="one"), final({"x/y": "2"}, name="other")
    before = Dataset.list_datasets(only_completed=False)
    with pytest.raises(InvalidArgumentError, match="x"):
        Dataset.create("both", "demo", [one, other])
    assert Dataset.list_datasets(only_completed=False) == before
