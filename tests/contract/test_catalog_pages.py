"""What lists and pages ask of a catalog: datasets, the newest versions, the last event."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import Create, Delete
from dataset_tasks.session import Session, open_session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with open_session(home=tmp_path) as opened:
        yield opened


def made(session: Session, name: str, **origin: str) -> str:
    return session.run(Create(project="crm", name=name), origin=dict(origin)).version_id


def test_datasets_are_listed_with_the_versions_that_stand(session: Session) -> None:
    assert session.catalog.datasets() == []
    first = made(session, "visits")
    made(session, "orders")
    last = session.catalog.version(made(session, "orders"))
    session.run(Delete(ref=first))
    assert session.catalog.datasets() == [("crm", "orders", 2, last.sequence)]


def test_the_newest_versions_come_first_in_pages(session: Session) -> None:
    ids = [made(session, "orders") for _ in range(5)]
    made(session, "visits")
    first = session.catalog.newest(project="crm", name="orders", limit=3)
    assert [version.id for version in first] == ids[:1:-1]
    rest = session.catalog.newest(project="crm", name="orders", before=first[-1].sequence)
    assert [version.id for version in rest] == ids[1::-1]


def test_versions_are_found_by_who_made_them(session: Session) -> None:
    mine = made(session, "orders", dag_id="shop", run_id="a_%1")
    made(session, "orders", dag_id="shop", run_id="aXX1")
    made(session, "orders", dag_id='shop"2', run_id="a_%1")
    found = session.catalog.newest(origin={"dag_id": "shop", "run_id": "a_%1"})
    assert [version.id for version in found] == [mine]


def test_the_last_sequence_is_that_of_the_newest_event(session: Session) -> None:
    before = session.catalog.last_sequence()
    session.run(Delete(ref=made(session, "orders")))
    events = session.catalog.events()
    assert session.catalog.last_sequence() == (events[-1].sequence if events else before)
