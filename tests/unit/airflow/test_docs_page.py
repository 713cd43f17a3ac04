"""Every DAG of the page on Airflow loads and serializes; every path that the page names is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "airflow.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SPEC = """version: 1
name: flights
project: nyc
params: {month: {type: str, default: "2026-01"}}
datasets:
  raw:
    add: [{path: "/data/${params.month}"}]
"""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_dags_of_the_page_load(number: int, tmp_path: Path, dag_bag: Any, serialized: Any) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "flights.yaml").write_text(SPEC)
    (tmp_path / "block_dag.py").write_text(f"# airflow dag\n{BLOCKS[number]}")
    bag = dag_bag(tmp_path)
    assert bag.import_errors == {}
    assert bag.dags
    for dag in bag.dags.values():
        serialized(dag)


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"\]\((images/[^)]+)\)", PAGE)
    assert pictures
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 200_000, picture


def test_the_classes_that_settings_name_are_there() -> None:
    from importlib import import_module

    for path in re.findall(r'"(airflow_provider\.[\w.]+)"', PAGE):
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path
