"""copy: versions go to other catalogs and stores whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks import Dataset
from dataset_tasks.catalog.checks import check_catalog
from dataset_tasks.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidArgumentError,
    StateError,
)
from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import Collect, Copy, CopyResult, Create, Delete
from dataset_tasks.rebuild import find_journals, rebuild
from dataset_tasks.report import Logger
from dataset_tasks.session import Session, open_session
from dataset_tasks.store import open_store
from dataset_tasks.testing.invariants import assert_invariants


@dataclass
class Pair:
    """A home with versions, and a place for others."""

    here: Session
    folder: Path
    first: str
    second: str
    child: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/there.db"

    @property
    def store(self) -> str:
        return str(self.folder / "there")

    def there(self) -> Session:
        return open_session(home=self.folder / "away", catalog_url=self.url, store_url=self.store)

    def copy(self, ref: str, **more: Any) -> CopyResult:
        result = self.here.run(Copy(ref=ref, to_catalog=self.url, to_store=self.store, **more))
        assert isinstance(result, CopyResult)
        return result


@pytest.fixture
def pair(home: Path, tmp_path: Path) -> Iterator[Pair]:
    source = tmp_path / "source"
    source.mkdir()
    for i in range(5):
        (source / f"{i}.txt").write_text(f"text {i}\n" * 50)

    def make(name: str, parents: list[str], **more: Any) -> str:
        made = Dataset.create(dataset_project="p", dataset_name=name, parent_datasets=parents, **more)
        made.sync_folder(source)
        made.upload()
        made.finalize()
        return made.id

    first = make("n", [], dataset_tags=["one"], description="the first")
    (source / "0.txt").write_text("changed\n")
    second = make("n", [first])
    (source / "new.txt").write_text("new\n")
    child = make("child", [second])
    with open_session() as session:
        session.change(child, lambda _v: {"metadata": {"rows": 3}})
        session.catalog.publish(session.catalog.version(second), "prod", _record("publish"))
        session.set_alias(session.catalog.version(first), "old")
        session.flush_journal()
        yield Pair(session, tmp_path, first, second, child)


def _record(key: str) -> Any:
    from dataset_tasks.catalog.writes import Record

    return Record(key=key, verb="publish", digest="", result=lambda version: {"id": version.id})


def plain(version: Version) -> dict[str, Any]:
    """What a copy keeps."""
    different = {"catalog_id", "sequence", "revision", "store_id", "index", "origin"}
    return {name: getattr(version, name) for name in version.__slots__ if name not in different}


def assert_sound(session: Session) -> None:
    assert_invariants(session)
    assert check_catalog(session.catalog.db) == []


def test_a_copy_has_the_whole_lineage_and_stands_alone(pair: Pair) -> None:
    done = pair.copy(pair.child)
    assert (done.versions, done.unchanged) == (3, False)
    expected = {v.id: plain(v) for v in pair.here.catalog.versions()}
    shutil.rmtree(pair.folder / "home", ignore_errors=True)
    with pair.there() as there:
        assert done.catalog_id == there.catalog.id != pair.here.catalog.id
        assert {v.id: plain(v) for v in there.catalog.versions()} == expected
        assert there.catalog.aliases("p", "n") == {"prod": pair.second, "old": pair.first}
        assert there.catalog.version(pair.child).origin["copied_from"] == pair.here.catalog.id
        assert [v.id for v in there.catalog.ancestors(pair.child).values()] == [pair.first, pair.second, pair.child]
        assert_sound(there)
        again = pair.copy(pair.child)
        assert (again.unchanged, again.versions, again.objects) == (True, 0, 0)
        assert "already" in again.why


def test_what_both_have_is_not_copied_twice(pair: Pair) -> None:
    one = pair.copy(pair.first)
    two = pair.copy(pair.child)
    assert (one.versions, two.versions) == (1, 2)
    with pair.there() as there:
        keys = [key for key, _ in open_store(pair.store).list() if "/chunks/" in key]
        assert len(keys) == len(set(keys)) == 3
        assert_sound(there)


def test_without_lineage_the_ancestors_are_tombstones_until_they_are_copied(pair: Pair) -> None:
    assert pair.copy(pair.child, lineage=False).versions == 1
    with pair.there() as there:
        states = {v.id: v.state for v in there.catalog.ancestors(pair.child).values()}
        assert states == {pair.first: State.DELETED, pair.second: State.DELETED, pair.child: State.COMPLETED}
        assert check_catalog(there.catalog.db) == []
        assert pair.copy(pair.child).versions == 2
        assert {v.id: plain(v) for v in there.catalog.versions()} == {
            v.id: plain(v) for v in pair.here.catalog.versions()
        }
        assert check_catalog(there.catalog.db) == []
        told = {v.id: plain(v) for v in there.catalog.versions()}
        journals = find_journals([pair.store], open_store, None)
        other = f"sqlite:///{pair.folder}/rebuilt.db"
        assert rebuild(other, journals, open_store=open_store, clock=there.clock).problems == ()
        with open_session(catalog_url=other) as rebuilt:
            assert {v.id: plain(v) for v in rebuilt.catalog.versions()} == told


def test_a_deleted_ancestor_is_a_tombstone_there_too(pair: Pair) -> None:
    pair.here.run(Delete(ref=pair.first, force=True))
    assert pair.copy(pair.child).versions == 2
    with pair.there() as there:
        assert there.catalog.version(pair.first).state is State.DELETED
        assert check_catalog(there.catalog.db) == []


@pytest.mark.parametrize(
    "point",
    ["copy.after_object=kill@2", "copy.after_index=kill@2", "copy.after_version=kill", "catalog.before_commit=kill@5"],
)
def test_a_copy_that_is_killed_goes_on(pair: Pair, point: str) -> None:
    program = [sys.executable, "-m", "dataset_tasks.cli", "copy", pair.child, "--to-catalog", pair.url]
    killed = subprocess.run(
        [*program, "--to-store", pair.store], env={**os.environ, "DATASET_TASKS_FAILPOINTS": point}, check=False
    )
    assert killed.returncode == -9
    pair.copy(pair.child)
    with pair.there() as there:
        assert {v.id: plain(v) for v in there.catalog.versions()} == {
            v.id: plain(v) for v in pair.here.catalog.versions()
        }
        assert_sound(there)


def test_a_damaged_object_is_not_copied(pair: Pair) -> None:
    chunk = next((pair.here.settings.home / "store").glob("*/chunks/*.zip"))
    chunk.chmod(0o600)
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    with pytest.raises(IntegrityError, match=chunk.stem):
        pair.copy(pair.child)
    with pair.there() as there:
        assert pair.child not in {v.id for v in there.catalog.versions()}
        assert_sound(there)


def test_a_number_that_is_taken_there_is_refused(pair: Pair) -> None:
    with pair.there() as there:
        there.run(Create(project="p", name="child"))
    with pytest.raises(AlreadyExistsError, match=r"has another p/child@1\.0\.0"):
        pair.copy(pair.child)


def test_a_version_that_was_deleted_there_stays_deleted(pair: Pair) -> None:
    pair.copy(pair.child)
    with pair.there() as there:
        there.run(Delete(ref=pair.child))
    with pytest.raises(StateError, match="is deleted in catalog"):
        pair.copy(pair.child)


@pytest.mark.parametrize("purged", [False, True])
def test_what_a_version_was_made_from_and_was_deleted_there_stays_deleted(pair: Pair, purged: bool) -> None:
    """As where the other catalog keeps the newest only, and each night brings the next."""
    pair.copy(pair.second)
    with pair.there() as there:
        there.run(Delete(ref=pair.first, force=True))
        if purged:
            there.run(Collect(dry_run=False, now=True, idle=0.0))
    assert pair.copy(pair.child).versions == 1
    assert pair.copy(pair.child).unchanged
    with pair.there() as there:
        states = {v.id: v.state for v in there.catalog.ancestors(pair.child).values()}
        assert states == {
            pair.first: State.DELETED,
            pair.second: State.PUBLISHED,
            pair.child: State.COMPLETED,
        }
        assert_sound(there)


def test_a_version_that_is_gone_for_good_there_is_brought_anew_when_it_is_asked_for(reported: Pair) -> None:
    expected = said(reported.here, reported.first)
    reported.copy(reported.first)
    with reported.there() as there:
        Logger(there, reported.first).report_text("from there")
        there.run(Delete(ref=reported.first))
        there.run(Collect(dry_run=False, now=True, idle=0.0))
    done = reported.copy(reported.first)
    assert (done.versions, done.reports) == (1, 1)
    with reported.there() as there:
        assert plain(there.catalog.version(reported.first)) == plain(reported.here.catalog.version(reported.first))
        assert {each[:3] for each in said(there, reported.first)} == {
            *(each[:3] for each in expected),
            ("text", "", ""),
        }
        assert_sound(there)
        told = said(there, reported.first)
    other = f"sqlite:///{reported.folder}/rebuilt.db"
    journals = find_journals([reported.store], open_store, None)
    assert rebuild(other, journals, open_store=open_store, clock=reported.here.clock).problems == ()
    with open_session(catalog_url=other, store_url=reported.store) as rebuilt:
        assert sorted(map(str, said(rebuilt, reported.first))) == sorted(map(str, told))
        assert_sound(rebuilt)
    assert reported.copy(reported.child).versions == 3


def test_a_copy_brings_back_what_is_gone_for_good_at_home(pair: Pair) -> None:
    before = plain(pair.here.catalog.version(pair.child))
    pair.copy(pair.child)
    pair.here.run(Delete(ref=pair.child))
    back = Copy(ref=pair.child, to_catalog=pair.here.settings.catalog_url, to_store=str(pair.folder / "home" / "store"))
    with pair.there() as there:
        with pytest.raises(StateError, match="undelete"):
            there.run(back)
        pair.here.run(Collect(dry_run=False, now=True, idle=0.0))
        assert there.run(back).versions == 1  # type: ignore[attr-defined]  # a CopyResult
    assert plain(pair.here.catalog.version(pair.child)) == before
    assert_sound(pair.here)


def test_a_tombstone_that_does_not_tell_whose_it_is_stays_one(pair: Pair) -> None:
    pair.copy(pair.child, lineage=False)
    for path in (pair.folder / "there").glob("*/journal/*"):
        if json.loads(path.read_text())["version_id"] == pair.first:
            path.unlink()
    other = f"sqlite:///{pair.folder}/rebuilt.db"
    rebuild(other, find_journals([pair.store], open_store, None), open_store=open_store, clock=pair.here.clock)
    with open_session(catalog_url=other, store_url=pair.store) as rebuilt:
        assert rebuilt.catalog.version(pair.first).name == "lost"
        with pytest.raises(StateError, match="is deleted in catalog"):
            pair.here.run(Copy(ref=pair.first, to_catalog=other, to_store=pair.store))


def test_a_copy_needs_another_place_and_no_password(pair: Pair) -> None:
    with pytest.raises(InvalidArgumentError, match="needs another place"):
        pair.here.run(Copy(ref=pair.child))
    with pytest.raises(InvalidArgumentError, match="holds a password") as raised:
        pair.here.run(Copy(ref=pair.child, to_catalog="postgresql://me:canary@nowhere/db"))
    assert "canary" not in str(raised.value)
    with pytest.raises(InvalidArgumentError, match="own catalog"):
        pair.here.run(Copy(ref=pair.child, to_catalog=pair.here.settings.catalog_url))


@pytest.fixture
def reported(pair: Pair) -> Pair:
    """With a text before finalize and a file after it, about an ancestor."""
    draft = Dataset.create(dataset_project="p", dataset_name="told", parent_datasets=[pair.child])
    draft.get_logger().report_text("it begins")
    draft.finalize()
    image = pair.folder / "image.png"
    image.write_bytes(b"image")
    logger = Dataset.get(dataset_id=pair.first).get_logger()
    logger.report_scalar("rows", "all", 5, 1)
    logger.report_image("look", "one", local_path=image)
    pair.child = draft.id
    return pair


def said(session: Session, version: str) -> list[tuple[object, ...]]:
    """What a version's reports come to, with the bytes of files."""
    logger = Logger(session, version)
    return [
        (r.kind, r.title, r.series, r.iteration, r.created, logger.read_media(r) if r.file else r.value)
        for r in logger.reports()
    ]


