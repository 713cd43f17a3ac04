"""What the pages of SEMANTICS need: folders of files, drafts and final versions, made as a user makes them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks import Dataset
from dataset_tasks.handle import base

Files = Mapping[str, str | bytes]


@pytest.fixture(autouse=True)
def closed_sessions() -> Iterator[None]:
    """Each test has a home, and so a session, of its own: its connections go with it."""
    yield
    for session in base._sessions.values():
        session.close()
    base._sessions.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Callable[[Files], Path]]:
    """Makes a new folder of files."""
    numbers = itertools.count()

    def make(files: Files) -> Path:
        place = tmp_path / f"source{next(numbers)}"
        place.mkdir()
        for name, content in files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    yield make
    for top, _folders, _files in os.walk(tmp_path):
        os.chmod(top, 0o755)  # read-only copies could not be removed


@pytest.fixture
def draft(folder: Callable[[Files], Path]) -> Callable[..., Dataset]:
    """Makes a draft that holds just these files, whatever its parents have; they are pending."""

    def make(files: Files | None = None, parents: Any = None, name: str = "data", **options: Any) -> Dataset:
        made = Dataset.create(name, options.pop("project", "demo"), parents, **options)
        if files is not None:
            made.sync_folder(folder(files))
        return made

    return make


@pytest.fixture
def final(draft: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Makes a final version that holds just these files."""

    def make(files: Files | None = None, parents: Any = None, name: str = "data", **options: Any) -> Dataset:
        return finalized(draft(files, parents, name, **options))

    return make


@pytest.fixture
def finish() -> Callable[[Dataset], Dataset]:
    """Uploads and finalizes a draft."""
    return finalized


def finalized(made: Dataset) -> Dataset:
    made.upload(show_progress=False)
    assert made.finalize()
    return made


@pytest.fixture
def content() -> Callable[[Dataset | str | Path], dict[str, str]]:
    """What a version, or a folder, holds: path to text."""

    def read(of: Dataset | str | Path) -> dict[str, str]:
        if isinstance(of, Dataset):
            return {path: of.open(path).read().decode() for path in of.list_files()}
        top = Path(of)
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}

    return read
