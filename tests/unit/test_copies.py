"""Copies from chunks into a folder: whole and verified, or an error that names every file; nothing beside the folder."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dataset_tasks import extraction
from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.copies import Copied, examine, extract
from dataset_tasks.errors import IntegrityError, StateError, StorageError, StorageUnavailableError, TargetError
from dataset_tasks.manifest.columns import entries
from dataset_tasks.members import Member, RangedReader
from dataset_tasks.targets import Target
from dataset_tasks.testing.memory_store import MemoryStore

DICE = random.Random(11)
ODD = [
    b"-rf", b"new\nline", b"tab\t", b"\x1b[31m", b"quote'\"", b"%s", b"?#", b"trailing.", b"trailing ", b" leading", b"x" * 255,
    "é".encode(), "e\u0301".encode(), "日本/語".encode(), b"con", b"a:b", b"*", b"A", b"a", b".hidden", b"...",
]  # fmt: skip


class Packed:
    """Files in chunks of a memory store, and their entries."""

    def __init__(self, files: dict[bytes, bytes], per_chunk: int = 1000) -> None:
        self.store = MemoryStore()
        self.files = dict(sorted(files.items()))
        self.members: list[Member] = []
        self.chunks: list[str] = []
        names = list(self.files)
        for start in range(0, len(names), per_chunk):
            key = f"c{start}"
            with self.store.create(key) as sink:
                writer = ChunkWriter(sink)
                for name in names[start : start + per_chunk]:
                    content = self.files[name]
                    self.members.append(writer.add(io.BytesIO(content), name, len(content)))
                    self.chunks.append(key)
                writer.finish()
                sink.commit()

    def table(self, rows: Sequence[int] | None = None, **changes: object) -> pa.Table:
        rows = range(len(self.members)) if rows is None else rows
        members = [self.members[row] for row in rows]
        columns: dict[str, object] = {
            "paths": [member.path for member in members],
            "sizes": [member.size for member in members],
            "hashes": [member.sha256 for member in members],
            "chunks": [self.chunks[row] for row in rows],
            "offsets": [member.offset for member in members],
            "stored": [member.stored for member in members],
            "methods": [member.method for member in members],
        }
        return entries(owner="0" * 32, **{**columns, **changes})  # type: ignore[arg-type]

    def tables(self, rows: int = 7) -> Iterator[pa.Table]:
        for start in range(0, len(self.members), rows):
            yield self.table(range(start, min(start + rows, len(self.members))))


def words(size: int) -> bytes:
    return (b"words and words, " * (size // 17 + 1))[:size]


@pytest.fixture
def packed() -> Packed:
    files = {b"dir%d/sub/f%03d" % (number % 3, number): words(number * 50) for number in range(60)}
    files |= {b"noise/%d" % number: DICE.randbytes(number * 100) for number in range(20)}
    files |= {b"empty": b"", b"big": DICE.randbytes(9 << 20), b"big.txt": words(9 << 20)}
    return Packed(files, 25)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def found(folder: Path) -> dict[bytes, bytes]:
    top = os.fsencode(folder)
    return {
        os.path.join(at, name)[len(top) + 1 :]: Path(os.fsdecode(os.path.join(at, name))).read_bytes()
        for at, _, names in os.walk(top)
        for name in names
    }


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_a_copy_holds_every_file_byte_for_byte(packed: Packed, target: Path, workers: int | None) -> None:
    copied = extract(packed.tables(), packed.store.open, target, workers=workers)
    assert found(target) == packed.files
    assert copied == Copied(files=len(packed.files), bytes=sum(map(len, packed.files.values())))


def test_odd_names_come_back_as_they_are(target: Path) -> None:
    packed = Packed({name: b"content of " + name for name in ODD} | {b"d/" + name: name for name in ODD})
    extract(packed.tables(), packed.store.open, target)
    assert found(target) == packed.files


def test_a_path_longer_than_the_system_takes_at_once_is_written(target: Path) -> None:
    deep = b"/".join([b"d" * 200] * 30) + b"/file"
    packed = Packed({deep: b"deep", b"a": b"a"})
    extract(packed.tables(), packed.store.open, target, read_only=True)
    with Target(target) as folder:
        fd = folder.open(deep)
        assert os.read(fd, 10) == b"deep"
        os.close(fd)


def test_entries_of_one_content_may_share_a_member(target: Path) -> None:
    packed = Packed({b"a": b"same" * 100, b"b": b"same" * 100, b"c": b"other"})
    packed.members[1] = packed.members[0]._replace(path=b"b")
    extract([packed.table()], packed.store.open, target)
    assert found(target) == packed.files


def test_an_empty_version_is_an_empty_folder(target: Path) -> None:
    assert extract([], MemoryStore().open, target) == Copied()
    assert list(target.iterdir()) == []


def test_neighbours_are_read_together(packed: Packed, target: Path) -> None:
    reads: list[int] = []

    class Counted:
        def __init__(self, key: str) -> None:
            self.reader = packed.store.open(key)

        def pread(self, offset: int, length: int) -> bytes:
            reads.append(length)
            return self.reader.pread(offset, length)

    small = [row for row, member in enumerate(packed.members) if member.size < 1 << 20]
    extract([packed.table(small)], Counted, target)
    assert len(reads) <= 6
    assert max(reads) <= (4 << 20) + (8 << 20)


def test_a_partial_copy_does_not_read_what_lies_far_between(packed: Packed, target: Path) -> None:
    wide = Packed({b"a": b"a", b"b": DICE.randbytes(1 << 20), b"c": b"c"})
    read: list[int] = []

    class Counted:
        def __init__(self, key: str) -> None:
            self.reader = wide.store.open(key)

        def pread(self, offset: int, length: int) -> bytes:
            read.append(length)
            return self.reader.pread(offset, length)

    extract([wide.table([0, 2])], Counted, target)
    assert read == [1, 1]
    assert found(target) == {b"a": b"a", b"c": b"c"}


@pytest.mark.parametrize(("mask", "modes"), [(0o022, (0o444, 0o555)), (0o077, (0o400, 0o500)), (0, (0o444, 0o555))])
def test_a_read_only_copy_can_t_be_written(packed: Packed, target: Path, mask: int, modes: tuple[int, int]) -> None:
    before = os.umask(mask)
    try:
        target.chmod(0o777 & ~mask)
        extract(packed.tables(), packed.store.open, target, read_only=True)
    finally:
        os.umask(before)
    for path in [target, *target.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == modes[path.is_dir()]


def test_a_copy_of_ones_own_can_be_written(packed: Packed, target: Path) -> None:
    extract(packed.tables(), packed.store.open, target)
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*")} == {0o644, 0o755}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_damaged_file_is_named_at_once_and_the_others_are_written(
    packed: Packed, target: Path, workers: int
) -> None:
    names = [b"big", b"big.txt", b"dir1/sub/f040", b"noise/7"]
    for name in names:
        row = list(packed.files).index(name)
        member = packed.members[row]
        data = bytearray(packed.store.objects[packed.chunks[row]])
        data[member.offset + member.stored // 2] ^= 1
        packed.store.objects[packed.chunks[row]] = bytes(data)
    with pytest.raises(IntegrityError, match="4 files are damaged") as caught:
        extract(packed.tables(), packed.store.open, target, workers=workers)
    assert caught.value.paths == tuple(name.decode() for name in names)
    assert all(name.decode() in caught.value.message for name in names)
    assert caught.value.hint
    assert found(target) == {name: content for name, content in packed.files.items() if name not in names}
    bad = examine(packed.tables(), packed.store.open, workers=workers)
    assert list(bad) == names
    assert all(name.decode() in bad[name] for name in names)


def test_a_chunk_that_was_cut_damages_only_what_lay_there(packed: Packed, target: Path) -> None:
    key = packed.chunks[-1]
    rows = [row for row, chunk in enumerate(packed.chunks) if chunk == key]
    cut = packed.members[rows[5]].offset + 1
    packed.store.objects[key] = packed.store.objects[key][:cut]
    lost = [packed.members[row].path for row in rows if packed.members[row].offset + packed.members[row].stored > cut]
    with pytest.raises(IntegrityError) as caught:
        extract([packed.table()], packed.store.open, target)
    assert [path.encode() for path in caught.value.paths] == lost
    assert len(found(target)) == len(packed.files) - len(lost)


def test_a_missing_chunk_damages_all_that_it_held(packed: Packed, target: Path) -> None:
    del packed.store.objects["c25"]
    lost = [packed.members[row].path for row, chunk in enumerate(packed.chunks) if chunk == "c25"]
    with pytest.raises(IntegrityError, match="25 files are damaged") as caught:
        extract(packed.tables(), packed.store.open, target)
    assert [path.encode() for path in caught.value.paths] == lost
    assert "and 20 more" in caught.value.message
    assert list(examine(packed.tables(), packed.store.open)) == lost


def test_a_store_that_does_not_answer_is_no_damage(packed: Packed, target: Path) -> None:
    def silent(_key: str) -> RangedReader:
        raise StorageUnavailableError("no answer")

    for attempt in (lambda: extract(packed.tables(), silent, target), lambda: examine(packed.tables(), silent)):
        with pytest.raises(StorageUnavailableError):
            attempt()


def test_a_sound_store_is_examined_without_a_finding(packed: Packed) -> None:
    assert examine(packed.tables(), packed.store.open) == {}


BAD = [b"../a", b"/a", b"a/../../b", b"a//b", b"./a", b"a/.", b"..", b"", b"a\0b", b"a\\b", b"C:/a", b"\xff"]


@pytest.mark.parametrize("path", BAD)
def test_a_manifest_with_a_path_that_is_none_is_refused_before_anything_is_written(target: Path, path: bytes) -> None:
    packed = Packed({b"fine": b"x", b"zzz": b"y"})
    table = packed.table()
    # what our own columns would never let through
    paths = pa.array([b"fine", path], pa.binary())
    table = table.set_column(0, "path", paths)
    for attempt in (lambda: extract([table], packed.store.open, target), lambda: examine([table], packed.store.open)):
        with pytest.raises(IntegrityError, match="manifest is damaged") as caught:
            attempt()
        assert len(caught.value.paths) == 1
    assert found(target) == {}
    assert found(target.parent) == {}


def test_a_pending_entry_is_refused_by_name(target: Path) -> None:
    packed = Packed({b"a": b"x", b"b": b"y"})
    table = packed.table(chunks=["c0", None])
    for attempt in (lambda: extract([table], packed.store.open, target), lambda: examine([table], packed.store.open)):
        with pytest.raises(StateError, match="b is not stored yet") as caught:
            attempt()
        assert caught.value.kind == "pending_uploads"


def test_a_link_is_refused_by_name_and_passed_over_by_examine(target: Path) -> None:
    packed = Packed({b"a": b"x", b"b": b"y"})
    table = packed.table(kinds=[0, 1], chunks=["c0", None], links=[None, "s3://bucket/b"])
    with pytest.raises(StateError, match="b is an external link") as caught:
        extract([table], packed.store.open, target)
    assert caught.value.hint
    assert examine([table], packed.store.open) == {}


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_stands_in_the_target_is_never_written_over(
    packed: Packed, target: Path, tmp_path: Path, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    place = target / "empty"
    {"file": lambda: place.write_bytes(b"mine"), "link": lambda: place.symlink_to(victim), "folder": place.mkdir}[
        kind
    ]()
    with pytest.raises(TargetError, match="empty") as caught:
        extract(packed.tables(), packed.store.open, target)
    assert caught.value.hint
    assert victim.read_bytes() == b"mine"
    if kind == "file":
        assert place.read_bytes() == b"mine"


def test_a_link_in_place_of_a_folder_is_not_followed(packed: Packed, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (target / "dir1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetError, match="dir1") as caught:
        extract(packed.tables(), packed.store.open, target)
    assert "link" in caught.value.hint
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_target_that_is_a_link_or_not_there_is_refused(packed: Packed, target: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(target)
    for place in (tmp_path / "link", tmp_path / "missing"):
        with pytest.raises(TargetError) as caught:
            extract(packed.tables(), packed.store.open, place)
        assert caught.value.hint
    assert list(target.iterdir()) == []


def test_a_name_that_the_target_can_t_hold_is_named(target: Path) -> None:
    packed = Packed({b"x" * 256: b""})
    with pytest.raises(TargetError, match="xxx") as caught:
        extract(packed.tables(), packed.store.open, target)
    assert "length" in caught.value.hint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"A", b"a"),
        (b"dir/File", b"dir/file"),
        ("é".encode(), "e\u0301".encode()),
        ("straße".encode(), b"STRASSE"),
        (b"a/x", b"A"),
        (b"A", b"a/b/c"),
    ],
)
def test_names_that_the_target_can_t_tell_apart_are_refused_before_either_is_written(
    target: Path, monkeypatch: pytest.MonkeyPatch, one: bytes, other: bytes
) -> None:
    monkeypatch.setattr(Target, "tells_apart", lambda _self: False)
    packed = Packed({one: b"1", other: b"2", b"between": b"3"})
    with pytest.raises(TargetError, match="can't tell") as caught:
        extract([packed.table()], packed.store.open, target)
    assert one.decode() in caught.value.message
    assert other.decode() in caught.value.message
    assert found(target) == {}


def test_other_names_are_fine_where_case_does_not_count(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "tells_apart", lambda _self: False)
    packed = Packed({b"Dir/a": b"1", b"Dir/b": b"2", b"dir2/a": b"3", b"x": b"4"})
    extract(packed.tables(2), packed.store.open, target)
    assert found(target) == packed.files


def test_whether_case_counts_is_found_out_by_trying(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Target(target) as folder:
        assert folder.tells_apart()
        monkeypatch.setattr(Target, "_exists", lambda _self, name: name.endswith("AÉ"))
        assert not folder.tells_apart()
        monkeypatch.setattr(Target, "_exists", lambda _self, name: name.endswith("ae\u0301"))
        assert not folder.tells_apart()
    assert list(target.iterdir()) == []


def test_offered_files_are_linked_and_the_others_written(packed: Packed, target: Path, tmp_path: Path) -> None:
    have = tmp_path / "have"
    have.write_bytes(packed.files[b"dir0/sub/f003"])
    gone = os.fsencode(tmp_path / "gone")

    def reuse(table: pa.Table) -> list[bytes | None]:
        offers = {b"dir0/sub/f003": os.fsencode(have), b"dir0/sub/f006": gone}
        return [offers.get(path) for path in table.column("path").to_pylist()]

    copied = extract(packed.tables(), packed.store.open, target, reuse=reuse)
    assert found(target) == packed.files
    assert (copied.linked, copied.files) == (1, len(packed.files))
    assert (target / "dir0/sub/f003").stat().st_ino == have.stat().st_ino


def test_an_offered_link_is_not_followed(packed: Packed, target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "link").symlink_to(secret)
    copied = extract([packed.table([0])], packed.store.open, target, reuse=lambda _: [os.fsencode(tmp_path / "link")])
    assert copied.linked == 1
    (made,) = [path for path in target.rglob("*") if not path.is_dir()]
    assert made.is_symlink()
    assert secret.stat().st_nlink == 1


def test_written_is_told_what_stands(packed: Packed, target: Path) -> None:
    told: dict[bytes, os.stat_result] = {}

    def written(table: pa.Table, stats: Sequence[os.stat_result]) -> None:
        told.update(zip(table.column("path").to_pylist(), stats, strict=True))

    extract(packed.tables(), packed.store.open, target, written=written, workers=3)
    assert set(told) == set(packed.files)
    for path, stats in told.items():
        now = os.stat(os.path.join(os.fsencode(target), path))
        assert (now.st_ino, now.st_size, now.st_mtime_ns) == (stats.st_ino, stats.st_size, stats.st_mtime_ns)


def test_progress_adds_up_to_the_whole(packed: Packed, target: Path) -> None:
    class Task:
        files = bytes = 0

        def advance(self, *, files: int = 0, bytes: int = 0) -> None:
            self.files += files
            self.bytes += bytes

        def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
            raise AssertionError

    for workers in (1, 4):
        task = Task()
        examine(packed.tables(), packed.store.open, workers=workers, task=task)
        assert (task.files, task.bytes) == (len(packed.files), sum(map(len, packed.files.values())))


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("dataset-tasks-copy")}


def test_an_interrupt_ends_the_threads(packed: Packed, target: Path) -> None:
    def interrupted() -> Iterator[pa.Table]:
        yield packed.table()
        assert _threads() > before
        raise KeyboardInterrupt

    before = _threads()
    with pytest.raises(KeyboardInterrupt):
        extract(interrupted(), packed.store.open, target, workers=4)
    assert _threads() <= before


def test_files_and_folders_are_closed_in_the_end(target: Path, count_open: Callable[[], int]) -> None:
    wide = Packed({b"d%d/e/f" % number: b"x" for number in range(200)})
    extract(wide.tables(), wide.store.open, target, workers=3)
    with pytest.raises(TargetError):
        extract(wide.tables(), wide.store.open, target)
    assert count_open() == 0


def test_a_full_disk_is_an_error_of_storage(packed: Packed, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space") as caught:
        extract(packed.tables(), packed.store.open, target)
    assert caught.value.kind == "no_space"


def test_a_small_member_that_inflates_much_is_streamed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Packed({b"zeros": bytes(32 << 20), b"a": b"x"})
    assert packed.members[1].stored < 1 << 20
    streamed: list[bytes] = []
    pieces = extraction.member_pieces
    monkeypatch.setattr(
        extraction, "member_pieces", lambda chunk, member: streamed.append(member.path) or pieces(chunk, member)
    )
    extract([packed.table()], packed.store.open, target)
    assert streamed == [b"zeros"]
    assert (target / "zeros").stat().st_size == 32 << 20


def test_hashes_are_really_looked_at(target: Path) -> None:
    packed = Packed({b"a": b"x" * 100})
    wrong = packed.table(hashes=[hashlib.sha256(b"y" * 100).digest()])
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        extract([wrong], packed.store.open, target)


def test_pandas_is_not_imported() -> None:
    import subprocess

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_copies as t, tempfile, dataset_tasks.cache; "
        "p = t.Packed({b'a': b'x'}); f = tempfile.mkdtemp(); "
        "t.extract(p.tables(), p.store.open, f); "
        "c = dataset_tasks.cache.Cache(tempfile.mkdtemp()); k = dataset_tasks.cache.TreeKey('c', 'v'); "
        "c.get(k, p.tables, p.store.open); "
        "c.get(dataset_tasks.cache.TreeKey('c', 'w'), p.tables, p.store.open, parents=[k]); c.get(k, p.tables, p.store.open); "
        "c.usage(); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, Path(__file__).parent], check=True)
