"""Handles that are copied, or sent to another process."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import CatalogError, InvalidArgumentError
from dataset_tasks.handle import base
from dataset_tasks.session import Session, open_session
from dataset_tasks.settings import Settings


def files_of(handle: Dataset) -> tuple[int, list[str]]:
    return os.getpid(), handle.list_files()


def test_a_handle_goes_to_another_process_and_back(final):
    version = final({"a": "1"})
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pid, files = pool.submit(files_of, version).result()
    assert (pid != os.getpid(), files) == (True, ["a"])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda handle: pickle.loads(pickle.dumps(handle))])
def test_a_copy_of_a_handle_is_one_on_the_same_version_in_the_same_session(copied, draft):
    made = draft({"a": "1"})
    other = copied(made)
    assert type(other) is Dataset
    assert (other.id, other._session) == (made.id, made._session)
    other.upload()
    assert not made.is_dirty()


def test_a_handle_of_an_open_session_is_found_in_a_process_that_has_none(tmp_path: Path):
    with open_session(home=tmp_path / "elsewhere") as session:
        made = Dataset.create("d", "p", session=session)
        again = pickle.loads(pickle.dumps(made))
        assert again._session is not session
        assert (again.id, again.name) == (made.id, "d")
        assert pickle.loads(pickle.dumps(again))._session is again._session
        again._session.close()
    base._reopened_sessions.clear()


def test_where_the_catalog_is_not_none_is_made(tmp_path: Path):
    with open_session(home=tmp_path / "here") as session:
        sent = pickle.dumps(Dataset.create("d", "p", session=session))
    (tmp_path / "here").rename(tmp_path / "away")
    with pytest.raises(CatalogError, match="there is no catalog"):
        _ = pickle.loads(sent).name
    assert not (tmp_path / "here").exists()
    base._reopened_sessions.clear()


def test_what_another_process_could_not_open_or_should_not_know_is_not_pickled(tmp_path: Path, monkeypatch):
    settings = Settings.from_env(home=tmp_path / "home")
    with Session(settings, clock=lambda: datetime.now(UTC)) as session:
        made = Dataset.create("d", "p", session=session)
        with pytest.raises(InvalidArgumentError, match="its session was put together"):
            pickle.dumps(made)
        assert copy.deepcopy(made).id == made.id
    with Session(settings) as session:
        made = Dataset.get(made.id, session=session)
        secret = Settings.from_env(home=tmp_path / "home", catalog_url="postgresql://me:secret@host/db")
        monkeypatch.setattr(session, "settings", secret)
        with pytest.raises(InvalidArgumentError, match="holds a password") as raised:
            pickle.dumps(made)
        assert "secret" not in str(raised.value)
