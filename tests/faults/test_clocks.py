"""Clocks that jump, and hosts that disagree by hours: nothing is decided by them but what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import AddFiles, Create, Delete, Finalize, GetCopy, Publish, Upload
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.testing.invariants import assert_invariants

pytestmark = pytest.mark.faults
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Host = Callable[[timedelta], Session]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A session of a machine whose clock is off by so much."""
    with ExitStack() as sessions:

        def make(off: timedelta) -> Session:
            return sessions.enter_context(Session(Settings.from_env(home=tmp_path / "home"), clock=lambda: NOON + off))

        yield make


def version(session: Session, source: Path, text: str) -> str:
    source.mkdir(exist_ok=True)
    (source / "a").write_text(text)
    made = session.run(Create(name="d", project="p")).version_id
    session.run(AddFiles(ref=made, path=str(source)))
    session.run(Upload(ref=made))
    session.run(Finalize(ref=made))
    session.run(Publish(ref=made, alias="good"))
    return made


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1), timedelta(days=-3650)])
def test_versions_follow_each_other_whatever_the_clocks_of_their_makers_say(host: Host, tmp_path: Path, off) -> None:
    """R20. The order is that of the commits; numbers, latest, aliases and events follow it."""
    here, there = host(timedelta()), host(off)
    made = [version(each, tmp_path / "source", str(n)) for n, each in enumerate((here, there, here, there))]
    catalog = host(timedelta(hours=5)).catalog
    assert [each.id for each in catalog.versions(project="p", name="d")] == made
    assert [each.version for each in catalog.versions(project="p", name="d")] == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
    assert catalog.resolve("p/d@latest").id == made[-1]
    assert catalog.resolve("p/d@published").id == made[-1]
    assert catalog.resolve("p/d@good").id == made[-1]
    kinds = [event.version_id for event in catalog.events() if event.kind == "published"]
    assert kinds == made
    assert_invariants(here)


def test_a_clock_that_jumps_in_the_middle_of_a_draft_does_no_harm(host: Host, tmp_path: Path) -> None:
    """R20. Each step by a host with another time, forth and back."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    made = host(timedelta()).run(Create(name="d", project="p")).version_id
    host(timedelta(hours=1)).run(AddFiles(ref=made, path=str(source)))
    host(timedelta(hours=-1)).run(Upload(ref=made))
    host(timedelta(hours=2)).run(Finalize(ref=made))
    last = host(timedelta(hours=-2))
    last.run(Publish(ref=made))
    copy = last.run(GetCopy(ref=made))
    assert (Path(copy.folder) / "a").read_text() == "1"
    last.run(Delete(ref=made))
    assert_invariants(last)
