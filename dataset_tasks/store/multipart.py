"""Writing an object in parts that are sent by a few threads while the next one is gathered."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, wait
from typing import Final, Protocol

from dataset_tasks.errors import StorageError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store.base import Writer
from dataset_tasks.store.transfer import Threads, Trouble

#: Objects up to this size (bytes) go in one request; larger ones in parts of it, which double every thousand parts.
PART_BYTES: Final = 8 << 20
#: Parts of one object under way at once.
_AT_ONCE: Final = 4


class Multipart(Protocol):
    """A service that takes an object in parts. `trouble` is the patience left for this object."""

    @property
    def threads(self) -> Threads:
        """Who sends the parts."""

    def put_small(self, key: str, data: Buffer) -> None:
        """Writes an object in one request."""

    def begin_upload(self, key: str, trouble: Trouble) -> str:
        """Has the service record an upload before its first part; gives its id."""

    def put_part(self, key: str, upload: str, number: int, data: Buffer, trouble: Trouble) -> str:
        """Sends a part, numbered from 1; gives what `complete_upload` needs to know of it."""

    def complete_upload(self, key: str, upload: str, parts: list[str], size: int, trouble: Trouble) -> None:
        """Makes the object of its parts and looks whether it stands with that size (bytes)."""

    def abort_upload(self, key: str, upload: str) -> None:
        """Drops an upload with its parts; never raises for the service's sake."""

    def trouble(self) -> Trouble:
        """Patience for a new object."""


class PartWriter(Writer):
    """Gathers parts and sends them; a small object goes in one request at commit.

    Args:
        service: Where to.
        key: The object's, checked.
    """

    def __init__(self, service: Multipart, key: str) -> None:
        self.key = key
        self._service = service
        self._trouble = service.trouble()
        self._waiting = bytearray()
        self._upload = ""
        self._sent = self._size = 0
        self._running: deque[Future[str]] = deque()
        self._done: list[str] = []
        self._is_over = False

    def write(self, data: Buffer) -> None:
        """Appends bytes; see `Writer.write`."""
        self._check()
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            limit = PART_BYTES << (self._sent // 1000)
            taken = rest[: limit - len(self._waiting)]
            self._waiting += taken
            rest = rest[len(taken) :]
            if len(self._waiting) == limit:
                self._send()

    def commit(self) -> None:
        """Makes the object visible, whole; see `Writer.commit`."""
        self._check()
        if not self._upload:
            self._service.put_small(self.key, self._waiting)
            self._end()
            return
        if self._waiting:
            self._send()
        while self._running:
            self._done.append(self._running.popleft().result())
        failpoint("multipart.before_complete")
        self._service.complete_upload(self.key, self._upload, self._done, self._size, self._trouble)
        failpoint("multipart.after_complete")
        self._upload = ""
        self._end()

    def abort(self) -> None:
        """Drops what was written; see `Writer.abort`."""
        upload, self._upload = self._upload, ""
        self._end()
        if upload:
            self._service.abort_upload(self.key, upload)

    def _send(self) -> None:
        """Hands on what waits as the next part, when one of those under way has come through."""
        if not self._upload:
            self._upload = self._service.begin_upload(self.key, self._trouble)
            failpoint("multipart.after_begin")
        while len(self._running) >= _AT_ONCE:
            self._done.append(self._running.popleft().result())
        part, self._waiting = self._waiting, bytearray()
        self._sent += 1
        number, upload = self._sent, self._upload
        self._running.append(self._service.threads.submit(lambda: self._put(upload, number, part)))

    def _put(self, upload: str, number: int, part: Buffer) -> str:
        sent = self._service.put_part(self.key, upload, number, part, self._trouble)
        failpoint("multipart.after_part")
        return sent

    def _check(self) -> None:
        if self._is_over:
            raise StorageError(f"the writer of {self.key} is closed", hint="Begin the object anew.")

    def _end(self) -> None:
        self._is_over = True
        self._waiting = bytearray()
        for future in self._running:
            future.cancel()
        wait(self._running)  # a part that arrived after the upload was dropped would stay for ever
        self._running.clear()
