"""Folders of the user's own: all or nothing, and never over what must stay."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dataset_tasks import mutable
from dataset_tasks.errors import TargetError
from dataset_tasks.mutable import write_folder


def fill(folder: Path) -> str:
    (folder / "new").write_bytes(b"new")
    return "result"


def failing(folder: Path) -> None:
    (folder / "half").write_bytes(b"half")
    raise KeyError("x")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_is_not_there_is_made_with_those_above_it(tmp_path: Path) -> None:
    assert write_folder(tmp_path / "a/b", fill) == "result"
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a/b") == ["new"]
    (tmp_path / "a/b/new").write_bytes(b"mine to change")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    write_folder(tmp_path / "t", fill)
    assert names(tmp_path / "t") == ["new"]


def test_a_folder_that_holds_something_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/.hidden").write_bytes(b"")
    with pytest.raises(TargetError, match="not empty") as caught:
        write_folder(tmp_path / "t", fill)
    assert "overwrite" in caught.value.hint
    assert names(tmp_path) == ["t"]
    assert names(tmp_path / "t") == [".hidden"]


@pytest.mark.parametrize("exchange", [True, False])
def test_overwrite_replaces_the_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(mutable, "_renameat2", lambda: None)
    old = tmp_path / "t"
    (old / "sub").mkdir(parents=True)
    (old / "sub/old").write_bytes(b"old")
    (old / "sub").chmod(0o555)
    write_folder(old, fill, overwrite=True)
    assert names(tmp_path) == ["t"]
    assert names(old) == ["new"]


@pytest.mark.parametrize("exchange", [True, False])
def test_the_old_folder_stands_until_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(mutable, "_renameat2", lambda: None)
    old = tmp_path / "t"
    old.mkdir()
    (old / "old").write_bytes(b"old")

    def look(folder: Path) -> None:
        assert names(old) == ["old"]
        assert folder.parent == tmp_path
        assert folder.name.startswith(".t.")

    write_folder(old, look, overwrite=True)
    assert names(old) == []


@pytest.mark.parametrize("was_there", [True, False])
def test_what_fails_leaves_everything_as_it_was(tmp_path: Path, was_there: bool) -> None:
    if was_there:
        (tmp_path / "t").mkdir()
        (tmp_path / "t/old").write_bytes(b"old")
    with pytest.raises(KeyError):
        write_folder(tmp_path / "t", failing, overwrite=True)
    assert names(tmp_path) == (["t"] if was_there else [])
    if was_there:
        assert names(tmp_path / "t") == ["old"]


def test_a_failed_swap_without_exchange_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutable, "_renameat2", lambda: None)
    (tmp_path / "t").mkdir()
    (tmp_path / "t/old").write_bytes(b"old")
    rename = os.rename
    renames: list[int] = []

    def second_fails(self: Path, target: Path) -> Path:
        renames.append(1)
        if len(renames) == 2:
            raise OSError(errno.EIO, "EIO")
        rename(self, target)
        return target

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(Exception, match="Input/output"):
        write_folder(tmp_path / "t", fill, overwrite=True)
    assert names(tmp_path) == ["t"]
    assert names(tmp_path / "t") == ["old"]


def test_a_link_is_refused_wherever_it_points(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to(tmp_path / "folder")
    (tmp_path / "to-nothing").symlink_to(tmp_path / "nothing")
    for name in ("to-folder", "to-nothing"):
        with pytest.raises(TargetError, match="is a link") as caught:
            write_folder(tmp_path / name, fill, overwrite=True)
        assert caught.value.hint
    assert names(tmp_path / "folder") == []


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(TargetError) as caught:
            write_folder(place, fill, overwrite=True)
        assert caught.value.hint
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_the_root_the_home_and_the_working_folder_are_refused_and_those_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "users/me", tmp_path / "work/here"
    home.mkdir(parents=True)
    here.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (tmp_path / "link-to-users").symlink_to(tmp_path / "users")
    for place in (
        "/",
        "~",
        home,
        home.parent,
        here,
        here.parent,
        ".",
        "..",
        tmp_path / "link-to-users/me",
        f"{here}/x/..",
    ):
        with pytest.raises(TargetError, match="can't be replaced") as caught:
            write_folder(place, fill, overwrite=True)
        assert caught.value.hint
    write_folder("below", fill)
    assert names(here) == ["below"]


def test_the_cache_and_the_store_are_kept_off(tmp_path: Path) -> None:
    cache = tmp_path / "ours/cache"
    cache.mkdir(parents=True)
    (tmp_path / "link").symlink_to(cache)
    for place in (cache, cache / "trees/x", cache.parent, tmp_path / "link/x"):
        with pytest.raises(TargetError, match="overlaps") as caught:
            write_folder(place, fill, overwrite=True, keep_off=(cache,))
        assert caught.value.hint
    assert names(cache) == []
    write_folder(tmp_path / "ours/other", fill, keep_off=(cache,))


def test_a_link_above_the_target_is_the_users_own_way(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link/t", fill)
    assert names(tmp_path / "real") == ["t"]


def test_any_name_can_be_a_target(tmp_path: Path) -> None:
    for name in ("with space", "a\nb", "-x", "é", "\udcff", "x" * 255):
        write_folder(tmp_path / name, fill)
        write_folder(tmp_path / name, fill, overwrite=True)
        assert names(tmp_path / name) == ["new"]
    assert len(names(tmp_path)) == 6
