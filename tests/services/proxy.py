"""A proxy in front of an HTTP service that does what networks and busy services do to requests, on demand.

It runs in a thread of the test. `faults` are taken one after another by the requests that they match; all others pass
unharmed. What passed is in `seen`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

Action: TypeAlias = Literal[
    "500",
    "503",
    "403",
    "404",
    "expired",
    "region",
    "moved",
    "kms",
    "skewed",
    "reset",
    "hang",
    "lostack",
    "truncate",
    "short",
    "flip",
    "flip_nosum",
    "flip_up",
    "200error",
    "ok",
]
#: Status and code of what is answered without asking the service.
_CODES = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "403": (403, "AccessDenied"),
    "404": (404, "NoSuchKey"),
    "expired": (403, "ExpiredToken"),
    "region": (400, "AuthorizationHeaderMalformed"),
    "moved": (301, "PermanentRedirect"),
    "kms": (400, "KMS.DisabledException"),
    "skewed": (403, "RequestTimeTooSkewed"),
}


@dataclass
class Fault:
    """What happens to requests of a method whose target holds a text, so many times, after so many unharmed ones.

    Actions: `500`, `503`, `403`, `404`, and those that `_CODES` names, answer so without asking the service; `reset` cuts the line before; `hang` never
    answers; `lostack` lets the service do it, and cuts the line in place of its answer; `truncate` ends the answer in its
    middle; `short` too, with headers that say so; `flip` turns a bit of the answer, `flip_nosum` also takes away its checksums; `flip_up` turns a bit of what is
    sent; `200error` lets the service do it, and answers with status 200 and an error inside; `ok` does nothing.
    """

    action: Action
    method: str = ""
    holds: str = ""
    times: int = 1
    after: int = 0

    def takes(self, method: str, target: str) -> bool:
        """Whether this request is one of them; counts."""
        if (self.method and method != self.method) or self.holds not in target or self.times < 1:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Message:
    """A request or an answer: its first line, its headers (names in small letters) and its body."""

    first: str
    headers: dict[str, str]
    body: bytes = b""

    def encoded(self) -> bytes:
        """The message as it goes over the line."""
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


#: Changes a message before it is handed on.
Change: TypeAlias = Callable[[Message], None]


@dataclass
class Proxy:
    """A running proxy."""

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    on_request: Change | None = None
    on_answer: Change | None = None

    def add(self, action: Action, method: str = "", holds: str = "", *, times: int = 1, after: int = 0) -> None:
        """Has a fault happen."""
        self.faults.append(Fault(action, method, holds, times, after))

    def count(self, method: str, holds: str = "") -> int:
        """How many such requests there were."""
        return sum(1 for each, target in self.seen if each == method and holds in target)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        try:
            while (request := await _read(reader, writer=writer)) is not None:
                method, target, _ = request.first.split(" ", 2)
                self.seen.append((method, target))
                action: Action = next((fault.action for fault in self.faults if fault.takes(method, target)), "ok")
                if self.on_request:
                    self.on_request(request)
                if action in _CODES:
                    writer.write(_error(action, method))
                    await writer.drain()
                    continue
                if action == "reset":
                    _cut(writer)
                    return
                if action == "hang":
                    await reader.read()
                    return
                if action == "flip_up":
                    request.body = _flipped(request.body)
                answer = await self._forward(request, method)
                if answer is None:
                    _cut(writer)
                    return
                if self.on_answer:
                    self.on_answer(answer)
                if action == "lostack":
                    _cut(writer)
                    return
                if action == "truncate":
                    writer.write(Message(answer.first, answer.headers, answer.body[: len(answer.body) // 2]).encoded())
                    await writer.drain()
                    return
                if action == "200error":
                    answer = Message("HTTP/1.1 200 OK", {}, _body("InternalError"))
                    answer.headers["content-length"] = str(len(answer.body))
                if action == "short":
                    answer.body = answer.body[: len(answer.body) // 2]
                    answer.headers["content-length"] = str(len(answer.body))
                if action in ("flip", "flip_nosum"):
                    answer.body = _flipped(answer.body)
                if action == "flip_nosum":
                    answer.headers = {name: text for name, text in answer.headers.items() if "checksum" not in name}
                writer.write(answer.encoded())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _forward(self, request: Message, method: str) -> Message | None:
        """The service's answer, over a connection of its own."""
        parts = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
        try:
            writer.write(request.encoded())
            await writer.drain()
            while (answer := await _read(reader, of=method)) is not None:
                if answer.first.split(" ")[1] != "100":
                    break
        finally:
            writer.close()
        if answer is not None:
            answer.headers.pop("connection", None)
        return answer


def _flipped(body: bytes) -> bytes:
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)


def _body(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()


def _error(action: str, method: str) -> bytes:
    status, code = _CODES[action]
    body = b"" if method == "HEAD" else _body(code)
    return Message(
        f"HTTP/1.1 {status} x", {"content-length": str(len(body)), "content-type": "text/xml"}, body
    ).encoded()


def _cut(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a reset."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read(
    reader: asyncio.StreamReader, of: str = "", writer: asyncio.StreamWriter | None = None
) -> Message | None:
    """A message, whole; None at the end.

    Of an answer the method it is for, for that says whether there is a body; of a request who waits to be told to go on.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    message = Message(first, headers)
    if writer is not None and headers.pop("expect", "") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if of == "HEAD" or (of and first.split(" ")[1] in ("100", "204", "304")):
        return message
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            message.body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
        del headers["transfer-encoding"]
        headers["content-length"] = str(len(message.body))
    elif "content-length" in headers:
        message.body = await reader.readexactly(int(headers["content-length"]))
    elif of:
        message.body = await reader.read()
        headers["content-length"] = str(len(message.body))
    return message


@contextmanager
def proxy(
    upstream: str, *, port: int = 0, on_request: Change | None = None, on_answer: Change | None = None
) -> Iterator[Proxy]:
    """A proxy in front of a URL; on a port that is free, if none is given."""
    made = Proxy(upstream, on_request=on_request, on_answer=on_answer)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", port, limit=1 << 22)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


#: As S3 wants it; moto looks at no signature.
_ANYBODY = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def speak_gcs(request: Message) -> None:
    """Makes a request to the XML interface of GCS one to S3, which it was made after."""
    request.headers["authorization"] = _ANYBODY
    if request.headers.pop("x-goog-if-generation-match", None) == "0":
        request.headers["if-none-match"] = "*"
    _rename(request, "x-goog-meta-", "x-amz-meta-")


def answer_gcs(answer: Message) -> None:
    """Makes an answer of S3 one of GCS."""
    _rename(answer, "x-amz-meta-", "x-goog-meta-")


def _rename(message: Message, old: str, new: str) -> None:
    message.headers = {
        new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in message.headers.items()
    }


def main(upstream: str, port: int) -> None:
    """Stands in front of S3 as GCS until it is ended."""
    with proxy(upstream, port=port, on_request=speak_gcs, on_answer=answer_gcs):
        threading.Event().wait()


if __name__ == "__main__":
    import sys

    main(sys.argv[1], int(sys.argv[2]))
