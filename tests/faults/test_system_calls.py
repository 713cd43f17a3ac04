"""Killed or failed at system calls: whatever the code thinks it does, this is what the disk sees.

strace ends the process at the n-th call of a kind, or makes the call fail; then the same program runs again as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_tasks import open_session
from dataset_tasks.testing.invariants import assert_invariants

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(shutil.which("strace") is None, reason="apt-get install strace"),
]
FULL = bool(os.environ.get("FAULTS_SWEEP"))
#: Calls that change something on a disk. `openat` is left out: nearly all of them read modules.
CALLS = (
    "write", "pwrite64", "writev", "pwritev", "mkdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link",
    "linkat", "fsync", "fdatasync", "ftruncate", "fchmod", "chmod", "copy_file_range",
)  # fmt: skip
PROGRAM = """
import os, sys
from dataset_tasks import open_session
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, GetCopy, Publish, Upload
place = sys.argv[1]
with open_session(home=place + "/home") as session:
    made = session.run(Create(name="d", project="p"), key="k/create").version_id
    session.run(AddFiles(ref=made, path=place + "/source"), key="k/add")
    session.run(Upload(ref=made, chunk_size=0.02, max_workers=2), key="k/upload")
    session.run(Finalize(ref=made), key="k/finalize")
    session.run(Publish(ref=made, alias="good"), key="k/publish")
    session.run(GetCopy(ref=made), key="k/get")
    session.run(GetCopy(ref=made, target=place + "/copy"), key="k/copy")
print(made)
"""
FILES = {f"{'ab'[n % 2]}/{n}": os.urandom(4000) for n in range(12)}


def command(place: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(place)]


def traced(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-o", str(place / "trace"), *options, *command(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """Makes the place anew: sources, nothing else."""
    place = tmp_path / "place"

    def make() -> Path:
        for top, _, _ in os.walk(place):
            os.chmod(top, 0o755)
        shutil.rmtree(place, ignore_errors=True)
        for name, data in FILES.items():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "source" / name).write_bytes(data)
        return place

    return make


def counted(place: Path) -> dict[str, int]:
    """How often an undisturbed run makes each call."""
    done = traced(place, "-c", "-e", "trace=" + ",".join(CALLS))
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", (place / "trace").read_text(), re.MULTILINE
    )
    return {call: int(count) for count, call in rows if call in CALLS}


def points(count: int) -> list[int]:
    """Which calls of a kind are tried: in the full sweep every third, else the second and one in the middle."""
    return list(range(1, count + 1, 3)) if FULL else sorted({min(2, count), (count + 1) // 2})


def must_end_well(place: Path, what: str) -> None:
    """The same program again, with nothing in its way: one version, whole, published once, and both copies."""
    again = subprocess.run(command(place), capture_output=True, text=True, check=False)
    assert again.returncode == 0, f"{what}: {again.stderr}"
    with open_session(home=place / "home") as session:
        assert_invariants(session)
        versions = session.catalog.versions(project="p")
        assert [(each.version, str(each.state), each.files) for each in versions] == [("1.0.0", "published", 12)], what
        assert versions[0].id == again.stdout.strip(), what
    for name, data in FILES.items():
        assert (place / "copy" / name).read_bytes() == data, what
        assert (place / "source" / name).read_bytes() == data, what


def test_a_program_killed_at_any_system_call_is_simply_run_again(fresh, record_property) -> None:
    """R01, R02, R03, R05, R06, R07. SIGKILL before the n-th call of each kind takes effect."""
    tried = 0
    for call, count in counted(fresh()).items():
        for number in points(count):
            place = fresh()
            traced(place, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
            must_end_well(place, f"killed at {call} {number} of {count}")
            tried += 1
    assert tried > 15
    record_property("faults", ("kills at system calls", tried, tried))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_call_that_fails_is_never_told_as_success_with_something_lost(fresh, error, record_property) -> None:
    """R54, R56. Whatever is told, nothing that was acknowledged is missing, and the run after it ends well."""
    tried = failed = 0
    for call, count in counted(fresh()).items():
        if call not in {"write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "link", "mkdir"}:
            continue
        for number in points(count):
            place = fresh()
            done = traced(place, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
            what = f"{error} at {call} {number} of {count}"
            if done.returncode:
                failed += 1
                assert "Error" in done.stderr, what
            elif (
                done.stdout.strip()
            ):  # only what can be done without (a cache, a note for the next run) may fail unsaid
                with open_session(home=place / "home") as session:
                    assert_invariants(session)
                    assert session.catalog.resolve("p/d@good").files == 12, what
            must_end_well(place, what)
            tried += 1
    assert failed >= 3
    record_property("faults", (f"system calls that fail with {error}", tried, tried))


@pytest.mark.parametrize("call", ["pwrite64", "writev", "write", "fsync"])
def test_an_interrupted_call_is_made_again(fresh, call) -> None:
    """R58. EINTR is no error."""
    place = fresh()
    done = traced(place, "-e", f"trace={call}", "-e", f"inject={call}:error=EINTR:when=2")
    assert done.returncode == 0, done.stderr
    must_end_well(place, f"EINTR at {call}")
