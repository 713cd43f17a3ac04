"""Many processes on one catalog: nothing is lost, nothing is double, whoever watches sees everything in order."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest

from dataset_tasks.catalog.checks import check_catalog
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import NewVersion, Record
from dataset_tasks.errors import AlreadyExistsError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import State
from dataset_tasks.ops.requests import Build, Create, Finalize, Squash, Stage, SyncFolder, Upload
from dataset_tasks.session import open_session
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants
from tests.services.postgres import Postgres

FORK = multiprocessing.get_context("fork")


def now() -> datetime:
    return datetime.now(UTC)


def record(key: str) -> Record:
    return Record(key=key, verb="test", digest="", result=lambda version: {"id": version.id})


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    database: str = request.getfixturevalue("server").database()
    return database


def run_all(
    work: Callable[..., list[str]], url: str, processes: int, *meanwhile: Callable[[], object]
) -> list[list[str]]:
    """What each process gave, all begun at once; an error in one is an error here.

    `meanwhile` is called once all are forked: with a thread at work a child could inherit a lock that nobody gives back.
    """
    start = FORK.Event()
    running = []
    for number in range(processes):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_child, args=(work, url, number, start, theirs))
        process.start()
        theirs.close()
        running.append((process, ours))
    start.set()
    for each in meanwhile:
        each()
    results = []
    for process, pipe in running:
        try:
            results.append(pipe.recv())
        except EOFError:
            results.append("ended without an answer")
        process.join()
    failed = [each for each in results if isinstance(each, str)]
    assert not failed, failed[0]
    return results


def _child(work: Callable[..., list[str]], url: str, number: int, start: threading.Event, pipe: Pipe) -> None:
    start.wait()
    try:
        catalog = Catalog.open(url, now)
        pipe.send(work(catalog, number))
        catalog.close()
    except BaseException as error:  # noqa: BLE001  # told to the parent, which raises
        pipe.send(f"{type(error).__name__}: {error}")


class Poller:
    """Reads events as they come, from the last one it saw."""

    def __init__(self, url: str) -> None:
        self.seen: list[tuple[int, str, str]] = []
        self._catalog = Catalog.open(url, now)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def begin(self) -> None:
        self._thread.start()

    def _poll(self) -> None:
        cursor = 0
        while True:
            ended = self._stop.is_set()
            found = self._catalog.events(after=cursor, limit=20)
            self.seen += [(event.sequence, event.kind, event.version_id) for event in found]
            cursor = found[-1].sequence if found else cursor
            if ended and not found:
                return
            self._stop.wait(0.01)

    def end(self) -> list[tuple[int, str, str]]:
        self._stop.set()
        self._thread.join()
        self._catalog.close()
        return self.seen


EACH = 6


def make_versions(catalog: Catalog, number: int) -> list[str]:
    store = catalog.store_id("/store")
    made = []
    for i in range(EACH):
        key = f"{number}/{i}"
        draft = catalog.create(NewVersion(project="p", name="n", store_id=store), record(f"create/{key}"))
        final = catalog.finalize(draft, record(f"finalize/{key}"))
        made.append(catalog.publish(final, "prod", record(f"publish/{key}")).id)
    return made


def assert_nothing_lost(url: str, made: list[str]) -> None:
    catalog = Catalog.open(url, now)
    versions = catalog.versions(project="p", name="n", states=list(State))
    assert sorted(v.id for v in versions) == sorted(made)
    assert len(set(made)) == len(made)
    assert {v.state for v in versions} == {State.PUBLISHED}
    assert sorted(int(v.version.split(".")[2]) for v in versions) == list(range(len(made)))
    kinds = Counter((event.kind, event.version_id) for event in catalog.events())
    assert kinds == {(kind, i): 1 for kind in ("finalized", "published", "alias") for i in made}
    assert check_catalog(catalog.db) == [] or {f.check for f in check_catalog(catalog.db)} == {"journal"}
    catalog.close()


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_many_processes_lose_nothing_and_a_poller_sees_each_event_once_in_order(url: str) -> None:
    """R14, R15."""
    processes = 6 if url.startswith("sqlite") else 16
    Catalog.open(url, now).close()
    poller = Poller(url)
    made = [i for ids in run_all(make_versions, url, processes, poller.begin) for i in ids]
    seen = poller.end()
    assert len(made) == processes * EACH
    assert_nothing_lost(url, made)
    catalog = Catalog.open(url, now)
    assert seen == [(event.sequence, event.kind, event.version_id) for event in catalog.events()]
    assert [number for number, _, _ in seen] == sorted({number for number, _, _ in seen})
    catalog.close()


def test_a_catalog_that_many_processes_make_at_once_is_one(url: str) -> None:
    """R15."""
    ids = run_all(lambda catalog, _number: [catalog.id, catalog.store_id("/store")], url, 8)
    assert len({tuple(each) for each in ids}) == 1


def make_the_same(catalog: Catalog, number: int) -> list[str]:
    store = catalog.store_id("/store")
    new = NewVersion(project="p", name="n", store_id=store, version="spring")
    try:
        return [catalog.create(new, record(f"create/{number}")).id]
    except AlreadyExistsError:
        return []


def test_of_many_processes_that_want_one_number_one_gets_it(url: str) -> None:
    """R15."""
    made = run_all(make_the_same, url, 16)
    assert sorted(map(len, made)) == [0] * 15 + [1]


def begin_the_same(catalog: Catalog, _number: int) -> list[str]:
    url = catalog.db.url.render_as_string(hide_password=False)
    with open_session(catalog_url=url) as session:
        numbered = session.run(Create(name="numbered", project="p"), key="run/numbered")
        named = session.run(Create(name="named", project="p", version="spring"), key="run/named")
        return [numbered.version_id, named.version_id]


def test_of_many_processes_with_one_operation_key_one_makes_the_draft_and_the_others_get_it(url: str) -> None:
    """R15."""
    made = run_all(begin_the_same, url, 12)
    assert len({tuple(each) for each in made}) == 1
    catalog = Catalog.open(url, now)
    assert sorted((v.name, v.version) for v in catalog.versions()) == [("named", "spring"), ("numbered", "1.0.0")]
    catalog.close()


def squash_the_same(catalog: Catalog, _number: int) -> list[str]:
    url = catalog.db.url.render_as_string(hide_password=False)
    with open_session(catalog_url=url) as session:
        return [session.run(Squash(name="squashed", project="p", refs=("p/n@latest",)), key="run/squash").version_id]


def test_many_processes_that_squash_under_one_key_at_once_make_one_version(url: str) -> None:
    """R15."""
    with open_session(catalog_url=url) as session:
        draft = session.run(Create(name="n", project="p")).version_id
        session.run(SyncFolder(ref=draft, path=str(Path(__file__).parent), wildcard=("test_postgres*.py",)))
        session.run(Upload(ref=draft))
        session.run(Finalize(ref=draft))
    made = run_all(squash_the_same, url, 6)
    assert len({tuple(each) for each in made}) == 1
    with open_session(catalog_url=url) as session:
        assert [v.state for v in session.catalog.versions()] == [State.COMPLETED] * 2
        assert_invariants(session)


class BrokenError(Exception):
    """What goes wrong in some of the processes."""


def build_the_same(catalog: Catalog, number: int) -> list[str]:
    """Every second process fails, each somewhere else."""
    url = catalog.db.url.render_as_string(hide_password=False)
    stages = {
        "create": Create(name="built", project="p"),
        "sync": SyncFolder(ref="step:create", path=str(Path(__file__).parent), wildcard=("test_postgres*.py",)),
        "upload": Upload(ref="step:create"),
        "finalize": Finalize(ref="step:create"),
    }
    build = Build(stages=tuple(Stage(id=name, request=request) for name, request in stages.items()))

    def fail(_name: str) -> None:
        raise BrokenError

    points = ["build.after_stage", "upload.before_commit", "finalize.before_commit"]
    rules = [Rule(points[number // 2 % len(points)], fail)] if number % 2 else []
    with open_session(catalog_url=url) as session, injected(rules):
        try:
            return [session.run(build, key="run/build").version_id]
        except BrokenError:
            return []


def test_of_many_processes_that_build_under_one_key_at_once_the_failing_ones_harm_no_other(url: str) -> None:
    """R15, R19."""
    made = [tuple(each) for each in run_all(build_the_same, url, 6)]
    assert len({each for each in made if each}) == 1
    assert all(made[0::2])
    with open_session(catalog_url=url) as session:
        (version,) = session.catalog.versions()
        assert (version.state, version.version) == (State.COMPLETED, "1.0.0")
        assert_invariants(session)


def test_the_server_may_crash_and_come_back_while_sixteen_processes_write(server: Postgres) -> None:
    """R29."""
    url = server.database()
    Catalog.open(url, now).close()
    watching = Catalog.open(url, now)
    poller = Poller(url)

    def crash() -> None:
        for so_far in (10, 120):
            end = time.monotonic() + 120
            while len(watching.events()) < so_far:
                assert time.monotonic() < end
            server.control("restart", "-m", "immediate")

    made = [i for ids in run_all(make_versions, url, 16, poller.begin, crash) for i in ids]
    seen = poller.end()
    assert_nothing_lost(url, made)
    assert [kind for _, kind, _ in seen].count("published") == len(made) == len({(k, i) for _, k, i in seen}) // 3
    watching.close()


def test_killed_backends_cost_nothing_but_time(server: Postgres) -> None:
    """R30."""
    url = server.database()
    watching = Catalog.open(url, now)
    name = url.rpartition("?")[0].rpartition("/")[2]

    def kill() -> None:
        while len(watching.events()) < 5 * EACH * 3 - 20:
            server.sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
                "AND state <> 'idle' AND random() < 0.5"
            )

    made = [i for ids in run_all(make_versions, url, 5, kill) for i in ids]
    assert_nothing_lost(url, made)
    watching.close()


def test_a_server_that_takes_few_connections_serves_many_writers(server: Postgres) -> None:
    """R33."""
    url = server.database()
    server.control("restart", "-m", "fast", options="-c max_connections=10 -c superuser_reserved_connections=1")
    try:
        Catalog.open(url, now).close()
        made = [i for ids in run_all(make_versions, url, 14) for i in ids]
        assert_nothing_lost(url, made)
    finally:
        server.control("restart", "-m", "fast")
