"""What a PostgreSQL server does to those who use it: killed backends, cut wires, held locks, no connections left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
import sqlalchemy as sa

from dataset_tasks.catalog import engine
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import NewVersion, Record
from dataset_tasks.errors import CatalogError, CatalogUnavailableError, ConflictError, StateError, WrongCatalogError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import Version
from dataset_tasks.testing.failpoints import injected
from tests.services.postgres import Postgres, Wire

FORK = get_context("fork")


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.close()


@pytest.fixture
def url(server: Postgres) -> str:
    return server.database()


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog.open(url, now)
    yield opened
    opened.close()


def record(key: str) -> Record:
    return Record(key=key, verb="test", digest="", result=lambda version: {"id": version.id})


def create(catalog: Catalog, key: str) -> Version:
    return catalog.create(NewVersion(project="p", name="n", store_id=catalog.store_id("/store")), record(key))


def kill_others(server: Postgres, url: str) -> Callable[[str], None]:
    """Ends every backend of the database: at a failpoint, the one whose transaction is open."""
    name = url.partition("?")[0].rpartition("/")[2]

    def kill(_point: str) -> None:
        server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    return kill


@pytest.mark.parametrize("point", ["catalog.before_work", "catalog.before_commit", "catalog.after_commit"])
@pytest.mark.parametrize("verb", ["create", "finalize", "publish"])
def test_a_backend_that_is_killed_is_ridden_out(
    catalog: Catalog, server: Postgres, url: str, point: str, verb: str
) -> None:
    """R30. R11."""
    version = create(catalog, "v") if verb != "create" else None
    if verb == "publish":
        assert version is not None
        version = catalog.finalize(version, record("f"))
    with injected([Rule(point, kill_others(server, url))]) as seen:
        if version is None:
            done = create(catalog, "k")
        elif verb == "finalize":
            done = catalog.finalize(version, record("k"))
        else:
            done = catalog.publish(version, "prod", record("k"))
    assert seen.reached()[point] >= 1
    assert catalog.versions() == [done]
    assert len(catalog.events()) == {"create": 0, "finalize": 1, "publish": 3}[verb]
    assert done.version == "1.0.0"


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("verb", ["create", "finalize"])
def test_a_wire_that_is_cut_at_commit_is_looked_into(
    catalog: Catalog, server: Postgres, url: str, cut: Literal["before", "after"], verb: str
) -> None:
    """R11: the server has the COMMIT and its answer is lost, or it never got it; either way it is done once."""
    wire = Wire(server, cut)
    through = Catalog.open(wire.url(url), now)
    if verb == "create":
        through.store_id("/store")
        wire.arm()
        done = create(through, "k")
    else:
        draft = create(through, "k")
        wire.arm()
        done = through.finalize(draft, record("f"))
    assert wire.cuts == 1
    assert catalog.versions() == [done]
    assert [e.kind for e in catalog.events()] == (["finalized"] if verb == "finalize" else [])
    through.close()
    wire.close()


def test_a_serialization_failure_a_deadlock_and_a_lock_timeout_are_done_again(catalog: Catalog) -> None:
    """R30."""
    waiting = ["40001", "40P01", "55P03"]

    def work(connection: sa.Connection) -> str:
        if waiting:
            state = waiting.pop(0)
            connection.execute(sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'told to' USING ERRCODE = '{state}'; END $$"))
        return "done"

    assert catalog.db.write(work, landed=lambda _c: None) == "done"
    assert waiting == []


def test_two_transactions_that_wait_for_each_other_both_end(catalog: Catalog) -> None:
    """R30."""
    one, two = create(catalog, "one"), create(catalog, "two")
    barrier = threading.Barrier(2)
    tries: list[str] = []

    def work(first: Version, second: Version) -> Callable[[sa.Connection], bool]:
        def run(connection: sa.Connection) -> bool:
            tries.append(first.id)
            for number, version in enumerate((first, second)):
                connection.execute(sa.update(t.versions).where(t.versions.c.id == version.id).values(pending=7))
                if number == 0 and len(tries) <= 2:
                    barrier.wait(20)
            return True

        return run

    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(catalog.db.write, work(*pair), landed=lambda _c: None) for pair in ((one, two), (two, one))
        ]
        assert [each.result() for each in running] == [True, True]
    assert len(tries) == 3


def hold(url: str, pipe: Any) -> None:
    """In a process of its own: an open transaction that holds the counter."""
    with psycopg.connect(url, application_name="the holder") as connection:
        connection.execute("UPDATE counters SET value = value")
        pipe.send("held")
        pipe.recv()


@pytest.fixture
def held(url: str, catalog: Catalog) -> Iterator[Any]:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(url, theirs))
    process.start()
    assert ours.recv() == "held"
    os.kill(process.pid, signal.SIGSTOP)
    yield process
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_lock_that_a_paused_process_holds_is_an_error_that_names_it(
    held: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27. R30."""
    monkeypatch.setattr(engine, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(engine, "DEADLINE_SECONDS", 0.5)
    waiting = Catalog.open(url, now)
    with pytest.raises(CatalogUnavailableError, match="the holder") as raised:
        create(waiting, "k")
    assert raised.value.retryable
    assert "end it" in raised.value.hint
    waiting.close()


def test_a_paused_process_of_ours_does_not_hold_others_back_for_ever(
    url: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27: the server ends a transaction in which nothing is done; who was paused does its work again."""
    monkeypatch.setattr(engine, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(engine, "LOCK_SECONDS", 0.2)
    paused, go_on = threading.Event(), threading.Event()

    def pause(_point: str) -> None:
        paused.set()
        assert go_on.wait(60)

    slow, other = Catalog.open(url, now), Catalog.open(url, now)
    create(other, "first")
    with injected([Rule("catalog.before_commit", pause)]), ThreadPoolExecutor(1) as pool:
        running = pool.submit(create, slow, "slow")
        assert paused.wait(60)
        quick = create(other, "quick")
        go_on.set()
        late = running.result()
    assert (quick.version, late.version) == ("1.0.1", "1.0.2")
    slow.close()
    other.close()


def test_a_server_that_is_down_is_waited_for(server: Postgres, url: str) -> None:
    """R29."""
    Catalog.open(url, now).close()
    server.control("stop", "-m", "fast")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: create(Catalog.open(url, now), "k"))
        server.control("start")
        assert running.result().version == "1.0.0"


def test_a_server_that_stays_down_is_a_clear_error(server: Postgres, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29."""
    monkeypatch.setattr(engine, "DEADLINE_SECONDS", 0.2)
    opened = Catalog.open(url, now)
    server.control("stop", "-m", "fast")
    try:
        with pytest.raises(CatalogUnavailableError, match="did not answer in time"):
            create(opened, "k")
        with pytest.raises(CatalogUnavailableError):
            Catalog.open(url, now)
    finally:
        server.control("start")
    assert create(opened, "k").version == "1.0.0"
    opened.close()


def test_a_restart_between_two_calls_is_not_noticed(server: Postgres, catalog: Catalog) -> None:
    """R29."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: create(catalog, f"a{i}"), range(4)))
    server.control("restart", "-m", "immediate")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: create(catalog, f"b{i}"), range(4)))
    assert len(catalog.versions()) == 8


def test_threads_queue_for_the_connections_of_their_process_and_none_leaks(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R33."""
    monkeypatch.setattr(engine, "POOL", 1)
    monkeypatch.setattr(engine, "OVERFLOW", 1)
    few = Catalog.open(url, now)
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda i: create(few, f"k{i}"), range(40)))
    assert len({version.version for version in made}) == 40
    assert few.db._engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a queue pool has it
    few.close()


