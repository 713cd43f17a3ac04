"""SEMANTICS, create."""

from __future__ import annotations

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, StateError


def test_parents_are_ids_or_handles_and_per_path_the_last_one_wins(final, content, finish):
    one = final({"a": "1", "b": "1"}, name="one")
    other = final({"b": "2", "c": "2"}, name="other")
    child = Dataset.create("child", "demo", [one.id, other])
    assert child.parents == [one.id, other.id]
    assert content(finish(child)) == {"a": "1", "b": "2", "c": "2"}
    turned = Dataset.create("child", "demo", [other, one])
    assert content(finish(turned)) == {"a": "1", "b": "1", "c": "2"}


def test_one_parent_may_stand_alone(final):
    parent = final({"a": "1"})
    assert Dataset.create("child", "demo", parent).parents == [parent.id]
    assert Dataset.create("child", "demo", parent.id).parents == [parent.id]


@pytest.mark.parametrize("parents", [[None], 7, [object()]])
def test_a_parent_that_is_neither_an_id_nor_a_handle_is_an_error(parents):
    with pytest.raises(InvalidArgumentError, match="is no version"):
        Dataset.create("child", "demo", parents)
    assert Dataset.list_datasets(only_completed=False) == []


def test_parents_that_are_not_final_are_named_in_the_error(final, draft):
    good, bad, worse = final({"a": "1"}, name="good"), draft(name="bad"), draft(name="worse")
    with pytest.raises(StateError) as raised:
        Dataset.create("child", "demo", [good, bad, worse])
    assert raised.value.kind == "parent_not_final"
    assert bad.id in str(raised.value)
    assert worse.id in str(raised.value)
    assert good.id not in str(raised.value)
    assert [each["name"] for each in Dataset.list_datasets(only_completed=False)] == ["good", "bad", "worse"]


def test_a_parent_that_is_not_there_is_an_error(final):
    gone = final({"a": "1"})
    Dataset.delete(gone.id)
    with pytest.raises(StateError):
        Dataset.create("child", "demo", [gone.id])
    with pytest.raises(NotFoundError):
        Dataset.create("child", "demo", ["0" * 32])
    with pytest.raises(InvalidArgumentError, match="nonsense"):
        Dataset.create("child", "demo", ["nonsense"])


def test_without_a_project_it_is_the_last_parents(final):
    parents = [final({"a": "1"}, project="left"), final({"b": "1"}, project="right")]
    assert Dataset.create("child", parent_datasets=parents).project == "right"
    assert Dataset.create("child", "own", parents).project == "own"


def test_neither_project_nor_parents_is_an_error():
    with pytest.raises(InvalidArgumentError, match="project"):
        Dataset.create("data")
    with pytest.raises(InvalidArgumentError, match="project"):
        Dataset.create("data", "")


def test_an_empty_name_is_an_error():
    with pytest.raises(InvalidArgumentError, match="name"):
        Dataset.create("", "demo")
    assert Dataset.list_datasets(only_completed=False) == []


@pytest.mark.parametrize("name", ["b/c", "/c", "c/"])
def test_a_name_that_reads_as_part_of_a_project_is_refused(name, final):
    """Else the name `b/c` of `a` and the name `c` of `a/b` would both be shown as `a/b/c`, and one of them never meant."""
    version = final()
    for refused in (
        lambda: Dataset.create(name, "a"),
        lambda: Dataset.squash(name, [version]),
        lambda: version.rename(name),
    ):
        with pytest.raises(InvalidArgumentError, match="name holds no `/`"):
            refused()
    assert [each["name"] for each in Dataset.list_datasets(only_completed=False)] == [version.name]
    assert Dataset.create("c", "a/b").project == "a/b"


def test_the_first_version_is_1_0_0_and_the_next_has_its_last_number_raised(draft):
    assert [draft().version for _ in range(3)] == ["1.0.0", "1.0.1", "1.0.2"]
    assert draft(name="other").version == "1.0.0"


def test_the_next_version_follows_the_highest_semantic_one(draft):
    for version in ("1.9.0", "1.10.2", "release", "2019"):
        draft(dataset_version=version)
    assert draft().version == "2020"
    assert draft(dataset_version="10000.0.9").version == "10000.0.9"
    assert draft().version == "10000.0.10"


def test_a_version_string_is_unique_per_project_and_name(draft):
    draft(dataset_version="x")
    with pytest.raises(AlreadyExistsError, match="x"):
        draft(dataset_version="x")
    assert draft(dataset_version="x", name="other").version == "x"
    assert draft(dataset_version="x", project="elsewhere").version == "x"


@pytest.mark.parametrize("version", ["prod candidate", "ünï", "1", "a/b", "'; DROP TABLE versions; --", "2024-01-01"])
def test_any_string_is_a_version(draft, version):
    made = draft(dataset_version=version)
    assert made.version == version
    assert Dataset.get(dataset_name="data", dataset_version=version).id == made.id


def test_a_dropped_drafts_number_is_free_again(draft):
    first = draft()
    Dataset.delete(first.id)
    assert draft().version == first.version


def test_a_deleted_final_versions_number_is_not_used_again(final, draft):
    first = final({"a": "1"})
    Dataset.delete(first.id)
    assert draft().version == "1.0.1"


def test_use_current_task_outside_of_a_run_is_an_error_with_a_hint():
    with pytest.raises(InvalidArgumentError) as raised:
        Dataset.create("data", "demo", use_current_task=True)
    assert raised.value.hint
    assert Dataset.list_datasets(only_completed=False) == []


def test_tags_version_store_and_description_are_kept(tmp_path):
    made = Dataset.create(
        "data",
        "demo",
        dataset_tags=["b", "a"],
        dataset_version="7",
        output_uri=str(tmp_path / "store"),
        description="words",
    )
    assert (made.tags, made.version, made.description) == (["a", "b"], "7", "words")
    assert made.get_default_storage() == str(tmp_path / "store")


def test_a_store_that_there_is_not_is_refused_before_anything_is_made():
    with pytest.raises(InvalidArgumentError, match="gopher"):
        Dataset.create("data", "demo", output_uri="gopher://host/store")
    with pytest.raises(InvalidArgumentError, match="credentials"):
        Dataset.create("data", "demo", output_uri="s3://key:secret@bucket")
    assert Dataset.list_datasets(only_completed=False) == []


def test_two_drafts_of_a_dataset_may_stand_side_by_side(draft, finish, content):
    one, other = draft({"a": "1"}), draft({"a": "2"})
    assert content(finish(other)) == {"a": "2"}
    assert content(finish(one)) == {"a": "1"}
