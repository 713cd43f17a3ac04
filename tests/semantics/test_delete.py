"""SEMANTICS, delete."""

from __future__ import annotations

import pytest

from dataset_tasks import Dataset, State
from dataset_tasks.errors import InvalidArgumentError, NotFoundError, StateError


def test_a_version_used_as_a_parent_is_an_error_naming_the_children_by_id_too(final, draft):
    parent = final({"a": "1"}, name="parent")
    children = [final({"a": "2"}, [parent], name="child"), draft(parents=[parent], name="draft")]
    for how in ({"dataset_id": parent.id}, {"dataset_project": "demo", "dataset_name": "parent"}):
        with pytest.raises(StateError) as raised:
            Dataset.delete(**how)
        assert raised.value.kind == "in_use"
        assert all(child.id in str(raised.value) for child in children)
    assert parent.is_final()


def test_once_the_children_are_gone_it_can_be_deleted(final, draft):
    parent = final({"a": "1"}, name="parent")
    child = draft(parents=[parent], name="child")
    Dataset.delete(child.id)
    Dataset.delete(parent.id)
    assert Dataset.list_datasets(only_completed=False) == []


def test_with_force_the_version_goes_and_its_children_still_read_back(final, draft, finish, content):
    grandparent = final({"a": "1", "b": "1"}, name="grandparent")
    parent = final({"a": "2", "b": "1"}, [grandparent], name="parent")
    child = final({"a": "2", "b": "1", "c": "3"}, [parent], name="child")
    waiting = draft({"a": "2", "new": "4"}, [parent], name="draft")
    Dataset.delete(parent.id, force=True)
    Dataset.delete(grandparent.id, force=True)
    assert content(child) == {"a": "2", "b": "1", "c": "3"}
    assert content(child.get_local_copy()) == {"a": "2", "b": "1", "c": "3"}
    assert child.verify_dataset_hash() == []
    assert content(finish(waiting)) == {"a": "2", "new": "4"}


def test_not_found_is_an_error():
    for how in ({"dataset_id": "0" * 32}, {"dataset_name": "missing"}, {"dataset_project": "missing"}):
        with pytest.raises(NotFoundError):
            Dataset.delete(**how)


def test_nothing_given_is_an_error(final):
    version = final({"a": "1"})
    with pytest.raises(InvalidArgumentError):
        Dataset.delete()
    with pytest.raises(InvalidArgumentError):
        Dataset.delete(version.id, dataset_name="data")
    assert version.is_final()


def test_several_that_match_are_an_error_listing_them(final, draft):
    versions = [final({"a": "1"}), draft()]
    with pytest.raises(InvalidArgumentError) as raised:
        Dataset.delete(dataset_project="demo", dataset_name="data", force=True)
    assert all(version.id in str(raised.value) for version in versions)
    assert len(Dataset.list_datasets(only_completed=False)) == 2


def test_only_a_project_is_an_error_listing_what_is_in_it(final):
    version = final({"a": "1"})
    with pytest.raises(InvalidArgumentError, match=version.id):
        Dataset.delete(dataset_project="demo", force=True)
    assert version.is_final()


def test_a_name_that_only_one_version_has_is_enough(final):
    version = final({"a": "1"})
    Dataset.delete(dataset_name="data")
    assert version.state is State.DELETED


def test_a_tombstone_keeps_id_name_and_parents_for_the_lineage_of_the_children(final):
    grandparent = final({"a": "1"}, name="grandparent")
    parent = final({"a": "2"}, [grandparent], name="parent")
    child = final({"a": "3"}, [parent], name="child")
    Dataset.delete(parent.id, force=True)
    assert child.get_dependency_graph() == {child.id: [parent.id], parent.id: [grandparent.id], grandparent.id: []}
    assert (parent.name, parent.parents, parent.state) == ("parent", [grandparent.id], State.DELETED)


def test_compared_with_a_tombstone_its_files_count_as_absent(final):
    parent, other = final({"a": "1"}, name="parent"), final({"b": "1"}, name="other")
    child = final({"a": "1", "b": "1", "c": "1"}, [parent, other], name="child")
    Dataset.delete(parent.id, force=True)
    assert child.list_added_files() == ["a", "c"]
    assert child.list_added_files(parent.id) == ["a", "b", "c"]
    assert child.list_removed_files(parent.id) == child.list_modified_files(parent.id) == []


def test_a_deleted_version_gives_no_bytes_any_more(final):
    version = final({"a": "1"})
    Dataset.delete(version.id)
    for read in (version.get_local_copy, version.verify_dataset_hash, lambda: version.open("a")):
        with pytest.raises(StateError) as raised:
            read()
        assert raised.value.kind == "deleted"


def test_deleting_a_draft_leaves_its_parents_alone(final, draft, content):
    parent = final({"a": "1"})
    child = draft({"a": "1", "b": "2"}, [parent])
    child.upload(show_progress=False)
    Dataset.delete(child.id)
    assert content(parent) == {"a": "1"}
