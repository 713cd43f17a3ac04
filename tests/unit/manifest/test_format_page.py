"""What docs/format/manifest.md says, read from the page and tried."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from dataset_tasks.manifest import CONTENT_COLUMNS, LAYOUT, SCHEMA, Index, Manifest, apply
from dataset_tasks.manifest.build import KEPT_PACKS, MAX_PACKS
from dataset_tasks.manifest.index_file import LAYOUT_OF_FILES
from dataset_tasks.manifest.packs import MAX_SEGMENTS
from dataset_tasks.manifest.segments import CUTS
from dataset_tasks.manifest.sources import PACK_SCHEMA
from dataset_tasks.testing.manifests import SMALL, STORE_ID, chunk_ref, content_of, file_entry, stored_in, table_of

PAGE = (Path(__file__).parents[3] / "docs" / "format" / "manifest.md").read_text()
TYPES = {
    "byte array": pa.binary(),
    "int32, logical int8": pa.int8(),
    "int64": pa.int64(),
    "32 fixed bytes": pa.binary(32),
    "string": pa.string(),
}


def _section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_page_lists_the_columns_of_the_schema():
    found = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|no) \|", _section("Entries"), re.MULTILINE)
    assert [(name, TYPES[kind], null == "yes") for name, kind, null in found] == [
        (field.name, field.type, field.nullable) for field in SCHEMA
    ]
    told = [{"owner": "source"}.get(name, name) for name, _, _ in found if name != "chunk"]
    assert told == PACK_SCHEMA.names
    assert "`source` (int32, no null) stands in\nthe place of `owner` and there is no `chunk`" in _section("Packs")


def test_the_page_numbers_the_content_columns():
    found = re.findall(r"^\| (\d) \| `(\w+)` \|", _section("Digests"), re.MULTILINE)
    assert found == [(str(number), name) for number, name in enumerate(CONTENT_COLUMNS, start=1)]


def test_the_page_has_the_numbers_of_the_code():
    assert PAGE.startswith(f"# Manifest, layout {LAYOUT_OF_FILES}\n")
    assert f"has a layout number of its own, which is {LAYOUT}:" in PAGE
    assert f"has {CUTS.most:,} entries" in _section("Segments")
    assert f"at least {CUTS.least} entries and CRC-32 (as in zip) of `p` is 0 modulo {CUTS.modulus}" in PAGE
    assert f"at most {MAX_SEGMENTS:,} row groups" in _section("Packs")
    assert f"more than {MAX_PACKS} packs" in _section("Packs")
    assert f"until {KEPT_PACKS} are left" in _section("Packs")
    assert f"\n{MAX_SEGMENTS // 2} segments or more" in _section("Packs")


def test_the_page_lists_the_columns_of_the_index(tmp_path):
    (tmp_path / "index.parquet").write_bytes(Manifest.empty().index.to_bytes())
    described = duckdb.sql(f"select * from '{tmp_path}/index.parquet'").columns
    found = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \| [^|]+ \| [^|]+ \|$", _section("Index").split("JSON")[0], re.MULTILINE
    )
    assert [name for cell in found for name in re.findall(r"`(\w+)`", cell)] == described


@pytest.mark.parametrize("versions", [1, 12])
def test_duckdb_reads_a_version_as_the_page_says(tmp_path, monkeypatch, versions):
    numbers = itertools.count()
    content = {b"f/%03d" % n: stored_in(file_entry(b"f/%03d" % n, n), "chunks/a.zip") for n in range(60)}
    objects = {"chunks/a.zip": chunk_ref("chunks/a.zip")}
    (tmp_path / "packs").mkdir()
    manifest = Manifest.empty()
    for version in range(versions):
        changed = content if version == 0 else {b"f/%03d" % (version * 5): file_entry(b"f/%03d" % (version * 5), 100)}
        content = {**content, **changed}
        built = apply(
            manifest,
            [table_of(changed.values())],
            new_key=lambda: f"packs/{next(numbers)}.parquet",
            store_id=STORE_ID,
            objects=objects,
            limits=SMALL,
        )
        for key, data in built.packs:
            (tmp_path / key).write_bytes(data)
        manifest = Manifest(built.index, lambda ref: (tmp_path / ref.key).read_bytes())
    (tmp_path / "index.parquet").write_bytes(manifest.index.to_bytes())
    assert Index.from_bytes((tmp_path / "index.parquet").read_bytes()) == manifest.index
    assert content_of(manifest) == content
    monkeypatch.chdir(tmp_path)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert duckdb.sql(query).fetchall() == [
        (e.path, e.size, e.hash.hex().upper(), e.chunk, e.offset, e.stored, e.method)
        for e in sorted(content.values(), key=lambda entry: entry.path)
    ]
