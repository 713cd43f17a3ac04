"""The stat cache: what it trusts, and that nothing that goes wrong with it is ever more than a hash to do again."""

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_tasks import statcache
from dataset_tasks.statcache import RACY_NS, StatCache, trusted

DAY = 86_400 * 10**9
NOW = 1_800_000_000 * 10**9
OLD = NOW - DAY


def status(**changes):
    """A stat of a file that was last touched a day ago."""
    fields = {"dev": os.makedev(8, 1), "ino": 7, "size": 11, "mtime_ns": OLD, "ctime_ns": OLD} | changes
    mtime, ctime = fields["mtime_ns"], fields["ctime_ns"]
    return os.stat_result(
        (
            stat.S_IFREG | 0o644,
            fields["ino"],
            fields["dev"],
            1,
            0,
            0,
            fields["size"],
            0,
            mtime // 10**9,
            ctime // 10**9,
        ),
        {"st_mtime_ns": mtime, "st_ctime_ns": ctime},
    )


def sha(text):
    return hashlib.sha256(text.encode()).digest()


def opened(folder, now=NOW, **options):
    return StatCache(folder, clock=lambda: now, **options)


def remember(folder, *names, source=b"/src", now=NOW, **options):
    with opened(folder, now, **options) as cache:
        cache.record(source, [(name.encode(), status(), sha(name)) for name in names], cache.now())


def recalled(folder, *names, source=b"/src", now=NOW, **options):
    with opened(folder, now, **options) as cache:
        known = cache.known(source, sorted(name.encode() for name in names))
        return [
            name for name in names if name.encode() in known and trusted(known[name.encode()], status()) == sha(name)
        ]


def test_what_was_recorded_is_known_in_the_next_run(tmp_path):
    remember(tmp_path, "a", "b", "c")
    assert recalled(tmp_path, "a", "c", "x") == ["a", "c"]
    assert recalled(tmp_path, "a", source=b"/other") == []


def test_the_last_record_of_a_file_holds(tmp_path):
    remember(tmp_path, "a")
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"a", status(size=12), sha("new"))], NOW)
    with opened(tmp_path) as cache:
        entry = cache.known(b"/src", [b"a"])[b"a"]
    assert trusted(entry, status()) is None
    assert trusted(entry, status(size=12)) == sha("new")


@pytest.mark.parametrize(
    "change", [{"dev": 65}, {"ino": 8}, {"size": 12}, {"mtime_ns": OLD + 1}, {"ctime_ns": OLD + 1}]
)
def test_a_file_that_differs_in_anything_is_not_trusted(tmp_path, change):
    remember(tmp_path, "a")
    with opened(tmp_path) as cache:
        entry = cache.known(b"/src", [b"a"])[b"a"]
    assert trusted(entry, status()) == sha("a")
    assert trusted(entry, status(**change)) is None


@pytest.mark.parametrize("touched", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize(("age", "kept"), [(RACY_NS + 1, True), (RACY_NS, False), (0, False), (-DAY, False)])
def test_a_file_touched_just_before_it_was_read_or_in_the_future_is_not_kept(tmp_path, touched, age, kept):
    file = status(**{touched: NOW - age})
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"a", file, sha("a"))], NOW)
        cache.flush()
        assert (b"a" in cache.known(b"/src", [b"a"])) == kept


@pytest.mark.parametrize("place", [0, 40, 71, 75])
def test_an_entry_with_a_flipped_bit_is_not_trusted(tmp_path, place):
    remember(tmp_path, "a")
    with sqlite3.connect(tmp_path / "stat-cache.sqlite") as db:
        ((entry,),) = db.execute("SELECT entry FROM files").fetchall()
        flipped = bytearray(entry)
        flipped[place] ^= 4
        db.execute("UPDATE files SET entry = ?", (bytes(flipped),))
    with opened(tmp_path) as cache:
        assert trusted(cache.known(b"/src", [b"a"])[b"a"], status()) is None
    assert trusted(entry[:-1], status()) is None
    assert trusted(entry + b"\0", status()) is None


@pytest.mark.parametrize("number", [(1 << 64) - 1, 1 << 63])
def test_inodes_and_devices_of_64_bits_are_kept(tmp_path, number):
    file = status(ino=number, dev=number)
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"a", file, sha("a"))], NOW)
        cache.flush()
        assert trusted(cache.known(b"/src", [b"a"])[b"a"], file) == sha("a")


