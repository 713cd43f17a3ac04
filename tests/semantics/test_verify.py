"""SEMANTICS, verify_dataset_hash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks.errors import DatasetError, StateError, TargetError
from dataset_tasks.ops.requests import Verify
from dataset_tasks.session import open_session

FILES = {"a": "11", "b": "22", "sub/c": "33", "sub/d": "44"}


def change(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


@pytest.fixture
def copied(final, tmp_path):
    version = final(FILES)
    return version, Path(version.get_mutable_local_copy(tmp_path / "copy"))


def test_a_copy_that_is_as_it_was_gives_an_empty_list(copied):
    version, copy = copied
    assert version.verify_dataset_hash(copy) == []
    assert version.verify_dataset_hash(str(copy), skip_hash=True) == []


def test_wrong_hash_wrong_size_and_missing_are_listed_sorted(copied):
    version, copy = copied
    (copy / "sub" / "d").write_text("4x")
    (copy / "b").write_text("222")
    (copy / "sub" / "c").unlink()
    assert version.verify_dataset_hash(copy) == ["b", "sub/c", "sub/d"]


def test_skip_hash_looks_at_sizes_only(copied):
    version, copy = copied
    (copy / "sub" / "d").write_text("4x")
    (copy / "b").write_text("222")
    (copy / "a").unlink()
    assert version.verify_dataset_hash(copy, skip_hash=True) == ["a", "b"]


@pytest.mark.parametrize("skip_hash", [False, True])
def test_what_is_no_file_any_more_is_listed(copied, skip_hash):
    version, copy = copied
    for name in ("a", "b", "sub/c"):
        (copy / name).unlink()
    (copy / "a").mkdir()
    os.mkfifo(copy / "b")
    (copy / "sub" / "c").symlink_to("nowhere")
    assert version.verify_dataset_hash(copy, skip_hash) == ["a", "b", "sub/c"]


def test_files_that_the_version_does_not_have_do_not_matter(copied):
    version, copy = copied
    (copy / "more").write_text("x")
    Path(os.fsdecode(os.fsencode(copy) + b"/not\xffutf8")).write_text("x")
    assert version.verify_dataset_hash(copy) == []


def test_without_a_path_it_takes_the_cached_copy_making_one_if_there_is_none(final, home):
    version = final(FILES)
    assert not list((home / "cache").rglob("sub"))
    assert version.verify_dataset_hash() == []
    assert list((home / "cache").rglob("sub"))


def test_it_reports_what_it_finds_in_the_cached_copy_and_heals_nothing(final):
    version = final(FILES)
    copy = Path(version.get_local_copy())
    change(copy / "a", "xx")
    (copy / "sub").chmod(0o755)
    (copy / "sub" / "c").unlink()
    assert version.verify_dataset_hash() == ["a", "sub/c"]
    assert version.verify_dataset_hash() == ["a", "sub/c"]
    assert version.verify_dataset_hash(skip_hash=True) == ["sub/c"]
    assert (copy / "a").read_text() == "xx"
    version.get_local_copy()
    assert version.verify_dataset_hash() == []


def test_it_heals_nothing_in_a_copy_it_is_given(copied):
    version, copy = copied
    (copy / "a").write_text("xx")
    assert version.verify_dataset_hash(copy) == version.verify_dataset_hash(copy) == ["a"]
    assert (copy / "a").read_text() == "xx"


def test_a_path_that_is_not_there_is_an_error(final, folder, tmp_path):
    version = final(FILES)
    for path in (tmp_path / "missing", folder({"x": "1"}) / "x", ""):
        with pytest.raises(TargetError):
            version.verify_dataset_hash(path)


def test_a_version_that_is_not_final_is_an_error(draft, tmp_path):
    version = draft(FILES)
    with pytest.raises(StateError):
        version.verify_dataset_hash()
    with pytest.raises(StateError):
        version.verify_dataset_hash(tmp_path)


def test_verbose_prints_what_differs(copied, capsys):
    version, copy = copied
    (copy / "a").unlink()
    version.verify_dataset_hash(copy, verbose=True)
    assert capsys.readouterr().out == "a\n"


def test_a_store_that_can_not_give_the_cached_copy_is_an_error_that_names_the_files(final, home):
    version = final(FILES)
    for chunk in home.rglob("chunks/*.zip"):
        chunk.unlink()
    with pytest.raises(DatasetError, match="sub/c"):
        version.verify_dataset_hash()


@pytest.mark.parametrize("lost", ["the directory", "a header"])
def test_a_chunk_that_no_unzip_opens_any_more_is_found_although_every_file_in_it_is_sound(final, home, lost):
    version = final(FILES)
    (chunk,) = home.rglob("chunks/*.zip")
    data = bytearray(chunk.read_bytes())
    at = 8 if lost == "a header" else data.index(b"PK\x01\x02") + 12
    data[at] ^= 1
    chunk.write_bytes(data)
    with open_session(home=home) as session:
        assert session.run(Verify(ref=version.id, quarantine=False)).bad == tuple(FILES)
    data[at] ^= 1
    chunk.write_bytes(data)
    with open_session(home=home) as session:
        assert session.run(Verify(ref=version.id)).bad == ()


def test_of_a_chunk_with_a_damaged_file_only_that_file_is_listed(final, home):
    version = final({name: name * 1000 for name in FILES})
    (chunk,) = home.rglob("chunks/*.zip")
    data = bytearray(chunk.read_bytes())
    data[33] ^= 1
    chunk.write_bytes(data)
    with open_session(home=home) as session:
        assert session.run(Verify(ref=version.id)).bad == ("a",)
