"""What docs/prefect.md names is there. Its code runs in tests/e2e/prefect/test_page.py, which has a server."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("prefect") is None, reason="pip install dataset-tasks[prefect]"
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "prefect.md").read_text(encoding="utf-8")


def test_everything_that_is_exported_is_named() -> None:
    import prefect_blocks

    assert [name for name in prefect_blocks.__all__ if f"`{name}`" not in PAGE and f"{name}(" not in PAGE] == []


def test_the_table_of_the_block_has_every_field() -> None:
    from prefect_blocks import DatasetCatalog

    block = next(part for part in PAGE.split("\n\n") if "| `catalog_url` |" in part)
    table = re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)
    assert table == [*DatasetCatalog.model_fields]


def test_the_numbers_it_gives_are_those_of_the_code() -> None:
    from prefect_blocks import reports, running
    from prefect_blocks.tasks import build_dataset, create_dataset, transform_dataset

    assert f"first {running.LISTED} are in it" in PAGE
    assert f"first {reports.SHOWN_CHANGES} paths" in PAGE
    assert (create_dataset.retries, create_dataset.retry_delay_seconds[:2]) == (2, [2, 10])  # type: ignore[index]  # a list
    assert build_dataset.retries == transform_dataset.retries == 0