@pytest.mark.parametrize("date", [1 << 63, -(1 << 63) - 1, 1 << 70])
def test_dates_out_of_all_reason_are_not_kept_and_not_trusted(tmp_path, date):
    remember(tmp_path, "a")
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"b", status(mtime_ns=date), sha("b"))], 1 << 80)
    with opened(tmp_path) as cache:
        known = cache.known(b"/src", [b"a", b"b"])
    assert list(known) == [b"a"]
    assert trusted(known[b"a"], status(mtime_ns=date)) is None


def test_names_and_folders_of_any_bytes_are_kept(tmp_path):
    name, folder = b"new\nline\xff'\"", b"/src/\xfe \n"
    with opened(tmp_path) as cache:
        cache.record(folder, [(name, status(), sha("a"))], NOW)
    with opened(tmp_path) as cache:
        assert trusted(cache.known(folder, [name])[name], status()) == sha("a")


def test_many_rows_are_written_as_they_come(tmp_path):
    with opened(tmp_path) as cache:
        for folder in range(10):
            rows = [(b"%05d" % at, status(), sha("x")) for at in range(1000)]
            cache.record(b"/src/%d" % folder, rows, NOW)
        assert len(cache.known(b"/src/0", [b"00000", b"99999"])) == 1000
        assert len(cache.known(b"/src/9", [b"00000", b"99999"])) == 0
    with opened(tmp_path) as cache:
        assert len(cache.known(b"/src/9", [b"00000", b"99999"])) == 1000


def test_nothing_is_asked_for_nothing(tmp_path):
    with opened(tmp_path) as cache:
        assert cache.known(b"/src", []) == {}
        cache.record(b"/src", [], NOW)
        assert cache.is_on


def test_the_file_is_for_its_user_only(tmp_path):
    remember(tmp_path / "made", "a")
    for path in (tmp_path / "made").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- what is forgotten -----------------------------------------------------------------------------------------------


def test_folders_not_seen_for_long_are_forgotten(tmp_path):
    remember(tmp_path, "a", source=b"/old")
    remember(tmp_path, "a", source=b"/seen")
    assert recalled(tmp_path, "a", source=b"/seen", now=NOW + 80 * DAY) == ["a"]  # and so marked as seen
    remember(tmp_path, "b", source=b"/new", now=NOW + 100 * DAY)
    assert recalled(tmp_path, "a", source=b"/old") == []
    assert recalled(tmp_path, "a", source=b"/seen") == ["a"]
    assert recalled(tmp_path, "b", source=b"/new") == ["b"]


