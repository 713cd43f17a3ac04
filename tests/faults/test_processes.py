"""Processes that end in the middle, are short of memory, or fork: the work of another is never harmed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_tasks import Dataset, open_session
from dataset_tasks.testing.invariants import assert_invariants

pytestmark = pytest.mark.faults
PATIENCE_SECONDS = 240


def started(code: str, home: Path, **env: str) -> subprocess.Popen[str]:
    """A Python of its own, with a home."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "DATASET_TASKS_HOME": str(home), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: str, is_so) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> set[int]:
    """Every process below one."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in map(int, task.read_text().split()):
            found |= {each} | children(each)
    return found


def sources(place: Path, count: int = 40, size: int = 20_000) -> Path:
    place.mkdir()
    for at in range(count):
        (place / f"{at:03d}.bin").write_bytes(os.urandom(size))
    return place


def test_a_killed_upload_leaves_no_process_that_goes_on(tmp_path: Path) -> None:
    """R08. Its workers are threads of its own: they end with it."""
    source = sources(tmp_path / "source")
    code = f"""
from dataset_tasks import Dataset
made = Dataset.create("d", "p", dataset_version="1")
made.add_files({str(source)!r})
made.upload(show_progress=False, chunk_size=0.05, max_workers=4)
"""
    worker = started(code, tmp_path / "home", DATASET_TASKS_FAILPOINTS="upload.after_chunk=sleep:60@3")
    store = tmp_path / "home" / "store"
    wait_for("chunks in the store", lambda: sum(1 for _ in store.rglob("*.zip")) >= 2)
    below = children(worker.pid)
    worker.kill()
    worker.communicate()
    assert {pid for pid in below if alive(pid)} == set()
    with open_session(home=tmp_path / "home") as session:
        again = Dataset(session.catalog.versions(project="p", name="d")[0].id, session=session)
        again.upload(show_progress=False)
        again.finalize()
        assert_invariants(session)


def test_a_program_of_a_transform_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """R08. Killed, we can't end what we started; the kernel does."""
    note = tmp_path / "pid"
    (tmp_path / "slow.py").write_text(
        f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    code = f"""
from dataset_tasks import open_session
from dataset_tasks.ops.requests import Create, Transform
with open_session() as session:
    made = session.run(Create(name="d", project="p"))
    session.run(Transform(ref=made.version_id, run=({sys.executable!r}, {str(tmp_path / "slow.py")!r})))
"""
    worker = started(code, tmp_path / "home")
    wait_for("the program", lambda: note.exists() and note.read_text())
    program = int(note.read_text())
    assert alive(program)
    worker.kill()
    worker.communicate()
    wait_for("the end of the program", lambda: not alive(program))


def test_a_program_does_not_start_for_a_process_that_is_gone() -> None:
    """R08. The one that asked may be killed before the program could tie itself to it."""
    from dataset_tasks.ops import transform

    done = subprocess.run(
        [sys.executable, "-I", "-S", transform._LEASH, str(os.getpid() + 1), "echo", "started"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_ends_in_five_seconds_and_the_next_one_is_clean(tmp_path: Path, stop: int) -> None:
    """R09. Also inside a program of a transform; the draft is gone, nothing of ours runs on."""
    note = tmp_path / "pid"
    (tmp_path / "slow.py").write_text(
        f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"version: 1\nname: s\nproject: p\ndatasets:\n  d:\n    transform: {{run: [{sys.executable}, {tmp_path}/slow.py]}}\n"
    )
    env = {**os.environ, "DATASET_TASKS_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "dataset_tasks.cli", "run", str(spec)]
    worker = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for("the program", lambda: note.exists() and note.read_text())
    program = int(note.read_text())
    worker.send_signal(stop)
    worker.communicate(timeout=30)  # it is five on a machine that has time
    assert worker.returncode != 0
    assert not alive(program)
    (tmp_path / "slow.py").write_text("import os\nopen(os.environ['DATASET_TASKS_OUTPUT'] + '/a', 'w').write('1')\n")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open_session(home=tmp_path / "home") as session:
        assert [(each.version, each.files) for each in session.catalog.versions(project="p", name="d")] == [
            ("1.0.0", 1)
        ]
        assert_invariants(session)


def test_a_worker_that_runs_out_of_memory_or_crashes_in_native_code_is_as_a_killed_one(tmp_path: Path) -> None:
    """R21. The draft stands, the retry ends it."""
    source = sources(tmp_path / "source", 20, 200_000)
    begin = f"""
import resource, signal, os
from dataset_tasks import open_session
from dataset_tasks.failpoints import Rule
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, Upload
session = open_session()
made = session.run(Create(name="d", project="p"), key="k/create")
session.run(AddFiles(ref=made.version_id, path={str(source)!r}), key="k/add")
"""
    end = """
session.run(Upload(ref=made.version_id, chunk_size=0.5, max_workers=2), key="k/upload")
session.run(Finalize(ref=made.version_id), key="k/finalize")
"""
    short = """
held = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (held + 4_000_000, held + 4_000_000))
"""
    crash = """
import threading, ctypes, time
def soon():
    while not any(name.endswith(".zip") for _, _, names in os.walk(os.environ["DATASET_TASKS_HOME"]) for name in names):
        time.sleep(0.001)
    ctypes.string_at(0)
threading.Thread(target=soon, daemon=True).start()
"""
    worker = started(begin + short + end, tmp_path / "home")
    worker.communicate()
    assert worker.returncode != 0
    worker = started(begin + crash + end, tmp_path / "home", DATASET_TASKS_FAILPOINTS="upload.after_chunk=sleep:60@2")
    worker.communicate()
    assert worker.returncode == -signal.SIGSEGV
    worker = started(begin + end, tmp_path / "home")
    _, said = worker.communicate()
    assert worker.returncode == 0, said
    with open_session(home=tmp_path / "home") as session:
        assert [each.files for each in session.catalog.versions(project="p", name="d")] == [20]
        assert_invariants(session)


def made_in_a_fork(session, source: Path, answers) -> None:
    assert session.catalog.db._engine.pool.checkedin() == 0, "a connection of the parent is in use here"
    made = Dataset.create("forked", "p", session=session)
    made.add_files(source)
    made.upload(show_progress=False)
    made.finalize()
    answers.put(made.id)


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    """R22. Parent and child go on with one session that was opened before the fork."""
    source = sources(tmp_path / "source", 3, 100)
    with open_session(home=tmp_path / "home") as session:
        Dataset.create("before", "p", session=session).finalize()
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        forked = [fork.Process(target=made_in_a_fork, args=(session, source, answers)) for _ in range(3)]
        for each in forked:
            each.start()
        for _ in range(5):
            Dataset.create("meanwhile", "p", session=session).finalize()
        for each in forked:
            each.join(PATIENCE_SECONDS)
        assert [each.exitcode for each in forked] == [0, 0, 0]
        assert len({answers.get() for _ in forked}) == 3
        assert sorted(each.version for each in session.catalog.versions(project="p", name="forked")) == [
            "1.0.0", "1.0.1", "1.0.2",
        ]  # fmt: skip
        assert len(session.catalog.versions(project="p", name="meanwhile")) == 5
        assert_invariants(session)


def test_requests_and_results_travel_to_workers_as_json(tmp_path: Path) -> None:
    """R22. What goes to Dask or Ray workers is plain text: no session, no handle, no connection."""
    from dataset_tasks.ops.requests import Create, CreateResult
    from dataset_tasks.ops.wire import request_from_json, result_from_json, to_json

    with open_session(home=tmp_path / "home") as session:
        sent = json.dumps(to_json(Create(name="d", project="p")))
        result = session.run(request_from_json(json.loads(sent)))
        assert result_from_json("create", json.loads(json.dumps(to_json(result)))) == result
        assert isinstance(result, CreateResult)