def test_a_pool_that_stays_exhausted_is_a_clear_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R33."""
    monkeypatch.setattr(engine, "POOL", 1)
    monkeypatch.setattr(engine, "OVERFLOW", 0)
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(engine, "DEADLINE_SECONDS", 0.2)
    few = Catalog.open(url, now)
    with few.db.reading(), pytest.raises(CatalogUnavailableError) as raised:
        few.versions()
    assert raised.value.retryable
    assert few.versions() == []
    few.close()


def test_a_database_that_is_not_there_is_told_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29: what waiting does not mend is not waited for."""
    waits: list[float] = []
    monkeypatch.setattr(engine.time, "sleep", waits.append)
    with pytest.raises(CatalogError, match="does not exist") as raised:
        Catalog.open(url.replace("/catalog", "/nothing"), now)
    assert not raised.value.retryable
    assert waits == []


def test_a_forked_child_has_connections_of_its_own(url: str, home: Path) -> None:
    """R22."""
    from dataset_tasks.ops.requests import Create
    from dataset_tasks.session import open_session

    with open_session(catalog_url=url) as session:
        session.run(Create(project="p", name="n"))

        def child() -> None:
            for _ in range(5):
                session.run(Create(project="p", name="n"))

        processes = [FORK.Process(target=child) for _ in range(3)]
        for process in processes:
            process.start()
        for _ in range(5):
            session.run(Create(project="p", name="n"))
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert [v.version for v in session.catalog.versions()] == [f"1.0.{i}" for i in range(21)]


