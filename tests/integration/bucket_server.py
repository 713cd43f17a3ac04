"""An S3 server in this process whose requests are counted, and whose answers can be made to go wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import boto3
import pytest

Answer = tuple[str, list[tuple[str, str]], bytes]
#: Is given method, key and the answer as it would be; gives the answer as it is.
Fault = Callable[[str, str, Answer], Answer]


@dataclass
class Bucket:
    """The bucket `lake` of a server of its own: `asked` counts what it was asked by kind of request, `who` asked by key id."""

    endpoint: str
    client: Any
    asked: Counter[str] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)
    who: set[str] = field(default_factory=set)
    fault: Fault | None = None

    def url(self, path: str = "", **options: str) -> str:
        """The URL of a key or prefix on this server."""
        return f"s3://lake/{path}?endpoint={self.endpoint}" + "".join(f"&{k}={v}" for k, v in options.items())

    def put(self, **objects: bytes) -> None:
        """Puts objects by name; `__` stands for a `/`."""
        for name, body in objects.items():
            self.put_key(name.replace("__", "/"), body)

    def put_key(self, key: str, body: bytes) -> None:
        """Puts an object."""
        self.client.put_object(Bucket="lake", Key=key, Body=body)

    def empty(self) -> None:
        """Removes all objects."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket="lake"):
            for each in page.get("Contents", []):
                self.client.delete_object(Bucket="lake", Key=each["Key"])

    def forget(self) -> None:
        """Begins to count anew."""
        self.asked.clear()
        self.keys.clear()


class _Watched:
    """Stands before moto's application."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.bucket: Bucket | None = None
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        bucket = self.bucket
        key = unquote(environ["PATH_INFO"].encode("latin-1").decode()).removeprefix("/lake").removeprefix("/")
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if bucket is None or environ.get("HTTP_X_PLAIN") or environ["PATH_INFO"].startswith("/moto-api"):
            return self.app(environ, start)  # type: ignore[no-any-return]
        kind = "LIST" if "list-type" in query else environ["REQUEST_METHOD"]
        with self.lock:
            bucket.asked[kind] += 1
            bucket.keys.append(f"{kind} {key}")
            bucket.who.add(environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0])
        if bucket.fault is None:
            return self.app(environ, start)  # type: ignore[no-any-return]
        held: list[Any] = []
        body = b"".join(self.app(environ, lambda *more: held.append(more)))
        status, headers, body = bucket.fault(kind, key, (held[0][0], list(held[0][1]), body))
        start(status, headers)
        return [body]


@contextmanager
def served(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Runs the server; the credentials of its client are in the environment meanwhile."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    watched = _Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, watched, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="lake")
        # What the tests themselves put and ask is not counted.
        client.meta.events.register("before-send.s3", lambda request, **_: request.headers.__setitem__("x-plain", "1"))
        watched.bucket = Bucket(endpoint, client)
        watched.bucket.empty()  # servers of one process share what they hold
        yield watched.bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
