"""Scanning a source: what is taken, where it lands, in which order, and what can go wrong meanwhile."""

import hashlib
import json
import mmap
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import unicodedata
from pathlib import Path

import pytest

from dataset_tasks import hashing, statcache
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.scan import BATCH_ROWS, Scan, Source, open_source
from dataset_tasks.statcache import StatCache


def write(root, **files):
    for name, content in files.items():
        put(root / name, content)


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def scan(path, *, on_error="raise", max_workers=None, cache=None, task=None, **where):
    """Everything a scan yields, as {path: content hash}, and the scan."""
    scanned = Scan(Source.locate(path, **where), on_error=on_error, max_workers=max_workers, cache=cache, task=task)
    batches = list(scanned)
    found = [path for batch in batches for path in batch.path]
    assert found == sorted(set(found))
    assert [len(batch) for batch in batches[:-1]] == [BATCH_ROWS] * (len(batches) - 1)
    for batch in batches:
        assert len({len(getattr(batch, column)) for column in batch.__slots__}) == 1
        for row in range(len(batch)):
            status = os.stat(fd := open_source(batch.source[row]))
            os.close(fd)
            assert batch.size[row] == status.st_size
            assert (batch.device[row], batch.inode[row]) == (status.st_dev, status.st_ino)
            assert (batch.mtime_ns[row], batch.ctime_ns[row]) == (status.st_mtime_ns, status.st_ctime_ns)
    assert scanned.files == len(found)
    assert scanned.bytes == sum(size for batch in batches for size in batch.size)
    return dict(zip(found, [digest for batch in batches for digest in batch.hash], strict=True)), scanned


def hashes(**files):
    return {name.encode(): hashlib.sha256(content).digest() for name, content in files.items()}


def sha(content=b"x"):
    return hashlib.sha256(content).digest()


def run_python(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.strip()


def problems(caught):
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_folder_gives_all_its_files_hidden_and_empty_ones_too(tmp_path):
    files = {"a.txt": b"one", ".hidden/.x": b"two", "empty": b"", "sub/deep/b": b"three"}
    write(tmp_path, **files)
    found, scanned = scan(tmp_path)
    assert found == hashes(**files)
    assert scanned.read_bytes == scanned.bytes == 11
    assert scanned.notes == ()


def test_empty_folders_give_nothing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    found, scanned = scan(tmp_path)
    assert found == {}
    assert scanned.files == 0


def test_files_come_in_byte_order_of_their_whole_paths(tmp_path):
    names = ["a/z", "a.txt", "a-1/x", "a", "a b/c", "a0", "é/x", "é.txt", "z/\U0001f600", "z/\uffff"]
    names.remove("a")
    for name in names:
        put(tmp_path / name)
    found, _ = scan(tmp_path)
    assert list(found) == sorted(name.encode() for name in names)


def test_many_files_come_in_batches_of_equal_size(tmp_path):
    for folder in range(3):
        (tmp_path / f"d{folder}").mkdir()
        for at in range(1500):
            (tmp_path / f"d{folder}" / f"{at}").write_bytes(b"%d" % at)
    found, _ = scan(tmp_path)  # which checks the sizes
    assert len(found) == 4500
    assert found[b"d1/77"] == sha(b"77")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_large_files_are_hashed_right_and_in_order_whatever_the_number_of_threads(tmp_path, workers):
    files = {f"{at:02d}": os.urandom(1) * (at * 90_000) for at in range(20)}
    files["99"] = os.urandom(3 << 20) + b"end"
    write(tmp_path, **files)
    found, _ = scan(tmp_path, max_workers=workers)
    assert found == hashes(**files)


def test_files_that_must_be_waited_for_are_read_by_threads_with_the_same_result(tmp_path, monkeypatch):
    files = {f"{folder}/{at}": b"%d" % at for folder in range(3) for at in range(100)}
    write(tmp_path, **files)
    threads = set()
    hash_opened = hashing.hash_opened
    monkeypatch.setattr(hashing, "hash_opened", lambda *args: threads.add(threading.get_ident()) or hash_opened(*args))
    monkeypatch.setattr(hashing.Reader, "_slept", lambda *args: True)
    monkeypatch.setattr(hashing.time, "thread_time", lambda: 0.0)
    found, _ = scan(tmp_path)
    assert found == hashes(**files)
    assert len(threads) > 1


def test_sparse_files_are_read_without_holding_them_in_memory(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 << 20)
    reported = []

    class Task:
        def advance(self, *, files=0, bytes=0):
            reported.append((files, bytes))

    found, scanned = scan(tmp_path, task=Task())
    digest = hashlib.sha256()
    for _ in range(200):
        digest.update(bytes(1 << 20))
    assert found == {b"sparse": digest.digest()}
    assert sum(files for files, _ in reported) == 1
    assert sum(count for _, count in reported) == scanned.bytes == 200 << 20
    assert len(reported) > 10  # while it was read, not only at the end


def test_wildcards_and_excludes_choose_among_the_files(tmp_path):
    write(tmp_path, **{"a.txt": b"", "b.csv": b"", "sub/c.txt": b"", ".git/d.txt": b"", "sub/no.txt": b""})
    found, _ = scan(tmp_path, wildcard="*.txt", exclude=[".git", "no.*"])
    assert list(found) == [b"a.txt", b"sub/c.txt"]


def test_without_recursion_only_the_top_is_taken(tmp_path):
    write(tmp_path, **{"a.txt": b"", "sub/c.txt": b""})
    assert list(scan(tmp_path, recursive=False)[0]) == [b"a.txt"]
    assert list(scan(tmp_path, wildcard="*/*.txt", recursive=False)[0]) == [b"sub/c.txt"]


# --- names -----------------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "new\nline",
    "tab\tesc\x1b[2J",
    "quote'\"`",
    "-rf",
    " spaces ",
    "%s%n{0}",
    "'; DROP TABLE x; --",
    "x" * 255,
    "é" * 127,
    "CON",
    "dot.",
    "\u202egnp.exe",
    "a:b",
]


