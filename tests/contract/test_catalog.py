"""What every catalog does, whatever database holds it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import Content, NewVersion, Record
from dataset_tasks.errors import (
    AlreadyExistsError,
    CatalogError,
    CatalogUnavailableError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    OutcomeUnknownError,
    StateError,
)
from dataset_tasks.model import Input, ObjectRef, State, Version


class Clock:
    """Moves by a second each time somebody looks."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    return request.getfixturevalue("postgres")()


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog.open(url, Clock())
    yield opened
    opened.close()


def record(key: str, verb: str = "test") -> Record:
    return Record(key=key, verb=verb, digest="d", result=lambda version: {"id": version.id})


def new(catalog: Catalog, name: str = "n", **fields: object) -> NewVersion:
    return NewVersion(project="p", name=name, store_id=catalog.store_id("/store"), **fields)  # type: ignore[arg-type]


_numbers = iter(range(1_000_000))


def draft(catalog: Catalog, name: str = "n", **fields: object) -> Version:
    return catalog.create(new(catalog, name, **fields), record(f"create/{next(_numbers)}"))


def final(catalog: Catalog, name: str = "n", **fields: object) -> Version:
    return catalog.finalize(draft(catalog, name, **fields), record(f"finalize/{next(_numbers)}"))


def content(files: int, **fields: object) -> Content:
    values = {"index": None, "pending": 0, "pending_object": None, "bytes": 0, "content_hash": f"h{files}"} | fields
    return Content(files=files, **values)  # type: ignore[arg-type]


# --- numbers and identity


def test_a_catalog_keeps_the_id_it_was_made_with(catalog: Catalog, url: str) -> None:
    assert Catalog.open(url, Clock()).id == catalog.id


