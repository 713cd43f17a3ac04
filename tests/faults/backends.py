"""Where the catalog and the objects of a sweep are: in the home folder, or on servers of its own.

Before each try everything is put back as it was; a folder is copied by the sweep itself, the rest is done here. Tries are
forks: what takes a server's client long to load is loaded once, before them, and no connection is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from example_flows.demo.services import free_port
from tests.services.postgres import Postgres
from tests.services.servers import answers, wait_until

if TYPE_CHECKING:
    import psycopg
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

BUCKET = "lake"


class Backend:
    """Catalog (SQLite) and store in the home folder: nothing to do beside it."""

    def keep(self) -> None:
        """Remembers what there is."""

    def restore(self) -> None:
        """Puts back what was remembered."""

    def empty(self) -> None:
        """Before another scenario: nothing is there."""


class Servers(Backend):
    """A catalog in PostgreSQL and objects in S3, told to sessions by environment variables."""

    def __init__(self, server: Postgres, endpoint: str) -> None:
        import boto3
        import psycopg

        url = server.database()
        self._rows = Rows(psycopg.connect(url, autocommit=True))
        self._s3 = boto3.client("s3", endpoint_url=endpoint)
        self._s3.create_bucket(Bucket=BUCKET)
        self._objects: dict[str, bytes] = {}
        self._tags: dict[str, str] = {}
        os.environ["DATASET_TASKS_CATALOG_URL"] = url
        os.environ["DATASET_TASKS_STORE_URL"] = f"s3://{BUCKET}/sweep?endpoint={quote(endpoint, safe='')}&style=path"

    def keep(self) -> None:
        self._rows.keep()
        self._tags = self._listed()
        self._objects = {key: self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in self._tags}

    def restore(self) -> None:
        self._rows.restore()
        found = self._listed()
        self._delete(found.keys() - self._tags.keys())
        for key, tag in self._tags.items():
            if found.get(key) != tag:
                self._s3.put_object(Bucket=BUCKET, Key=key, Body=self._objects[key])
        self._abort()

    def empty(self) -> None:
        self._rows.drop()
        self._delete(self._listed().keys())
        self._abort()

    def _listed(self) -> dict[str, str]:
        listing = self._s3.list_objects_v2(Bucket=BUCKET)
        assert not listing["IsTruncated"], "a scenario has more objects than a listing shows"
        return {each["Key"]: each["ETag"] for each in listing.get("Contents", ())}

    def _delete(self, keys: Iterable[str]) -> None:
        doomed: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys]
        if doomed:
            self._s3.delete_objects(Bucket=BUCKET, Delete={"Objects": doomed, "Quiet": True})

    def _abort(self) -> None:
        for each in self._s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
            self._s3.abort_multipart_upload(Bucket=BUCKET, Key=each["Key"], UploadId=each["UploadId"])


class Rows:
    """The rows of a database: copied aside, and back. Tables stay, which is a tenth of making a database anew.

    Args:
        connection: Commits each statement by itself; used by this process alone.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._back = ""

    def keep(self) -> None:
        """Remembers all rows, and where counters stand."""
        tables = self._names("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        counters = self._names("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1")
        self._do("DROP SCHEMA IF EXISTS kept CASCADE", "CREATE SCHEMA kept")
        self._do(*(f'CREATE TABLE kept."{each}" AS TABLE public."{each}"' for each in tables))
        self._do(
            *(f'CREATE TABLE kept."{each}" AS SELECT last_value, is_called FROM public."{each}"' for each in counters)
        )
        every = ", ".join(f'public."{each}"' for each in tables)
        self._back = "; ".join(
            [
                "BEGIN",
                "SET LOCAL session_replication_role = replica",  # no foreign key asks for an order
                f"TRUNCATE {every}",
                *(
                    f'INSERT INTO public."{each}" OVERRIDING SYSTEM VALUE SELECT * FROM kept."{each}"'
                    for each in tables
                ),
                *(f'SELECT setval(\'public."{each}"\', last_value, is_called) FROM kept."{each}"' for each in counters),
                "COMMIT",
            ]
        )

    def restore(self) -> None:
        """Puts the rows back; waits for transactions of those that were killed, which end with their connection."""
        self._do(self._back)

    def drop(self) -> None:
        """Removes all tables."""
        self._do("DROP SCHEMA IF EXISTS kept CASCADE", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def _names(self, query: str) -> list[str]:
        return [name for (name,) in self._connection.execute(query.encode()).fetchall()]

    def _do(self, *statements: str) -> None:
        for each in statements:
            self._connection.execute(each.encode())


def warm() -> None:
    """What a session does first with PostgreSQL and S3, as far as it can be done for all forks at once."""
    import psycopg  # noqa: F401  # half a second
    from boto3.session import Session

    from dataset_tasks.store import open_store

    real = Session.client
    made: dict[tuple[str, object], object] = {}

    def client(session: Session, service: str, **asked: Any) -> object:  # Any: as boto3 takes them
        """A client as it was made before the fork: it takes as long as many requests, and has no connection yet."""
        key = service, asked.get("endpoint_url")
        if key not in made:
            made[key] = real(session, service, **asked)  # type: ignore[call-overload]  # one for each service's name
        return made[key]

    Session.client = client  # type: ignore[method-assign,assignment]  # only in this program
    open_store(os.environ["DATASET_TASKS_STORE_URL"])


@contextmanager
def backend(name: str) -> Iterator[Backend]:
    """The backend of that name, as long as the block runs: `home`, or `servers` (PostgreSQL and moto)."""
    if name == "home":
        yield Backend()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with this program
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    port = free_port()
    program = str(Path(sys.executable).with_name("moto_server"))
    moto = Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=DEVNULL, stderr=DEVNULL)
    server = None
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{endpoint}/moto-api/"), [moto], "moto")
        server = Postgres()
        servers = Servers(server, endpoint)
        warm()
        yield servers
    finally:
        if server is not None:
            server.close()
        moto.kill()
        moto.wait()