def test_odd_names_come_through_unchanged(tmp_path):
    for name in ODD_NAMES:
        put(tmp_path / "f" / name, name.encode())
    found, _ = scan(tmp_path)
    assert found == {f"f/{name}".encode(): sha(name.encode()) for name in ODD_NAMES}


def test_two_unicode_forms_of_one_name_are_both_kept_and_noted(tmp_path):
    twins = [unicodedata.normalize(form, "café.txt") for form in ("NFC", "NFD")]
    for twin in twins:
        put(tmp_path / twin, twin.encode())
    found, scanned = scan(tmp_path)
    assert found == {twin.encode(): sha(twin.encode()) for twin in twins}
    assert len(scanned.notes) == 1
    assert "only by case or Unicode form" in scanned.notes[0]


def test_names_that_differ_by_case_only_are_both_kept_and_noted(tmp_path):
    write(tmp_path, **{"README": b"1", "readme": b"2", "Sub/x": b"", "sub/y": b""})
    found, scanned = scan(tmp_path)
    assert list(found) == [b"README", b"Sub/x", b"readme", b"sub/y"]
    assert len(scanned.notes) == 2


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        (b"back\\slash", "back\\\\slash", "holds a backslash"),
        (b"latin\xe9\n", "latin\\xe9\\n", "is not UTF-8"),
    ],
)
def test_a_name_that_no_dataset_path_can_hold_is_an_error_that_shows_it_escaped(tmp_path, name, shown, why):
    for folder in (b"", b"sub/"):
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder + name)))
    write(tmp_path, good=b"1")
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert caught.value.paths == (f"{tmp_path}/{shown}", f"{tmp_path}/sub/{shown}")
    assert problems(caught)[0] == f"{tmp_path}/{shown}: its dataset path would be wrong: it {why}"
    assert caught.value.kind == "source"
    found, scanned = scan(tmp_path, on_error="skip")
    assert list(found) == [b"good"]
    assert len(scanned.skipped) == 2
    assert list(scan(tmp_path, exclude=[os.fsdecode(name).replace("\\", "?")])[0]) == [b"good"]


def test_files_in_a_folder_whose_name_is_wrong_are_each_named(tmp_path):
    put(tmp_path / "a\\b" / "x.txt")
    put(tmp_path / "a\\b" / "y.csv")
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert len(caught.value.paths) == 2
    assert scan(tmp_path, wildcard="*.bin")[0] == {}


def test_a_first_folder_named_like_a_drive_is_an_error_below_a_dataset_path_it_is_not(tmp_path):
    put(tmp_path / "C:" / "x")
    with pytest.raises(SourceError, match="starts with a drive"):
        scan(tmp_path)
    assert list(scan(tmp_path, dataset_path="d")[0]) == [b"d/C:/x"]


# --- where it lands --------------------------------------------------------------------------------------------------


def test_files_land_under_the_dataset_path(tmp_path):
    write(tmp_path, **{"a": b"", "b/c": b""})
    assert list(scan(tmp_path, dataset_path="\\x//y/")[0]) == [b"x/y/a", b"x/y/b/c"]
    assert list(scan(tmp_path, dataset_path="/")[0]) == [b"a", b"b/c"]


def test_files_land_under_their_path_relative_to_the_base_folder(tmp_path):
    write(tmp_path, **{"b/c/d": b""})
    assert list(scan(tmp_path / "b" / "c", local_base_folder=tmp_path)[0]) == [b"b/c/d"]
    assert list(scan(tmp_path / "b", local_base_folder=tmp_path / "b", dataset_path="x")[0]) == [b"x/c/d"]
    assert list(scan(tmp_path / "b", local_base_folder=tmp_path, dataset_path="x")[0]) == [b"x/b/c/d"]