def test_reports_and_their_files_go_with_a_version(reported: Pair) -> None:
    expected = {v.id: said(reported.here, v.id) for v in reported.here.catalog.versions()}
    assert sum(map(len, expected.values())) == 3
    done = reported.copy(reported.child)
    assert (done.versions, done.reports) == (4, 3)
    shutil.rmtree(reported.here.settings.home / "store")
    with reported.there() as there:
        assert {v.id: said(there, v.id) for v in there.catalog.versions()} == expected
        assert_sound(there)
    assert reported.copy(reported.child).unchanged


def test_what_was_reported_after_a_copy_comes_with_the_next(reported: Pair) -> None:
    reported.copy(reported.child)
    Dataset.get(dataset_id=reported.child).get_logger().report_text("late")
    done = reported.copy(reported.child)
    assert (done.versions, done.reports, done.objects, done.unchanged) == (0, 1, 0, False)
    with reported.there() as there:
        assert [each[-1] for each in said(there, reported.child)] == ["it begins", "late"]


def test_copied_reports_outlive_the_loss_of_their_catalog(reported: Pair) -> None:
    expected = {v.id: said(reported.here, v.id) for v in reported.here.catalog.versions()}
    reported.copy(reported.child)
    journals = find_journals([reported.store], open_store, None)
    other = f"sqlite:///{reported.folder}/rebuilt.db"
    assert rebuild(other, journals, open_store=open_store, clock=reported.here.clock).problems == ()
    with open_session(catalog_url=other, store_url=reported.store) as rebuilt:
        assert {v.id: said(rebuilt, v.id) for v in rebuilt.catalog.versions()} == expected
        assert_sound(rebuilt)


