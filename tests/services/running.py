"""Servers for a test run: started at the first question, shared by all of its workers, ended with it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.servers import ROOT, SERVERS, START_SECONDS

#: Set by `.ci/run`: a service that is missing is a failure then, not a skip.
REQUIRED = "DATASET_TASKS_TEST_SERVICES"


class Services:
    """Gives the URL of a server by its name.

    Args:
        folder: One that all workers of this run see, and no other run.
        owner: Process at whose end the servers end.
    """

    def __init__(self, folder: Path, owner: int) -> None:
        self._folder, self._owner = folder, owner

    def url(self, name: str) -> str:
        """The URL of a server that answers; the test is skipped, or fails in CI, where it can't be had."""
        missing = SERVERS[name].missing()
        if missing:
            why = f"{name} needs {', '.join(missing)}: {SERVERS[name].brought_by}"
            if os.environ.get(REQUIRED):
                pytest.fail(why, pytrace=False)
            pytest.skip(why)
        answer = self._folder / f"{name}.url"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not answer.exists():
                self._start(name, answer)
        url = answer.read_text()
        if url.startswith("error"):
            pytest.fail(f"{name} did not start: {url}", pytrace=False)
        return url

    def _start(self, name: str, answer: Path) -> None:
        command = [sys.executable, "-m", "tests.services.keeper", name, str(answer), str(self._owner)]
        with (self._folder / f"{name}.log").open("wb") as log:
            keeper = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 2 * START_SECONDS
        while not answer.exists():
            if keeper.poll() is not None or time.monotonic() > end:
                log_text = (self._folder / f"{name}.log").read_text()[-2000:]
                pytest.fail(f"{name} did not start:\n{log_text}", pytrace=False)
            time.sleep(0.05)


def of_this_run(factory: pytest.TempPathFactory) -> Services:
    """The servers of this run, whichever of its workers asks."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = factory.getbasetemp()
    folder = (base.parent if is_worker else base) / "services"
    folder.mkdir(exist_ok=True)
    return Services(folder, os.getppid() if is_worker else os.getpid())