def test_a_single_file_lands_under_its_name(tmp_path):
    file = put(tmp_path / "sub" / "f.txt", b"one")
    found, scanned = scan(file)
    assert found == {b"f.txt": sha(b"one")}
    assert scanned.files == 1
    assert list(scan(file, dataset_path="x/y")[0]) == [b"x/y/f.txt"]
    assert list(scan(file, local_base_folder=tmp_path)[0]) == [b"sub/f.txt"]
    assert list(scan(file, local_base_folder=tmp_path, dataset_path="x")[0]) == [b"x/sub/f.txt"]
    assert list(scan(file, local_base_folder=file)[0]) == [b"f.txt"]


def test_wildcards_are_ignored_for_a_single_file(tmp_path):
    file = put(tmp_path / "f.txt")
    assert list(scan(file, wildcard="*.csv", exclude="f*", recursive=False)[0]) == [b"f.txt"]


def test_relative_paths_count_from_the_working_folder(tmp_path, monkeypatch):
    put(tmp_path / "sub" / "f.txt")
    monkeypatch.chdir(tmp_path)
    assert list(scan("sub")[0]) == [b"f.txt"]
    assert list(scan("sub", local_base_folder=".")[0]) == [b"sub/f.txt"]
    assert list(scan(Path("sub/../sub/f.txt"))[0]) == [b"f.txt"]


@pytest.mark.parametrize("base", ["other", "sub/deep", "missing", "su", "sub/f.txt"])
def test_a_base_folder_that_is_not_above_is_refused_before_anything_is_read(tmp_path, base):
    put(tmp_path / "other" / "x")
    put(tmp_path / "sub" / "deep" / "y")
    put(tmp_path / "sub" / "f.txt")
    with pytest.raises(InvalidArgumentError, match="is not above") as caught:
        Source.locate(tmp_path / "sub", local_base_folder=tmp_path / base)
    assert caught.value.hint


def test_a_path_that_is_a_link_is_resolved_first(tmp_path):
    put(tmp_path / "real" / "f.txt", b"one")
    (tmp_path / "folder-link").symlink_to("real")
    (tmp_path / "file-link").symlink_to("real/f.txt")
    assert list(scan(tmp_path / "folder-link")[0]) == [b"f.txt"]
    assert list(scan(tmp_path / "file-link")[0]) == [b"f.txt"]
    assert list(scan(tmp_path / "folder-link", local_base_folder=tmp_path)[0]) == [b"real/f.txt"]


def test_a_link_above_path_and_base_does_not_matter(tmp_path):
    put(tmp_path / "real" / "sub" / "f.txt")
    (tmp_path / "link").symlink_to("real")
    assert list(scan(tmp_path / "link" / "sub", local_base_folder=tmp_path / "real")[0]) == [b"sub/f.txt"]
    assert list(scan(tmp_path / "real" / "sub", local_base_folder=tmp_path / "link")[0]) == [b"sub/f.txt"]
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "way").symlink_to("../real")
    assert list(scan(tmp_path / "in" / "way" / "sub", local_base_folder=tmp_path / "in")[0]) == [b"way/sub/f.txt"]
    assert list(scan(tmp_path / "in/way/sub/f.txt", local_base_folder=tmp_path / "in")[0]) == [b"way/sub/f.txt"]


@pytest.mark.parametrize("wrong", [{"dataset_path": "../x"}, {"wildcard": ""}, {"exclude": ["a/../b"]}])
def test_wrong_arguments_are_refused_before_the_path_is_looked_at(wrong):
    with pytest.raises(InvalidArgumentError):
        Source.locate("/nowhere", **wrong)


@pytest.mark.parametrize(("path", "why"), [("", "is empty"), ("a\0b", "holds a NUL byte"), ("\ud800", "no file name")])
def test_what_can_not_be_a_path_is_refused(path, why):
    with pytest.raises(InvalidArgumentError, match=why):
        Source.locate(path)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    for missing in (tmp_path / "no", put(tmp_path / "file") / "below"):
        with pytest.raises(SourceError, match="There is no") as caught:
            Source.locate(missing)
        assert caught.value.paths == (str(missing),)
        assert caught.value.hint


def test_a_path_that_is_a_broken_link_is_an_error(tmp_path):
    (tmp_path / "dangling").symlink_to("no")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceError, match="a link that leads nowhere"):
        Source.locate(tmp_path / "dangling")
    with pytest.raises(SourceError, match="a loop of links"):
        Source.locate(tmp_path / "loop")


def test_a_fifo_as_the_path_itself_is_an_error_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path in ("fifo", "link", "/dev/null"):
        with pytest.raises(SourceError, match="neither a file nor a folder"):
            Source.locate(tmp_path / path)


def test_a_base_that_makes_a_wrong_dataset_path_is_an_error(tmp_path):
    put(tmp_path / "a\\b" / "sub" / "x")
    with pytest.raises(SourceError, match="holds a backslash"):
        Source.locate(tmp_path / "a\\b" / "sub", local_base_folder=tmp_path)


