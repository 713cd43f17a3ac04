"""The function that brings a history over, against what it asks of the ClearML class."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dataset_tasks import Dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cookbook" / "from-clearml-data.md"


@dataclass
class Theirs:
    """What of a dataset of ClearML's the function reads; names, defaults and keys are those of clearml 2.1.12."""

    made: ClassVar[list[Theirs]] = []
    copied: ClassVar[list[str]] = []

    id: str
    name: str
    project: str
    version: str
    files: dict[str, str]
    tags: list[str] = field(default_factory=list)
    status: str = "completed"

    @classmethod
    def list_datasets(
        cls,
        dataset_project: str | None = None,
        partial_name: str | None = None,  # as there
        tags: list[str] | None = None,
        ids: list[str] | None = None,
        only_completed: bool = True,
        recursive_project_search: bool = True,
    ) -> list[dict[str, Any]]:
        begin = datetime(2024, 1, 1, tzinfo=UTC)
        found = [
            {
                "name": each.name, "created": begin + timedelta(days=number), "project": each.project, "id": each.id,
                "tags": each.tags, "version": each.version, "status": each.status,
            }
            for number, each in enumerate(cls.made)
            if each.project == dataset_project
            or (recursive_project_search and each.project.startswith(f"{dataset_project}/"))
        ]  # fmt: skip
        return [each for each in reversed(found) if not only_completed or each["status"] != "in_progress"]

    @classmethod
    def get(cls, dataset_id: str | None = None) -> Theirs:
        return next(each for each in cls.made if each.id == dataset_id)

    def get_local_copy(self) -> str:
        type(self).copied.append(self.id)
        folder = Path(f"copy-{self.id}").absolute()
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return str(folder)


@pytest.fixture
def bring() -> Callable[..., str | None]:
    """The function as it stands on the page."""
    (code,) = re.findall(
        r"^```python\n(from dataset_tasks import Dataset\n\ndef bring.*?)^```$",
        PAGE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    found: Callable[..., str | None] = names["bring"]
    return found


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Theirs]:
    monkeypatch.setenv("DATASET_TASKS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Theirs, "copied", [])
    monkeypatch.setattr(
        Theirs,
        "made",
        [
            Theirs("i1", "images", "vision", "1.0.0", {"a.png": "1", "sub/b.png": "2"}, ["raw"], "published"),
            Theirs("i2", "images", "vision", "1.0.1", {"a.png": "one", "sub/b.png": "2"}),
            Theirs("l1", "labels", "vision", "1.0.0", {"labels.csv": "x"}),
            Theirs("o1", "images", "vision/old", "0.9.0", {"old.png": "0"}),
            Theirs("i3", "images", "vision", "2.0.0", {"a.png": "one"}, ["small", "new"]),
            Theirs("i4", "images", "vision", "2.0.1", {}, [], "in_progress"),
        ],
    )
    return Theirs


def test_the_history_comes_over_in_order_with_versions_tags_and_what_was_published(
    bring: Callable[..., str | None], theirs: type[Theirs]
) -> None:
    last = bring(theirs, "vision", "images")

    here = {each["version"]: each["id"] for each in Dataset.list_datasets("vision")}
    assert list(here) == ["1.0.0", "1.0.1", "2.0.0"]
    assert last == here["2.0.0"]
    for version, files in (("1.0.0", ["a.png", "sub/b.png"]), ("1.0.1", ["a.png", "sub/b.png"]), ("2.0.0", ["a.png"])):
        assert sorted(Dataset.get(here[version]).list_files()) == files
    assert (Path(Dataset.get(last).get_local_copy()) / "a.png").read_text() == "one"
    assert sorted(Dataset.get(last).tags) == ["new", "small"]
    assert [each["id"] for each in Dataset.list_datasets("vision", tags=["raw"])] == [here["1.0.0"]]
    assert Dataset.get(here["1.0.1"]).get_metadata("origin") == {"clearml_id": "i2"}
    assert Dataset.get(dataset_project="vision", dataset_name="images", only_published=True).id == here["1.0.0"]


def test_brought_again_only_what_is_missing_is_read(bring: Callable[..., str | None], theirs: type[Theirs]) -> None:
    first = bring(theirs, "vision", "images")
    assert bring(theirs, "vision", "images") == first
    assert theirs.copied == ["i1", "i2", "i3"]

    theirs.get("i4").status = "completed"
    theirs.get("i4").files = {"a.png": "one", "z.png": "26"}
    last = bring(theirs, "vision", "images")
    assert theirs.copied == ["i1", "i2", "i3", "i4"]
    assert Dataset.get(last).list_added_files() == ["z.png"]
