"""Commands on the catalog itself: upgrade, check, rebuild, move-store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks import Dataset, open_session
from dataset_tasks.errors import AlreadyExistsError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import AddFiles, Build, Create, Finalize, Stage, Upload, Verify, VerifyResult
from dataset_tasks.report import Logger
from dataset_tasks.session import Session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

Command = Callable[..., Any]
GOLDEN = Path(__file__).parents[2] / "data" / "schema-1"


def told(session: Session) -> dict[str, Any]:
    """All that a rebuild promises to bring back."""
    versions = session.catalog.versions(states=(State.COMPLETED, State.PUBLISHED, State.DELETED))
    return {version.id: _of(session, version) for version in versions}


def _of(session: Session, version: Version) -> dict[str, Any]:
    fields = {name: getattr(version, name) for name in version.__slots__ if name != "revision"}
    return {
        **fields,
        "aliases": session.catalog.alias_history(version.project, version.name),
        "events": session.catalog.events(version_id=version.id),
        "reports": session.catalog.reports(version.id),
        "children": [child.id for child in session.catalog.children(version.id) if child.state.is_final],
    }


@pytest.fixture
def filled(done: Command, data: Path, home: Path) -> dict[str, Any]:
    """A home with a bit of everything; what it tells of itself."""
    first = done("build", "demo/raw", "--sync", data, "--tag", "one", "-q").out.strip()
    (data / "a.txt").write_text("changed\n")
    second = done("build", "demo/raw", "--sync", data, "--meta", "rows=3", "-q").out.strip()
    done("publish", second, "--alias", "prod")
    done("alias", "set", "prod", first)
    done("tag", "add", "two", "--id", first)
    child = done("build", "demo/child", "--parent", second, "--add", data / "b.txt", "--always", "-q").out.strip()
    gone = done("build", "demo/gone", "--sync", data, "-q").out.strip()
    done("delete", gone)
    with open_session() as session:
        Logger(session, child).report_scalar("loss", "train", 0.5, 1)
        Logger(session, child).report_media("rows", "all", local_path=data / "b.txt")
        session.change(child, lambda _v: {"quarantined": "looks wrong", "description": "a child"})
        session.move_dataset("demo", "child", to_project="other", to_name="kid")
        return told(session)


def test_a_rebuilt_catalog_tells_what_the_lost_one_told(
    filled: dict[str, Any], call: Command, done: Command, home: Path, tmp_path: Path
) -> None:
    """R50."""
    with open_session() as session:
        catalog_id = session.catalog.id
    for name in os.listdir(home):
        if name.startswith("catalog.db"):
            (home / name).unlink()
    made = done("catalog", "rebuild", "--json").json()
    assert (made["catalog_id"], made["problems"], made["is_new"]) == (catalog_id, [], True)
    with open_session(create=False) as session:
        assert told(session) == filled
        for version_id, was in filled.items():
            if was["state"].is_final:
                result = session.run(Verify(ref=version_id))
                assert isinstance(result, VerifyResult)
                assert result.bad == ()
    assert done("catalog", "check", "--json").json()["findings"] == []
    assert call("catalog", "rebuild").code == 3
    again = done("build", "demo/raw", "--add", tmp_path / "data" / "b.txt", "--always", "--json").json()
    assert again["version"] == "1.0.2"
    Dataset.delete(dataset_id=again["version_id"])


def test_a_rebuild_that_is_killed_goes_on(filled: dict[str, Any], call: Command, home: Path) -> None:
    """R50."""
    for name in os.listdir(home):
        if name.startswith("catalog.db"):
            (home / name).unlink()
    program = [sys.executable, "-m", "dataset_tasks.cli", "catalog", "rebuild"]
    for point in ("rebuild.after_batch", "catalog.before_commit", "rebuild.after_objects"):
        killed = subprocess.run(program, env={**os.environ, "DATASET_TASKS_FAILPOINTS": f"{point}=kill"}, check=False)
        assert killed.returncode == -9
    assert call("catalog", "rebuild", "--json").json()["problems"] == []
    with open_session(create=False) as session:
        assert told(session) == filled


def test_what_was_reported_before_and_after_the_end_of_a_draft_comes_back_with_its_files(
    call: Command, done: Command, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "plot.png").write_bytes(b"not really a picture")
    (tmp_path / "sound.wav").write_bytes(b"silence")
    draft = done("create", "demo/told", "-q").out.strip()
    with open_session() as session:
        log = Logger(session, draft)
        log.report_text("rows read")
        log.report_scalar("loss", "train", 0.5, 1)
        log.report_table("by market", "", table_plot=[{"market": "de", "orders": 3}])
        log.report_image("plot", "", local_path=tmp_path / "plot.png")
        session.run(Finalize(ref=draft))
        log.report_histogram("sizes", "", [1, 2])
        log.report_media("sound", "", local_path=tmp_path / "sound.wav")
        before = session.catalog.reports(draft)
        assert session.catalog.unjournaled() == []
    for each in home.glob("catalog.db*"):
        each.unlink()
    done("catalog", "rebuild")
    with open_session() as session:
        log = Logger(session, draft)
        assert log.reports() == before
        assert len(before) == 6
        assert [log.read_media(each) for each in before if each.kind in ("image", "media")] == [
            b"not really a picture", b"silence",
        ]  # fmt: skip
    done("gc", "--apply", "--now", "--idle", "0h", "--drafts", "0h")
    with open_session() as session:
        log = Logger(session, draft)
        assert [len(log.read_media(each)) for each in log.reports("image")] == [20]
        assert_invariants(session)
    assert done("catalog", "check", "--json").json()["ok"]
    assert done("check", "--hash", "--json").json()
    assert call("catalog", "rebuild").code == 3


def test_reports_that_a_copy_of_the_catalog_had_are_not_told_twice(done: Command, home: Path, tmp_path: Path) -> None:
    draft = done("create", "demo/told", "-q").out.strip()
    with open_session() as session:
        Logger(session, draft).report_text("one")
    for name in ("catalog.db-wal", "catalog.db-shm"):
        assert not (home / name).exists() or (home / name).stat().st_size == 0
    shutil.copy(home / "catalog.db", tmp_path / "old.db")
    with open_session() as session:
        Logger(session, draft).report_text("two")
        session.run(Finalize(ref=draft))
    shutil.copy(tmp_path / "old.db", home / "catalog.db")
    with open_session() as session:  # takes the number that "two" had
        Logger(session, draft).report_text("three")
    done("catalog", "rebuild")
    with open_session() as session:
        assert sorted(str(each.value) for each in session.catalog.reports(draft)) == ["one", "three", "two"]
    assert done("catalog", "check", "--json").json()["ok"]


def test_files_reported_about_a_version_that_is_gone_for_good_are_left_to_gc(
    done: Command, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "plot.png").write_bytes(b"not really a picture")
    draft = done("create", "demo/told", "-q").out.strip()
    (tmp_path / "a.txt").write_text("a")
    done("add", tmp_path / "a.txt", "--id", draft)
    with open_session() as session:
        Logger(session, draft).report_image("plot", "", local_path=tmp_path / "plot.png")
        session.run(Upload(ref=draft))
        session.run(Finalize(ref=draft))
    done("delete", draft)
    done("gc", "--apply", "--now")
    for each in home.glob("catalog.db*"):
        each.unlink()
    done("catalog", "rebuild")
    assert done("check", "--json").json()
    done("gc", "--apply", "--now")
    with open_session() as session:
        assert session.catalog.known_keys() == {}


def test_a_retry_after_a_rebuild_makes_nothing_twice_and_a_new_run_goes_on(
    done: Command, data: Path, home: Path
) -> None:
    """The record of what it did is lost with the catalog; what it made is not."""
    stages = (
        Stage(id="raw.create", request=Create(name="raw", project="demo", skip_unchanged=True)),
        Stage(id="raw.add", request=AddFiles(ref="step:raw.create", path=str(data))),
        Stage(id="raw.upload", request=Upload(ref="step:raw.create")),
        Stage(id="raw.finalize", request=Finalize(ref="step:raw.create")),
    )
    with open_session() as session:
        made = session.run(Build(stages=stages), key="airflow/d/r/t")
    for each in home.glob("catalog.db*"):
        each.unlink()
    done("catalog", "rebuild")
    with open_session() as session:
        with pytest.raises(AlreadyExistsError, match=made.version_id) as caught:
            session.run(Build(stages=stages), key="airflow/d/r/t")
        assert "a new run" in caught.value.hint
        again = session.run(Build(stages=stages), key="airflow/d/r2/t")
        assert (again.version_id, again.unchanged) == (made.version_id, True)
        assert [version.id for version in session.catalog.versions()] == [made.version_id]


def test_a_catalog_put_back_to_an_earlier_state_gets_what_it_lacks(
    done: Command, call: Command, data: Path, home: Path, tmp_path: Path
) -> None:
    """R31."""
    first = done("build", "demo/raw", "--sync", data, "-q").out.strip()
    draft = done("create", "demo/draft", "-q").out.strip()
    shutil.copy(home / "catalog.db", tmp_path / "old.db")
    done("publish", first)
    done("add", data, "--id", draft)
    done("upload", "--id", draft)
    done("finalize", draft)
    (data / "a.txt").write_text("more\n")
    lost = done("build", "demo/raw", "--sync", data, "-q").out.strip()
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", home / "catalog.db")
    (data / "b.txt").write_text("another\n")
    behind = call("build", "demo/raw", "--sync", data, "--json")
    assert behind.code == 1
    assert behind.json()["error"] == "behind_journal"
    assert "catalog rebuild" in behind.json()["hint"]
    rebuilt = call("catalog", "rebuild", "--json")
    assert "has the number of" in rebuilt.json()["problems"][0]
    with open_session() as session:
        found = {v.id: (v.label, v.state) for v in session.catalog.versions()}
        assert found[lost] == ("demo/raw@1.0.1+restored", State.COMPLETED)
        assert found[first] == ("demo/raw@1.0.0", State.PUBLISHED)
        assert found[draft] == ("demo/draft@1.0.0", State.COMPLETED)
        assert sorted(label for label, _ in found.values() if label.startswith("demo/raw")) == [
            "demo/raw@1.0.0", "demo/raw@1.0.1", "demo/raw@1.0.1+restored",
        ]  # fmt: skip
        session.flush_journal()
        for version_id in found:
            result = session.run(Verify(ref=version_id))
            assert isinstance(result, VerifyResult)
            assert result.bad == ()
    assert done("catalog", "check", "--json").json()["ok"]


@pytest.mark.parametrize("point", ["upload.before_commit", "content.before_commit", "finalize.before_commit"])
def test_gc_frees_nothing_that_came_back_from_the_journal_of_what_a_copy_knew_half_done(
    done: Command, call: Command, data: Path, home: Path, tmp_path: Path, point: str
) -> None:
    """The copy was made while the version was uploaded or finalized."""
    draft = done("create", "demo/draft", "-q").out.strip()
    done("add", data, "--id", draft)

    def copied(_name: str) -> None:
        with closing(sqlite3.connect(home / "catalog.db")) as now, closing(sqlite3.connect(tmp_path / "old.db")) as old:
            now.backup(old)

    with injected([Rule(point, copied)]), open_session() as session:
        session.run(Upload(ref=draft))
        session.run(Finalize(ref=draft))
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", home / "catalog.db")
    everything = ("gc", "--apply", "--now", "--idle", "0h", "--drafts", "0h", "--json")
    behind = call(*everything)
    assert (behind.code, behind.json()["error"]) == (1, "behind_journal")
    with open_session() as session:  # as one that was collected before this was looked for
        session.catalog.drop(session.catalog.version(draft), session._record("drop"))
        session.catalog.purge(grace=0.0, apply=True)
        session.catalog.mark({}, grace=0.0, apply=True)
    done("catalog", "rebuild")
    done(*everything)
    with open_session() as session:
        assert session.catalog.version(draft).state is State.COMPLETED
        assert_invariants(session, collected=True)
    assert done("catalog", "check", "--json").json()["ok"]


def test_a_rebuild_from_a_store_without_a_parent_keeps_the_child_and_says_so(
    done: Command, call: Command, data: Path, home: Path, tmp_path: Path
) -> None:
    parent = done("build", "demo/raw", "--sync", data, "-q").out.strip()
    other = tmp_path / "other"
    child = done("build", "demo/child", "--parent", parent, "--add", data / "a.txt", "--always", "--store", other, "-q")
    url = f"sqlite:///{tmp_path}/new.db"
    ran = call("catalog", "rebuild", other, "--catalog", url, "--json")
    assert ran.code == 1
    assert any(parent in problem for problem in ran.json()["problems"])
    with open_session(catalog_url=url, create=False) as session:
        assert session.catalog.version(child.out.strip()).parents == (parent,)
    assert call("catalog", "rebuild", other, home / "store", "--catalog", f"sqlite:///{tmp_path}/b.db").code == 0


def test_a_rebuild_store_by_store_brings_back_all_in_the_end(
    done: Command, call: Command, data: Path, home: Path, tmp_path: Path
) -> None:
    other, url = tmp_path / "other", f"sqlite:///{tmp_path}/new.db"
    parent = done("build", "demo/raw", "--sync", data, "--store", other, "-q").out.strip()
    more = tmp_path / "more.txt"
    more.write_text("more")
    child = done("build", "demo/child", "--parent", parent, "--add", more, "-q").out.strip()
    for _ in range(2):  # it is told each time
        ran = call("catalog", "rebuild", home / "store", "--catalog", url, "--json")
        assert ran.code == 1
        said = ran.json()["problems"]
        assert any(parent in problem for problem in said)
        assert any(child in problem and "knows no store" in problem for problem in said), "its parent's files are there"
    done("catalog", "rebuild", home / "store", other, "--catalog", url)
    with open_session(catalog_url=url, create=False) as session:
        assert [version.id for version in session.catalog.versions()] == [parent, child]
        assert session.catalog.version(child).parents == (parent,)
        assert_invariants(session)


def test_a_version_that_had_an_alias_while_it_was_a_draft_comes_back(
    done: Command, data: Path, home: Path, tmp_path: Path
) -> None:
    """As releases allowed it that did not look whether the version is final."""
    draft = done("create", "demo/raw", "-q").out.strip()
    with open_session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "is_final", True)
        session.set_alias(session.catalog.version(draft), "prod")
    done("add", data, "--id", draft)
    done("upload", "--id", draft)
    done("finalize", draft)
    url = f"sqlite:///{tmp_path}/new.db"
    done("catalog", "rebuild", home / "store", "--catalog", url)
    with open_session(catalog_url=url, create=False) as session:
        assert session.catalog.resolve("demo/raw@prod").id == draft
        assert session.run(Verify(ref=draft)) == session.run(Verify(ref="demo/raw@latest"))


def test_a_rebuild_into_another_catalog_is_refused(filled: dict[str, Any], call: Command, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    call("catalog", "init", "--catalog", url)
    ran = call("catalog", "rebuild", "--catalog", url, "--json")
    assert (ran.code, ran.json()["error"]) == (1, "wrong_catalog")


def test_a_damaged_event_is_told_and_the_rest_comes_back(
    filled: dict[str, Any], call: Command, home: Path, tmp_path: Path
) -> None:
    events = sorted((home / "store").glob("*/journal/*.json"))
    alias = next(path for path in events if json.loads(path.read_text())["kind"] == "alias")
    alias.chmod(0o600)
    alias.write_text("{no json")
    strange = events[-1].with_name(f"{10**6:020d}.json")
    strange.write_text(json.dumps({**json.loads(events[-1].read_text()), "sequence": 10**6, "kind": "sung"}))
    ran = call("catalog", "rebuild", "--catalog", f"sqlite:///{tmp_path}/new.db", "--json")
    assert ran.code == 1
    assert len(ran.json()["problems"]) == 2
    assert "'sung'" in ran.json()["problems"][1]
    assert ran.json()["versions"] == sum(each["state"].is_final for each in filled.values())


def test_two_catalogs_in_one_store_are_told_apart(
    filled: dict[str, Any], call: Command, done: Command, data: Path, home: Path, tmp_path: Path
) -> None:
    done("build", "b/b", "--sync", data, "--catalog", f"sqlite:///{tmp_path}/b.db", "--store", home / "store")
    url = f"sqlite:///{tmp_path}/new.db"
    ran = call("catalog", "rebuild", "--catalog", url, "--json")
    assert ran.code == 2
    assert "--id" in ran.json()["hint"]
    with open_session() as session:
        catalog_id = session.catalog.id
    done("catalog", "rebuild", "--catalog", url, "--id", catalog_id)
    with open_session(catalog_url=url, create=False) as session:
        assert told(session) == filled


# --- check


BREAK = {
    "UPDATE versions SET finalized = NULL WHERE state = 'completed'": "states",
    "UPDATE versions SET version_order = 'x' WHERE state = 'completed'": "states",
    "UPDATE counters SET value = 3": "counter",
    "DELETE FROM events WHERE kind = 'published'": "events",
    "UPDATE events SET journaled = 0 WHERE sequence = 2": "journal",
    "DELETE FROM objects WHERE kind = 'index'": "objects",
    "UPDATE objects SET sha256 = 'other' WHERE kind = 'index'": "objects",
    "UPDATE objects SET state = 'writing' WHERE kind = 'report'": "objects",
    "DELETE FROM objects WHERE kind = 'report'": "objects",
    "PRAGMA foreign_keys = OFF; DELETE FROM stores": "references",
    "DROP INDEX uq_versions_number": "shape",
    "DROP TABLE reads": "shape",
}


@pytest.mark.parametrize("statement", list(BREAK))
def test_the_check_sees_what_was_broken(
    filled: dict[str, Any], call: Command, done: Command, home: Path, statement: str
) -> None:
    assert done("catalog", "check", "--json").json()["ok"]
    with closing(sqlite3.connect(home / "catalog.db", isolation_level=None)) as connection:
        connection.executescript(statement)
    ran = call("catalog", "check", "--json")
    assert ran.code == 1
    assert BREAK[statement] in {each["check"] for each in ran.json()["findings"]}
    assert "catalog rebuild" in call("catalog", "check").err


def test_the_check_sees_a_damaged_file(filled: dict[str, Any], call: Command, home: Path) -> None:
    """R28."""
    place = home / "catalog.db"
    with closing(sqlite3.connect(place)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_events_version_id'").fetchone()[
            0
        ]
    held = bytearray(place.read_bytes())
    held[(root - 1) * 4096 : root * 4096] = bytes(4096)
    place.write_bytes(held)
    ran = call("catalog", "check", "--json")
    assert ran.code == 1
    damaged = bytes(held)
    assert place.read_bytes()[:4096] == damaged[:4096]


# --- upgrade


def test_upgrade_says_what_it_did(done: Command, call: Command, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "catalog.db", tmp_path / "catalog.db")
    url = f"sqlite:///{tmp_path}/catalog.db"
    refused = call("list", "--catalog", url, "--json")
    assert (refused.code, refused.json()["error"]) == (1, "older_catalog")
    assert done("catalog", "upgrade", "--catalog", url, "--json").json() == {
        "before": 1, "after": 2, "copy": f"{tmp_path}/catalog.db.schema-1", "unchanged": False,
    }  # fmt: skip
    assert call("catalog", "upgrade", "--catalog", url).code == 3
    assert done("list", "--catalog", url, "--json").json()["datasets"]
    assert call("catalog", "upgrade", "--catalog", f"sqlite:///{tmp_path}/none.db").code == 1
    assert not (tmp_path / "none.db").exists()


# --- move-store


def test_a_moved_store_serves_every_version_and_the_old_place_is_not_needed(
    filled: dict[str, Any], done: Command, home: Path, tmp_path: Path, data: Path
) -> None:
    new = tmp_path / "new store"
    moved = done("catalog", "move-store", home / "store", new, "--json").json()
    assert moved["copied"] == moved["objects"] > 10
    shutil.rmtree(home / "store")
    with open_session(store_url=str(new)) as session:
        assert told(session) == filled
        for version_id, was in filled.items():
            if was["state"].is_final:
                result = session.run(Verify(ref=version_id))
                assert isinstance(result, VerifyResult)
                assert result.bad == ()
    done("build", "demo/raw", "--sync", data, "--always", "--store", new)
    assert done("catalog", "check", "--json").json()["ok"]
    done("catalog", "rebuild", new, "--catalog", f"sqlite:///{tmp_path}/rebuilt.db")


def test_a_move_that_is_killed_goes_on(filled: dict[str, Any], done: Command, home: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    program = [sys.executable, "-m", "dataset_tasks.cli", "catalog", "move-store", str(home / "store"), str(new)]
    for point in ("move.after_object=kill@3", "move.before_repoint=kill", "move.after_repoint=kill"):
        killed = subprocess.run(program, env={**os.environ, "DATASET_TASKS_FAILPOINTS": point}, check=False)
        assert killed.returncode == -9
    again = done("catalog", "move-store", home / "store", new, "--json").json()
    assert (again["copied"], again["old_url"]) == (0, str(home / "store"))
    shutil.rmtree(home / "store")
    with open_session(store_url=str(new)) as session:
        assert told(session) == filled


def test_a_damaged_object_is_not_moved_and_the_catalog_stays(
    filled: dict[str, Any], call: Command, home: Path, tmp_path: Path
) -> None:
    chunk = next((home / "store").glob("*/chunks/*.zip"))
    chunk.chmod(0o600)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    ran = call("catalog", "move-store", home / "store", tmp_path / "new", "--json")
    assert (ran.code, ran.json()["error"]) == (1, "integrity")
    assert chunk.stem in ran.json()["message"]
    with open_session() as session:
        assert list(session.catalog.stores().values()) == [str(home / "store")]
    assert not list((tmp_path / "new").glob(f"*/chunks/{chunk.name}"))


def test_bytes_that_were_brought_by_other_means_are_verified(
    filled: dict[str, Any], call: Command, done: Command, home: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    shutil.copytree(home / "store", new)
    chunk = next(new.glob("*/chunks/*.zip"))
    held = chunk.read_bytes()
    chunk.unlink()
    assert call("catalog", "move-store", home / "store", new, "--no-copy").code == 1
    chunk.write_bytes(held)
    (home / "store").rename(tmp_path / "away")
    assert done("catalog", "move-store", home / "store", new, "--no-copy", "--json").json()["copied"] == 0
    with open_session(store_url=str(new)) as session:
        assert told(session) == filled


def test_a_store_that_there_is_not_can_not_be_moved(filled: dict[str, Any], call: Command, tmp_path: Path) -> None:
    ran = call("catalog", "move-store", tmp_path / "nowhere", tmp_path / "new", "--json")
    assert (ran.code, ran.json()["error"]) == (1, "not_found")
