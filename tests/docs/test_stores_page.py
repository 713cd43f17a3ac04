"""The page on stores: its options, fields and code are those of the project."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dataset_tasks import connections
from dataset_tasks.store import multipart, object, s3_bucket, transfer  # noqa: A004 - the module's name

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "stores.md").read_text()


pytestmark = pytest.mark.usefixtures("only_local_connections")


def test_the_page_has_every_option_and_no_other() -> None:
    table = PAGE.partition("## Options")[2].partition("##")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {*s3_bucket.OPTIONS, *object.OPTIONS}


def test_the_page_has_every_field_of_a_connection() -> None:
    listed = PAGE.partition("Fields: ")[2].partition("The file should")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == {each.name for each in fields(connections.StoreOptions)}


def test_the_connection_on_the_page_can_be_read(home: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    home.mkdir(parents=True)
    (home / "config.toml").write_text(text)
    found = connections.resolve("lake")
    assert found.path_style
    assert found.secret_key not in repr(found)


def test_the_resolver_on_the_page_works() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, connections.Resolver] = {}
    exec(code, names)
    try:
        assert connections.resolve("lake").region == "eu-central-1"
    finally:
        connections.unregister_resolver(names["from_vault"])


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"above {multipart.PART_BYTES >> 20} MiB" in PAGE
    assert f"{transfer.BLOCK_BYTES >> 20} MiB at a time" in PAGE
    assert transfer.THREADS == 8
    assert "by eight" in PAGE
    patience = transfer.Patience()
    assert (patience.seconds, patience.first, patience.most) == (120, 0.2, 10)
