"""A real catalog in a folder, for what looks into one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider.hooks.dataset import DatasetHook
from dataset_tasks.model import Version
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, Publish, Upload
from dataset_tasks.session import Session, open_session


class Shop:
    """Makes versions of datasets of project `crm`."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.catalog = session.catalog
        self.folder = folder

    def draft(self, name: str = "orders", **fields: Any) -> Version:
        made = self.session.run(Create(project="crm", name=name, **fields))
        return self.catalog.version(made.version_id)

    def completed(self, name: str = "orders", **fields: Any) -> Version:
        draft = self.draft(name, **fields)
        file = self.folder / f"{draft.id}.txt"
        file.write_text(draft.id)
        for request in (AddFiles(ref=draft.id, path=str(file)), Upload(ref=draft.id), Finalize(ref=draft.id)):
            self.session.run(request)
        return self.catalog.version(draft.id)

    def publish(self, version: Version, alias: str | None = None) -> Version:
        self.session.run(Publish(ref=version.id, alias=alias))
        return self.catalog.version(version.id)

    def published(self, name: str = "orders", alias: str | None = None, **fields: Any) -> Version:
        return self.publish(self.completed(name, **fields), alias)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """An empty catalog, which every connection leads to."""
    (tmp_path / "files").mkdir()
    with open_session(home=tmp_path / "shop") as session:
        monkeypatch.setattr(DatasetHook, "get_session", lambda self: session)
        yield Shop(session, tmp_path / "files")
