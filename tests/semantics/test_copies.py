"""SEMANTICS, get_local_copy and get_mutable_local_copy."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import IntegrityError, InvalidArgumentError, NotFoundError, StateError, TargetError
from dataset_tasks.targets import Target

FILES = {"a": "1", "sub/b": "2", "sub/deep/c": "33", "empty": ""}


def modes(folder: str | Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in Path(folder).rglob("*") if path.is_file()}


def folder_modes(folder: str | Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in [Path(folder), *Path(folder).rglob("*")] if path.is_dir()}


def damage(home: Path, only: str = "chunks/*.zip") -> None:
    for chunk in home.rglob(only):
        chunk.write_bytes(bytes(chunk.stat().st_size))


def change(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


# --- get_local_copy


def test_only_final_versions_have_copies(draft, caplog):
    version = draft({"a": "1"})
    with pytest.raises(StateError) as raised:
        version.get_local_copy()
    assert raised.value.kind == "not_finalized"
    assert version.get_local_copy(raise_on_error=False) is None
    assert "finalized" in caplog.text


def test_a_copy_is_a_read_only_folder_with_all_the_files(final, content):
    copy = final(FILES).get_local_copy()
    assert isinstance(copy, str)
    assert content(copy) == FILES
    assert modes(copy) == {0o444}
    assert folder_modes(copy) == {0o555}


def test_the_copy_of_a_child_holds_what_its_parents_brought(final, content):
    parent = final({"a": "1", "b": "1"})
    child = final({"a": "2", "b": "1", "c": "3"}, [parent])
    assert content(child.get_local_copy()) == {"a": "2", "b": "1", "c": "3"}
    assert content(parent.get_local_copy()) == {"a": "1", "b": "1"}


def test_an_empty_version_has_an_empty_copy(final):
    assert os.listdir(final().get_local_copy()) == []


def test_a_second_call_gives_the_same_folder_and_reads_no_store(final, home):
    version = final(FILES)
    copy = version.get_local_copy()
    for chunk in home.rglob("chunks/*.zip"):
        chunk.unlink()
    assert version.get_local_copy() == copy
    assert Dataset.get(version.id).get_local_copy() == copy


def test_it_is_safe_for_many_callers_at_once(final, content):
    version = final(FILES | {f"{number}": f"{number}" * 100 for number in range(50)})
    start = threading.Barrier(8)

    def copy(_number: int) -> tuple[str, int]:
        start.wait()
        folder = Dataset.get(version.id).get_local_copy()
        return folder, len(content(folder))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(copy, range(8)))) == 1


@pytest.mark.parametrize("links", [None, True, False])
def test_a_copy_is_complete_or_absent(final, home, links):
    version = final({f"{number}": "x" * 500 for number in range(20)})
    damage(home)
    with pytest.raises(IntegrityError) as raised:
        version.get_local_copy(use_soft_links=links)
    assert raised.value.paths
    assert version.get_local_copy(use_soft_links=links, raise_on_error=False) is None
    assert [path for path in (home / "cache").rglob("*") if path.name in version.list_files()] == []


def test_content_is_verified_by_hash_when_it_enters_the_cache(draft, home):
    version = draft({"a": "x" * 500})
    version.upload(show_progress=False, compression="store")
    version.finalize()
    (chunk,) = home.rglob("chunks/*.zip")
    chunk.write_bytes(chunk.read_bytes().replace(b"xxxx", b"xxyx"))
    with pytest.raises(IntegrityError) as raised:
        version.get_local_copy()
    assert raised.value.paths == ("a",)


@pytest.mark.parametrize("links", [None, True])
def test_a_cached_file_that_changed_since_is_found_and_fetched_again(final, content, links):
    version = final(FILES)
    copy = Path(version.get_local_copy(use_soft_links=links))
    real = Path(version.get_local_copy())
    before = (real / "a").stat()
    change(real / "a", "9")
    os.utime(real / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    (real / "sub").chmod(0o755)
    (real / "sub" / "b").unlink()
    assert Path(version.get_local_copy(use_soft_links=links)) == copy
    assert content(copy) == FILES
    assert modes(real) == {0o444}


def test_by_default_files_are_real_ones(final):
    copy = Path(final(FILES).get_local_copy())
    assert [path for path in copy.rglob("*") if path.is_symlink()] == []


def test_with_soft_links_it_is_a_tree_of_them(final, content):
    version = final(FILES)
    copy = Path(version.get_local_copy(use_soft_links=True))
    assert content(copy) == FILES
    assert all(path.is_symlink() for path in copy.rglob("*") if path.is_file())


def test_without_links_it_has_none_also_when_a_linked_copy_exists(final, content):
    parent = final(FILES)
    child = final(FILES | {"new": "1"}, [parent])
    parent.get_local_copy()
    shared = Path(child.get_local_copy())
    child.get_local_copy(use_soft_links=True)
    assert (shared / "a").stat().st_nlink > 1, "the child shares its parent's files"
    copy = Path(child.get_local_copy(use_soft_links=False))
    assert content(copy) == FILES | {"new": "1"}
    files = [path for path in copy.rglob("*") if not path.is_dir()]
    assert [path for path in files if path.is_symlink() or path.stat().st_nlink > 1] == []
    assert Path(child.get_local_copy(use_soft_links=False)) == copy


def test_parts_together_are_the_whole_and_no_file_is_in_two(final, content):
    files = {f"{number}": "x" * (number * 7 % 40) for number in range(30)}
    version = final(files)
    parts = [content(version.get_local_copy(part=part, num_parts=4)) for part in range(4)]
    assert sum(map(len, parts)) == len(files)
    assert {path: text for part in parts for path, text in part.items()} == files
    assert content(version.get_local_copy()) == files


def test_parts_that_do_not_go_together_are_refused(final):
    version = final(FILES)
    for part, num_parts in ((0, None), (None, 2), (2, 2), (-1, 2), (0, 0)):
        with pytest.raises(InvalidArgumentError):
            version.get_local_copy(part=part, num_parts=num_parts)


def test_files_narrows_a_copy_to_patterns(final, content):
    version = final(FILES)
    assert content(version.get_local_copy(files="sub")) == {"sub/b": "2", "sub/deep/c": "33"}
    assert content(version.get_local_copy(files=["a", "c"], max_workers=1)) == {"a": "1", "sub/deep/c": "33"}
    assert content(version.get_local_copy()) == FILES


@pytest.mark.parametrize(
    ("files", "named"), [("typo", "typo"), (["a", "*.cvs", "sub/*"], r"\*\.cvs"), (["sub/*", "sub/x"], "sub/x")]
)
def test_a_pattern_that_matches_no_file_is_an_error_that_names_it_and_there_is_no_copy(final, tmp_path, files, named):
    version = final(FILES)
    with pytest.raises(NotFoundError, match=f"matches {named}\n"):
        version.get_mutable_local_copy(tmp_path / "copy", files=files)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(NotFoundError, match=f"matches {named}\n"):
        version.get_local_copy(files=files, part=0, num_parts=2)
    assert version.get_local_copy(raise_on_error=False, files=files) is None


@pytest.mark.parametrize("twins", [("readme", "README"), ("\u00fc", "u\u0308"), ("a/x", "A/y")])
def test_names_that_the_target_can_not_tell_apart_are_an_error_naming_the_pair(
    final, monkeypatch, tmp_path, content, twins
):
    files = dict.fromkeys(twins, "1") | {"other": "2"}
    version = final(files)
    with monkeypatch.context() as patched:
        patched.setattr(Target, "tells_apart", lambda _self: False)
        with pytest.raises(TargetError) as raised:
            version.get_mutable_local_copy(tmp_path / "copy")
        assert all(twin.split("/")[0] in str(raised.value) for twin in twins)
        assert not (tmp_path / "copy").exists()
        with pytest.raises(TargetError):
            version.get_local_copy()
    assert content(version.get_local_copy()) == files


# --- get_mutable_local_copy


def test_a_mutable_copy_is_a_folder_of_ones_own_to_write_in(final, tmp_path, content):
    version = final(FILES)
    target = tmp_path / "new" / "deep"
    assert version.get_mutable_local_copy(target) == str(target)
    assert content(target) == FILES
    assert all(mode & stat.S_IWUSR for mode in modes(target) | folder_modes(target))


def test_it_never_links_into_the_cache(final, tmp_path, content):
    version = final(FILES)
    shared = version.get_local_copy()
    target = Path(version.get_mutable_local_copy(str(tmp_path / "mine")))
    assert {path.stat().st_nlink for path in target.rglob("*") if path.is_file()} == {1}
    assert [path for path in target.rglob("*") if path.is_symlink()] == []
    (target / "a").write_text("changed")
    assert content(shared) == FILES


def test_an_empty_target_is_filled(final, tmp_path, content):
    (tmp_path / "empty").mkdir()
    assert content(final(FILES).get_mutable_local_copy(tmp_path / "empty")) == FILES


def test_a_target_that_is_not_empty_is_an_error_or_none_without_overwrite(final, folder, caplog, content):
    version, target = final(FILES), folder({"mine": "1"})
    with pytest.raises(TargetError) as raised:
        version.get_mutable_local_copy(target)
    assert "overwrite" in raised.value.hint
    assert version.get_mutable_local_copy(target, raise_on_error=False) is None
    assert "not empty" in caplog.text
    assert content(target) == {"mine": "1"}


def test_with_overwrite_the_folder_is_replaced(final, folder, content):
    target = folder({"mine": "1", "sub/mine": "2"})
    assert final(FILES).get_mutable_local_copy(target, overwrite=True) == str(target)
    assert content(target) == FILES


def test_with_overwrite_the_old_folder_stays_until_the_new_one_is_complete(final, folder, home, content):
    version, target = final(FILES), folder({"mine": "1"})
    damage(home)
    with pytest.raises(IntegrityError):
        version.get_mutable_local_copy(target, overwrite=True)
    assert content(target) == {"mine": "1"}
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []


def test_a_target_that_is_a_link_is_refused(final, folder, tmp_path, content):
    target = folder({"mine": "1"})
    (tmp_path / "link").symlink_to(target)
    for overwrite in (False, True):
        with pytest.raises(TargetError, match="link"):
            final(FILES).get_mutable_local_copy(tmp_path / "link", overwrite=overwrite)
    assert content(target) == {"mine": "1"}


def test_root_home_working_folder_cache_and_what_holds_them_are_refused(final, folder, home, monkeypatch, tmp_path):
    version = final(FILES)
    work = folder({"deep/x": "1"})
    monkeypatch.chdir(work / "deep")
    monkeypatch.setenv("HOME", str(folder({"mine": "1"})))
    for target in ("/", "~", Path.home(), ".", "", work, work / "deep", home, home / "cache", home / "cache" / "x"):
        with pytest.raises(TargetError):
            version.get_mutable_local_copy(target, overwrite=True)
    assert (work / "deep" / "x").read_text() == "1"
    assert version.get_mutable_local_copy("/", overwrite=True, raise_on_error=False) is None


def test_a_target_that_is_a_file_is_refused(final, folder):
    target = folder({"file": "1"}) / "file"
    with pytest.raises(TargetError):
        final(FILES).get_mutable_local_copy(target, overwrite=True)
    assert target.read_text() == "1"


def test_mistakes_in_arguments_are_raised_all_the_same(final, tmp_path):
    version = final(FILES)
    with pytest.raises(InvalidArgumentError):
        version.get_mutable_local_copy(tmp_path / "x", raise_on_error=False, part=3, num_parts=2)
    with pytest.raises(InvalidArgumentError):
        version.get_local_copy(raise_on_error=False, files="../x")
    with pytest.raises(InvalidArgumentError, match="target_folder"):
        version.get_mutable_local_copy(None, raise_on_error=False)


def test_a_mutable_copy_can_be_a_part_or_some_files(final, tmp_path, content):
    version = final(FILES)
    assert content(version.get_mutable_local_copy(tmp_path / "some", files=["sub/"])).keys() == {"sub/b", "sub/deep/c"}
    parts = [content(version.get_mutable_local_copy(tmp_path / str(n), part=n, num_parts=2)) for n in range(2)]
    assert parts[0] | parts[1] == FILES
