"""Runs one server for as long as the process lives that asked for it, then ends it and removes its folder.

`python -m tests.services.keeper NAME ANSWER PID`: writes the server's URL to the file ANSWER, or what went wrong as
`error: ...`. So a server ends with its test run however that ended, and many workers of one run share it.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from example_flows.demo.services import free_port
from tests.services.servers import SERVERS, answers, wait_until

_END_SECONDS = 10
#: Between the look for a free port and the server's own start somebody else may take it.
_TRIES = 3


def main(name: str, answer: Path, pid: int) -> None:
    """Runs the server until the process `pid` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the test run, and that ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers have to end all the same
    watched = os.pidfd_open(pid)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir=memory if os.access(memory, os.W_OK) else None))
    running: list[subprocess.Popen[bytes]] = []
    try:
        for left in reversed(range(_TRIES)):
            try:
                url = _start(name, Path(tempfile.mkdtemp(dir=folder)), running)
                break
            except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
                while running:
                    _end(running.pop())
                if not left:
                    _tell(answer, f"error: {error}")
                    raise
        _tell(answer, url)
        select.select([watched], [], [])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in reversed(running):
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(name: str, folder: Path, running: list[subprocess.Popen[bytes]]) -> str:
    """Starts the server; gives its URL once it answers. Each process is in `running` as soon as it runs."""
    server = SERVERS[name]
    port = free_port(server.ports)
    url = f"http://127.0.0.1:{port}"
    for process in server.start(folder, port):
        running.append(process)  # noqa: PERF402 - at once: what is started before one fails must end too
    wait_until(lambda: answers(url + server.path), running, name)
    return url


def _tell(answer: Path, text: str) -> None:
    partial = answer.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: its whole process session."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(_END_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
