"""Servers that a demo starts for itself: a free port, a log file, a wait until ready, an end that leaves nothing."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
from httpx_retries import Retry, RetryTransport

_T = TypeVar("_T")
JsonObject: TypeAlias = dict[str, Any]  # Any: what a server of another project answers
#: Seconds: a server on a small, busy machine; a group that was asked to end.
START_TIMEOUT = 240.0
STOP_TIMEOUT = 15.0
#: Seconds to wait for an answer: more than a server waits for its own database.
ANSWER_TIMEOUT = 60.0


class _DatabaseBusyError(httpx.HTTPError):
    """Airflow's database did not take the statement; the transaction was taken back."""


def _not_busy(answer: httpx.Response) -> None:
    """Airflow has one answer for whatever its database refuses, a locked one too: 500 with this reason in its JSON."""
    if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR and b'"Database error"' in answer.read():
        raise _DatabaseBusyError(answer.text)


#: A server on SQLite that finds its database locked has done nothing. Prefect's answers 503, Airflow's as above: the clients
#: of both orchestrators ask again, and so do we. A connection that fails is another matter: `wait_for` waits for it.
_BUSY = Retry(
    total=6,
    backoff_factor=0.3,
    status_forcelist=[httpx.codes.SERVICE_UNAVAILABLE],
    allowed_methods=["DELETE", "GET", "PATCH", "POST", "PUT"],
    retry_on_exceptions=[_DatabaseBusyError],
    validate_response=_not_busy,
)


class ServiceError(Exception):
    """A server did not start, or did not do what was waited for; the message ends with the tail of its log."""


def free_port(count: int = 1) -> int:
    """The first of `count` ports in a row that nobody listens on, below those that systems give away by themselves."""
    while True:
        first = random.randrange(15_000, 32_000 - count)  # noqa: S311 - no secret
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first


@contextmanager
def service(
    name: str, command: Sequence[str], *, env: Mapping[str, str], logs: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program in a process group of its own and ends the whole group on the way out."""
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def wait_for(
    what: str, look: Callable[[], _T | None], *, timeout: float, every: float = 0.5, log: Path | None = None
) -> _T:
    """Calls `look` until it gives something other than None.

    A server that is not up yet refuses connections: that counts as nothing yet.

    Args:
        what: Named in the error.
        look: Asked again and again.
        timeout: Seconds until giving up.
        every: Seconds between two looks.
        log: File whose last lines the error shows.

    Raises:
        ServiceError: It was not there in time.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            found = look()
        except httpx.TransportError:
            found = None
        if found is not None:
            return found
        time.sleep(every)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log and log.exists() else ""
    raise ServiceError(f"{what}: nothing after {timeout:.0f} s\n{tail}".rstrip())


def client(url: str) -> httpx.Client:
    """A client of a server on this machine, which asks again while that is busy: no proxy of the environment in between."""
    return httpx.Client(base_url=url, timeout=ANSWER_TIMEOUT, trust_env=False, transport=RetryTransport(retry=_BUSY))


def get(server: httpx.Client, path: str) -> JsonObject | None:
    """What a path answers, None while it has no success: a look for `wait_for`."""
    answer = server.get(path)
    return json_object(answer) if answer.is_success else None


def json_object(answer: httpx.Response) -> JsonObject:
    """The JSON object of an answer.

    Raises:
        ServiceError: The server refused; the message holds what it said.
    """
    if not answer.is_success:
        raise ServiceError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    found = answer.json()
    return found if isinstance(found, dict) else {"items": found}
