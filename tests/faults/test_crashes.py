"""Every operation interrupted at every point, then run again. A sample here; `make faults` runs all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
#: Which points are tried: `full`, every n-th as a number, or a sample that the ordinary run has time for. On servers a
#: point takes four times as long as at home: FAULTS_SERVERS may tell another number for them.
SWEEP = os.environ.get("FAULTS_SWEEP", "")
ON_SERVERS_TOO = os.environ.get("FAULTS_SERVERS", SWEEP)
IS_FULL = bool(SWEEP)
#: So many programs do all pairs, or all that is done on servers. A full run that is cut off loses less with more of them.
_PROGRAMS = 12 if IS_FULL else 4


def stride(sample: int, wanted: str = SWEEP) -> str:
    """Every how many-th point."""
    return {"full": "1", "": str(sample)}.get(wanted, wanted)


SCENARIOS = [
    "create",
    "create-merged",
    "add",
    "sync",
    "remove",
    "upload",
    "upload-threads",
    "finalize",
    "finalize-unchanged",
    "publish",
    "squash-one",
    "squash-two",
    "delete-final",
    "delete-draft",
    "get-cached",
    "get-from-parent",
    "get-links",
    "get-mend",
    "get-folder",
    "get-overwrite",
    "get-overwrite-in-two",
    "build",
    "spec",
    "approve",
    "labels",
    "undelete",
    "gc",
    "repack",
    "repair",
    "copy-catalog",
    "copy-store",
]
#: Those of the ordinary run on servers; between them they do all that a catalog and a store are asked to do.
ON_SERVERS = SCENARIOS if IS_FULL else ["upload", "finalize", "squash-two", "gc"]
#: What happens to a version in its life: two workers do each after each.
PHASES = ["upload", "finalize", "publish", "squash", "delete", "gc"]
PHASES_TWICE = [f"{first}/{second}" for first, second in product(PHASES, repeat=2)]
_MORE_PAIRS = [
    "finalize/finalize",
    "publish/publish",
    "upload/upload",
    "add/add",
    "add/remove",
    "remove/add",
    "add/sync",
    "sync/add",
    "upload/add",
    "add/upload",
    "finalize/add",
    "add/finalize",
    "upload/finalize",
    "delete/create-child",
    "create-child/delete",
    "publish/delete",
    "delete/publish",
    "get/delete",
    "delete/get",
    "get/get",
    "copy/copy",
    "gc/gc",
    "gc/upload",
    "upload/gc",
    "upload/delete+gc",
    "upload/ruthless-gc",
    "ruthless-gc/upload",
    "finalize/ruthless-gc",
    "add/ruthless-gc",
    "squash/ruthless-gc",
    "repack/ruthless-gc",
    "gc/finalize",
    "finalize/gc",
    "gc/publish",
    "publish/gc",
    "gc/squash",
    "squash/gc",
    "squash/delete+gc",
    "gc/delete",
    "delete/gc",
    "get/gc",
    "get/delete+gc",
    "copy/delete+gc",
    "gc/add",
    "add/gc",
    "create-child/delete+gc",
    "gc/undelete",
    "undelete/gc",
    "repack/gc",
    "gc/repack",
    "repack/repack",
    "repack/publish",
    "publish/repack",
    "create-child/repack+gc",
    "create-merged/repack+gc",
    "copy/repack+gc",
    "get/repack+gc",
    "upload/repack+gc",
    "repair/repair",
    "repair/gc",
]
PAIRS = [*_MORE_PAIRS, *(each for each in PHASES_TWICE if each not in _MORE_PAIRS)]
ZOMBIES = ["zombie finalize", "zombie upload", "zombie publish", "zombie gc"]
WORKERS_ON_SERVERS = [*PAIRS, *ZOMBIES, "crowd"] if IS_FULL else ["create-child/delete", "crowd"]

Tell = Callable[[str, object], None]
pytestmark = pytest.mark.timeout(3600 if IS_FULL else 600)


def _program(name: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(HERE / name), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def nothing_failed(found: dict[str, Any]) -> None:
    assert [failure for each in found.values() for failure in each["failures"]] == []
    assert [name for name, each in found.items() if not each["tries"]] == []


def parts(names: list[str]) -> list[list[str]]:
    """What one program each is asked to do: some more than one thing, as each program loads everything first."""
    return [names[start::_PROGRAMS] for start in range(min(_PROGRAMS, len(names)))]


def figures(found: dict[str, Any], mode: str) -> tuple[int, int, int]:
    """How many points of a mode were tried, survived, and are there."""
    return found["tries"][mode], found["survived"].get(mode, 0), found["all_points"][mode]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_operation_that_was_interrupted_ends_as_if_nothing_had_happened_when_it_is_run_again(
    scenario: str, record_property: Tell
) -> None:
    found = _program("sweep.py", "--only", scenario, "--stride", stride(61))[scenario]
    for mode in found["tries"]:
        record_property("faults", (f"crash points, {mode}", *figures(found, mode)))
    assert found["failures"] == []
    assert found["tries"]


@pytest.mark.parametrize("scenarios", parts(ON_SERVERS))
def test_an_operation_that_was_interrupted_ends_so_with_its_catalog_in_postgresql_and_its_objects_in_s3(
    scenarios: list[str], record_property: Tell
) -> None:
    every = stride(41, ON_SERVERS_TOO)
    found = _program("sweep.py", "--backend", "servers", "--stride", every, "--only", *scenarios)
    for each in found.values():
        for mode in each["tries"]:
            record_property("faults", (f"crash points on PostgreSQL and S3, {mode}", *figures(each, mode)))
    nothing_failed(found)


@pytest.mark.parametrize("pairs", parts(PAIRS))
def test_two_workers_lose_nothing_whatever_their_order(pairs: list[str], record_property: Tell) -> None:
    found = _program("workers.py", "--stride", stride(23), "--only", *pairs)
    for each in found.values():
        what = "interleavings of two workers"
        record_property("faults", (what, each["tries"], each["survived"], each["points"]))
    nothing_failed(found)


@pytest.mark.parametrize("pairs", parts(WORKERS_ON_SERVERS))
def test_workers_lose_nothing_with_their_catalog_in_postgresql_and_their_objects_in_s3(
    pairs: list[str], record_property: Tell
) -> None:
    every = stride(11, ON_SERVERS_TOO)
    found = _program("workers.py", "--backend", "servers", "--stride", every, "--only", *pairs)
    for each in found.values():
        what = "interleavings on PostgreSQL and S3"
        record_property("faults", (what, each["tries"], each["survived"], each["points"]))
    nothing_failed(found)


@pytest.mark.parametrize("zombie", ZOMBIES)
def test_a_worker_that_goes_on_after_its_retry_ended_changes_nothing(zombie: str, record_property: Tell) -> None:
    found = _program("workers.py", "--only", zombie, "--stride", stride(11))[zombie]
    record_property("faults", ("workers stopped and continued", found["tries"], found["survived"], found["points"]))
    assert found["failures"] == []
    assert found["tries"]


def test_eight_processes_that_add_to_one_draft_lose_nothing(record_property: Tell) -> None:
    found = _program("workers.py", "--only", "crowd")["crowd"]
    record_property("faults", ("eight processes adding", found["tries"], found["survived"], found["points"]))
    assert found["failures"] == []


def test_the_tests_name_every_scenario_and_pair() -> None:
    program = (
        "import json, scenarios, workers; "
        "print(json.dumps([[e.name for e in scenarios.SCENARIOS], [e.name for e in workers.PAIRS]]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [SCENARIOS, PAIRS]
    assert len(PHASES_TWICE) == 36
    assert set(PHASES_TWICE) <= set(PAIRS)
