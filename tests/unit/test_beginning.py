"""No catalog is begun in place of one that was lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks.errors import CatalogError
from dataset_tasks.failpoints import Rule
from dataset_tasks.ops.requests import Create
from dataset_tasks.session import open_session
from dataset_tasks.testing.failpoints import injected


@pytest.fixture
def used(home: Path) -> Path:
    """A home in which a version was begun, with an object in its store."""
    with open_session() as session:
        draft = session.run(Create(name="d", project="p"))
        session.objects.begin(draft.version_id, session.store_id(), ["chunks/x.zip"])
    return home


def cut(file: Path) -> None:
    """Leaves a file of 0 bytes, as a crash of the file system does."""
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()
    file.touch()


def test_a_catalog_file_that_was_cut_off_is_never_begun_anew(used: Path) -> None:
    """R28."""
    cut(used / "catalog.db")
    with (
        open_session() as session,
        pytest.raises(CatalogError, match=r"is empty.* holds what [0-9a-f]{32} wrote") as raised,
    ):
        _ = session.catalog
    assert raised.value.kind == "lost_catalog"
    assert "catalog rebuild" in raised.value.hint
    assert (used / "catalog.db").stat().st_size == 0


def test_a_catalog_file_that_is_gone_is_never_begun_anew_over_its_own_store(used: Path) -> None:
    """R28."""
    (used / "catalog.db").unlink()
    with open_session() as session, pytest.raises(CatalogError, match="there is no catalog"):
        _ = session.catalog
    assert not (used / "catalog.db").exists()


def test_an_empty_file_is_an_error_wherever_the_store_is_unless_somebody_may_just_be_making_it(tmp_path: Path) -> None:
    """R28."""
    file = tmp_path / "catalog.db"
    file.touch()
    os.utime(file, (0, 0))
    where = {"catalog_url": f"sqlite:///{file}", "store_url": "s3://bucket/prefix"}
    with open_session(**where) as session, pytest.raises(CatalogError, match="is empty"):
        _ = session.catalog
    os.utime(file)
    with open_session(**where) as session:
        assert session.catalog.id


def test_a_store_elsewhere_may_hold_the_data_of_others(used: Path, tmp_path: Path) -> None:
    with open_session(home=tmp_path / "mine", store_url=str(used / "store")) as session:
        assert session.catalog.id
    with open_session(catalog_url=f"sqlite:///{tmp_path}/second.db") as session:
        assert session.catalog.id


def lost(home: Path, how: str) -> None:
    """Takes the catalog's file from under a process that has it open."""
    file = home / "catalog.db"
    if how == "home moved":
        home.rename(home.with_name("elsewhere"))
    elif how == "replaced":
        (home / "copy").write_bytes(file.read_bytes())
        (home / "copy").rename(file)
    else:
        cut(file)
        file.unlink()


@pytest.mark.parametrize("how", ["removed", "home moved"])
def test_nothing_is_acknowledged_by_a_process_whose_catalog_file_was_taken_away(used: Path, how: str) -> None:
    with open_session() as session:
        session.run(Create(name="seen", project="p"))
        lost(used, how)
        for _ in range(2):
            with pytest.raises(CatalogError, match="is not the file that this process opened") as raised:
                session.run(Create(name="unseen", project="p"))
            assert raised.value.kind == "lost_catalog"
        with pytest.raises(CatalogError, match="is not the file"):
            session.catalog.versions()
    assert not (used / "catalog.db").exists()


def test_a_process_goes_on_with_the_copy_that_was_put_in_the_place_of_its_catalog_file(used: Path) -> None:
    with open_session() as session, open_session() as other:
        held = session.catalog
        objects = session.objects
        lost(used, "replaced")
        made = session.run(Create(name="made", project="p"))
        assert other.catalog.version(made.version_id).name == "made"
        assert session.objects is not objects
        with pytest.raises(CatalogError, match="another one was put in its place"):
            held.versions()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_catalog_file_that_is_taken_away_during_a_commit_is_an_error_too(used: Path, how: str) -> None:
    rule = Rule("catalog.after_commit", lambda _point: lost(used, how), 1)
    with open_session() as session:
        session.run(Create(name="seen", project="p"))
        with injected([rule]), pytest.raises(CatalogError, match="is not the file that this process opened"):
            session.run(Create(name="unseen", project="p"))
