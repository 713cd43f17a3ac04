"""Each operation writes the journal of its own version, and what others left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import Create, Finalize
from dataset_tasks.session import Session, open_session
from dataset_tasks.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_what_others_write_just_now_is_left_to_them_and_what_they_left_is_written(home: Path) -> None:
    clock = Clock()
    with Session(Settings.from_env(home=home), clock=clock) as session:
        drafts = [session.run(Create(project="p", name=name)).version_id for name in ("a", "b", "c")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "flush_journal", lambda self, version_id=None: None)  # killed behind its commit
            session.run(Finalize(ref=drafts[0]))
        session.run(Finalize(ref=drafts[1]))
        assert [event.version_id for _, event in session.catalog.unjournaled()] == [drafts[0]]
        clock.now += timedelta(minutes=1)
        session.run(Finalize(ref=drafts[2]))
        assert session.catalog.unjournaled() == []
    assert len(list((home / "store").glob("*/journal/*.json"))) == 3


def test_the_retry_of_a_killed_call_writes_its_journal(home: Path) -> None:
    with open_session(home=home) as session:
        draft = session.run(Create(project="p", name="a")).version_id
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "flush_journal", lambda self, version_id=None: None)
            session.run(Finalize(ref=draft), key="k")
        assert len(session.catalog.unjournaled()) == 1
        session.run(Finalize(ref=draft), key="k")
        assert session.catalog.unjournaled() == []
