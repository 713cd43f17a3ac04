"""SEMANTICS, squash."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks import Dataset, State
from dataset_tasks.errors import InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.handle.base import default_session


def test_it_takes_ids_or_handles(final, content):
    one, other = final({"a": "1"}, name="one"), final({"b": "2"}, name="other")
    assert content(Dataset.squash("both", [one.id, other])) == {"a": "1", "b": "2"}
    assert content(Dataset.squash("both", one)) == {"a": "1"}


def test_it_takes_pairs_of_project_and_name(final, content):
    final({"a": "1"}, name="one")
    final({"a": "2"}, name="one")
    final({"b": "3"}, name="other", project="elsewhere")
    made = Dataset.squash("both", dataset_project_name_pairs=[("demo", "one"), ("elsewhere", "other")])
    assert content(made) == {"a": "2", "b": "3"}


def test_both_or_neither_argument_is_an_error(final):
    version = final({"a": "1"})
    with pytest.raises(InvalidArgumentError):
        Dataset.squash("x")
    with pytest.raises(InvalidArgumentError):
        Dataset.squash("x", [])
    with pytest.raises(InvalidArgumentError):
        Dataset.squash("x", [version], [("demo", "data")])


def test_a_version_that_is_not_final_or_not_there_is_an_error_and_nothing_is_made(final, draft):
    good, bad = final({"a": "1"}), draft({"b": "1"}, name="bad")
    for wrong, error in (
        ([good, bad], StateError),
        ([good, "0" * 32], NotFoundError),
        ([good, "nonsense"], InvalidArgumentError),
    ):
        with pytest.raises(error):
            Dataset.squash("made", wrong)
    with pytest.raises(NotFoundError):
        Dataset.squash("made", dataset_project_name_pairs=[("demo", "missing")])
    with pytest.raises(InvalidArgumentError):
        Dataset.squash("", [good])
    assert Dataset.list_datasets(partial_name="made", only_completed=False) == []


def test_of_one_version_it_is_the_whole_content_without_parents(final, content):
    parent = final({"a": "1", "b": "1"})
    child = final({"a": "2", "c": "3"}, [parent])
    flat = Dataset.squash("flat", [child])
    assert content(flat) == {"a": "2", "c": "3"}
    assert (flat.parents, flat.project, flat.name, flat.state) == ([], "demo", "flat", State.COMPLETED)
    assert {entry.parent_dataset_id for entry in flat.file_entries_dict.values()} == {flat.id}
    assert flat.get_dependency_graph() == {flat.id: []}


def test_no_chunk_of_another_version_is_needed(final, home, content):
    parent = final({"a": "1", "b": "1"})
    child = final({"a": "2", "b": "1"}, [parent])
    chunks = list(home.rglob("chunks/*"))
    flat = Dataset.squash("flat", [child])
    both = Dataset.squash("both", [parent, child])
    for chunk in chunks:
        chunk.unlink()
    assert content(flat) == {"a": "2", "b": "1"}
    assert content(both) == {"a": "2", "b": "1"}


def test_of_several_it_applies_each_ones_changes_in_order(final, content):
    base = final({"kept": "0", "changed": "0", "gone": "0"}, name="base")
    first = final({"kept": "0", "changed": "1", "gone": "0", "new": "1"}, [base], name="first")
    second = final({"kept": "0", "changed": "2", "new": "1", "newer": "2"}, [first], name="second")
    made = Dataset.squash("made", [first, second])
    assert content(made) == {"kept": "0", "changed": "2", "new": "1", "newer": "2"}


def test_a_file_that_a_later_one_removed_stays_removed(final, content):
    first = final({"a": "1", "b": "1"})
    second = final({"b": "1"}, [first])
    third = final({"b": "3", "c": "3"}, [second])
    assert content(Dataset.squash("made", [first, second, third])) == {"b": "3", "c": "3"}
    assert content(Dataset.squash("made", [first, third])) == {"a": "1", "b": "3", "c": "3"}


def test_a_file_inherited_by_the_first_stays(final, content):
    base = final({"inherited": "0"}, name="base")
    first = final({"inherited": "0", "a": "1"}, [base], name="first")
    other = final({"b": "2"}, name="other")
    assert content(Dataset.squash("made", [first, other])) == {"inherited": "0", "a": "1", "b": "2"}


def test_its_parents_are_the_first_ones_less_those_in_the_list(final):
    base, aside = final({"x": "1"}, name="base"), final({"y": "1"}, name="aside")
    first = final({"x": "1", "y": "1", "a": "1"}, [base, aside], name="first")
    second = final({"x": "1", "y": "1", "a": "2"}, [first], name="second")
    assert Dataset.squash("made", [first, second]).parents == [base.id, aside.id]
    assert Dataset.squash("made", [aside, first, second]).parents == []
    graph = Dataset.squash("made", [first, second]).get_dependency_graph()
    assert sorted(graph.values()) == sorted([[base.id, aside.id], [], []])


def test_an_ancestor_after_its_descendant_is_an_error(final):
    first = final({"a": "1"})
    second = final({"a": "2"}, [first])
    third = final({"a": "3"}, [second])
    for order in ([third, first], [first, third, second], [first, first]):
        with pytest.raises(InvalidArgumentError):
            Dataset.squash("made", order)


def test_deleting_the_listed_versions_never_harms_it(final, home, content):
    first = final({"a": "1", "b": "1"})
    second = final({"a": "2", "b": "1"}, [first])
    made = Dataset.squash("made", [first, second])
    for version in (second, first):
        Dataset.delete(version.id)
    assert content(made) == {"a": "2", "b": "1"}
    assert made.verify_dataset_hash() == []


def test_it_is_uploaded_and_finalized_in_the_first_ones_project(final, tmp_path):
    first = final({"a": "1"}, project="left", name="one")
    other = final({"b": "1"}, project="right", name="other")
    made = Dataset.squash("made", [first, other], output_url=str(tmp_path / "store"))
    assert (made.project, made.state, made.is_dirty()) == ("left", State.COMPLETED, False)
    assert made.get_default_storage() == str(tmp_path / "store")
    objects = default_session().manifest(default_session().catalog.version(made.id)).index.objects
    store = next((tmp_path / "store").iterdir())
    assert [key for key in objects if not Path(store, key).is_file()] == []


def test_a_path_that_would_be_both_a_file_and_a_folder_is_an_error(final):
    one, other = final({"x": "1"}, name="one"), final({"x/y": "2"}, name="other")
    with pytest.raises(InvalidArgumentError, match="x"):
        Dataset.squash("made", [one, other])
    assert Dataset.list_datasets(partial_name="made", only_completed=False) == []
