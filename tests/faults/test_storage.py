"""Full disks, no inodes, read-only mounts, killed writers: real ones. Needs the right to mount (root)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataset_tasks.cache import Cache, TreeKey
from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.copies import extract
from dataset_tasks.errors import DatasetError, StorageError, TargetError
from dataset_tasks.manifest.columns import entries, pa
from dataset_tasks.mutable import write_folder
from dataset_tasks.store.base import Store
from dataset_tasks.store.local import LocalStore
from dataset_tasks.testing.memory_store import MemoryStore

Mount = Callable[..., Path]
NOISE = random.Random(2).randbytes(4 << 20)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a tmpfs with the given options."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no right to mount here")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def packed(files: dict[bytes, bytes]) -> tuple[Store, pa.Table]:
    store = MemoryStore()
    with store.create("c") as sink:
        writer = ChunkWriter(sink, "store")
        members = []
        for path in sorted(files):
            with tempfile.TemporaryFile() as file:
                file.write(files[path])
                file.flush()
                members.append(writer.add(file.fileno(), path, len(files[path])))
        writer.finish()
        sink.commit()
    return store, entries(
        paths=[member.path for member in members],
        sizes=[member.size for member in members],
        hashes=[member.sha256 for member in members],
        owner="0" * 32,
        chunks=["c"] * len(members),
        offsets=[member.offset for member in members],
        stored=[member.stored for member in members],
        methods=[member.method for member in members],
    )


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_a_full_disk_under_a_store_loses_nothing_and_leaves_nothing(mount: Mount) -> None:
    store = LocalStore(mount("size=2m") / "store")
    store.put("a/first", NOISE[: 1 << 20])
    for attempt in (
        lambda: store.put("a/second", NOISE),
        lambda: store.put("a/first", NOISE),
        lambda: _write(store, "a/second"),
    ):
        with pytest.raises(StorageError, match="No space left") as caught:
            attempt()
        assert caught.value.kind == "no_space"
        assert not caught.value.retryable
        assert "Free space" in caught.value.hint
        assert everything(store.root) == ["a/first"]
    assert store.get("a/first") == NOISE[: 1 << 20]
    store.delete("a/first")
    _write(store, "a/second", NOISE[: 1 << 20])
    assert store.get("a/second") == NOISE[: 1 << 20]


def _write(store: Store, key: str, data: bytes = NOISE) -> None:
    with store.create(key) as writer:
        for start in range(0, len(data), 1 << 18):
            writer.write(data[start : start + (1 << 18)])
        writer.commit()


def test_a_disk_without_inodes_is_named_as_such(mount: Mount) -> None:
    store = LocalStore(mount("size=8m,nr_inodes=8"))
    with pytest.raises(StorageError, match="no inodes left") as caught:
        for number in range(20):
            store.put(f"{number}", b"x")
    assert caught.value.kind == "no_space"
    assert "inodes" in caught.value.hint


def test_a_store_on_a_read_only_disk_reads_and_refuses_to_write(mount: Mount) -> None:
    disk = mount("size=2m")
    store = LocalStore(disk)
    store.put("a/b", b"x")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert store.get("a/b") == b"x"
    for attempt in (lambda: store.put("a/c", b"x"), lambda: store.put("d/e", b"x"), lambda: store.delete("a/b")):
        with pytest.raises(StorageError, match="Read-only") as caught:
            attempt()
        assert "read-only" in caught.value.hint


FILES = {b"d%d/e%d/f" % (number % 7, number): NOISE[number * 1000 : number * 1000 + 50_000] for number in range(60)}


def test_a_full_disk_under_the_cache_leaves_no_tree_and_works_once_there_is_space(mount: Mount) -> None:
    disk = mount("size=3m")
    store, table = packed(FILES)
    (disk / "ballast").write_bytes(NOISE[: 1 << 20])
    key = TreeKey("c", "v")
    with Cache(disk / "cache") as cache:
        with pytest.raises(StorageError, match="needs"):
            cache.get(key, lambda: [table], store.open, size=3_000_000)
        with pytest.raises(StorageError, match="No space") as caught:
            cache.get(key, lambda: [table], store.open)
        assert caught.value.kind == "no_space"
        assert not [name for name in everything(disk / "cache") if not name.startswith("locks/")]
        (disk / "ballast").unlink()
        with pytest.raises(StorageError, match="No space"):
            cache.get(key, lambda: [table], store.open)
        assert list((disk / "cache/trees/c").iterdir()) == []
        small = table.slice(0, 20)
        assert len(everything(cache.get(key, lambda: [small], store.open))) == 20


def test_a_full_disk_under_a_target_leaves_the_old_folder(mount: Mount) -> None:
    disk = mount("size=2m")
    store, table = packed(FILES)
    (disk / "t").mkdir()
    (disk / "t/old").write_bytes(b"old")
    with pytest.raises(StorageError, match="No space"):
        write_folder(disk / "t", lambda folder: extract([table], store.open, folder), overwrite=True)
    assert everything(disk) == ["t/old"]


def test_no_inodes_under_a_target_leave_the_old_folder(mount: Mount) -> None:
    disk = mount("size=64m,nr_inodes=60")
    store, table = packed(FILES)
    (disk / "t").mkdir()
    (disk / "t/old").write_bytes(b"old")
    with pytest.raises(StorageError, match="inodes"):
        write_folder(disk / "t", lambda folder: extract([table], store.open, folder), overwrite=True)
    assert everything(disk) == ["t/old"]


@pytest.mark.parametrize("what", ["cache", "target"])
def test_a_read_only_disk_is_told_before_anything_is_read(mount: Mount, what: str) -> None:
    disk = mount("size=2m,ro")
    asked: list[int] = []

    def ask() -> list[pa.Table]:
        asked.append(1)
        return []

    store = MemoryStore()
    attempts: dict[str, Callable[[], object]] = {
        "cache": lambda: Cache(disk / "cache").get(TreeKey("c", "v"), ask, store.open),
        "target": lambda: write_folder(disk / "t", lambda folder: extract(ask(), store.open, folder)),
    }
    with pytest.raises((StorageError, TargetError), match="Read-only") as caught:
        attempts[what]()
    assert "read-only" in caught.value.hint
    assert asked == []


def test_a_scratch_disk_that_is_full_is_named_and_leaves_nothing(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=2m")
    store = LocalStore(tmp_path / "store")
    with store.create("c") as sink, pytest.raises(DatasetError, match="No space") as caught:
        writer = ChunkWriter(sink, scratch=disk)
        writer.add(_Noise(), b"noise", 65 << 20)
    assert "temporary file" in str(caught.value)
    assert list(disk.iterdir()) == []
    assert everything(store.root) == []


class _Noise:
    """A stream without an end."""

    def read(self, size: int, /) -> bytes:
        return NOISE[:size]


KILLED = """
import os, signal, sys
from dataset_tasks.store.local import LocalStore
store = LocalStore(sys.argv[1])
real = getattr(os, sys.argv[2])
calls = [0]
def deadly(*args, **kwargs):
    calls[0] += 1
    if calls[0] == int(sys.argv[3]):
        if sys.argv[4] == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(os, sys.argv[2], deadly)
