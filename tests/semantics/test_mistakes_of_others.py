"""Mistakes of the best-known implementation of this API that SEMANTICS names: each test would catch one here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks import Dataset, open_session
from dataset_tasks.errors import DatasetError, NotFoundError, SourceError, StorageError
from dataset_tasks.handle.base import default_session
from dataset_tasks.ops.requests import Verify
from dataset_tasks.store.opened import OpenStores
from dataset_tasks.testing.memory_store import MemoryStore

# --- upload


class LosesTheLastChunk(MemoryStore):
    """Refuses whatever chunk is written last, as a full disk does."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.left = chunks

    def create(self, key):
        if "/chunks/" in key:
            self.left -= 1
            if self.left == 0:
                raise StorageError("no space left")
        return super().create(key)


@pytest.mark.parametrize("workers", [1, 4])
def test_one_lost_chunk_is_no_success(home, folder, workers):
    """There, the failure of the last chunk was swallowed: the version finalized without its files."""
    with open_session(home=home) as session:
        store = LosesTheLastChunk(5)
        session.stores = OpenStores(open_url=lambda _url: store)
        version = Dataset.create("data", "demo", session=session)
        version.add_files(folder({f"{number}": f"{number}" * 3000 for number in range(5)}))
        with pytest.raises(StorageError, match="no space"):
            version.upload(show_progress=False, chunk_size=0.002, max_workers=workers)
        assert version.is_dirty()
        with pytest.raises(DatasetError):
            version.finalize()
        assert not version.is_final()


def test_a_file_that_changed_between_add_and_upload_never_gets_the_old_hash(draft, folder, finish, content):
    """There, the bytes of the upload were stored under the hash of the add."""
    source = folder({"a": "1", "same-size": "old"})
    version = draft()
    version.add_files(source)
    before = (source / "same-size").stat()
    (source / "same-size").write_text("new")
    os.utime(source / "same-size", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SourceError) as raised:
        version.upload(show_progress=False)
    assert raised.value.paths == ("same-size",)
    assert version.finalize(raise_on_error=False) is False
    version.add_files(source)
    assert content(finish(version)) == {"a": "1", "same-size": "new"}


def test_a_file_that_is_rewritten_all_the_time_is_stored_whole_or_refused(draft, tmp_path, finish, content):
    source = tmp_path / "busy"
    source.write_bytes(b"A" * 300_000)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for letter in (b"A", b"B"):
                with source.open("r+b") as file:
                    file.write(letter * 300_000)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for number in range(5):
            version = draft(name=f"try-{number}")
            try:
                version.add_files(source)
                finish(version)
            except SourceError:
                continue
            data = version.open("busy").read()
            assert hashlib.sha256(data).hexdigest() == version.file_entries_dict["busy"].hash
    finally:
        stop.set()
        writer.join()


def test_removing_or_adding_nothing_leaves_no_flag_that_blocks_finalize(final, draft, folder):
    """There, a dirty flag was stored, and could stay when nothing was pending."""
    child = draft(parents=[final({"a": "1", "b": "1"})])
    child.add_files(folder({"c": "1"}))
    child.remove_files("c")
    child.remove_files("a")
    child.add_files(folder({}))
    assert not child.is_dirty()
    assert child.finalize()


def test_opening_a_version_with_an_interrupted_upload_changes_nothing(draft, folder, home):
    """There, `get` of a version whose upload had failed repaired it: by dropping its files."""
    source = folder({"a": "1", "b": "2"})
    version = draft()
    version.add_files(source)
    (source / "b").unlink()
    with pytest.raises(SourceError):
        version.upload(show_progress=False)
    before = {path: path.stat().st_mtime_ns for path in (home / "store").rglob("*")}
    again = Dataset.get(version.id)
    assert again.list_files() == ["a", "b"]
    assert again.is_dirty()
    assert {path: path.stat().st_mtime_ns for path in (home / "store").rglob("*")} == before


# --- reading


def test_a_plain_folder_name_means_what_is_below_it(draft):
    """There, it matched nothing, and nothing said so."""
    version = draft({"sub/a": "1", "sub/deep/b": "2", "subway": "3"})
    assert version.list_files("sub") == ["sub/a", "sub/deep/b"]
    assert version.remove_files("sub") == 2
    assert version.list_files() == ["subway"]