def test_a_missing_catalog_is_not_made_when_it_must_not_be(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no catalog") as raised:
        Catalog.open(f"sqlite:///{tmp_path}/other.db", Clock(), create=False)
    assert raised.value.hint


def test_a_newer_catalog_is_refused(catalog: Catalog, url: str) -> None:
    catalog.db.write(
        lambda c: c.execute(sa.update(t.meta).where(t.meta.c.key == "schema").values(value=str(t.SCHEMA + 1))),
        landed=lambda c: None,
    )
    with pytest.raises(CatalogError, match=f"schema {t.SCHEMA + 1}, this code knows {t.SCHEMA}"):
        Catalog.open(url, Clock())


def test_numbers_go_up_from_one_and_compare_as_numbers(catalog: Catalog) -> None:
    assert [draft(catalog).version for _ in range(11)][-1] == "1.0.10"
    assert draft(catalog, version="2.1.9").version == "2.1.9"
    assert draft(catalog).version == "2.1.10"


def test_an_explicit_string_may_be_anything_but_taken(catalog: Catalog) -> None:
    assert draft(catalog, version="spring").version == "spring"
    with pytest.raises(AlreadyExistsError, match="p/n@spring exists already"):
        draft(catalog, version="spring")
    assert draft(catalog).version == "1.0.0"


def test_the_number_of_a_dropped_draft_is_free_again(catalog: Catalog) -> None:
    first = draft(catalog)
    catalog.drop(first, record("drop"))
    assert draft(catalog).version == first.version


def test_the_number_of_a_deleted_version_is_never_used_again(catalog: Catalog) -> None:
    gone = final(catalog)
    catalog.delete(gone, record("delete"), force=False)
    assert draft(catalog).version == "1.0.1"
    with pytest.raises(AlreadyExistsError):
        draft(catalog, version=gone.version)


def test_sixteen_writers_at_once_number_without_gaps_or_doubles(catalog: Catalog) -> None:
    store = catalog.store_id("/store")

    def make(i: int) -> str:
        return catalog.create(NewVersion(project="p", name="n", store_id=store), record(f"w{i}")).version

    with ThreadPoolExecutor(16) as pool:
        made = sorted(pool.map(make, range(48)), key=lambda version: int(version.split(".")[2]))
    assert made == [f"1.0.{i}" for i in range(48)]


def test_ids_follow_from_the_operation_key(catalog: Catalog) -> None:
    one = catalog.create(new(catalog), record("key"))
    with pytest.raises(AlreadyExistsError, match="operation key 'key'"):
        catalog.create(new(catalog), record("key"))
    catalog.drop(one, record("drop"))
    assert catalog.create(new(catalog), record("key")).id != one.id


@pytest.mark.parametrize("text", ["nul\0byte", "lone\ud800"])
def test_text_that_no_database_can_hold_is_refused(catalog: Catalog, text: str) -> None:
    """R34."""
    with pytest.raises(InvalidArgumentError):
        draft(catalog, name=text)
    with pytest.raises(InvalidArgumentError):
        draft(catalog, tags=(text,))


# --- states


def test_states_only_move_forward(catalog: Catalog) -> None:
    version = catalog.publish(final(catalog), None, record("p"))
    assert version.state is State.PUBLISHED
    with pytest.raises(StateError, match="is published, expected in_progress") as raised:
        catalog.finalize(version, record("f2"))
    assert raised.value.kind == "finalized"
    with pytest.raises(StateError):
        catalog.commit_content(version, content(1), record("c"))


def test_one_of_two_writers_wins(catalog: Catalog) -> None:
    seen = draft(catalog)
    catalog.commit_content(seen, content(1), record("a"))
    with pytest.raises(ConflictError, match="expected revision 0, found 1") as raised:
        catalog.commit_content(seen, content(2), record("b"))
    assert raised.value.retryable
    assert catalog.version(seen.id).files == 1


def test_a_child_of_a_version_that_is_not_final_is_refused(catalog: Catalog) -> None:
    waiting = draft(catalog)
    with pytest.raises(StateError, match="in_progress") as raised:
        draft(catalog, "child", parents=(waiting.id,))
    assert raised.value.kind == "parent_not_final"
    with pytest.raises(StateError, match="not found"):
        draft(catalog, "child", parents=("0" * 32,))


def test_a_parent_is_deleted_by_force_only_and_stays_in_the_lineage(catalog: Catalog) -> None:
    parent = final(catalog)
    child = final(catalog, "child", parents=(parent.id,))
    with pytest.raises(StateError, match=r"is the parent of p/child@1\.0\.0") as raised:
        catalog.delete(parent, record("d1"), force=False)
    assert raised.value.kind == "in_use"
    catalog.delete(parent, record("d2"), force=True)
    assert [v.state for v in catalog.ancestors(child.id).values()] == [State.DELETED, State.COMPLETED]


def test_inputs_are_kept_with_their_names_and_files(catalog: Catalog) -> None:
    source = final(catalog)
    made = draft(catalog, "made", inputs=(Input(name="src", ref=source.id, files=("*.csv",)),))
    assert catalog.version(made.id).inputs == (Input(name="src", ref=source.id, files=("*.csv",)),)
    assert [v.id for v in catalog.children(source.id)] == [made.id]


def test_objects_become_live_with_the_commit_that_needs_them(catalog: Catalog) -> None:
    version = draft(catalog)
    catalog.begin_objects(version.id, [(version.store_id, "chunks/a.zip", "chunk")])
    catalog.written([ObjectRef(store_id=version.store_id, key="chunks/a.zip", size=3, sha256="x")])
    assert [o.state for o in catalog.objects_of(version.id)] == ["writing"]
    catalog.commit_content(version, content(1, objects=("chunks/a.zip",)), record("c"))
    (held,) = catalog.objects_of(version.id, "chunk")
    assert (held.state, held.size, held.sha256) == ("live", 3, "x")
    catalog.forget_objects(["chunks/a.zip"])
    assert catalog.objects_of(version.id)


def test_a_commit_that_needs_a_forgotten_object_changes_nothing(catalog: Catalog) -> None:
    version = draft(catalog)
    with pytest.raises(ConflictError, match="are gone"):
        catalog.commit_content(version, content(1, objects=("chunks/gone.zip",)), record("c"))
    assert catalog.version(version.id).files == 0


# --- references


def test_references_find_what_they_name(catalog: Catalog) -> None:
    one, two = final(catalog), final(catalog)
    catalog.publish(one, "prod", record("p"))
    assert catalog.resolve(two.id) == catalog.resolve(f"id:{two.id}") == two
    assert catalog.resolve("p/n").id == catalog.resolve("p/n@published").id == one.id
    assert catalog.resolve("p/n@latest").id == two.id
    assert catalog.resolve("p/n@1.0.0").id == catalog.resolve("p/n@prod").id == one.id


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("p/none", "there is no dataset 'p/none'"),
        ("p/n", "'p/n' was never published"),
        ("p/n@prod", "has no version or alias 'prod'"),
        ("0" * 32, "no version has the id"),
        ("step:x.build", "names a step of a plan"),
    ],
)
def test_a_reference_to_nothing_says_what_is_missing(catalog: Catalog, ref: str, message: str) -> None:
    final(catalog)
    with pytest.raises(NotFoundError, match=message) as raised:
        catalog.resolve(ref)
    assert raised.value.hint


