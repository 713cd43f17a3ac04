"""Catalogs of every schema there was are read by this code, after an upgrade that loses nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from dataset_tasks import Dataset, open_session
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.engine import Database
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.catalog.upgrade import migrate, read_meta, upgrade_database
from dataset_tasks.errors import CatalogError
from dataset_tasks.model import State
from dataset_tasks.testing.failpoints import injected

GOLDEN = Path(__file__).parents[1] / "data" / "schema-1"


def now() -> datetime:
    return datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def old_home(home: Path) -> Path:
    """A home as schema 1 left it."""
    shutil.copytree(GOLDEN, home)
    with closing(sqlite3.connect(home / "catalog.db")) as connection:
        connection.execute("UPDATE stores SET url = ?", (str(home / "store"),))
        connection.commit()
    return home


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest) -> str:
    """The golden catalog of schema 1, in either database."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('old_home')}/catalog.db"
    url = str(request.getfixturevalue("postgres")())
    database = Database(url)
    golden = Database(f"sqlite:///{request.getfixturevalue('old_home')}/catalog.db")
    database.write(lambda c: migrate(c, 0, 1), landed=lambda _c: None)
    tables = sa.MetaData()
    with golden.reading() as source:
        tables.reflect(source)
        rows = {table: source.execute(sa.select(table)).mappings().all() for table in tables.sorted_tables}
    for table, held in rows.items():
        if held:
            values = [dict(row) for row in held]
            database.write(lambda c, t=table, v=values: c.execute(sa.insert(t), v), landed=lambda _c: None)
    database.close()
    golden.close()
    return url


def assert_as_it_was(catalog: Catalog) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert catalog.id == expected["catalog_id"]
    found = {}
    for version in catalog.versions(states=list(State)):
        aliases = catalog.aliases(version.project, version.name)
        found[version.id] = {
            "label": version.label,
            "state": str(version.state),
            "parents": list(version.parents),
            "tags": list(version.tags),
            "metadata": dict(version.metadata),
            "quarantined": version.quarantined,
            "content_hash": version.content_hash,
            "aliases": sorted(alias for alias, held in aliases.items() if held == version.id),
        }
    assert found == {i: {k: v for k, v in each.items() if k != "files"} for i, each in expected["versions"].items()}


def test_a_home_of_schema_1_upgrades_itself_and_every_file_reads_back(
    old_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = json.loads((old_home / "expected.json").read_text())["versions"]
    before = (old_home / "catalog.db").read_bytes()
    with caplog.at_level(logging.INFO, "dataset_tasks"), open_session() as session:
        assert_as_it_was(session.catalog)
    assert f"as it was: {old_home}/catalog.db.schema-1" in caplog.text
    with (
        closing(sqlite3.connect(old_home / "catalog.db.schema-1")) as copy,
        closing(sqlite3.connect(":memory:")) as was,
    ):
        was.deserialize(before)
        assert list(copy.iterdump()) == list(was.iterdump())
    for number, (version_id, each) in enumerate(expected.items()):
        if each["files"]:
            dataset = Dataset.get(dataset_id=version_id)
            assert {path: entry.hash for path, entry in dataset.file_entries_dict.items()} == each["files"]
            assert dataset.verify_dataset_hash(dataset.get_mutable_local_copy(str(tmp_path / str(number)))) == []


def test_work_goes_on_in_an_upgraded_home(old_home: Path, tmp_path: Path) -> None:
    (draft_id,) = [
        i
        for i, v in json.loads((old_home / "expected.json").read_text())["versions"].items()
        if v["state"] == "in_progress"
    ]
    draft = Dataset.get(dataset_id=draft_id)
    draft.finalize()
    assert Dataset.create(dataset_project="gold", dataset_name="raw", parent_datasets=[draft_id])


def test_an_older_catalog_that_others_share_is_left_to_its_owner(old_url: str) -> None:
    with pytest.raises(CatalogError, match="has schema 1, this code needs") as raised:
        Catalog.open(old_url, now)
    assert "catalog upgrade" in raised.value.hint
    database = Database(old_url)
    done = upgrade_database(database)
    assert (done.before, done.after, done.copy is not None) == (1, t.SCHEMA, database.is_sqlite)
    assert upgrade_database(database).before == t.SCHEMA
    assert_as_it_was(Catalog.open(old_url, now))


def test_an_upgraded_catalog_has_the_tables_of_a_new_one(old_url: str) -> None:
    database = Database(old_url)
    upgrade_database(database)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), t.metadata_obj) == []


def test_the_first_script_makes_what_schema_1_was(tmp_path: Path) -> None:
    made = Database(f"sqlite:///{tmp_path}/made.db")
    made.write(lambda c: migrate(c, 0, 1), landed=lambda _c: None)
    shutil.copy(GOLDEN / "catalog.db", tmp_path)
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    with (
        closing(sqlite3.connect(tmp_path / "made.db")) as one,
        closing(sqlite3.connect(tmp_path / "catalog.db")) as two,
    ):
        assert one.execute(query).fetchall() == two.execute(query).fetchall()


def test_tombstones_get_the_moment_of_their_event(old_url: str) -> None:
    database = Database(old_url)
    upgrade_database(database)
    with database.reading() as connection:
        rows = connection.execute(sa.select(t.versions.c.state, t.versions.c.deleted)).all()
    assert [(state == "deleted") == (deleted is not None) for state, deleted in rows] == [True] * len(rows)


@pytest.mark.parametrize("point", ["upgrade.after_copy", "upgrade.after_step", "catalog.before_commit"])
def test_a_killed_upgrade_changed_nothing_and_starts_again(old_url: str, point: str) -> None:
    """R32."""
    if not old_url.startswith("sqlite"):  # only files are copied
        point = point.replace("upgrade.after_copy", "catalog.before_work")
    code = "import sys; from dataset_tasks.catalog.upgrade import *; upgrade_database(Database(sys.argv[1]))"
    killed = subprocess.run(
        [sys.executable, "-c", code, old_url],
        env={**os.environ, "DATASET_TASKS_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert killed.returncode == -9
    database = Database(old_url)
    with database.reading() as connection:
        assert read_meta(connection)["schema"] == "1"
        assert not sa.inspect(connection).has_table("leases")
    assert upgrade_database(database).before == 1
    assert_as_it_was(Catalog.open(old_url, now))


def test_a_failing_upgrade_changed_nothing(old_url: str) -> None:
    """R32."""
    database = Database(old_url)
    with injected("upgrade.after_step=raise:RuntimeError"), pytest.raises(RuntimeError):
        upgrade_database(database)
    with database.reading() as connection:
        assert not sa.inspect(connection).has_table("leases")


def test_of_many_upgrades_at_once_one_does_it(old_url: str) -> None:
    """R32."""
    databases = [Database(old_url) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(upgrade_database, databases))
    assert sorted(each.before for each in done) == [1] + [t.SCHEMA] * 5
    assert_as_it_was(Catalog.open(old_url, now))


@pytest.fixture(autouse=True)
def _closed_databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Database] = []
    real: Callable[..., None] = Database.__init__

    def remember(self: Database, url: str) -> None:
        real(self, url)
        made.append(self)

    monkeypatch.setattr(Database, "__init__", remember)
    yield
    for database in made:
        database.close()