def test_workers_pointed_at_different_catalogs_are_told_so(server: Postgres, home: Path) -> None:
    from dataset_tasks.ops.references import reference
    from dataset_tasks.ops.requests import Create
    from dataset_tasks.ops.wire import to_json
    from dataset_tasks.session import open_session

    with open_session(catalog_url=server.database()) as one, open_session(catalog_url=server.database()) as two:
        made = to_json(one.run(Create(project="p", name="n")))
        assert reference(made, catalog_id=one.catalog.id)
        with pytest.raises(WrongCatalogError) as raised:
            reference(made, catalog_id=two.catalog.id)
        assert one.catalog.id in str(raised.value)
        assert two.catalog.id in str(raised.value)
        assert not raised.value.retryable


# --- one of two


def waits_for_lock(server: Postgres, url: str) -> bool:
    """Whether somebody waits for somebody else in the database."""
    name = url.partition("?")[0].rpartition("/")[2]
    found = server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'")
    return any(line.strip().isdigit() and int(line) > 0 for line in found.splitlines())


def test_no_child_is_made_of_a_version_that_is_being_deleted(
    server: Postgres, url: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R16: the delete has looked for children and not ended yet, when somebody wants to make one."""
    parent = catalog.finalize(create(catalog, "parent"), record("f"))
    deleting, maker = Catalog.open(url, now), Catalog.open(url, now)
    child = NewVersion(project="p", name="child", store_id=parent.store_id, parents=(parent.id,))
    looked = Catalog._refuse_parent
    pool = ThreadPoolExecutor(1)
    running: list[Future[Version]] = []

    def look_and_wait(self: Catalog, connection: sa.Connection, version: Version) -> None:
        looked(self, connection, version)
        running.append(pool.submit(maker.create, child, record("child")))
        while not running[0].done() and not waits_for_lock(server, url):
            pass

    monkeypatch.setattr(Catalog, "_refuse_parent", look_and_wait)
    deleting.delete(parent, record("d"), force=False)
    with pytest.raises(StateError, match="deleted"):
        running[0].result()
    assert catalog.children(parent.id) == []
    pool.shutdown()
    deleting.close()
    maker.close()


def test_two_that_finalize_one_draft_have_one_winner(url: str, catalog: Catalog) -> None:
    """R13."""
    draft = create(catalog, "k")
    barrier = threading.Barrier(8)
    opened = [Catalog.open(url, now) for _ in range(8)]

    def finalize(number: int) -> str:
        barrier.wait(60)
        try:
            return opened[number].finalize(draft, record(f"f{number}")).id
        except (ConflictError, StateError):
            return ""

    with ThreadPoolExecutor(8) as pool:
        won = [each for each in pool.map(finalize, range(8)) if each]
    assert won == [draft.id]
    assert [event.kind for event in catalog.events()] == ["finalized"]
    for each in opened:
        each.close()