def test_a_file_of_a_report_that_is_damaged_keeps_no_version_back(reported: Pair) -> None:
    (path,) = (reported.here.settings.home / "store").glob("*/reports/*")
    path.write_bytes(b"imagE")
    with pytest.raises(IntegrityError, match="reports/"):
        reported.copy(reported.child)
    with reported.there() as there:
        assert len(there.catalog.versions()) == 4
        assert said(there, reported.first) == []
    path.write_bytes(b"image")
    assert reported.copy(reported.child).reports == 3
    with reported.there() as there:
        assert_sound(there)


@pytest.mark.parametrize("point", ["copy.after_version", "copy.after_object@2", "copy.after_reports"])
def test_a_copy_of_reports_that_is_killed_goes_on(reported: Pair, point: str) -> None:
    expected = {v.id: said(reported.here, v.id) for v in reported.here.catalog.versions()}
    program = [sys.executable, "-m", "dataset_tasks.cli", "copy", reported.child, "--to-catalog", reported.url]
    name, _, at = point.partition("@")
    place = {"DATASET_TASKS_FAILPOINTS": f"{name}=kill{'@' + at if at else ''}"}
    killed = subprocess.run([*program, "--to-store", reported.store], env={**os.environ, **place}, check=False)
    assert killed.returncode == -9
    reported.copy(reported.child)
    with reported.there() as there:
        assert {v.id: said(there, v.id) for v in there.catalog.versions()} == expected
        assert_sound(there)


