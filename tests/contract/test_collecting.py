"""Leases, and how objects come and go, whatever database holds the catalog (rows R18, R19 and R20)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.catalog.leases import LEASED, STALE_WRITER
from dataset_tasks.catalog.registry import OBJECTS_GONE
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import Content, NewVersion, Record
from dataset_tasks.errors import ConflictError, StateError
from dataset_tasks.model import ObjectRef, State, Version


class Clock:
    """The machine's own, and what it is put forward by."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    made: str = request.getfixturevalue("postgres")()
    return made


@pytest.fixture
def catalog(url: str, clock: Clock) -> Iterator[Catalog]:
    opened = Catalog.open(url, clock)
    yield opened
    opened.close()


@pytest.fixture
def draft(catalog: Catalog) -> Callable[[str], Version]:
    store = catalog.store_id("/store")
    return lambda key: catalog.create(NewVersion(project="p", name="d", store_id=store), record(key))


def record(key: str) -> Record:
    return Record(key=key, verb="test", digest="d", result=lambda version: {"id": version.id})


def index(version: Version, name: str) -> ObjectRef:
    return ObjectRef(store_id=version.store_id, key=f"indexes/{name}.parquet", size=1, sha256="0" * 64)


def content(version: Version, name: str, *, chunks: tuple[str, ...] = (), needs: tuple[str, ...] = ()) -> Content:
    ref = index(version, name)
    return Content(
        index=ref, pending=0, pending_object=None, files=0, bytes=0, content_hash="",
        objects=(ref.key, *chunks), needs=needs,
    )  # fmt: skip


def begun(catalog: Catalog, version: Version, *keys: str) -> None:
    catalog.begin_objects(version.id, [(version.store_id, key, "chunk") for key in keys])


def committed(catalog: Catalog, version: Version, name: str, *chunks: str) -> Version:
    begun(catalog, version, index(version, name).key, *chunks)
    return catalog.commit_content(version, content(version, name, chunks=chunks), record(f"commit {name}"))