# --- what is not a file ----------------------------------------------------------------------------------------------


def test_fifos_sockets_and_devices_are_left_out_never_opened_and_noted(tmp_path, monkeypatch):
    write(tmp_path, a=b"1", z=b"2")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to-fifo").symlink_to("fifo")
    (tmp_path / "to-device").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        found, scanned = scan(tmp_path)
    assert list(found) == [b"a", b"z"]
    assert {note.split(": ")[0].rpartition("/")[2] for note in scanned.notes} == {
        "fifo", "socket", "to-fifo", "to-device",
    }  # fmt: skip
    assert scanned.skipped == ()
    assert scan(tmp_path, wildcard="[az]")[1].notes == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="making devices is for root")
def test_a_device_is_left_out(tmp_path):
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices in this container")
    found, scanned = scan(tmp_path)
    assert found == {}
    assert "left out" in scanned.notes[0]


def test_links_to_files_are_stored_as_content(tmp_path):
    outside = put(tmp_path / "outside", b"far")
    root = tmp_path / "root"
    write(root, near=b"near")
    (root / "far-link").symlink_to(outside)
    (root / "near-link").symlink_to("near")
    (root / "chain").symlink_to("near-link")
    found, _ = scan(root)
    assert found == hashes(**{"far-link": b"far", "near": b"near", "near-link": b"near", "chain": b"near"})


def test_linked_folders_are_not_entered_but_noted(tmp_path):
    root = tmp_path / "root"
    put(root / "sub" / "x")
    put(tmp_path / "outside" / "y")
    (root / "sub" / "up").symlink_to("..")
    (root / "out").symlink_to("../outside")
    found, scanned = scan(root)
    assert list(found) == [b"sub/x"]
    assert sorted(scanned.notes) == [
        f"{root}/out: a link to a folder: not entered",
        f"{root}/sub/up: a link to a folder: not entered",
    ]


def test_loops_and_dangling_links_are_errors_that_name_them(tmp_path):
    write(tmp_path, good=b"1")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "dangling").symlink_to("no\nwhere")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "through").symlink_to("../good/x")
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert problems(caught) == [
        f"{tmp_path}/a: is part of a loop of links",
        f"{tmp_path}/b: is part of a loop of links",
        f"{tmp_path}/dangling: is a link to no\\nwhere, which does not exist",
        f"{tmp_path}/sub/through: is a link to ../good/x, which does not exist",
    ]
    assert caught.value.paths == tuple(f"{tmp_path}/{name}" for name in ("a", "b", "dangling", "sub/through"))
    found, scanned = scan(tmp_path, on_error="skip")
    assert list(found) == [b"good"]
    assert [str(problem) for problem in scanned.skipped] == problems(caught)


def test_files_that_hold_more_than_their_size_are_errors(tmp_path):
    with pytest.raises(SourceError, match="says that it has 0 bytes, but"):
        scan("/proc/self/limits")


# --- permissions -----------------------------------------------------------------------------------------------------

SCAN_AS_NOBODY = """
import json, os, sys
from dataset_tasks.errors import SourceError
from dataset_tasks.scan import Scan, Source
if os.geteuid() == 0:  # for whom permissions mean nothing; dropped only here: nobody may not read this Python either
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
scan = None
try:
    scan = Scan(Source.locate(sys.argv[1]), on_error=sys.argv[2])
    found = [path.decode() for batch in scan for path in batch.path]
    print(json.dumps({"found": found, "skipped": [str(problem) for problem in scan.skipped]}))
except SourceError as error:
    print(json.dumps({"error": error.message, "paths": error.paths, "read": scan and scan.read_bytes}))
"""


