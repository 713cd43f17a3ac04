"""SEMANTICS, get."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.objects import Objects


def test_nothing_given_is_an_error():
    with pytest.raises(InvalidArgumentError):
        Dataset.get()
    with pytest.raises(InvalidArgumentError):
        Dataset.get(only_completed=True, dataset_tags=["x"])


def test_an_id_together_with_a_name_or_project_is_an_error(final):
    version = final({"a": "1"})
    with pytest.raises(InvalidArgumentError):
        Dataset.get(version.id, dataset_project="demo")
    with pytest.raises(InvalidArgumentError):
        Dataset.get(version.id, dataset_name="data")


def test_nothing_found_says_what_was_asked():
    with pytest.raises(NotFoundError) as raised:
        Dataset.get(dataset_project="demo", dataset_name="data", dataset_tags=["x"], only_published=True)
    for word in ("demo", "data", "'x'", "published"):
        assert word in str(raised.value)
    with pytest.raises(NotFoundError, match=r"f{32}"):
        Dataset.get("f" * 32)


def test_the_filters_hold_with_an_id_too(draft, finish):
    version = draft({"a": "1"}, dataset_tags=["x"])
    assert Dataset.get(version.id, dataset_tags=["x"]).id == version.id
    with pytest.raises(NotFoundError):
        Dataset.get(version.id, dataset_tags=["x", "y"])
    with pytest.raises(NotFoundError):
        Dataset.get(version.id, only_completed=True)
    finish(version)
    assert Dataset.get(version.id, only_completed=True).id == version.id
    with pytest.raises(NotFoundError):
        Dataset.get(version.id, only_published=True)
    version.publish()
    assert Dataset.get(version.id, only_published=True, only_completed=True).id == version.id
    with pytest.raises(NotFoundError):
        Dataset.get(version.id, dataset_version="9.9.9")


def test_project_and_name_give_the_highest_semantic_version(draft):
    made = {version: draft(dataset_version=version).id for version in ("1.10.0", "1.9.0", "zz", "2.0.0-rc.1", "1.2")}
    found = Dataset.get(dataset_project="demo", dataset_name="data")
    assert found.id == made["2.0.0-rc.1"]
    draft(dataset_version="2.0.0")
    assert Dataset.get(dataset_project="demo", dataset_name="data").version == "2.0.0"


def test_without_a_semantic_version_they_give_the_latest_created(draft):
    for version in ("zebra", "apple", "mango"):
        draft(dataset_version=version)
    assert Dataset.get(dataset_project="demo", dataset_name="data").version == "mango"


def test_a_name_alone_is_looked_for_in_any_project(draft):
    draft(project="left", dataset_version="1.5")
    draft(project="right", dataset_version="1.7")
    draft(project="later", dataset_version="1.6")
    assert Dataset.get(dataset_name="data").project == "right"


def test_a_project_alone_gives_the_latest_created_in_it(draft):
    draft(name="one", dataset_version="9.0.0")
    latest = draft(name="two", dataset_version="1.0.0")
    draft(project="elsewhere")
    assert Dataset.get(dataset_project="demo").id == latest.id


def test_names_are_taken_as_they_are(draft):
    draft(name="data.x")
    for name in ("data", "data%", "data_x", "DATA.X", "data.."):
        with pytest.raises(NotFoundError):
            Dataset.get(dataset_name=name)


def test_an_in_progress_version_counts_unless_filtered_out(final, draft):
    done = final({"a": "1"})
    open_one = draft()
    assert Dataset.get(dataset_project="demo", dataset_name="data").id == open_one.id
    assert Dataset.get(dataset_project="demo", dataset_name="data", only_completed=True).id == done.id


def test_tags_must_all_be_there(draft):
    both = draft(dataset_tags=["x", "y"])
    draft(dataset_tags=["x"])
    assert Dataset.get(dataset_project="demo", dataset_tags=["x", "y"]).id == both.id
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_project="demo", dataset_tags=["x%"])


def test_opening_a_version_never_changes_or_deletes_anything(draft, final, folder, home):
    source = folder({"a": "1"})
    version = draft()
    version.add_files(source)
    final({"b": "2"}, name="other")
    before = sorted(str(path) for path in (home / "store").rglob("*")), Dataset.list_datasets(only_completed=False)
    for _ in range(3):
        Dataset.get(version.id)
        Dataset.get(dataset_name="data")
        Dataset.get(dataset_project="demo")
    after = sorted(str(path) for path in (home / "store").rglob("*")), Dataset.list_datasets(only_completed=False)
    assert after == before
    again = Dataset.get(version.id)
    assert again.is_dirty()
    again.upload(show_progress=False)
    assert again.finalize()


def test_opening_a_version_reads_nothing_of_its_list_of_files(draft, finish, monkeypatch):
    waiting = draft({f"f/{n}": str(n) for n in range(600)})
    final = finish(draft({f"f/{n}": str(n) for n in range(600)}, None))
    read, original = [], Objects.read
    monkeypatch.setattr(Objects, "read", lambda self, ref: read.append(ref.key) or original(self, ref))
    for version, is_dirty in ((waiting, True), (final, False)):
        opened = Dataset.get(version.id)
        assert (opened.is_dirty(), opened.name, opened.version) == (is_dirty, "data", version.version)
    assert read == []
    assert len(final.list_files()) == 600
    assert read


def test_a_moment_gives_what_there_was_then(draft):
    first = draft()
    second = draft()
    assert Dataset.get(dataset_name="data", as_of=first.created).id == first.id
    assert Dataset.get(dataset_name="data", as_of=datetime.now(UTC)).id == second.id
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_name="data", as_of=datetime(2000, 1, 1, tzinfo=UTC))


def test_a_deleted_version_is_not_found(final):
    version = final({"a": "1"})
    Dataset.delete(version.id)
    with pytest.raises(NotFoundError):
        Dataset.get(version.id)
    with pytest.raises(NotFoundError):
        Dataset.get(dataset_name="data")
