"""What docs/airflow.md names is there. Its code is loaded by tests/unit/airflow/test_docs_page.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]"
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "airflow.md").read_text(encoding="utf-8")


def test_every_operator_is_named() -> None:
    from dataset_tasks.ops.requests import OPERATIONS

    assert [verb for verb in OPERATIONS if verb.capitalize() not in PAGE] == []


def test_the_table_of_the_connection_has_every_field() -> None:
    from airflow_provider.get_provider_info import get_provider_info

    (connection,) = get_provider_info()["connection-types"]
    labels = [field["label"] for field in connection["conn-fields"].values()]
    labels += connection["ui-field-behaviour"]["relabeling"].values()
    assert [label for label in labels if label not in PAGE] == []
