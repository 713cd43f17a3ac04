"""Every DAG file that docs/airflow.md shows loads, and names what is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "airflow.md").read_text(encoding="utf-8")
SPEC = """
version: 1
name: flights
project: nyc
datasets:
  raw:
    add: [{path: /data}]
    publish: true
"""


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_block_is_a_dag_file_that_loads(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "flights.yaml").write_text(SPEC)
    found = []
    for number, block in enumerate(blocks()):
        file = tmp_path / f"block{number}_dag.py"
        file.write_text(f"# a DAG file of airflow\n{block}")
        bag = DagBag(str(file))
        assert bag.import_errors == {}
        found += list(bag.dags)
    assert found == ["crm", "orders_by_hand", "flights", "flights", "score"]


def test_every_operator_is_named() -> None:
    from dataset_tasks.ops.requests import OPERATIONS

    assert [verb for verb in OPERATIONS if verb.capitalize() not in PAGE] == []


def test_the_table_of_the_connection_has_every_field() -> None:
    from airflow_provider.get_provider_info import get_provider_info

    (connection,) = get_provider_info()["connection-types"]
    labels = [field["label"] for field in connection["conn-fields"].values()]
    labels += connection["ui-field-behaviour"]["relabeling"].values()
    assert [label for label in labels if label not in PAGE] == []
