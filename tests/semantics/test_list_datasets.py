"""SEMANTICS, list_datasets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dataset_tasks import Dataset


def names(**how) -> list[str]:
    return [each["name"] for each in Dataset.list_datasets(only_completed=False, **how)]


def test_each_version_is_a_dict_of_what_it_is(final):
    parent = final({"a": "12"}, name="parent")
    child = final({"a": "12", "b": "345"}, [parent], name="child", dataset_tags=["y", "x"], dataset_version="2.0")
    child.publish()
    _, found = Dataset.list_datasets()
    assert found == {
        "name": "child",
        "project": "demo",
        "id": child.id,
        "created": child.created,
        "version": "2.0",
        "status": "published",
        "tags": ["x", "y"],
        "files": 2,
        "bytes": 5,
        "parents": [parent.id],
    }
    assert isinstance(found["created"], datetime)
    assert found["created"].tzinfo == UTC


def test_versions_are_ordered_by_creation(draft):
    made = [draft(name=name, dataset_version=version).id for name, version in [("z", "2"), ("a", "1"), ("z", "1")]]
    assert [each["id"] for each in Dataset.list_datasets(only_completed=False)] == made


def test_only_final_ones_unless_asked_for(final, draft):
    done, waiting = final({"a": "1"}), draft(name="open")
    assert [each["id"] for each in Dataset.list_datasets()] == [done.id]
    assert [each["id"] for each in Dataset.list_datasets(only_completed=False)] == [done.id, waiting.id]


def test_a_project_is_taken_as_it_is(draft):
    draft(project="a", name="one")
    draft(project="a/b", name="two")
    draft(project="ab", name="three")
    assert names(dataset_project="a") == ["one"]
    assert names(dataset_project="a/b") == ["two"]
    assert names(dataset_project="%") == []


PARTS = ["100%", "a_b", "axb", "A.B", "back\\slash", "Äpfel", "'; DROP TABLE versions; --", "STRASSE"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("%", ["100%"]),
        ("_", ["a_b"]),
        (".", ["A.B"]),
        (".*", []),
        ("a_b", ["a_b"]),
        ("A", ["a_b", "axb", "A.B", "back\\slash", "'; DROP TABLE versions; --", "STRASSE"]),
        ("äP", ["Äpfel"]),
        ("\\", ["back\\slash"]),
        ("'; drop table", ["'; DROP TABLE versions; --"]),
        ("straße", ["STRASSE"]),
        ("(", []),
        ("", PARTS),
    ],
)
def test_partial_name_is_a_literal_case_insensitive_part_of_the_name(draft, part, expected):
    for name in PARTS:
        draft(name=name)
    assert names(partial_name=part) == expected


def test_every_tag_must_be_there(draft):
    draft(name="both", dataset_tags=["x", "y"])
    draft(name="one", dataset_tags="x")
    assert names(tags=["x", "y"]) == ["both"]
    assert names(tags="x") == ["both", "one"]
    assert names(tags=["%"]) == []
    assert names(tags=["x' OR '1'='1"]) == []


def test_ids_choose_and_no_ids_give_none(draft):
    one, other = draft(name="one"), draft(name="other")
    draft(name="third")
    assert names(ids=[other.id, one.id]) == ["one", "other"]
    assert names(ids=[other]) == ["other"]
    assert names(ids=[]) == []
    assert names(ids=["0" * 32, "nonsense"]) == []


def test_all_conditions_hold_together(draft):
    one = draft(name="one", dataset_tags=["x"])
    draft(name="one", dataset_tags=["x"], project="elsewhere")
    assert [
        each["id"]
        for each in Dataset.list_datasets("demo", "ON", ["x"], [one.id], False)  # by position, as in the reference
    ] == [one.id]


def test_what_is_dropped_or_deleted_is_not_listed(final, draft):
    Dataset.delete(final({"a": "1"}).id)
    Dataset.delete(draft().id)
    assert Dataset.list_datasets(only_completed=False) == []


def test_a_list_makes_a_frame(draft):
    pd = pytest.importorskip("pandas")
    draft(name="one")
    frame = pd.DataFrame(Dataset.list_datasets(only_completed=False))
    assert list(frame["name"]) == ["one"]
    assert str(frame["created"].dtype).endswith("UTC]")
    pd.testing.assert_frame_equal(Dataset.list_datasets(only_completed=False).to_frame(), frame, check_dtype=False)


def test_a_frame_has_its_columns_also_when_no_version_is_there():
    frame = Dataset.list_datasets().to_frame()
    assert len(frame) == 0
    assert list(frame)[:5] == ["name", "project", "id", "created", "version"]
    assert str(frame["created"].dtype).endswith("UTC]")
