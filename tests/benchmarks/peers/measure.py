"""Runs a command and says what it cost: CPU and wall seconds, peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU (user and system, of the command and every child it waited for) and wall in seconds; `peak` in MiB is that of
    the largest single process."""

    cpu: float
    wall: float
    peak: float


class FailedError(RuntimeError):
    """A measured command ended with an error, or took longer than its limit."""


def measure(command: str, *, cwd: Path, env: Mapping[str, str], log: Path, limit: float) -> Cost:
    """Runs a shell command in a session of its own and waits for it; `log` holds what it said.

    Raises:
        FailedError: It did not end with 0, or not within `limit` seconds.
    """
    cwd.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        begin = time.perf_counter()
        child = subprocess.Popen(
            ["bash", "-c", command], cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        previous = signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            _, status, used = os.wait4(child.pid, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        late = f" after more than {limit:g} s" if wall >= limit else ""
        said = log.read_bytes()[-2000:].decode(errors="replace").strip() or "it said nothing"
        raise FailedError(f"{command!r} ended with {child.returncode}{late}: {said}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def stored(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(folder) for name in names)
