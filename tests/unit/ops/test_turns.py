"""Writers at one draft: who loses again and again gets a turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks.errors import ConflictError
from dataset_tasks.failpoints import Rule
from dataset_tasks.ops.requests import AddFiles, Create
from dataset_tasks.ops.turns import PATIENCE
from dataset_tasks.session import open_session
from dataset_tasks.testing.failpoints import injected


def test_a_writer_that_lost_three_times_holds_the_draft_until_its_commit_stands(home: Path, tmp_path: Path) -> None:
    """R14. Nothing that was added is lost, and nobody loses for ever."""
    for name in ("mine", *(f"other{n}" for n in range(PATIENCE))):
        (tmp_path / name).write_text(name)
    held: list[bool] = []
    with open_session(home=home) as session:
        draft = session.run(Create(name="d", project="p")).version_id

        def faster(number: int) -> Rule:
            def act(_name: str) -> None:
                with injected(), open_session(home=home) as other:
                    other.run(AddFiles(ref=draft, path=str(tmp_path / f"other{number}")))

            return Rule("content.before_commit", act, number + 1)

        def look(_name: str) -> None:
            held.append(session.catalog.lease(draft) is not None)

        rules = [faster(number) for number in range(PATIENCE)]
        with injected([*rules, Rule("content.before_commit", look, PATIENCE + 1)]) as seen:
            session.run(AddFiles(ref=draft, path=str(tmp_path / "mine")))
        assert held == [True]
        assert seen.reached()["content.after_lease"] == 1
        assert session.catalog.lease(draft) is None
        names = {os.fsdecode(entry.path) for entry in session.manifest(session.catalog.version(draft)).entries()}
        assert names == {"mine", *(f"other{n}" for n in range(PATIENCE))}


def test_a_writer_whose_turn_was_taken_over_changes_nothing(home: Path, tmp_path: Path) -> None:
    """R19. Stopped with a lease, and continued when another one holds it."""
    (tmp_path / "late").write_text("late")
    with open_session(home=home) as session:
        draft = session.run(Create(name="d", project="p")).version_id
        first = session.catalog.version(draft)

        def lose(_name: str) -> None:
            session.catalog.db.write(
                lambda connection: connection.exec_driver_sql("UPDATE versions SET revision = revision + 1") and True,
                landed=lambda _connection: None,
            )

        def take_over(_name: str) -> None:
            lease = session.catalog.lease(draft)
            assert lease is not None
            session.catalog.end_lease(lease)
            session.catalog.end_lease(session.catalog.take_lease(draft, "another", seconds=1, origin={"run_id": "two"}))

        rules = [Rule("content.before_commit", lose, number + 1) for number in range(PATIENCE)]
        with (
            injected([*rules, Rule("content.before_commit", take_over, PATIENCE + 1)]),
            pytest.raises(ConflictError, match="two") as caught,
        ):
            session.run(AddFiles(ref=draft, path=str(tmp_path / "late")))
        assert caught.value.kind == "stale_writer"
        assert session.catalog.version(draft).content_hash == first.content_hash