@pytest.fixture
def shared():
    """A folder that nobody may enter, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        for path in [folder, *Path(folder).rglob("*")]:
            os.chmod(path, 0o755)


def scan_as_nobody(path, on_error="raise"):
    return json.loads(run_python(SCAN_AS_NOBODY, path, on_error))


def test_all_that_can_not_be_read_is_named_at_once(shared):
    write(shared, **{"a": b"1", "no1": b"2", "open/x": b"3", "open/no2": b"4", "shut/y": b"5", "z": b"6"})
    for name in ("no1", "open/no2", "shut"):
        (shared / name).chmod(0)
    result = scan_as_nobody(shared)
    assert result["paths"] == [f"{shared}/no1", f"{shared}/open/no2", f"{shared}/shut"]
    assert result["error"].splitlines() == [
        "3 sources can't be added:",
        *(f"  {path}: Permission denied" for path in result["paths"]),
    ]


def test_what_can_not_be_read_is_left_out_and_recorded_when_asked_for(shared):
    write(shared, **{"a": b"1", "no1": b"2", "shut/y": b"5", "z": b"6"})
    for name in ("no1", "shut"):
        (shared / name).chmod(0)
    result = scan_as_nobody(shared, "skip")
    assert result["found"] == ["a", "z"]
    assert result["skipped"] == [f"{shared}/no1: Permission denied", f"{shared}/shut: Permission denied"]


def test_a_folder_that_can_be_listed_but_not_entered_names_its_files(shared):
    write(shared, **{"half/x": b"1", "half/y": b"2"})
    (shared / "half").chmod(0o444)
    assert scan_as_nobody(shared)["paths"] == [f"{shared}/half/x", f"{shared}/half/y"]


def test_a_root_that_can_not_be_read_is_an_error_also_when_skipping(shared):
    write(shared, **{"shut/x": b"1"})
    (shared / "shut").chmod(0)
    for on_error in ("raise", "skip"):
        assert "can't be read: Permission denied" in scan_as_nobody(shared / "shut", on_error)["error"]


def test_a_single_file_can_be_read_in_a_folder_that_can_only_be_passed_through(shared):
    write(shared, **{"pass/x": b"1"})
    (shared / "pass").chmod(0o711)
    assert scan_as_nobody(shared / "pass" / "x")["found"] == ["x"]


# --- changes meanwhile -----------------------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch):
    """Does something once, just before a file is read: `meanwhile(size, act)` for the first file of that size."""

    def install(size, act):
        hash_opened = hashing.hash_opened
        todo = [act]

        def hooked(fd, before, on_block):
            if before.st_size == size and todo:
                todo.pop()()
            return hash_opened(fd, before, on_block)

        monkeypatch.setattr(hashing, "hash_opened", hooked)

    return install


def touch_later(path, seconds=5):
    """Sets the mtime as a write some time later would."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


@pytest.mark.parametrize("size", [7, 400_000, 1_500_000])
@pytest.mark.parametrize("change", ["rewritten", "grown", "truncated", "replaced in place with old times"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, meanwhile, size, change):
    file = put(tmp_path / "busy", b"a" * size)
    write(tmp_path, a=b"1", z=b"2")
    before = file.stat()

    def act():
        with file.open("r+b") as out:
            if change == "grown":
                out.seek(0, os.SEEK_END)
            if change == "truncated":
                out.truncate(size // 2)
            else:
                out.write(b"b" * size)
        if change.endswith("old times"):
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            touch_later(file)

    meanwhile(size, act)
    os.utime(file, ns=(0, 0))
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert problems(caught) == [f"{file}: changed while it was read"]
    assert caught.value.paths == (str(file),)


def test_a_file_that_changes_is_left_out_when_skipping(tmp_path, meanwhile):
    file = put(tmp_path / "busy", b"1234567")
    write(tmp_path, a=b"1", z=b"2")
    meanwhile(7, lambda: (file.write_bytes(b"7654321"), touch_later(file)))
    found, scanned = scan(tmp_path, on_error="skip")
    assert found == hashes(a=b"1", z=b"2")
    assert len(scanned.skipped) == 1


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(tmp_path, meanwhile):
    file = put(tmp_path / "root" / "f", b"old old")
    new = put(tmp_path / "new", b"brand new")
    meanwhile(7, lambda: os.replace(new, file))
    os.utime(file, ns=(0, 0))
    with pytest.raises(SourceError, match="changed while it was read"):
        list(Scan(Source.locate(tmp_path / "root")))


def after_listing(monkeypatch, act):
    """Does something after the folders were listed and before a file is opened."""
    open_file = hashing.open_file
    todo = [act]

    def hooked(*args, **kwargs):
        if todo:
            todo.pop()()
        return open_file(*args, **kwargs)

    monkeypatch.setattr(hashing, "open_file", hooked)


def replaced_by(kind):
    def act(file):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "fifo":
            os.mkfifo(file)
        elif kind == "link":
            file.symlink_to("/etc/hostname")

    return act


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("nothing", "vanished while it was scanned"),
        ("folder", "was replaced by something else while it was scanned"),
        ("fifo", "was replaced by something else while it was scanned"),
        ("link", "was replaced by something else while it was scanned"),
    ],
)
def test_a_file_that_is_gone_or_something_else_when_it_is_opened_is_an_error(tmp_path, monkeypatch, kind, why):
    write(tmp_path, a=b"1", b=b"2")
    after_listing(monkeypatch, lambda: replaced_by(kind)(tmp_path / "b"))
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert problems(caught) == [f"{tmp_path}/b: {why}"]


@pytest.mark.parametrize(("kind", "why"), [("gone", "vanished"), ("link", "was replaced"), ("file", "was replaced")])
def test_a_folder_that_is_gone_or_something_else_when_it_is_entered_is_an_error(tmp_path, monkeypatch, kind, why):
    outside = put(tmp_path / "outside" / "secret").parent
    root = tmp_path / "root"
    write(root, **{"a": b"1", "sub/x": b"2"})

    def act():
        (root / "sub").rename(tmp_path / "moved")
        if kind == "link":
            (root / "sub").symlink_to(outside)
        elif kind == "file":
            put(root / "sub")

    after_listing(monkeypatch, act)
    with pytest.raises(SourceError) as caught:
        scan(root)
    assert problems(caught) == [
        f"{root}/sub: {why} {'by something else ' if why != 'vanished' else ''}while it was scanned"
    ]


