"""A failed operation drops its draft, and tells its own error also when that can't be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.errors import CatalogUnavailableError
from dataset_tasks.model import State
from dataset_tasks.ops import squash


class BrokenError(Exception):
    """What went wrong first."""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    (tmp_path / "a").write_text("a")
    made = Dataset.create("d", "p")
    made.add_files(tmp_path)
    made.upload(show_progress=False)
    made.finalize()

    def fail(*_args: object) -> None:
        raise BrokenError

    monkeypatch.setattr(squash, "_fill", fail)
    return made


def test_a_squash_that_fails_leaves_no_draft(source: Dataset) -> None:
    with pytest.raises(BrokenError):
        Dataset.squash("flat", [source])
    (draft,) = source._session.catalog.versions(name="flat", states=list(State))
    assert draft.state is State.ABORTED


def test_the_first_error_is_told_when_the_draft_can_not_be_dropped(
    source: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object, **_fields: object) -> None:
        raise CatalogUnavailableError("gone")

    monkeypatch.setattr(Catalog, "drop", refuse)
    with pytest.raises(BrokenError):
        Dataset.squash("flat", [source])
    assert "could not be dropped: gone" in caplog.text
