"""The servers that tests talk to: what each needs, how it is started, when it is ready.

Each is a real process on 127.0.0.1 with free ports and a folder of its own. `keeper` runs one and ends it; tests ask the
fixture `services` for it by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]
#: Where `.ci/run` puts what comes from npm.
NODE_PROGRAMS = ROOT / ".venv" / "node" / "node_modules" / ".bin"
#: Patience with a server that starts, in seconds.
START_SECONDS = 120
_LOOK_SECONDS = 0.1

#: Starts a server in a folder, on a port; yields each process as it is started.
Start: TypeAlias = "Callable[[Path, int], Iterator[subprocess.Popen[bytes]]]"


@dataclass(frozen=True, slots=True)
class Server:
    """A server of another project.

    `programs` it needs, and the command that brings them; `ports` in a row from the one it answers at; `path` is answered
    with anything but a connection error once it is ready.
    """

    programs: tuple[str, ...]
    brought_by: str
    start: Start
    ports: int = 1
    path: str = "/"

    def missing(self) -> list[str]:
        """Which of its programs this machine has not got."""
        return [name for name in self.programs if program(name) is None]


def program(name: str) -> str | None:
    """Where a program is: beside this Python, among those from npm, or on PATH."""
    places = [str(Path(sys.executable).parent), str(NODE_PROGRAMS), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(places))


def answers(url: str) -> bool:
    """Whether somebody speaks HTTP there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


def wait_until(what: Callable[[], bool], processes: list[subprocess.Popen[bytes]], name: str) -> None:
    """Waits for a server.

    Raises:
        RuntimeError: It ended, or was not there in time.
    """
    end = time.monotonic() + START_SECONDS
    while True:
        is_there = what()
        dead = [process for process in processes if process.poll() is not None]  # then it was another one that answered
        if dead or time.monotonic() > end:
            raise RuntimeError(f"{name} {'ended' if dead else 'did not answer in time'}: {[p.args for p in dead]}")
        if is_there:
            return
        time.sleep(_LOOK_SECONDS)


def _spawn(folder: Path, name: str, *arguments: str | Path, **env: str) -> subprocess.Popen[bytes]:
    """Starts a program in a process session of its own, its output in a file."""
    found = program(name)
    assert found is not None, name
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [found, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _moto(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    yield _spawn(folder, "moto_server", "-H", "127.0.0.1", "-p", str(port))


def _azurite(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", folder, "--silent", "--skipApiVersionCheck"]
    yield _spawn(folder, "azurite-blob", *options, "--disableTelemetry")


def _gcs(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The XML interface of GCS, which obstore uses, is that of S3 with other names for headers.

    So it is moto, behind a proxy that changes the names. The emulator on PyPI speaks the JSON interface only.
    """
    yield from _moto(folder, port + 1)
    with (folder / "gcs.log").open("wb") as log:
        yield subprocess.Popen(
            [sys.executable, "-m", "tests.services.proxy", f"http://127.0.0.1:{port + 1}", str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


_CEPH_CLUSTER = "5d1f7c52-3f0e-4c39-9d1a-6b8c1f0e2a11"
_CEPH = """
[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon_old}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = {least}
ms bind port max = {most}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = true
osd objectstore = memstore
memstore device bytes = 6442450944
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/run/$name.log
rgw enable usage log = false
rgw dns name = localhost
keyring = {folder}/keyring
"""
_CEPH_ROLES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx"},
}


def _rgw(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """One monitor, one memory store, one gateway: the least Ceph that serves S3; the user's keys are test and test."""
    for name in ("mon", "osd", "run"):
        (folder / name).mkdir()
    text = _CEPH.format(
        cluster=_CEPH_CLUSTER, folder=folder, mon=port + 1, mon_old=port + 2, least=port + 3, most=port + 30
    )
    config, keys = folder / "ceph.conf", folder / "keyring"
    config.write_text(text)
    for role, rights in _CEPH_ROLES.items():
        granted = [word for kind, right in rights.items() for word in ("--cap", kind, right)]
        _call("ceph-authtool", *([] if keys.exists() else ["-C"]), keys, "--gen-key", "-n", role, *granted)
    addresses = f"[v2:127.0.0.1:{port + 1},v1:127.0.0.1:{port + 2}]"
    _call("monmaptool", "--create", "--fsid", _CEPH_CLUSTER, "--addv", "a", addresses, folder / "monmap")
    _call("ceph-mon", "-c", config, "--mkfs", "-i", "a", "--monmap", folder / "monmap", "--keyring", keys)
    yield _spawn(folder, "ceph-mon", "-c", config, "-f", "-i", "a")

    admin = ("-c", config, "-n", "client.admin", "-k", keys)
    disk = "0d6a2b6e-58a5-4b3c-9a44-0f7e51b0c0de"
    end = time.monotonic() + START_SECONDS
    while not _works("ceph", *admin, "osd", "new", disk, "0"):
        assert time.monotonic() < end, "the monitor does not answer"
    _call("ceph-osd", "-c", config, "--mkfs", "-i", "0", "--osd-uuid", disk)
    yield _spawn(folder, "ceph-osd", "-c", config, "-f", "-i", "0")
    front = f"--rgw-frontends=beast endpoint=127.0.0.1:{port}"
    yield _spawn(folder, "radosgw", "-c", config, "-n", "client.rgw", "-f", "--keyring", keys, front)
    user = ["--uid", "tests", "--display-name", "tests", "--access-key", "test", "--secret-key", "test"]
    _call("radosgw-admin", *admin, "user", "create", *user)


def _call(name: str, *arguments: str | Path) -> None:
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, check=False, timeout=START_SECONDS)
    assert done.returncode == 0, f"{name}: {done.stderr.decode()[-2000:]}"


def _works(name: str, *arguments: str | Path) -> bool:
    try:
        return (
            subprocess.run([name, *map(str, arguments)], capture_output=True, check=False, timeout=10).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


_PIP = "`make venv` brings it"
SERVERS = {
    "moto": Server(("moto_server",), _PIP, _moto, path="/moto-api/"),
    "rgw": Server(
        ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd"),
        "`apt-get install --no-install-recommends radosgw ceph-mon ceph-osd` brings it",
        _rgw,
        ports=31,
    ),
    "azurite": Server(("node", "azurite-blob"), "`npm install --prefix .venv/node azurite@3.35.0` brings it", _azurite),
    "gcs": Server(("moto_server",), _PIP, _gcs, ports=2, path="/moto-api/"),
}