def test_an_alias_that_points_elsewhere_there_is_left_alone(pair: Pair) -> None:
    pair.copy(pair.first)
    with pair.there() as there:
        there.set_alias(there.catalog.version(pair.first), "prod")
    pair.copy(pair.second)
    with pair.there() as there:
        assert there.catalog.aliases("p", "n")["prod"] == pair.first


# --- to another store


def test_a_version_moves_to_another_store_of_its_catalog(pair: Pair) -> None:
    before = {v.id: plain(v) for v in pair.here.catalog.versions()}
    done = pair.here.run(Copy(ref=pair.child, to_store=pair.store))
    assert isinstance(done, CopyResult)
    assert (done.versions, done.objects) == (3, 3)
    assert {v.id: plain(v) for v in pair.here.catalog.versions()} == before
    stores = {r.store_id for v in pair.here.catalog.versions() for r in pair.here.manifest(v).index.objects.values()}
    assert stores == {pair.here.store_id(pair.store)}
    assert_sound(pair.here)
    for kind in ("chunks", "packs", "indexes"):
        for path in (pair.here.settings.home / "store").glob(f"*/{kind}/*"):
            path.unlink()
    assert_sound(pair.here)
    again = pair.here.run(Copy(ref=pair.child, to_store=pair.store))
    assert again.unchanged


def test_a_move_between_stores_that_is_killed_goes_on(pair: Pair) -> None:
    program = [sys.executable, "-m", "dataset_tasks.cli", "copy", pair.child, "--to-store", pair.store]
    for point in ("copy.after_moved_object=kill", "copy.after_moved_index=kill", "copy.after_moved_version=kill@2"):
        killed = subprocess.run(program, env={**os.environ, "DATASET_TASKS_FAILPOINTS": point}, check=False)
        assert killed.returncode == -9
    pair.here.run(Copy(ref=pair.child, to_store=pair.store))
    assert_sound(pair.here)
    stores = {r.store_id for v in pair.here.catalog.versions() for r in pair.here.manifest(v).index.objects.values()}
    assert stores == {pair.here.store_id(pair.store)}