def test_once_it_is_sure_to_fail_files_are_looked_at_but_not_read(tmp_path):
    (tmp_path / "a").symlink_to("nowhere")
    for at in range(10):
        put(tmp_path / "sub" / f"f{at}", b"x" * 1000)
    (tmp_path / "z").symlink_to("nowhere")
    scanned = Scan(Source.locate(tmp_path))
    with pytest.raises(SourceError) as caught:
        list(scanned)
    assert scanned.read_bytes == 0
    assert len(caught.value.paths) == 2


def test_a_long_list_of_problems_is_cut_in_the_message_only(tmp_path):
    for at in range(150):
        (tmp_path / f"{at:03d}").symlink_to("nowhere")
    with pytest.raises(SourceError) as caught:
        scan(tmp_path)
    assert len(caught.value.paths) == 150
    assert caught.value.message.splitlines()[-1] == "  and 50 more"


# --- limits of the machine -------------------------------------------------------------------------------------------


def test_a_tree_deeper_than_a_path_can_be_is_scanned_whole(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 200
    try:
        for depth in range(40):
            for leaf in ("0", "z"):
                fd = os.open(leaf, os.O_WRONLY | os.O_CREAT, dir_fd=here)
                os.write(fd, b"%d" % depth)
                os.close(fd)
            os.mkdir(name, dir_fd=here)
            inner = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    found, _ = scan(tmp_path)
    assert len(found) == 80
    assert max(map(len, found)) > os.pathconf(tmp_path, "PC_PATH_MAX")
    deepest = b"/".join([name.encode()] * 39)
    assert found[deepest + b"/0"] == found[deepest + b"/z"] == sha(b"39")
    remove_deep(tmp_path, name)


def remove_deep(root, name):
    subprocess.run(["rm", "-rf", name], check=True, cwd=root)


def test_depth_costs_neither_recursion_nor_open_files(tmp_path, monkeypatch, request, count_open):
    request.addfinalizer(lambda: remove_deep(tmp_path, "d"))  # deeper than what pytest can remove
    depth = sys.getrecursionlimit() + 500
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    most = 0

    def count(*_args):
        nonlocal most
        most = max(most, count_open())
        return ""

    first_fault = hashing.open_file
    monkeypatch.setattr(hashing, "open_file", lambda *a, **k: (count(), first_fault(*a, **k))[1])
    scanned = Scan(Source.locate(tmp_path))
    (batch,) = list(scanned)
    assert batch.path == [b"d/" * depth + b"leaf"]
    assert 0 < most < 30


def test_a_folder_that_was_swapped_while_the_walk_was_far_below_is_noticed(tmp_path):
    """Its descriptor is given up in between, and what is opened again must be the same folder."""
    root = tmp_path / "root"
    deep = root / "a" / "/".join("d" * 60)
    put(deep / "leaf")
    put(root / "a" / "z")
    put(tmp_path / "other" / "z", b"other")
    scanned = Scan(Source.locate(root), max_workers=1)
    walk = scanned._walk()
    scanned._walk = lambda: swapping(walk)

    def swapping(files):
        for found in files:
            if found.names == [b"leaf"]:
                (root / "a").rename(tmp_path / "was-a")
                (tmp_path / "other").rename(root / "a")
            yield found

    with pytest.raises(SourceError, match=f"{root}/a: was moved or replaced"):
        list(scanned)


def test_few_open_files_are_enough(tmp_path):
    for at in range(60):
        put(tmp_path / "/".join(f"{at:02d}abcdefgh") / "x", b"y" * 300_000)
        put(tmp_path / "many" / f"{at:02d}", b"z" * 300_000)
    script = """
import resource, sys
from dataset_tasks.scan import Scan, Source
from dataset_tasks.statcache import StatCache
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
with StatCache(sys.argv[2]) as cache:
    print(sum(len(batch) for batch in Scan(Source.locate(sys.argv[1]), cache=cache)))
"""
    assert run_python(script, tmp_path, tmp_path.parent / "cache") == "120"


def test_running_out_of_open_files_is_never_skipped(tmp_path):
    write(tmp_path, a=b"1", b=b"2")
    script = """
import os, resource, sys
from dataset_tasks.errors import SourceError
from dataset_tasks.scan import Scan, Source
source = Source.locate(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
walk = Scan(source, on_error="skip")
rows = iter(walk)
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    os.close(held.pop())  # one is enough to open the folder, but not to list it
try:
    list(rows)
except SourceError as error:
    print(error.message, error.hint)
"""
    said = run_python(script, tmp_path)
    assert "Too many open files" in said
    assert "ulimit -n" in said


def scan_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("dataset-tasks-scan")}