def test_sync_returns_the_pair_of_the_reference_not_three_numbers(draft, folder):
    removed, changed = draft({"a": "1", "b": "2"}).sync_folder(folder({"a": "x", "c": "y"}))
    assert (removed, changed) == (1, 2)


def test_a_partial_name_is_no_regular_expression(draft):
    """There, it was: a dot matched anything, and a pattern such as this one ran for ever."""
    draft(name="a" * 40)
    draft(name="v1x0")
    began = time.process_time()
    assert Dataset.list_datasets(partial_name="(a+)+$", only_completed=False) == []
    assert Dataset.list_datasets(partial_name="v1.0", only_completed=False) == []
    assert Dataset.list_datasets(partial_name="(", only_completed=False) == []
    assert time.process_time() - began < 10


def test_a_project_alone_gives_its_latest_version(draft):
    """There, the call that the reference describes was refused."""
    version = draft()
    assert Dataset.get(dataset_project="demo").id == version.id


def test_a_copy_without_links_has_none_even_after_a_linked_one(final):
    """There, the folder of links was handed out again."""
    version = final({"a": "1"})
    version.get_local_copy(use_soft_links=True)
    copy = Path(version.get_local_copy(use_soft_links=False))
    assert not (copy / "a").is_symlink()


def test_the_shared_copy_can_not_be_written_by_accident_and_mends_when_it_was(final):
    """There, it was writable, and what one run changed, every later one read."""
    version = final({"a": "right"})
    copy = Path(version.get_local_copy())
    assert not (copy / "a").stat().st_mode & 0o222
    assert not copy.stat().st_mode & 0o222
    (copy / "a").chmod(0o644)
    (copy / "a").write_text("wrong")
    assert (Path(version.get_local_copy()) / "a").read_text() == "right"


def test_a_mutable_copy_leaves_the_old_folder_until_the_new_one_is_complete(final, folder, home):
    """There, the target was deleted first."""
    version = final({"a": "1"})
    target = folder({"mine": "precious"})
    for chunk in home.rglob("chunks/*.zip"):
        chunk.unlink()
    assert version.get_mutable_local_copy(target, overwrite=True, raise_on_error=False) is None
    assert (target / "mine").read_text() == "precious"


def test_deleting_by_id_what_others_were_made_from_is_refused_too(final):
    """There, only the look-up by name was guarded, and the children lost their files."""
    parent = final({"a": "1"})
    child = final({"a": "1", "b": "2"}, [parent])
    with pytest.raises(DatasetError, match=child.id):
        Dataset.delete(parent.id)
    Dataset.delete(parent.id, force=True)
    assert child.open("a").read() == b"1"


def test_removals_survive_a_squash(final, content):
    """There, a file that a later version had removed was back in the squashed one."""
    first = final({"a": "1", "gone": "1"})
    second = final({"a": "1"}, [first])
    assert content(Dataset.squash("made", [first, second])) == {"a": "1"}


def test_a_squashed_version_does_not_need_what_it_was_made_of(final, home, content):
    first = final({"a": "1"})
    made = Dataset.squash("made", [first])
    Dataset.delete(first.id)
    assert content(made) == {"a": "1"}


def test_two_versions_made_at_once_have_different_numbers(tmp_path):
    """There, number and version were two steps, and both got the same."""
    numbers: list[str] = []

    def create() -> None:
        numbers.append(Dataset.create("data", "demo").version)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [f"1.0.{number}" for number in range(8)]


def test_what_two_handles_add_at_once_is_all_there(draft, folder, finish):
    """There, the later writer's list of files replaced the other's."""
    version = draft()
    sources = [folder({f"{number}": f"{number}"}) for number in range(6)]
    threads = [threading.Thread(target=Dataset.get(version.id).add_files, args=[source]) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finish(version).list_files() == [f"{number}" for number in range(6)]


# --- bit rot: every stored object, damaged in every way, one at a time


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 7):
        data[at] ^= 1 << at % 8
    path.write_bytes(data)


def one_bit_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def removed(path: Path) -> None:
    path.unlink()


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def swapped(path: Path) -> None:
    """The bytes of another object of the same kind, or of any other."""
    near, far = sorted(path.parent.iterdir()), sorted(path.parent.parent.rglob("*"))
    others = [each for each in (*near, *far) if each.is_file() and each != path]
    path.write_bytes(others[0].read_bytes())


