"""The cache: complete or absent, shared, mended where somebody changed it, never evicted while in use."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dataset_tasks.cache import Cache, TreeKey
from dataset_tasks.cache import trees as trees_module
from dataset_tasks.cache.listing import Listing
from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.errors import IntegrityError, InvalidArgumentError, NotFoundError, StorageError
from dataset_tasks.filesystem import remove_tree
from dataset_tasks.manifest.columns import entries
from dataset_tasks.store import open_store
from dataset_tasks.store.base import Store

CATALOG = "c" * 32
ONE, TWO, THREE = (TreeKey(CATALOG, number * 32) for number in "123")
FILES = {
    b"a.txt": b"words " * 100,
    b"sub/b": b"b",
    b"sub/deep/c": bytes(range(256)) * 40,
    b"empty": b"",
    b"-odd\nname": b"odd",
}


class Version:
    """Files in one chunk of a store, and what a cache asks for."""

    def __init__(self, store: Store, key: TreeKey, files: dict[bytes, bytes]) -> None:
        self.store, self.key, self.files = store, key, dict(sorted(files.items()))
        self.asked = 0
        self.chunk = f"{key.catalog_id}/{key.name}.zip"
        with store.create(self.chunk) as sink:
            writer = ChunkWriter(sink)
            members = []
            for path, content in self.files.items():
                with tempfile.TemporaryFile() as file:
                    file.write(content)
                    file.flush()
                    members.append(writer.add(file.fileno(), path, len(content)))
            writer.finish()
            sink.commit()
        self.table = entries(
            paths=[member.path for member in members],
            sizes=[member.size for member in members],
            hashes=[member.sha256 for member in members],
            owner="0" * 32,
            chunks=[self.chunk] * len(members),
            offsets=[member.offset for member in members],
            stored=[member.stored for member in members],
            methods=[member.method for member in members],
        )

    def entries(self) -> Iterator[pa.Table]:
        self.asked += 1
        yield self.table.slice(0, 2)
        yield self.table.slice(2)

    def get(self, cache: Cache, **options: object) -> Path:
        return cache.get(self.key, self.entries, self.store.open, **options)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def version(store: Store) -> Version:
    return Version(store, ONE, FILES)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as opened:
        yield opened
    remove_tree(tmp_path / "cache")


def found(folder: Path) -> dict[bytes, bytes]:
    top = os.fsencode(folder)
    return {
        os.path.join(at, name)[len(top) + 1 :]: Path(os.fsdecode(os.path.join(at, name))).read_bytes()
        for at, _, names in os.walk(top)
        for name in names
    }


def leftovers(cache: Cache) -> list[str]:
    return [str(path) for path in cache.root.rglob(".*")]


def change(path: Path, content: bytes | None, mode: int = 0o444) -> None:
    """What a user with rights can do to a cached file."""
    path.parent.chmod(0o755)
    if content is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(content)
        path.chmod(mode)
    path.parent.chmod(0o555)


# --- one tree --------------------------------------------------------------------------------------------------------


def test_a_tree_holds_the_version_read_only_under_its_id(cache: Cache, version: Version) -> None:
    tree = version.get(cache)
    assert tree == cache.root / "trees" / CATALOG / ONE.version_id
    assert found(tree) == version.files
    for path in [tree, *tree.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o555 if path.is_dir() else 0o444)
    assert leftovers(cache) == []


def test_the_cache_is_for_this_user_only(cache: Cache, version: Version) -> None:
    version.get(cache)
    assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700


def test_a_tree_that_is_there_asks_for_nothing(cache: Cache, version: Version) -> None:
    tree = version.get(cache)
    before = {path: path.stat() for path in tree.rglob("*")}
    assert version.get(cache) == tree
    with Cache(cache.root) as other:
        assert version.get(other) == tree
    assert version.asked == 1
    assert {path: path.stat() for path in tree.rglob("*")} == before


def test_a_version_that_was_made_anew_under_its_id_is_not_given_the_tree_of_before(
    cache: Cache, store: Store, tmp_path: Path
) -> None:
    """As after a catalog was put back to an earlier state, and the same run ran again."""
    before = Version(store, ONE, {b"a": b"old", b"gone": b""})
    now = Version(open_store(tmp_path / "other"), ONE, {b"a": b"new"})
    before.get(cache, content="before", soft_links=True)
    assert cache.find(ONE, content="now") is None
    links = now.get(cache, content="now", soft_links=True)
    assert found(cache.find(ONE, content="now") or links) == found(links) == {b"a": b"new"}
    assert now.asked == 1
    assert found(now.get(cache, content="now")) == {b"a": b"new"}
    assert now.asked == 1


def test_a_tree_of_an_earlier_release_is_looked_through_and_stays(cache: Cache, version: Version) -> None:
    inode = (version.get(cache) / "a.txt").stat().st_ino
    assert (version.get(cache, content="its own") / "a.txt").stat().st_ino == inode
    assert version.asked == 2
    assert found(version.get(cache, content="its own")) == version.files
    assert version.asked == 2


def test_parts_of_a_version_are_trees_of_their_own(cache: Cache, store: Store, version: Version) -> None:
    part = Version(store, TreeKey(CATALOG, ONE.version_id, "0-of-2"), {b"a.txt": FILES[b"a.txt"]})
    assert found(part.get(cache)) == part.files
    assert found(version.get(cache)) == version.files
    assert {tree.key for tree in cache.usage()} == {ONE, part.key}


def test_an_empty_version_is_an_empty_tree(cache: Cache, store: Store) -> None:
    empty = Version(store, ONE, {})
    assert found(empty.get(cache)) == {}
    empty.get(cache)
    assert empty.asked == 1


@pytest.mark.parametrize("word", ["", "..", "a/b", ".a", "a.b", "a b", "a\0", "x" * 101])
def test_what_can_t_be_part_of_a_trees_name_is_refused(word: str) -> None:
    for make in (lambda: TreeKey(word, "v"), lambda: TreeKey("c", word), lambda: TreeKey("c", "v", word or "..")):
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        assert caught.value.hint


def test_damage_in_the_store_makes_no_tree(cache: Cache, version: Version) -> None:
    data = bytearray(version.store.get(version.chunk))
    at = version.table.column("offset")[1].as_py() + 5
    data[at] ^= 1
    version.store.put(version.chunk, data)
    with pytest.raises(IntegrityError) as caught:
        version.get(cache)
    assert caught.value.paths
    assert cache.find(ONE) is None
    assert leftovers(cache) == []
    data[at] ^= 1
    version.store.put(version.chunk, data)
    assert found(version.get(cache)) == version.files


def test_a_tree_is_not_begun_where_there_is_no_space_for_it(cache: Cache, version: Version) -> None:
    with pytest.raises(StorageError, match="needs") as caught:
        version.get(cache, size=1 << 60)
    assert caught.value.kind == "no_space"
    assert caught.value.hint
    assert version.asked == 0
    version.get(cache, size=1000)


@pytest.mark.parametrize("call", ["mkdir", "rename", "write", "link"])
def test_a_failure_while_a_tree_is_made_leaves_none(
    cache: Cache, version: Version, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Cache(cache.root) as other:  # its folders are there
        Version(version.store, TWO, FILES).get(other)
    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "rename" else os, call, full)
        if call == "link":
            assert found(version.get(cache)) == version.files
            return
        with pytest.raises(StorageError, match="No space"):
            version.get(cache)
    assert cache.find(ONE) is None
    assert leftovers(cache) == []
    assert found(version.get(cache)) == version.files


def test_a_cache_folder_that_can_t_be_made_is_an_error_before_anything_is_read(
    tmp_path: Path, version: Version
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file") as caught:
        version.get(Cache(tmp_path / "file"))
    assert caught.value.hint
    assert version.asked == 0


# --- files that changed ----------------------------------------------------------------------------------------------


def overwrite(tree: Path) -> None:
    change(tree / "a.txt", b"other")


def same_size(tree: Path) -> None:
    change(tree / "a.txt", b"WORDS " * 100)


def same_size_and_time(tree: Path) -> None:
    before = (tree / "a.txt").stat()
    same_size(tree)
    os.utime(tree / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def in_place_of_it(tree: Path) -> None:
    before = (tree / "a.txt").stat()
    change(tree / "a.txt", None)
    tree.chmod(0o755)
    (tree / "a.txt").write_bytes(b"WORDS " * 100)
    os.utime(tree / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    tree.chmod(0o555)


def removed(tree: Path) -> None:
    change(tree / "a.txt", None)


def truncated(tree: Path) -> None:
    change(tree / "sub/deep/c", b"")


def folder_removed(tree: Path) -> None:
    for folder in (tree, tree / "sub"):
        folder.chmod(0o755)
    remove_tree(tree / "sub/deep")


def link_in_its_place(tree: Path) -> None:
    change(tree / "a.txt", None)
    tree.chmod(0o755)
    (tree / "a.txt").symlink_to("x" * len(FILES[b"a.txt"]))  # so that its size is right
    tree.chmod(0o555)


def fifo_in_its_place(tree: Path) -> None:
    change(tree / "empty", None)
    tree.chmod(0o755)
    os.mkfifo(tree / "empty")
    tree.chmod(0o555)


def folder_in_its_place(tree: Path) -> None:
    change(tree / "a.txt", None)
    tree.chmod(0o755)
    (tree / "a.txt").mkdir()
    tree.chmod(0o555)


@pytest.mark.parametrize(
    "harm",
    [
        overwrite,
        same_size,
        same_size_and_time,
        in_place_of_it,
        removed,
        truncated,
        folder_removed,
        link_in_its_place,
        fifo_in_its_place,
        folder_in_its_place,
    ],
)
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "listing lost"])
def test_a_file_that_changed_is_brought_back(
    cache: Cache, version: Version, harm: Callable[[Path], None], listed: bool
) -> None:
    tree = version.get(cache)
    harm(tree)
    if not listed:
        (cache.root / "lists" / CATALOG / f"{ONE.version_id}.arrow").unlink()
    with Cache(cache.root) as another:
        assert version.get(another) == tree
    assert found(tree) == version.files
    for path in [tree, *tree.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o555 if path.is_dir() else 0o444)
    assert leftovers(cache) == []
    asked = version.asked
    version.get(cache)
    assert version.asked == asked


def test_a_file_that_was_only_touched_is_not_fetched_again(cache: Cache, version: Version) -> None:
    tree = version.get(cache)
    os.utime(tree / "a.txt", ns=(1, 1))
    (tree / "sub/b").chmod(0o666)
    version.store.delete(version.chunk)
    assert found(version.get(cache)) == version.files
    assert stat.S_IMODE((tree / "sub/b").stat().st_mode) == 0o444


def test_a_changed_file_that_is_damaged_in_the_store_too_is_an_error(cache: Cache, version: Version) -> None:
    tree = version.get(cache)
    overwrite(tree)
    data = version.store.get(version.chunk)
    version.store.put(version.chunk, bytes(len(data)))
    with pytest.raises(IntegrityError, match=r"a\.txt"):
        version.get(cache)
    version.store.put(version.chunk, data)
    assert found(version.get(cache)) == version.files


@pytest.mark.parametrize("content", [b"", b"junk", b"ARROW1\0\0" + bytes(100)])
def test_a_listing_that_can_t_be_read_means_looking_at_the_files(
    cache: Cache, version: Version, content: bytes
) -> None:
    tree = version.get(cache)
    same_size_and_time(tree)
    (cache.root / "lists" / CATALOG / f"{ONE.version_id}.arrow").write_bytes(content)
    version.get(cache)
    assert found(tree) == version.files


def test_what_a_killed_maker_left_goes_with_the_next_one(cache: Cache, version: Version) -> None:
    for kind, name in (("trees", ONE.version_id), ("lists", f"{ONE.version_id}.arrow"), ("links", ONE.version_id)):
        for ending in ("part", "gone"):
            left = cache.root / kind / CATALOG / f".{name}.0123456789abcdef.{ending}"
            if kind == "lists":
                left.parent.mkdir(parents=True, exist_ok=True)
                left.write_bytes(b"half")
            else:
                (left / "sub").mkdir(parents=True)
                (left / "sub/half").write_bytes(b"half")
                (left / "sub").chmod(0o555)
    assert found(version.get(cache)) == version.files
    assert leftovers(cache) == []


# --- hard links and soft links ---------------------------------------------------------------------------------------


def test_files_equal_to_those_of_a_cached_parent_are_hard_links(cache: Cache, store: Store, version: Version) -> None:
    child = Version(store, TWO, {**FILES, b"a.txt": b"changed", b"new": b"new"})
    first = version.get(cache)
    second = child.get(cache, parents=[THREE, ONE])
    assert found(second) == child.files
    for path in child.files:
        inode = os.stat(os.path.join(os.fsencode(second), path)).st_ino
        shared = path not in (b"a.txt", b"new")
        assert shared == (path in FILES and inode == os.stat(os.path.join(os.fsencode(first), path)).st_ino)
    version.get(cache)
    child.get(cache)
    assert found(first) == version.files


def test_links_between_trees_do_not_look_like_damage_for_long(cache: Cache, store: Store, version: Version) -> None:
    child = Version(store, TWO, FILES)
    version.get(cache)
    child.get(cache, parents=[ONE])
    asked = version.asked
    version.get(cache)  # another ctime: looked at again, and noted
    again = version.asked
    version.get(cache)
    assert version.asked == again <= asked + 1
    cache.remove(TWO)
    store.delete(version.chunk)
    assert found(version.get(cache)) == version.files


def test_a_parents_file_that_changed_is_not_linked(cache: Cache, store: Store, version: Version) -> None:
    child = Version(store, TWO, FILES)
    same_size_and_time(version.get(cache))
    assert found(child.get(cache, parents=[ONE])) == child.files


def test_a_child_outlives_its_parent(cache: Cache, store: Store, version: Version) -> None:
    child = Version(store, TWO, FILES)
    version.get(cache)
    tree = child.get(cache, parents=[ONE])
    assert cache.remove(ONE)
    assert found(tree) == child.files
    assert found(child.get(cache)) == child.files


def test_a_parent_that_is_not_cached_or_not_listed_offers_nothing(cache: Cache, store: Store, version: Version) -> None:
    version.get(cache)
    (cache.root / "lists" / CATALOG / f"{ONE.version_id}.arrow").unlink()
    child = Version(store, TWO, FILES)
    assert found(child.get(cache, parents=[ONE, THREE])) == child.files


def test_without_hard_links_files_are_copied(
    cache: Cache, store: Store, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    version.get(cache)
    monkeypatch.setattr(os, "link", refuse)
    child = Version(store, TWO, FILES)
    assert found(child.get(cache, parents=[ONE])) == child.files


def test_a_tree_of_soft_links_leads_to_the_files(cache: Cache, version: Version) -> None:
    links = version.get(cache, soft_links=True)
    tree = version.get(cache)
    assert links != tree
    assert found(links) == version.files
    for path in links.rglob("*"):
        assert path.is_dir() or os.readlink(path) == str(tree / path.relative_to(links))
    assert stat.S_IMODE((links / "sub").stat().st_mode) == 0o555
    before = {path: path.lstat() for path in links.rglob("*")}
    assert version.get(cache, soft_links=True) == links
    assert {path: path.lstat() for path in links.rglob("*")} == before


def test_a_soft_link_that_changed_is_made_again(cache: Cache, version: Version) -> None:
    links = version.get(cache, soft_links=True)
    links.chmod(0o755)
    (links / "a.txt").unlink()
    (links / "a.txt").symlink_to("/etc/passwd")
    assert found(version.get(cache, soft_links=True)) == version.files
    assert leftovers(cache) == []


# --- many at once ----------------------------------------------------------------------------------------------------


def test_of_many_threads_one_makes_the_tree_and_all_get_it(tmp_path: Path, version: Version) -> None:
    caches = [Cache(tmp_path / "cache") for _ in range(4)]
    barrier = threading.Barrier(8)
    got: list[dict[bytes, bytes]] = []

    def ask(number: int) -> None:
        barrier.wait()
        got.append(found(version.get(caches[number % 4])))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [version.files] * 8
    assert version.asked == 1
    for each in caches:
        each.close()
    remove_tree(tmp_path / "cache")


PROCESS = """
import os, pickle, sys
sys.path.insert(0, sys.argv[1])
import test_cache as t
version = t.Version.__new__(t.Version)
from dataset_tasks.store import open_store
import pyarrow.parquet as pq
from dataset_tasks.manifest.columns import conform
version.store, version.key, version.asked = open_store(sys.argv[2]), t.ONE, 0
version.table = conform(pq.ParquetFile(sys.argv[3]).read())
print("ready", flush=True)
sys.stdin.readline()
tree = version.get(t.Cache(sys.argv[4]))
print(version.asked, len(t.found(tree)), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path: Path, version: Version) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that waits for a line, gets the tree, and holds it until the next line."""
    import pyarrow.parquet as pq

    pq.write_table(version.table, tmp_path / "entries")
    running: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        places = [Path(__file__).parent, version.store.url, tmp_path / "entries", tmp_path / "cache"]
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, *map(str, places)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_many_processes_one_makes_the_tree_and_all_get_it(
    cache: Cache, version: Version, start: Callable[[], subprocess.Popen[str]]
) -> None:
    processes = [start() for _ in range(3)]
    assert [hear(process) for process in processes] == ["ready"] * 3
    for process in processes:
        say(process)
    assert sorted(hear(process) for process in processes) == ["0 5", "0 5", "1 5"]
    assert found(version.get(cache)) == version.files


def test_what_another_process_uses_is_not_evicted_until_it_ends_however_it_ends(
    cache: Cache, version: Version, start: Callable[[], subprocess.Popen[str]]
) -> None:
    process = start()
    hear(process)
    say(process)
    assert hear(process) == "1 5"
    assert cache.evict(most_bytes=0).trees == 0
    assert not cache.remove(ONE)
    process.kill()
    process.wait()
    assert cache.evict(most_bytes=0).trees == 1
    assert cache.find(ONE) is None


def test_an_interrupt_while_a_tree_is_made_leaves_none(cache: Cache, version: Version) -> None:
    def interrupted() -> Iterable[pa.Table]:
        yield version.table.slice(0, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get(ONE, interrupted, version.store.open)
    assert leftovers(cache) == []
    assert found(version.get(cache)) == version.files


# --- use and eviction ------------------------------------------------------------------------------------------------


def aged(cache: Cache, key: TreeKey, seconds: float) -> None:
    lock = cache.root / "locks" / key.catalog_id / f"{key.name}.use"
    now = lock.stat().st_mtime
    os.utime(lock, (now - seconds, now - seconds))


def test_what_this_process_uses_is_not_evicted_until_released(cache: Cache, version: Version) -> None:
    version.get(cache)
    with Cache(cache.root) as other:
        assert other.evict(most_bytes=0).trees == 0
        assert not other.remove(ONE)
        cache.release(ONE)
        cache.release(ONE)
        evicted = other.evict(most_bytes=0)
    assert (evicted.trees, evicted.bytes) == (1, sum(map(len, FILES.values())))
    assert found(version.get(cache)) == version.files


def test_eviction_leaves_nothing_of_a_tree(cache: Cache, version: Version) -> None:
    version.get(cache, soft_links=True)
    cache.pin(ONE).release()
    cache.close()
    cache.evict(most_bytes=0)
    assert [path for path in cache.root.rglob("*") if not path.is_dir()] == []
    assert not list((cache.root / "trees").rglob(ONE.version_id))


def test_the_trees_not_asked_for_longest_go_first_until_the_rest_fits(cache: Cache, store: Store) -> None:
    versions = [Version(store, key, {b"a": bytes(100)}) for key in (ONE, TWO, THREE)]
    for version, age in zip(versions, (20, 30, 10), strict=True):
        version.get(cache)
        aged(cache, version.key, age)
    cache.close()
    assert [tree.key for tree in cache.usage()] == [TWO, ONE, THREE]
    assert cache.evict(most_bytes=200).trees == 1
    assert [tree.key for tree in cache.usage()] == [ONE, THREE]
    assert cache.evict(most_bytes=200).trees == 0
    versions[0].get(cache)  # asked for again: now the youngest
    cache.close()
    assert cache.evict(most_bytes=100).trees == 1
    assert [(tree.key, tree.files, tree.bytes) for tree in cache.usage()] == [(ONE, 1, 100)]


def test_old_trees_go_by_age(cache: Cache, store: Store) -> None:
    for key, age in ((ONE, 5000), (TWO, 0)):
        Version(store, key, {b"a": b"x"}).get(cache)
        aged(cache, key, age)
    cache.close()
    assert cache.evict(older_than=3600).trees == 1
    assert [tree.key for tree in cache.usage()] == [TWO]
    assert cache.evict().trees == 0


def test_a_pinned_tree_stays_until_the_pin_ends(cache: Cache, version: Version) -> None:
    version.get(cache)
    with cache.pin(ONE, owner="a training job") as pin:
        cache.close()
        assert pin.path == cache.find(ONE)
        assert not cache.remove(ONE)
        assert cache.evict(most_bytes=0).trees == 0
    assert cache.remove(ONE)


def test_a_pin_whose_time_is_over_holds_nothing(cache: Cache, version: Version) -> None:
    version.get(cache)
    cache.pin(ONE, seconds=-1)
    cache.pin(ONE, seconds=-1).file.write_text("junk")
    cache.close()
    assert not cache.remove(ONE)  # what can't be read holds for a day
    for file in (cache.root / "pins").rglob("*.json"):
        os.utime(file, (1, 1))
    assert cache.remove(ONE)


def test_only_what_is_cached_can_be_pinned(cache: Cache) -> None:
    with pytest.raises(NotFoundError) as caught:
        cache.pin(ONE)
    assert caught.value.hint


def test_eviction_removes_what_dead_makers_left_and_spares_the_living(
    cache: Cache, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = cache.root / "trees" / CATALOG / f".{TWO.version_id}.0123456789abcdef.part"
    (dead / "sub").mkdir(parents=True)
    seen: list[bool] = []

    def evict_meanwhile() -> Iterator[pa.Table]:
        with Cache(cache.root) as other:
            other.evict(most_bytes=0)
        seen.append(dead.exists())
        yield from version.entries()

    assert found(cache.get(ONE, evict_meanwhile, version.store.open)) == version.files
    assert seen == [False]


def test_files_of_others_in_the_cache_are_left_alone(cache: Cache, version: Version) -> None:
    version.get(cache)
    cache.close()
    for place in ("trees/readme", f"trees/{CATALOG}/my notes", f"trees/{CATALOG}/.DS_Store"):
        (cache.root / place).write_bytes(b"mine")
    (cache.root / "trees" / CATALOG / "my folder").mkdir()
    cache.evict(most_bytes=0)
    assert (cache.root / f"trees/{CATALOG}/my notes").exists()
    assert (cache.root / f"trees/{CATALOG}/my folder").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_all_of_it_works_for_who_is_not_root() -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import pyarrow.compute
import test_cache as t
from dataset_tasks.store import open_store
os.setgroups([]); os.setgid(65534); os.setuid(65534)
top = Path(sys.argv[2])
store = open_store(top / "store")
version, child = t.Version(store, t.ONE, t.FILES), t.Version(store, t.TWO, {**t.FILES, b"new": b"x"})
with t.Cache(top / "cache") as cache:
    for harm in (lambda tree: None, t.same_size, t.removed, t.folder_removed):
        harm(version.get(cache))
        assert t.found(version.get(cache)) == version.files
    assert t.found(child.get(cache, parents=[t.ONE], soft_links=True)) == child.files
    cache.close()
    assert cache.evict(most_bytes=0).trees == 2
"""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        subprocess.run([sys.executable, "-c", code, Path(__file__).parent, folder], check=True, cwd="/")


def test_a_check_after_the_lock_sees_what_another_process_made(
    cache: Cache, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two find no tree, both take the build lock in turn: the second must not make it again."""
    acquire = trees_module.FileLock.acquire

    def late(path: Path, *, shared: bool = False, wait_for: str = "") -> object:
        if path.name.endswith(".build") and version.asked == 0:
            monkeypatch.setattr(trees_module.FileLock, "acquire", acquire)
            version.get(cache)
        return acquire(path, shared=shared, wait_for=wait_for)

    monkeypatch.setattr(trees_module.FileLock, "acquire", late)
    with Cache(cache.root) as other:
        version.get(other)
    assert version.asked == 1


def test_a_listing_finds_equal_files_only(cache: Cache, store: Store, version: Version) -> None:
    version.get(cache)
    listing = Listing.open(cache.root / "lists" / CATALOG / f"{ONE.version_id}.arrow")
    assert listing is not None
    assert listing.totals() == (5, sum(map(len, FILES.values())))
    other = Version(store, TWO, {b"a.txt": b"changed", b"aa": b"x", b"sub/b": b"b", b"zz": b"z"})
    assert [known is not None for known in listing.find(other.table)] == [False, False, True, False]
    assert listing.find(other.table.slice(0, 0)) == []
