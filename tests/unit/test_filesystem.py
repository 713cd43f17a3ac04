"""Whole writes, clear errors, removing what is read-only or deep."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataset_tasks import filesystem
from dataset_tasks.errors import StorageUnavailableError
from dataset_tasks.filesystem import (
    is_temporary_name,
    make_folders,
    pread_all,
    remove_tree,
    shown,
    storage_error,
    sync_folder,
    temporary_name,
    write_all,
)


def test_a_temporary_name_is_hidden_of_this_attempt_and_recognised() -> None:
    for name in ("a", "a.zip", ".a", "x" * 255, "é" * 100, "\udcff", ""):
        first, second = temporary_name(name), temporary_name(name)
        assert first != second
        assert first.startswith(".")
        assert is_temporary_name(first)
        assert not is_temporary_name(first, "gone")
        assert is_temporary_name(temporary_name(name, "gone"), "gone")
        assert len(os.fsencode(first)) <= 255


@pytest.mark.parametrize("name", ["a", ".a", ".part", ".x.part", ".x.0123456789abcdeX.part", "x.0123456789abcdef.part"])
def test_other_names_are_not_taken_for_temporary_ones(name: str) -> None:
    assert not is_temporary_name(name)


def test_paths_are_shown_in_one_line() -> None:
    assert "\n" not in shown(b"a\nb\xff")
    assert "\x1b" not in shown("\x1b[31m")


def test_reading_stops_where_the_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    assert pread_all(fd, 1, 3) == b"234"
    assert pread_all(fd, 3, 10) == b"45"
    assert pread_all(fd, 9, 10) == b""
    os.close(fd)


def test_writing_goes_on_until_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    fd = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    write_all(fd, memoryview(b"0123456789"))
    os.close(fd)
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_folders_that_can_t_be_synced_by_nature_are_let_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(codes.pop(0), "x")

    codes = [errno.EINVAL, errno.ENOTSUP, errno.EIO]
    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    sync_folder(tmp_path)
    with pytest.raises(OSError, match="x"):
        sync_folder(tmp_path)


def test_making_folders_is_durable_from_the_top_and_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(filesystem, "sync_folder", synced.append)
    make_folders(str(tmp_path / "a/b/c"))
    make_folders(str(tmp_path / "a/b/c"))
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folders(str(tmp_path / "file"))


def test_where_no_folder_can_be_made_there_is_an_end_of_trying() -> None:
    with pytest.raises(FileNotFoundError):
        make_folders("/proc/none/below")


def test_a_folder_above_that_is_tidied_away_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, tidied = os.mkdir, []

    def tidy(path: str, mode: int) -> None:
        if path.endswith("/b") and (tmp_path / "a").exists() and not tidied:
            (tmp_path / "a").rmdir()
            tidied.append(path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", tidy)
    make_folders(str(tmp_path / "a/b"))
    assert tidied
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP])  # fmt: skip
def test_an_error_says_what_on_what_and_what_to_do(code: int) -> None:
    error = storage_error(OSError(code, "x"), "write the object", "/some/where")
    assert error.message.startswith("can't write the object '/some/where': ")
    assert os.strerror(code) in error.message
    assert error.hint.endswith(".")
    assert not error.retryable


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY])
def test_an_error_that_may_pass_is_retryable(code: int) -> None:
    assert isinstance(storage_error(OSError(code, "x"), "read", "/a"), StorageUnavailableError)


def test_a_disk_without_inodes_is_told_from_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_files=20, f_favail=0))
    error = storage_error(OSError(errno.ENOSPC, "x"), "write", tmp_path / "not/there")
    assert "no inodes left" in error.message
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_files=20, f_favail=5))
    assert "no inodes" not in str(storage_error(OSError(errno.ENOSPC, "x"), "write", tmp_path))


def tree(top: Path) -> None:
    for name in ("a", "b/c", "b/d/e", "b/d/f/g"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")
    (top / "empty").mkdir()


def test_a_tree_is_removed_with_all_below_it(tmp_path: Path) -> None:
    tree(tmp_path / "t")
    remove_tree(tmp_path / "t")
    remove_tree(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_tree_are_removed_not_followed(tmp_path: Path) -> None:
    tree(tmp_path / "kept")
    tree(tmp_path / "t")
    (tmp_path / "t/link").symlink_to(tmp_path / "kept")
    (tmp_path / "t/b/link").symlink_to(tmp_path / "kept/a")
    os.mkfifo(tmp_path / "t/fifo")
    remove_tree(tmp_path / "t")
    assert (tmp_path / "kept/b/d/f/g").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_that_is_moved_while_it_is_removed_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t/a/b").mkdir(parents=True)
    (tmp_path / "t/a/b/file").write_bytes(b"x")
    (tmp_path / "elsewhere/b").mkdir(parents=True)
    (tmp_path / "elsewhere/b").rmdir()
    unlink = os.unlink

    def move_first(name: str, *, dir_fd: int) -> None:
        (tmp_path / "t/a/b").rename(tmp_path / "elsewhere/b")
        (tmp_path / "elsewhere/empty").mkdir()
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", move_first)
    with pytest.raises(OSError, match="somebody moved"):
        remove_tree(tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["b", "empty"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_not_removed(tmp_path: Path, kind: str) -> None:
    tree(tmp_path / "kept")
    if kind == "link":
        (tmp_path / "t").symlink_to(tmp_path / "kept")
    else:
        (tmp_path / "t").write_bytes(b"")
    with pytest.raises(OSError, match="t"):
        remove_tree(tmp_path / "t")
    assert (tmp_path / "kept/a").exists()
    assert os.path.lexists(tmp_path / "t")


def test_a_tree_of_any_depth_is_removed(tmp_path: Path, count_open: Callable[[], int]) -> None:
    os.mkdir(tmp_path / "t")
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=fd)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(tmp_path / "t")
    assert count_open() == 0
    assert not (tmp_path / "t").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_read_only_tree_is_removed_by_its_owner_who_is_not_root() -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "t")
        tree(top)
        for path in [top, *top.rglob("*")]:
            os.chown(path, 65534, 65534)
            path.chmod(0o555 if path.is_dir() else 0o444)
        (top / "b").chmod(0)
        os.chown(folder, 65534, 65534)
        code = (
            "import os, sys; from dataset_tasks.filesystem import remove_tree; "
            "os.setgroups([]); os.setgid(65534); os.setuid(65534); remove_tree(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", code, top], check=True)
        assert not top.exists()