DAMAGES = [flipped, one_bit_flipped, cut, emptied, removed, zeroed, swapped]
FILES = {"a": "x" * 400, "b": "y" * 300, "sub/c": "".join(map(chr, range(32, 127))) * 3, "empty": ""}


def reads(version: Dataset, target: Path) -> Iterator[tuple[str, Callable[[], dict[str, bytes]]]]:
    """Every way to get bytes of a version."""

    def below(folder: str | None) -> dict[str, bytes]:
        top = Path(str(folder))
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}

    yield "open", lambda: {path: version.open(path).read() for path in version.list_files()}
    yield "mutable copy", lambda: below(version.get_mutable_local_copy(target))
    yield "local copy", lambda: below(version.get_local_copy())
    yield "soft links", lambda: below(version.get_local_copy(use_soft_links=True))
    yield "some files", lambda: below(version.get_local_copy(files=["*"]))


def outcome(call: Callable[[], Any]) -> tuple[Any, DatasetError | None]:
    """What a call gives, or its error."""
    try:
        return call(), None
    except DatasetError as error:
        return None, error


@pytest.mark.parametrize("compression", ["deflate", "store"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_whatever_rots_in_the_store_a_read_gives_the_right_bytes_or_an_error_that_names_it(
    home, folder, tmp_path, damage, compression
):
    with open_session(home=home) as session:
        parent = Dataset.create("parent", "demo", session=session)
        parent.add_files(folder({"a": FILES["a"], "old": "1"}))
        parent.upload(show_progress=False, compression=compression)
        parent.finalize()
        version = Dataset.create("data", "demo", [parent], session=session)
        version.sync_folder(folder(FILES))
        version.upload(show_progress=False, compression=compression, chunk_size=400 / 2**20)
        version.finalize()
        index = session.manifest(session.catalog.version(version.id)).index
        needed = {*index.objects, session.catalog.version(version.id).index.key}
    expected = {name: text.encode() for name, text in FILES.items()}
    (store,) = (home / "store").iterdir()
    objects = sorted(path for path in store.rglob("*") if path.is_file())
    assert {str(path.relative_to(store)) for path in objects} >= needed
    for number, path in enumerate(objects):
        healthy = path.read_bytes()
        damage(path)
        key = str(path.relative_to(store))
        # A session of its own: nothing is remembered. A cache of its own: nothing was copied before.
        with open_session(home=home, cache_dir=tmp_path / f"cache{number}") as session:
            errors = []
            for way, read in reads(Dataset(version.id, session=session), tmp_path / f"copy{number}"):
                found, error = outcome(read)
                assert found in (None, expected), f"{way}, {key} {damage.__name__}"
                errors += [error] if error else []
            unnamed = [each for each in errors if key not in str(each) and not set(each.paths) & FILES.keys()]
            assert unnamed == [], f"{key} {damage.__name__}"
            assert not errors or not (tmp_path / f"copy{number}").exists()
            result, error = outcome(partial(session.run, Verify(ref=version.id)))
            if errors:
                assert error or result.bad, f"verify saw nothing: {key} {damage.__name__}"
            if key in needed and damage not in (one_bit_flipped, cut):  # these may hit what only other programs read
                assert errors, f"nobody minded {key} {damage.__name__}"
        path.write_bytes(healthy)
    with open_session(home=home) as session:
        assert session.run(Verify(ref=version.id)).bad == ()


def test_a_flipped_bit_in_the_data_of_a_file_is_never_handed_out(draft, home):
    """There, nothing looked at the hash when a copy was made."""
    version = draft({"a": "x" * 1000})
    version.upload(show_progress=False, compression="store")
    version.finalize()
    (chunk,) = home.rglob("chunks/*.zip")
    with zipfile.ZipFile(chunk) as archive:
        start = archive.infolist()[0].header_offset
    data = bytearray(chunk.read_bytes())
    at = data.index(b"xxxx", start)
    for offset in (0, 500, 999):
        rotten = bytearray(data)
        rotten[at + offset] ^= 1
        chunk.write_bytes(rotten)
        for read in (version.get_local_copy, lambda: version.open("a").read()):
            with pytest.raises(DatasetError, match="a is damaged") as raised:
                read()
            assert raised.value.paths == ("a",)
        assert default_session().run(Verify(ref=version.id)).bad == ("a",)


# --- a script of theirs

SCRIPT = """
import os, sys
from clearml import Dataset

folder, work = sys.argv[1], sys.argv[2]
base = Dataset.create(dataset_name="base", dataset_project="demo")
print("added", base.add_files(path=folder, wildcard=["*.txt", "*.csv"], verbose=False))
print("dirty", base.is_dirty())
base.upload(show_progress=False, compression=None)
print("finalized", base.finalize())
child = Dataset.create("child", "demo", parent_datasets=[base.id], use_current_task=False)
print("removed", child.remove_files("a.txt"))
child.add_files(os.path.join(folder, "sub"), local_base_folder=folder, dataset_path="more")
removed, changed = child.sync_folder(os.path.join(folder, "sub"), dataset_path="sub")
print("synced", removed, changed)
print(child.list_files(), child.list_files("sub/*", recursive=False), child.list_files(dataset_id=base.id))
print(child.list_added_files(), child.list_modified_files(), child.list_removed_files(dataset_id=base.id))
child.upload()
child.finalize(verbose=False, raise_on_error=True)
child.publish()
found = Dataset.get(dataset_project="demo", dataset_name="child", only_published=True)
assert found.id == child.id and found.is_final()
copy = found.get_local_copy()
print(sorted(os.listdir(copy)), open(os.path.join(copy, "b.csv")).read())
mine = found.get_mutable_local_copy(os.path.join(work, "mine"), overwrite=True)
print(found.verify_dataset_hash(local_copy_path=mine, skip_hash=False, verbose=True))
open(os.path.join(mine, "b.csv"), "w").write("changed")
print(found.verify_dataset_hash(mine))
for path, entry in found.file_entries_dict.items():
    print(path, entry.relative_path, entry.size, len(entry.hash), entry.parent_dataset_id == base.id)
print(found.get_dependency_graph() == {child.id: [base.id], base.id: []})
print(os.path.isdir(found.get_default_storage()))
found.get_logger().report_text("done")
found.get_logger().report_scalar(title="loss", series="train", value=0.5, iteration=1)
flat = Dataset.squash(dataset_name="flat", dataset_ids=[base.id, child.id])
print(flat.name, flat.list_files() == child.list_files())
print([(each["name"], each["project"]) for each in Dataset.list_datasets(dataset_project="demo", partial_name="a")])
try:
    Dataset.delete(dataset_id=base.id)
except ValueError as error:
    print("in use", child.id in str(error))
Dataset.delete(dataset_project="demo", dataset_name="flat")
Dataset.delete(base.id, force=True)
print(len(Dataset.list_datasets(only_completed=False)))
"""

PRINTED = """
added 3
dirty True
finalized True
removed 1
synced 0 1
['b.csv', 'more/sub/c.txt', 'more/sub/d.bin', 'sub/c.txt', 'sub/d.bin'] ['sub/c.txt', 'sub/d.bin'] ['b.csv', 'sub/c.txt']
['more/sub/c.txt', 'more/sub/d.bin', 'sub/d.bin'] [] ['a.txt']
['b.csv', 'more', 'sub'] 2
[]
['b.csv']
b.csv b.csv 1 64 True
more/sub/c.txt more/sub/c.txt 1 64 False
more/sub/d.bin more/sub/d.bin 1 64 False
sub/c.txt sub/c.txt 1 64 True
sub/d.bin sub/d.bin 1 64 False
True
True
flat True
[('base', 'demo'), ('flat', 'demo')]
in use True
1
"""


def test_a_script_written_for_the_reference_client_runs_with_only_its_import_changed(folder, tmp_path):
    source = folder({"a.txt": "1", "b.csv": "2", "sub/c.txt": "3", "sub/d.bin": "4", "skipped.md": "5"})
    script = SCRIPT.replace("from clearml import Dataset", "from dataset_tasks import Dataset")
    ran = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "work"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n") == PRINTED.lstrip().split("\n")


def test_its_errors_can_be_caught_as_the_value_errors_that_it_raises(draft):
    with pytest.raises(ValueError, match="no version"):
        Dataset.get(dataset_name="missing")
    with pytest.raises(ValueError, match="not uploaded"):
        draft({"a": "1"}).finalize()
    with pytest.raises(NotFoundError):
        Dataset.delete("0" * 32)
