"""How many versions a second a catalog takes from 1, 4 and 16 writing processes: created, finalized, published, labelled.

    python tests/benchmarks/catalog_bench.py [--writers 1,4,16] [--versions N] [--catalog sqlite|postgresql] [--json FILE]

Each writer is a process of its own with its own operation keys; a version is three transactions (create, finalize, publish with an
alias), all on one dataset: the worst case, as each takes the next number. `alone` is what the database takes by itself: as many
transactions of one insert and one update of the counter. Files in memory where the machine has `/dev/shm`: what is
measured is the code and the database, not the disk. Prints a table; `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from results import Results, Table

from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.writes import NewVersion, Record, advance
from tests.services.postgres import Postgres

FORK = multiprocessing.get_context("fork")


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def record(key: str) -> Record:
    """What the operations write down."""
    return Record(key=key, verb="bench", digest="", result=lambda version: {"id": version.id})


def versions(catalog: Catalog, writer: int, count: int) -> None:
    """Makes, finalizes and publishes versions."""
    store = catalog.store_id("/store")
    for number in range(count):
        key = f"{writer}/{number}"
        draft = catalog.create(NewVersion(project="p", name="n", store_id=store), record(f"c/{key}"))
        catalog.publish(catalog.finalize(draft, record(f"f/{key}")), "prod", record(f"p/{key}"))


def alone(catalog: Catalog, writer: int, count: int) -> None:
    """As many transactions, each the least there is to one."""

    def work(connection: Connection) -> bool:
        sequence = advance(connection)
        row = {"kind": "bench", "version_id": str(writer), "created": 0, "payload": "{}", "store_id": ""}
        connection.execute(sa.insert(t.events).values(sequence=sequence, **row))
        return True

    for _ in range(3 * count):
        catalog.db.write(work, landed=lambda _connection: None)


def _writer(url: str, work: Callable[[Catalog, int, int], None], writer: int, count: int, start: Barrier) -> None:
    catalog = Catalog.open(url, now)
    catalog.store_id("/store")
    start.wait()
    work(catalog, writer, count)
    catalog.close()


def measure(url: str, work: Callable[[Catalog, int, int], None], writers: int, count: int) -> float:
    """Versions a second, `count` of them over all writers."""
    Catalog.open(url, now).close()
    start = FORK.Barrier(writers + 1)
    running = [FORK.Process(target=_writer, args=(url, work, i, count // writers, start)) for i in range(writers)]
    for process in running:
        process.start()
    start.wait()
    began = time.perf_counter()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise RuntimeError("a writer failed")
    return count // writers * writers / (time.perf_counter() - began)


@contextmanager
def databases(kind: str) -> Iterator[Callable[[], str]]:
    """Gives URLs of empty databases."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        if kind == "sqlite":
            yield lambda: f"sqlite:///{tempfile.mkdtemp(dir=folder)}/catalog.db"
            return
        server = Postgres()
        try:
            yield server.database
        finally:
            server.close()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", default="1,4,16")
    parser.add_argument("--versions", type=int, default=160)
    parser.add_argument("--catalog", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="for docs/performance.md")
    given = parser.parse_args()
    figures = []
    print(f"{'catalog':12} {'writers':>7} {'versions/s':>11} {'transactions/s':>15} {'alone/s':>8}")
    for kind in given.catalog or ["sqlite", "postgresql"]:
        with databases(kind) as database:
            for writers in map(int, given.writers.split(",")):
                made = measure(database(), versions, writers, given.versions)
                least = measure(database(), alone, writers, given.versions) * 3
                row = {
                    "catalog": kind,
                    "writers": writers,
                    "versions_s": made,
                    "transactions_s": 3 * made,
                    "alone_s": least,
                }
                figures.append(row)
                print(f"{kind:12} {writers:7} {made:11.1f} {3 * made:15.1f} {least:8.0f}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if given.keep:
        rows = [[each["catalog"], each["writers"], each["versions_s"], each["alone_s"]] for each in figures]
        columns = ["catalog", "writers", "versions / s", "bare transactions / s"]
        text = (
            "Processes that each make, finalize and publish empty versions of one dataset as fast as they can. Beside it: "
            "transactions of one row by as many processes, the limit of the database."
        )
        table = Table("Versions per second, all writers together", columns, rows)
        command = "python tests/benchmarks/catalog_bench.py --keep"
        print(Results("catalog", 40, "Catalog: many writers", text, command, [table]).keep())


if __name__ == "__main__":
    main()