def test_giving_up_in_the_middle_closes_everything(tmp_path, count_open, monkeypatch):
    monkeypatch.setattr("dataset_tasks.scan._ROWS_AHEAD", 500)
    monkeypatch.setattr("dataset_tasks.scan.BATCH_ROWS", 1000)
    for at in range(40):
        for big in range(8):
            put(tmp_path / f"{at:02d}" / f"big{big}", bytes(400_000))
        for small in range(150):
            put(tmp_path / f"{at:02d}" / f"{small}", b"x")
    before = scan_threads()
    rows = iter(Scan(Source.locate(tmp_path)))
    next(rows)
    assert count_open()  # the walk is not over yet
    rows.close()
    assert count_open() == 0
    assert scan_threads() <= before


def test_giving_up_closes_what_no_thread_has_begun_to_read(tmp_path, monkeypatch, count_open):
    names = [b"a", b"b", b"c", b"d"]
    for name in names:
        put(tmp_path / name.decode(), bytes(300_000))
    folder = os.open(tmp_path, os.O_RDONLY)
    hash_opened = hashing.hash_opened
    with hashing.Reader(2, lambda count: None) as reader:
        monkeypatch.setattr(hashing, "hash_opened", lambda *args: (reader._stop.wait(), hash_opened(*args))[1])
        for name in names:  # two are begun, two wait
            reader.read([name], folder, frozenset())
        assert count_open() == 1 + 4
    assert count_open() == 1
    os.close(folder)


def test_what_waits_behind_a_slow_file_is_bounded(tmp_path, monkeypatch):
    put(tmp_path / "0-slow", b"x" * 300_000)
    for at in range(300):
        put(tmp_path / f"{at // 10:02d}" / f"{at}")
    monkeypatch.setattr("dataset_tasks.scan._ROWS_AHEAD", 50)
    hash_opened, wait, is_waited_for = hashing.hash_opened, hashing.Reading.wait, threading.Event()

    def slow(fd, before, on_block):
        if before.st_size == 300_000:
            is_waited_for.wait()
        return hash_opened(fd, before, on_block)

    ahead = []
    monkeypatch.setattr(hashing, "hash_opened", slow)
    monkeypatch.setattr(
        hashing.Reading, "wait", lambda self: (ahead.append(scanned._rows_ahead), is_waited_for.set(), wait(self))
    )
    scanned = Scan(Source.locate(tmp_path), max_workers=2)
    (batch,) = list(scanned)
    assert len(batch) == 301
    assert 50 <= max(ahead) <= 60


def test_a_busy_machine_is_not_taken_for_a_slow_disk(monkeypatch):
    class Usage:
        def __init__(self, blocks, sleeps):
            self.ru_inblock, self.ru_nvcsw = blocks, sleeps

    def slept(blocks, sleeps):
        monkeypatch.setattr(hashing.resource, "getrusage", lambda who: Usage(blocks, sleeps))
        return hashing.Reader(2, lambda count: None)._slept(100, Usage(0, 0))

    assert not slept(blocks=0, sleeps=3)
    assert slept(blocks=8, sleeps=3)
    assert slept(blocks=0, sleeps=100)


