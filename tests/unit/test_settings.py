"""Settings name whole places: whoever changes the working folder later finds the session of that folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks.handle.base import default_session
from dataset_tasks.settings import Settings


def test_a_catalog_given_from_the_working_folder_on_is_that_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_TASKS_CATALOG_URL", "sqlite:///lists/catalog.db")
    sessions = []
    for name in ("one", "an%20 other"):
        folder = tmp_path / name
        (folder / "lists").mkdir(parents=True)
        monkeypatch.chdir(folder)
        sessions.append(default_session())
        assert default_session() is sessions[-1]
        _ = sessions[-1].catalog.id
        assert (folder / "lists" / "catalog.db").exists()
    assert sessions[0] is not sessions[1]
    for session in sessions:
        session.close()


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://db/x", "sqlite:////whole/catalog.db", "sqlite:///:memory:", "sqlite://", "what"]
)
def test_other_catalog_urls_stay_as_they_are_given(url: str) -> None:
    assert Settings.from_env(catalog_url=url, environ={}).catalog_url == url


def test_a_store_is_a_whole_path_or_the_url_as_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ana")
    given = {"a/b": str(tmp_path / "a/b"), "~/s": "/home/ana/s", "s3://b/p?connection=x": "s3://b/p?connection=x"}
    assert {url: Settings.from_env(store_url=url, environ={}).store_url for url in given} == given
