"""Which URL opens which store."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.store import open_store
from dataset_tasks.store.local import LocalStore


def root_of(url: str | Path) -> Path:
    store = open_store(url)
    assert isinstance(store, LocalStore)
    return store.root


def test_a_path_is_a_folder_whatever_its_characters(tmp_path: Path) -> None:
    for name in ("plain", "with space", "a%20b", "a?b", "a#b", "ö", "a\nb", "-x", "c:"):
        assert root_of(tmp_path / name) == tmp_path / name
        assert root_of(f"{tmp_path}/{name}") == tmp_path / name


def test_the_url_of_a_store_opens_it_again(tmp_path: Path) -> None:
    for name in ("plain", "with space", "a%20b", "a?b#c", "ö", "a\nb", "\udcff"):
        store = open_store(tmp_path / name)
        store.put("a/b", b"x")
        assert store.url.isascii()
        assert open_store(store.url).get("a/b") == b"x"


def test_a_relative_path_and_the_home_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert root_of("here") == tmp_path / "here"
    assert root_of("~/store") == tmp_path / "home" / "store"


def test_a_file_url_may_name_this_machine(tmp_path: Path) -> None:
    assert root_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert root_of(f"FILE://localhost{tmp_path}") == tmp_path


@pytest.mark.parametrize("url", ["file://other/a", "file:///a?b", "file:///a#b", "file://", "s9://bucket", "", "a\0b"])
def test_what_is_no_url_of_a_store_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        open_store(url)
    assert caught.value.hint


@pytest.mark.parametrize("url", ["s3://key:canary@bucket/x", "file://canary@host/x", "https://canary@host"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="credentials") as caught:
        open_store(url)
    assert "canary" not in str(caught.value)


def test_opening_a_store_makes_nothing_and_reading_from_it_neither(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    assert list(store.list()) == []
    store.delete("a")
    assert list(tmp_path.iterdir()) == []