def test_a_lease_is_one_writers_at_a_time_and_names_the_holder(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    version = draft("a")
    lease = catalog.take_lease(version.id, "one", seconds=60, origin={"run_id": "r1"})
    assert catalog.lease(version.id) == lease
    with pytest.raises(ConflictError, match="r1") as caught:
        catalog.take_lease(version.id, "two", seconds=60)
    assert caught.value.kind == LEASED
    catalog.end_lease(lease)
    assert catalog.lease(version.id) is None
    assert catalog.take_lease(version.id, "two", seconds=60).epoch > lease.epoch


def test_others_wait_while_a_writer_has_its_turn_and_it_goes_on(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    version = draft("a")
    begun(catalog, version, index(version, "i").key)
    lease = catalog.take_lease(version.id, "one", seconds=60, origin={"run_id": "r1"})
    with pytest.raises(ConflictError, match="r1"):
        catalog.commit_content(version, content(version, "i"), record("other"))
    assert catalog.version(version.id) == version
    assert catalog.commit_content(version, content(version, "i"), record("mine"), lease=lease).index is not None


def test_a_writer_whose_lease_was_taken_over_changes_nothing_and_hears_by_whom(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    """R19. Every write carries the epoch of its attempt, and a lower one is refused."""
    version = draft("a")
    begun(catalog, version, index(version, "i").key)
    stopped = catalog.take_lease(version.id, "one", seconds=0)
    catalog.take_lease(version.id, "two", seconds=0, origin={"run_id": "the retry"})
    with pytest.raises(ConflictError, match="the retry") as caught:
        catalog.commit_content(version, content(version, "i"), record("late"), lease=stopped)
    assert caught.value.kind == STALE_WRITER
    with pytest.raises(ConflictError):
        catalog.renew_lease(stopped, seconds=60)
    catalog.end_lease(stopped)
    assert catalog.version(version.id) == version


def test_a_retry_of_the_same_holder_takes_over_at_once(catalog: Catalog, draft: Callable[[str], Version]) -> None:
    version = draft("a")
    first = catalog.take_lease(version.id, "one", seconds=60)
    again = catalog.take_lease(version.id, "one", seconds=60)
    assert again.epoch == first.epoch + 1
    catalog.renew_lease(again, seconds=60)


def test_on_a_server_leases_go_by_its_clock_not_by_the_workers(
    catalog: Catalog, draft: Callable[[str], Version], clock: Clock
) -> None:
    """R20. A worker whose clock is an hour ahead takes nobody's lease. An embedded catalog has its machine's clock alone."""
    version = draft("a")
    first = catalog.take_lease(version.id, "one", seconds=60)
    clock.ahead = timedelta(hours=1)
    if catalog.db.is_sqlite:
        assert catalog.take_lease(version.id, "two", seconds=60).epoch == first.epoch + 1
        return
    with pytest.raises(ConflictError):
        catalog.take_lease(version.id, "two", seconds=60)
    assert catalog.idle_drafts(seconds=1800, dead=0) == []


def test_a_commit_takes_back_what_was_condemned_and_is_told_what_is_gone(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    """R18. gc decided to delete what an upload saw: the upload's commit wins, or hears that it came too late."""
    first = committed(catalog, draft("a"), "i", "chunks/a.zip", "chunks/b.zip")
    catalog.drop(first, record("drop"))
    catalog.purge(grace=0, apply=True)
    marked = catalog.mark({}, grace=3600, apply=True)
    assert {each.key for each in marked.condemned} == {"chunks/a.zip", "chunks/b.zip", "indexes/i.parquet"}
    second = draft("b")
    begun(catalog, second, index(second, "j").key)
    taken = catalog.commit_content(second, content(second, "j", needs=("chunks/a.zip",)), record("reuse"))
    assert catalog.known_keys()["chunks/a.zip"] == "live"
    known = {"indexes/j.parquet": {"chunks/a.zip"}}
    going = catalog.mark(known, grace=0, apply=True).going
    assert {each.key for each in going} == {"chunks/b.zip", "indexes/i.parquet"}
    begun(catalog, taken, index(taken, "k").key)
    with pytest.raises(ConflictError) as caught:
        catalog.commit_content(taken, content(taken, "k", needs=("chunks/b.zip",)), record("too late"))
    assert caught.value.kind == OBJECTS_GONE
    assert catalog.version(taken.id).revision == taken.revision
    assert {each.key for each in catalog.going()} == {"chunks/b.zip", "indexes/i.parquet"}


def test_a_version_that_came_after_the_indexes_were_read_stops_the_mark(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    first = committed(catalog, draft("a"), "i", "chunks/a.zip")
    known = {"indexes/i.parquet": {"chunks/a.zip"}}
    second = committed(catalog, draft("b"), "j", "chunks/b.zip")
    marked = catalog.mark(known, grace=0, apply=True)
    assert [root.version_id for root in marked.unread] == [second.id]
    assert set(catalog.known_keys().values()) == {"live"}
    both = known | {"indexes/j.parquet": {"chunks/b.zip"}}
    assert catalog.mark(both, grace=0, apply=True).condemned == ()
    assert first.state is State.IN_PROGRESS


def test_what_is_condemned_and_needed_after_all_is_taken_back(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    committed(catalog, draft("a"), "i", "chunks/a.zip")
    gone = catalog.mark({"indexes/i.parquet": set()}, grace=0, apply=True)
    assert [each.key for each in gone.condemned] == ["chunks/a.zip"]
    marked = catalog.mark({"indexes/i.parquet": {"chunks/a.zip"}}, grace=0, apply=True)
    assert marked.revived == ("chunks/a.zip",)
    assert catalog.known_keys()["chunks/a.zip"] == "live"


def test_a_writer_that_was_taken_for_dead_hears_it_when_its_bytes_stand(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    version = draft("a")
    begun(catalog, version, "chunks/a.zip")
    assert catalog.give_up_writes(ended=0, idle=3600, apply=True) == []
    assert [each.key for each in catalog.give_up_writes(ended=0, idle=0, apply=True)] == ["chunks/a.zip"]
    ref = ObjectRef(store_id=version.store_id, key="chunks/a.zip", size=1, sha256="0" * 64)
    with pytest.raises(ConflictError) as caught:
        catalog.written([ref])
    assert caught.value.kind == OBJECTS_GONE


def test_a_purged_tombstone_does_not_come_back(catalog: Catalog, draft: Callable[[str], Version]) -> None:
    final = catalog.finalize(committed(catalog, draft("a"), "i"), record("finalize"))
    deleted = catalog.delete(final, record("delete"), force=False)
    assert catalog.purge(grace=3600, apply=True) == []
    again = catalog.undelete(deleted, record("undelete"))
    assert again.state is State.COMPLETED
    deleted = catalog.delete(again, record("delete again"), force=False)
    assert [version.id for version in catalog.purge(grace=0, apply=True)] == [final.id]
    for version in (deleted, catalog.version(final.id)):
        with pytest.raises(StateError) as caught:
            catalog.undelete(version, record("too late"))
        assert caught.value.kind == "purged"


def test_a_host_whose_clock_is_behind_shortens_no_grace(
    catalog: Catalog, draft: Callable[[str], Version], url: str
) -> None:
    """How long a tombstone stays is told by the catalog's clock alone: that of SQLite is its host's."""
    final = catalog.finalize(committed(catalog, draft("a"), "i"), record("finalize"))
    late = Clock()
    late.ahead = timedelta(days=-30)
    with_late_clock = Catalog.open(url, late)
    deleted = with_late_clock.delete(final, record("delete"), force=False)
    with_late_clock.close()
    if not catalog.db.is_sqlite:
        assert catalog.purge(grace=7 * 86_400, apply=True) == []
        assert catalog.undelete(deleted, record("undelete")).state is State.COMPLETED


def test_what_an_alias_names_or_a_draft_was_made_from_is_wanted_and_stays(
    catalog: Catalog, draft: Callable[[str], Version]
) -> None:
    named, other = (
        catalog.finalize(committed(catalog, draft(each), each), record(f"finalize {each}")) for each in "ab"
    )
    assert not catalog.is_wanted(named)
    catalog.set_alias(named, "prod", record("alias"))
    assert catalog.is_wanted(named)
    with pytest.raises(StateError) as caught:
        catalog.delete(named, record("delete"), force=True, unless_wanted=True)
    assert caught.value.kind == "in_use"
    catalog.set_alias(other, "prod", record("alias moves on"))
    assert catalog.is_wanted(other)
    assert not catalog.is_wanted(named)
    child = NewVersion(project="p", name="d", store_id=named.store_id, parents=(named.id,))
    begun_from = catalog.create(child, record("child"))
    assert catalog.is_wanted(named)
    catalog.drop(begun_from, record("drop"))
    assert catalog.delete(named, record("delete"), force=True, unless_wanted=True).state is State.DELETED