def test_quarantined_versions_are_found_by_id_and_string_alone(catalog: Catalog) -> None:
    good = final(catalog)
    bad = catalog.publish(final(catalog), "prod", record("p"))
    catalog.change(bad, record("q"), quarantined="verify failed")
    assert catalog.previous("p", "n") == good
    assert catalog.resolve("p/n@latest") == good
    for ref in ("p/n", "p/n@prod"):
        with pytest.raises(NotFoundError):
            catalog.resolve(ref)
    assert catalog.resolve("p/n@1.0.1").id == catalog.resolve(bad.id).id == bad.id


def test_a_part_of_a_name_is_literal(catalog: Catalog) -> None:
    for name in ("a_b", "axb", "a%b", "AB"):
        final(catalog, name)
    assert [v.name for v in catalog.versions(partial_name="a_b")] == ["a_b"]
    assert [v.name for v in catalog.versions(partial_name="%")] == ["a%b"]
    assert [v.name for v in catalog.versions(partial_name="ab")] == ["AB"]
    assert catalog.versions(ids=[]) == []


def test_aliases_move_and_keep_their_history(catalog: Catalog) -> None:
    one, two = final(catalog), final(catalog)
    for i, version in enumerate((one, two, two, one)):
        catalog.set_alias(version, "prod", record(f"alias{i}"))
    assert catalog.aliases("p", "n") == {"prod": one.id}
    assert [version_id for _, version_id, _ in catalog.alias_history("p", "n")] == [one.id, two.id, one.id]


def test_an_alias_is_not_moved_to_a_draft_or_a_tombstone(catalog: Catalog) -> None:
    good, gone = final(catalog), final(catalog)
    catalog.set_alias(good, "prod", record("p1"))
    catalog.delete(gone, record("delete"), force=False)
    for version, kind in (
        (gone, "deleted"),
        (draft(catalog), "not_finalized"),
    ):  # `gone` as it was read before it was deleted
        with pytest.raises(StateError) as raised:
            catalog.set_alias(version, "prod", record(f"to {kind}"))
        assert raised.value.kind == kind
    assert catalog.aliases(good.project, good.name) == {"prod": good.id}


def test_a_renamed_dataset_keeps_its_ids_and_aliases(catalog: Catalog) -> None:
    version = catalog.publish(final(catalog), "prod", record("p"))
    final(catalog, "other")
    with pytest.raises(AlreadyExistsError):
        catalog.move_dataset("p", "n", to_project="p", to_name="other")
    catalog.move_dataset("p", "n", to_project="q", to_name="m")
    assert catalog.resolve("q/m@prod").id == version.id
    assert catalog.versions(project="p", name="n") == []


# --- events and operations


def test_events_come_in_commit_order_and_a_cursor_misses_none(catalog: Catalog) -> None:
    cursor, seen = 0, []
    stop = threading.Event()

    def poll() -> None:
        nonlocal cursor
        while not stop.is_set():
            for event in catalog.events(after=cursor):
                seen.append(event.version_id)
                cursor = event.sequence

    poller = threading.Thread(target=poll)
    poller.start()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: final(catalog, f"d{i}").id, range(24)))
    stop.set()
    poller.join()
    poll_rest = [event.version_id for event in catalog.events(after=cursor)]
    assert sorted(seen + poll_rest) == sorted(made)


def test_there_is_one_publish_event_a_version(catalog: Catalog) -> None:
    version = final(catalog)
    catalog.publish(version, None, record("p1"))
    with pytest.raises(StateError):
        catalog.publish(version, None, record("p2"))
    again = catalog.publish(catalog.version(version.id), "prod", record("p3"))
    assert again.state is State.PUBLISHED
    assert [e.kind for e in catalog.events(version_id=version.id)] == ["finalized", "published", "alias"]