def test_above_its_size_the_oldest_half_is_forgotten(tmp_path):
    names = [f"{at:04d}" for at in range(1000)]
    for folder in range(8):
        remember(tmp_path, *names, source=b"/%d" % folder, now=NOW + folder * DAY)
    size = (tmp_path / "stat-cache.sqlite").stat().st_size
    with opened(tmp_path, NOW + 8 * DAY, max_bytes=size // 2 + 50_000):
        pass
    assert recalled(tmp_path, *names, source=b"/7") == names
    assert recalled(tmp_path, *names, source=b"/0") == []
    assert (tmp_path / "stat-cache.sqlite").stat().st_size < size * 0.7


def test_a_single_folder_above_the_size_is_forgotten_too(tmp_path):
    names = [f"{at:04d}" for at in range(3000)]
    remember(tmp_path, *names, max_bytes=100_000)
    assert recalled(tmp_path, *names) == []


# --- what goes wrong -------------------------------------------------------------------------------------------------


def works(folder):
    remember(folder, "new")
    return recalled(folder, "new") == ["new"]


@pytest.mark.parametrize("junk", [b"", b"x", b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_thrown_away_and_made_anew(tmp_path, junk):
    remember(tmp_path, *"abc")
    (tmp_path / "stat-cache.sqlite").write_bytes(junk)
    assert recalled(tmp_path, *"abc") == []
    assert works(tmp_path)


def test_damage_found_in_the_middle_is_no_error_either(tmp_path):
    names = [f"{at:04d}" for at in range(5000)]
    remember(tmp_path, *names)
    path = tmp_path / "stat-cache.sqlite"
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = b"\xaa" * (len(data) - 4096 * 3)
    path.write_bytes(data)
    with opened(tmp_path) as cache:
        known = cache.known(b"/src", [name.encode() for name in names])
        assert not any(trusted(entry, status()) for entry in known.values())
        cache.record(b"/src", [(b"new", status(), sha("new"))], NOW)
    assert works(tmp_path)


def test_a_file_of_another_release_is_thrown_away(tmp_path):
    with sqlite3.connect(tmp_path / "stat-cache.sqlite") as db:
        db.execute("CREATE TABLE files(other)")
        db.execute("PRAGMA user_version = 99")
    assert works(tmp_path)


def test_tables_that_are_gone_are_made_anew(tmp_path):
    remember(tmp_path, "a")
    with sqlite3.connect(tmp_path / "stat-cache.sqlite") as db:
        db.execute("DROP TABLE files")
    assert recalled(tmp_path, "a") == []
    assert works(tmp_path)


def test_a_damaged_file_that_another_process_uses_is_let_alone_for_this_run(tmp_path):
    remember(tmp_path, "a")
    with opened(tmp_path) as other:
        (tmp_path / "stat-cache.sqlite").write_bytes(b"no database " * 1000)
        with opened(tmp_path) as cache:
            assert not cache.is_on
            assert cache.known(b"/src", [b"a"]) == {}
            cache.record(b"/src", [(b"a", status(), sha("a"))], NOW)
        other.record(b"/src", [(b"a", status(), sha("a"))], NOW)
    assert works(tmp_path)


def test_a_folder_that_can_not_be_made_or_written_means_no_cache(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file" / "below", Path("/proc/no"), tmp_path / "file"):
        with opened(folder) as cache:
            assert not cache.is_on
            assert cache.known(b"/src", [b"a"]) == {}
            cache.record(b"/src", [(b"a", status(), sha("a"))], NOW)


def test_a_writer_that_is_locked_out_loses_its_rows_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("dataset_tasks.statcache._BUSY_SECONDS", 0)
    remember(tmp_path, "a")
    holder = sqlite3.connect(tmp_path / "stat-cache.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"b", status(), sha("b"))], NOW)
        cache.flush()
        assert list(cache.known(b"/src", [b"a", b"b"])) == [b"a"]  # readers are not locked out
    holder.execute("ROLLBACK")
    holder.close()
    remember(tmp_path, "b")
    assert recalled(tmp_path, "a", "b") == ["a", "b"]


def test_a_full_disk_is_no_error(tmp_path):
    with opened(tmp_path) as cache:
        cache.record(b"/src", [(b"a", status(), sha("a"))], NOW)
        cache.flush()
        (pages,) = cache._db.execute("PRAGMA page_count").fetchone()
        cache._db.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite then says is what it says of a full disk
        cache.record(b"/src", [(b"%05d" % at, status(), sha("x")) for at in range(5000)], NOW)
        cache.flush()
        assert cache.known(b"/src", [b"a"]) == {}
    assert recalled(tmp_path, "a") == ["a"]


WRITER = """
import os, sys
sys.path.insert(0, sys.argv[3])
from test_statcache import status, sha, NOW
from dataset_tasks.statcache import StatCache
for turn in range(20):
    with StatCache(sys.argv[1], clock=lambda: NOW) as cache:
        rows = [(b"%s-%d-%d" % (sys.argv[2].encode(), turn, at), status(), sha("x")) for at in range(50)]
        cache.record(b"/src", rows, NOW)
"""


def test_several_processes_can_write_at_once(tmp_path):
    remember(tmp_path, "a")
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number), here], cwd=Path(here).parents[1])
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    with opened(tmp_path) as cache:
        assert len(cache.known(b"/src", [b"0", b"z"])) == 4 * 20 * 50 + 1


def test_several_processes_can_make_the_file_at_once(tmp_path):
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number), here], cwd=Path(here).parents[1])
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    assert works(tmp_path)


def test_a_process_killed_while_it_writes_leaves_a_cache_that_works(tmp_path):
    remember(tmp_path, "a")
    script = """
import os, sys
from dataset_tasks.statcache import StatCache
cache = StatCache(sys.argv[1])
with cache._transaction() as db:
    db.execute("DELETE FROM files")
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    assert recalled(tmp_path, "a") == ["a"]
    assert works(tmp_path)


def test_the_clock_counts_nanoseconds_since_1970(tmp_path):
    before = time.time_ns()
    with StatCache(tmp_path) as cache:
        assert before <= cache.now() <= time.time_ns()


def test_nothing_is_kept_of_files_in_memory_whose_times_stay_when_they_are_written_through_a_map(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(statcache, "_MOUNTS", mounts)
    for kind, kept in (("ext4", ["a"]), ("tmpfs", [])):
        mounts.write_text(f"22 1 0:20 / /x rw - tmpfs tmpfs rw\n30 1 8:1 / /src rw shared:3 - {kind} /dev/sda1 rw\n")
        remember(tmp_path / kind, "a")
        assert recalled(tmp_path / kind, "a") == kept
    monkeypatch.setattr(statcache, "_MOUNTS", tmp_path / "nothing")
    remember(tmp_path / "unknown", "a")
    assert recalled(tmp_path / "unknown", "a") == ["a"]
