"""SEMANTICS, progress: long work shows itself on a terminal, and is quiet elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dataset_tasks import Dataset, bars
from dataset_tasks.progress import Progress, Task


class Watched:
    """Keeps the titles of what was shown, and what was counted."""

    def __init__(self) -> None:
        self.shown: dict[str, list[int]] = {}

    @contextmanager
    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> Iterator[Task]:
        self.shown[title] = [0, 0]
        yield Counted(self.shown[title])

    def note(self, text: str) -> None: ...


class Counted:
    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        self.counts[0] += files
        self.counts[1] += bytes

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None: ...


@pytest.fixture
def watched(monkeypatch) -> Watched:
    seen = Watched()

    @contextmanager
    def show() -> Iterator[Progress]:
        yield seen

    monkeypatch.setattr(bars, "shown_progress", show)
    return seen


def every_long_call(folder, tmp_path) -> None:
    version = Dataset.create("data", "demo")
    version.add_files(folder({"a": "1" * 10, "b": "2" * 20}))
    version.upload()
    version.finalize()
    version.get_local_copy()
    version.get_mutable_local_copy(tmp_path / "mine")
    version.verify_dataset_hash(tmp_path / "mine")


def test_scan_upload_copy_and_verify_count_files_and_bytes_on_a_terminal(folder, tmp_path, watched, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    every_long_call(folder, tmp_path)
    kinds = {title.rpartition(": ")[2]: counts for title, counts in watched.shown.items()}
    assert {kind: tuple(kinds[kind]) for kind in ("scan", "upload", "copy", "verify")} == {
        "scan": (2, 30), "upload": (2, 30), "copy": (2, 30), "verify": (2, 30),
    }  # fmt: skip


def test_elsewhere_they_are_quiet(folder, tmp_path, capfd):
    every_long_call(folder, tmp_path)
    assert capfd.readouterr() == ("", "")