def test_a_failed_unit_of_work_leaves_nothing(catalog: Catalog) -> None:
    def fail(version: Version) -> dict[str, str]:
        raise RuntimeError("no result")

    broken = Record(key="k", verb="create", digest="", result=fail)
    with pytest.raises(RuntimeError):
        catalog.create(new(catalog), broken)
    assert catalog.versions() == []
    assert catalog.recorded("k") is None


class Cut:
    """Cuts the connection at COMMIT: before it reaches the database, or before its answer comes back."""

    def __init__(self, catalog: Catalog, *, after: bool, then_down: bool = False) -> None:
        self.engine = catalog.db._engine
        self.is_sqlite = catalog.db.is_sqlite  # its COMMIT is a statement, and has run when the event comes
        self.after = after
        self.then_down = then_down
        self.cuts = 0

    def __enter__(self) -> Self:
        sa.event.listen(self.engine, "commit", self.commit)
        sa.event.listen(self.engine, "before_cursor_execute", self.statement)
        if self.then_down:
            sa.event.listen(self.engine, "engine_connect", self.refuse)
        return self

    def __exit__(self, *exc: object) -> None:
        sa.event.remove(self.engine, "commit", self.commit)
        sa.event.remove(self.engine, "before_cursor_execute", self.statement)
        if self.then_down:
            sa.event.remove(self.engine, "engine_connect", self.refuse)

    def statement(self, _connection: sa.Connection, _cursor: object, statement: str, *_more: object) -> None:
        if self.is_sqlite and not self.after and statement == "COMMIT":
            self.cut()

    def commit(self, connection: sa.Connection) -> None:
        if self.after and not self.is_sqlite and not self.cuts:
            connection.exec_driver_sql("COMMIT")
        if self.after or not self.is_sqlite:
            self.cut()

    def cut(self) -> None:
        if self.cuts:
            return
        self.cuts += 1
        raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    def refuse(self, connection: sa.Connection) -> None:
        if self.cuts:
            raise OperationalError("connect", None, Exception("connection refused"))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    from dataset_tasks.catalog import engine

    monkeypatch.setattr(engine, "DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: None)
    return engine.time.sleep


def test_a_commit_that_landed_though_its_answer_was_lost_is_not_done_twice(catalog: Catalog) -> None:
    wanted = new(catalog)
    with Cut(catalog, after=True) as cut:
        version = catalog.create(wanted, record("key"))
    assert cut.cuts == 1
    assert catalog.versions() == [version]


def test_a_commit_that_lands_after_it_was_looked_for_is_not_taken_for_that_of_another(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on with a COMMIT whose connection broke, and shows nothing of it before it is done."""
    wanted = new(catalog)
    monkeypatch.setattr(type(catalog.db), "_settle", lambda *_: None)
    with Cut(catalog, after=True):
        version = catalog.create(wanted, record("key"))
    with Cut(catalog, after=True):
        dropped = catalog.drop(version, record("drop"))
    assert catalog.versions(states=tuple(State)) == [dropped]


def test_a_commit_that_did_not_land_is_done_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = new(catalog)
    read_back = []
    settle = type(catalog.db)._settle

    def settled(*arguments: Any) -> object:  # Any: as the method has them
        read_back.append(settle(*arguments))
        return read_back[-1]

    monkeypatch.setattr(type(catalog.db), "_settle", settled)
    with Cut(catalog, after=False) as cut:
        version = catalog.create(wanted, record("key"))
    assert cut.cuts == 1
    assert read_back == [None]
    assert catalog.versions() == [version]


def test_a_commit_whose_outcome_can_not_be_read_back_is_unknown(catalog: Catalog, no_waiting: object) -> None:
    wanted = new(catalog)
    with Cut(catalog, after=True, then_down=True), pytest.raises(OutcomeUnknownError) as raised:
        catalog.create(wanted, record("key"))
    assert raised.value.retryable
    assert "same key" in raised.value.hint
    assert len(catalog.versions()) == 1


def test_a_locked_database_is_a_clear_and_retryable_error(
    catalog: Catalog, no_waiting: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient, hold = ("PRAGMA busy_timeout = 20", "BEGIN IMMEDIATE")
    if not catalog.db.is_sqlite:
        impatient, hold = ("SET lock_timeout = '20ms'", "UPDATE counters SET value = value")
    sa.event.listen(catalog.db._engine, "engine_connect", lambda connection: connection.exec_driver_sql(impatient))
    with catalog.db._engine.connect() as holder:
        holder.exec_driver_sql(hold)
        with pytest.raises(CatalogUnavailableError, match="did not answer in time") as raised:
            draft(catalog)
    assert raised.value.retryable
    assert draft(catalog)


def test_a_file_that_is_no_database_is_an_error_and_stays(tmp_path: Path) -> None:
    place = tmp_path / "catalog.db"
    place.write_bytes(b"no database at all " * 100)
    with pytest.raises(CatalogError, match="not a database"):
        Catalog.open(f"sqlite:///{place}", Clock())
    assert place.read_bytes().startswith(b"no database at all")


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataset_tasks.catalog import engine

    mounts = tmp_path / "mounts"
    mounts.write_text(f"none / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    real = engine._file_system_of
    monkeypatch.setattr(engine, "_file_system_of", lambda folder: real(folder, mounts))
    with pytest.raises(CatalogError, match="is on nfs4"):
        Catalog.open(f"sqlite:///{tmp_path}/catalog.db", Clock())


# --- windows


def test_fifty_windows_at_once_all_get_a_version_and_latest_follows_the_window(catalog: Catalog) -> None:
    """R23."""
    store = catalog.store_id("/store")
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i) for i in range(50)]
    latest: list[datetime] = []

    def make(day: datetime) -> str:
        wanted = NewVersion(project="p", name="n", store_id=store, window=day)
        made = catalog.create(wanted, record(f"create/{day}"))
        done = catalog.finalize(made, record(f"finalize/{day}"))
        seen = catalog.resolve("p/n@latest").window
        assert seen is not None
        latest.append(seen)
        return done.id

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, random.Random(23).sample(days, 50)))
    assert len({*made}) == 50
    assert sorted(v.version for v in catalog.versions()) == sorted(f"1.0.{i}" for i in range(50))
    assert catalog.resolve("p/n@latest").window == catalog.previous("p", "n").window == days[-1]  # type: ignore[union-attr]


def test_latest_never_moves_back_when_an_earlier_window_is_run_later(catalog: Catalog) -> None:
    """R23."""
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    today = catalog.publish(final(catalog, window=noon), None, record("p1"))
    late = catalog.publish(final(catalog, window=noon - timedelta(days=1)), None, record("p2"))
    assert late.version > today.version
    assert catalog.resolve("p/n").id == catalog.resolve("p/n@latest").id == today.id
    by_hand = final(catalog)
    assert by_hand.window == noon
    assert catalog.resolve("p/n@latest").id == by_hand.id
    again = final(catalog, window=noon - timedelta(days=1))
    assert catalog.resolve("p/n@latest").id == by_hand.id != again.id
    tomorrow = final(catalog, window=noon + timedelta(days=1))
    assert catalog.resolve("p/n@latest").id == tomorrow.id


# --- clocks, retries, sizes


def test_clocks_that_disagree_by_hours_change_no_order(url: str) -> None:
    """R20: versions and events are ordered by sequence, whatever the hosts that made them take for the time."""

    def skewed(hours: int) -> Callable[[], datetime]:
        return lambda: datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(hours=hours)

    hosts = [Catalog.open(url, skewed(hours)) for hours in (1, -1, 0)]
    made = []
    for i in range(6):
        catalog = hosts[i % 3]
        made.append(catalog.publish(final(catalog), "prod", record(f"publish/{i}")))
    for catalog in hosts:
        assert [v.id for v in catalog.versions()] == [v.id for v in made]
        assert catalog.resolve("p/n@latest").id == catalog.resolve("p/n@prod").id == made[-1].id
        assert [e.version_id for e in catalog.events() if e.kind == "published"] == [v.id for v in made]
        assert [e.sequence for e in catalog.events()] == sorted(e.sequence for e in catalog.events())
        catalog.close()


def test_runs_that_are_repeated_by_an_orchestrator_that_forgot_them_make_nothing_new(url: str, home: Path) -> None:
    """R25: its database was put back to an earlier state, the catalog is newer; the keys are those of before."""
    from dataset_tasks.ops.requests import Create, Finalize, Publish
    from dataset_tasks.session import open_session

    with open_session(catalog_url=url) as session:

        def runs() -> list[str]:
            made = []
            for run in ("2026-01-01", "2026-01-02"):
                draft = session.run(Create(project="p", name="n"), key=f"{run}/create").version_id
                session.run(Finalize(ref=draft), key=f"{run}/finalize")
                made.append(session.run(Publish(ref=draft, alias="prod"), key=f"{run}/publish").version_id)
            return made

        first, events = runs(), None
        events = session.catalog.events()
        assert runs() == first
        assert [v.id for v in session.catalog.versions()] == first
        assert session.catalog.events() == events
        assert session.catalog.aliases("p", "n") == {"prod": first[-1]}


def test_a_version_of_many_files_takes_no_more_rows_than_one_of_few(catalog: Catalog) -> None:
    """R35: entries are in manifests, events come by page."""

    def rows() -> int:
        with catalog.db.reading() as connection:
            return sum(
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in t.metadata_obj.sorted_tables
            )

    draft(catalog, "warm")
    grown = []
    for files in (10, 1_000_000):
        before = rows()
        made = catalog.commit_content(draft(catalog, f"f{files}"), content(files), record(f"commit/{files}"))
        catalog.finalize(made, record(f"finalize/{files}/x"))
        grown.append(rows() - before)
    assert grown[0] == grown[1]
    cursor, seen = 0, []
    while page := catalog.events(after=cursor, limit=1):
        seen += [event.sequence for event in page]
        cursor = page[-1].sequence
    assert seen == [event.sequence for event in catalog.events()]


# --- damaged and locked files


def test_a_file_that_was_cut_short_is_an_error_and_stays(tmp_path: Path) -> None:
    """R28."""
    place = tmp_path / "catalog.db"
    Catalog.open(f"sqlite:///{place}", Clock()).close()
    held = place.read_bytes()[: 4096 * 3 + 100]
    place.write_bytes(held)
    with pytest.raises(CatalogError, match=r"malformed|not a database|disk image") as raised:
        final(Catalog.open(f"sqlite:///{place}", Clock()))
    assert "catalog check" in raised.value.hint
    assert place.stat().st_size == len(held)


def test_a_process_that_holds_the_file_is_named(tmp_path: Path, no_waiting: object) -> None:
    """R26, R27."""
    import os
    import signal
    import subprocess
    import sys

    url = f"sqlite:///{tmp_path}/catalog.db"
    catalog = Catalog.open(url, Clock())
    code = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, f"{tmp_path}/catalog.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGSTOP)
    impatient = "PRAGMA busy_timeout = 20"
    sa.event.listen(catalog.db._engine, "engine_connect", lambda connection: connection.exec_driver_sql(impatient))
    with pytest.raises(CatalogUnavailableError, match=f"process {holder.pid} holds it") as raised:
        catalog.store_id("/store")
    assert "end it" in raised.value.hint
    holder.kill()
    holder.communicate()
    assert catalog.store_id("/store")
    catalog.close()


def test_a_window_starts_from_those_before_it_and_is_compared_with_its_own_too(catalog: Catalog) -> None:
    days = {day: datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 6)}

    def run(day: int) -> Version:
        return final(catalog, window=days[day], origin={"runner": "local", "window": days[day].isoformat()})

    bare, first, fourth, third = final(catalog), run(1), run(4), run(3)
    start, last = catalog.starting_point, catalog.previous
    assert start("p", "n", window=days[1]) == last("p", "n", until=days[1] - timedelta(1)) == bare
    assert start("p", "n", window=days[3]) == last("p", "n", until=days[2]) == first
    assert last("p", "n", until=days[3]) == third
    assert start("p", "n", window=days[4]) == third
    assert start("p", "n") == last("p", "n") == start("p", "n", window=days[5]) == fourth
    by_hand = final(catalog)
    assert by_hand.window == days[4]
    assert start("p", "n", window=days[4]) == by_hand
    assert catalog.versions(project="p", name="n", window=days[4]) == [fourth, by_hand]
