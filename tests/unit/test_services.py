"""The servers of the tests: what is missing is told, and in CI it is a failure."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from httpx_retries import Retry

from example_flows.demo.services import ServiceError, client, free_port, json_object
from tests.services import running
from tests.services.servers import ROOT, SERVERS, Server


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_missing_skips_with_the_command_that_brings_it_and_fails_in_ci(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "missing", lambda self: ["program"])
    services = running.Services(tmp_path, 0)
    monkeypatch.delenv(running.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{name} needs program: `.*` brings it"):
        services.url(name)
    monkeypatch.setenv(running.REQUIRED, "required")
    with pytest.raises(pytest.fail.Exception, match="brings it"):
        services.url(name)


def test_ci_brings_the_servers_and_lets_none_be_skipped() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert f"{running.REQUIRED}=" in text
    for package in ("radosgw", "ceph-mon", "ceph-osd", "azurite@3.35.0"):
        assert package in text


def test_a_server_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    owner = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    answer = tmp_path / "url"
    command = [sys.executable, "-m", "tests.services.keeper", "moto", str(answer), str(owner.pid)]
    keeper = subprocess.Popen(command, cwd=ROOT)
    while not answer.exists():
        assert keeper.poll() is None
    assert answer.read_text().startswith("http://127.0.0.1:")
    owner.kill()
    owner.wait()
    assert keeper.wait(60) == 0


def test_ports_are_given_in_rows() -> None:
    assert 1024 < free_port(31) < 32_000


class _Answers(BaseHTTPRequestHandler):
    """Gives one answer after another; each request is written down."""

    codes: ClassVar[list[int]] = []
    refusal: ClassVar[bytes] = b"{}"
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        code = self.codes.pop(0)
        body = b'{"id": "made"}' if code < 300 else self.refusal
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def test_a_server_that_is_busy_is_asked_again_and_one_that_failed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "sleep", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with client(f"http://127.0.0.1:{server.server_port}/") as api:
            monkeypatch.setattr(_Answers, "codes", [503, 503, 201])
            assert json_object(api.post("runs", json={})) == {"id": "made"}
            monkeypatch.setattr(_Answers, "codes", [500, 201])
            with pytest.raises(ServiceError, match="500"):
                json_object(api.post("other", json={}))
            monkeypatch.setattr(_Answers, "codes", [500, 500, 201])
            monkeypatch.setattr(_Answers, "refusal", b'{"detail":{"reason":"Database error","statement":"hidden"}}')
            assert json_object(api.post("locked", json={})) == {"id": "made"}
            monkeypatch.setattr(_Answers, "codes", [500] * 7)
            with pytest.raises(ServiceError, match=r"500 .*Database error"):
                json_object(api.post("broken", json={}))
    finally:
        server.shutdown()
        server.server_close()
    assert _Answers.asked == ["/runs"] * 3 + ["/other"] + ["/locked"] * 3 + ["/broken"] * 7