store.put("a/b", b"new" * 1000, create_only=sys.argv[5] == "create")
with store.create("a/c") as writer:
    writer.write(b"one")
    writer.write(b"two")
    writer.commit()
print("done")
"""


@pytest.mark.parametrize("mode", ["create", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("call", "number"),
    [
        (call, number)
        for call, count in (("open", 4), ("write", 3), ("fsync", 4), ("rename", 2), ("link", 1), ("mkdir", 2))
        for number in range(1, count + 1)
    ],
)
def test_a_writer_killed_at_any_call_leaves_whole_objects_or_none(
    tmp_path: Path, mode: str, when: str, call: str, number: int
) -> None:
    store = LocalStore(tmp_path / "store")
    if mode == "replace":
        store.put("a/b", b"old")
    arguments = [str(tmp_path / "store"), call, str(number), when, mode]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (-signal.SIGKILL, 0)
    allowed = {"a/b": [b"new" * 1000] + ([b"old"] if mode == "replace" else []), "a/c": [b"onetwo"]}
    seen = {key: store.get(key) for key, _ in store.list()}
    assert all(content in allowed[key] for key, content in seen.items())
    if mode == "replace":
        assert "a/b" in seen
    left = list(store.leftovers())
    assert len(left) <= 1
    for each in left:
        store.discard(each)
    assert everything(store.root) == sorted(seen)
    store.put("a/b", b"again")
    assert store.get("a/b") == b"again"


BUILDING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_storage as t
store, table = t.packed(t.FILES)
real = getattr(os, sys.argv[3])
calls = [0]
def deadly(*args, **kwargs):
    calls[0] += 1
    if calls[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(os, sys.argv[3], deadly)
t.Cache(sys.argv[2]).get(t.TreeKey("c", "v"), lambda: [table], store.open)
"""


@pytest.mark.parametrize(
    ("call", "number"), [("mkdir", 6), ("write", 1), ("write", 30), ("fchmod", 1), ("rename", 1), ("rename", 2)]
)
def test_a_maker_of_a_tree_killed_at_any_call_leaves_no_half_tree(tmp_path: Path, call: str, number: int) -> None:
    arguments = [str(Path(__file__).parent), str(tmp_path / "cache"), call, str(number)]
    done = subprocess.run([sys.executable, "-c", BUILDING, *arguments], capture_output=True, check=False)
    store, table = packed(FILES)
    with Cache(tmp_path / "cache") as cache:
        there = cache.find(TreeKey("c", "v"))
        assert there is None or len(everything(there)) == len(FILES)
        tree = cache.get(TreeKey("c", "v"), lambda: [table], store.open)
        assert {os.fsencode(name): (tree / name).read_bytes() for name in everything(tree)} == FILES
        assert not list(cache.root.rglob(".*"))
        assert done.returncode in (-signal.SIGKILL, 0)