def test_giving_up_ends_the_reading_of_a_huge_file(tmp_path):
    """A terabyte of holes: read to its end it would take a quarter of an hour."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    started = threading.Event()

    class Task:
        def advance(self, *, files=0, bytes=0):
            started.set()

    scanned = Scan(Source.locate(tmp_path), task=Task())
    walk = scanned._walk

    def interrupted():
        yield from walk()
        started.wait()
        raise KeyboardInterrupt

    scanned._walk = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(scanned)


def test_the_source_is_not_written_to(tmp_path):
    write(tmp_path, **{"a": b"1", "sub/b": b"2"})
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    scan(tmp_path)
    for path, status in before.items():
        now = path.stat()
        assert (now.st_mtime_ns, now.st_ctime_ns, now.st_mode) == (
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_mode,
        )


def test_dates_out_of_all_reason_do_no_harm(tmp_path):
    file = put(tmp_path / "f")
    try:
        os.utime(file, ns=(0, 10**10 * 10**9))  # in 2286: more nanoseconds than 63 bits hold
    except OSError:
        pytest.skip("this file system has no such dates")
    if file.stat().st_mtime_ns < 1 << 63:
        pytest.skip("this file system has no such dates")
    with StatCache(tmp_path / "cache") as cache:
        (batch,) = list(Scan(Source.locate(file), cache=cache))
    assert batch.mtime_ns == [(1 << 63) - 1]


# --- with the stat cache ---------------------------------------------------------------------------------------------


def later():
    """A clock that says that all files of this test are old."""
    import time

    return time.time_ns() + 3600 * 10**9


@pytest.fixture
def kept_in_memory_too(monkeypatch):
    """For tests of what is kept, wherever their folders lie."""
    monkeypatch.setattr(statcache, "FORGETFUL", frozenset())


def cached_scan(root, folder, **options):
    with StatCache(folder, clock=later) as cache:
        return scan(root, cache=cache, **options)


@pytest.mark.usefixtures("kept_in_memory_too")
def test_unchanged_files_are_not_read_again(tmp_path):
    root = tmp_path / "root"
    files = {"a": b"1", "sub/b": b"22", "sub/c": b"3" * 300_000}
    write(root, **files)
    (root / "link").symlink_to("a")
    files["link"] = b"1"
    first, scanned = cached_scan(root, tmp_path / "cache")
    assert scanned.read_bytes == scanned.bytes
    second, scanned = cached_scan(root, tmp_path / "cache")
    assert scanned.read_bytes == 0
    assert first == second == hashes(**files)
    single, scanned = cached_scan(root / "sub" / "b", tmp_path / "cache")
    assert scanned.read_bytes == 0
    assert single == hashes(b=b"22")


@pytest.mark.usefixtures("kept_in_memory_too")
def test_only_what_changed_is_read_again(tmp_path):
    root = tmp_path / "root"
    write(root, **{"a": b"1", "b": b"22", "sub/c": b"333"})
    cached_scan(root, tmp_path / "cache")
    write(root, b=b"44", new=b"5555")
    (root / "a").unlink()
    found, scanned = cached_scan(root, tmp_path / "cache")
    assert found == hashes(**{"b": b"44", "new": b"5555", "sub/c": b"333"})
    assert scanned.read_bytes == 6


@pytest.mark.usefixtures("kept_in_memory_too")
def test_content_that_changed_behind_the_same_size_and_mtime_is_noticed(tmp_path):
    root = tmp_path / "root"
    write(root, a=b"1111")
    status = (root / "a").stat()
    cached_scan(root, tmp_path / "cache")
    (root / "a").write_bytes(b"2222")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cached_scan(root, tmp_path / "cache")[0] == hashes(a=b"2222")


@pytest.mark.usefixtures("kept_in_memory_too")
def test_files_touched_just_before_they_were_read_are_read_again(tmp_path):
    root = tmp_path / "root"
    write(root, a=b"1111")
    for _ in range(2):
        with StatCache(tmp_path / "cache", clock=lambda: (root / "a").stat().st_mtime_ns + 10**9) as cache:
            _, scanned = scan(root, cache=cache)
        assert scanned.read_bytes == 4


def test_a_file_that_is_written_through_a_map_while_its_page_waits_for_the_disk_is_read_again(tmp_path):
    """The second write leaves size, times and inode as the first one made them."""
    half_a_minute = 30 * 10**9
    (tmp_path / "root").mkdir()
    file = tmp_path / "root" / "a"
    with file.open("w+b") as opened:
        opened.write(b"1" * 4096)
        opened.flush()
        with mmap.mmap(opened.fileno(), 4096) as mapped:
            mapped[0:1] = b"2"
            before = file.stat()
            with StatCache(tmp_path / "cache", clock=lambda: before.st_mtime_ns + half_a_minute) as cache:
                assert scan(tmp_path / "root", cache=cache)[0] == hashes(a=b"2" + b"1" * 4095)
            mapped[0:1] = b"3"
            assert cached_scan(tmp_path / "root", tmp_path / "cache")[0] == hashes(a=b"3" + b"1" * 4095)


@pytest.mark.usefixtures("kept_in_memory_too")
def test_a_known_file_that_became_something_else_is_an_error(tmp_path):
    root = tmp_path / "root"
    write(root, a=b"1", b=b"2")
    cached_scan(root, tmp_path / "cache")
    with StatCache(tmp_path / "cache", clock=later) as cache:
        known = cache.known

        def hooked(*args):
            (root / "a").unlink()
            os.mkfifo(root / "a")
            (root / "b").unlink()
            return known(*args)

        cache.known = hooked
        with pytest.raises(SourceError) as caught:
            scan(root, cache=cache)
    assert problems(caught) == [
        f"{root}/a: was replaced by something else while it was scanned",
        f"{root}/b: vanished while it was scanned",
    ]


def test_a_scan_loads_no_pyarrow():
    script = "import dataset_tasks.scan, sys; print('pyarrow' in sys.modules, 'pandas' in sys.modules)"
    assert run_python(script) == "False False"


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no folder in memory here")
def test_a_file_in_memory_that_is_written_through_a_map_is_read_again(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = put(Path(folder, "a"), b"1111")
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 4) as mapped:
            assert mapped[0] == ord("1")  # now the page is there, to be written without the system being told
            assert cached_scan(Path(folder), tmp_path)[0] == hashes(a=b"1111")
            before = file.stat()
            mapped[:] = b"2222"
            assert file.stat() == before
            assert cached_scan(Path(folder), tmp_path)[0] == hashes(a=b"2222")
