"""What is reported about a version is kept with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import ConflictError, InvalidArgumentError, NotFoundError, SourceError
from dataset_tasks.ops.requests import Collect
from dataset_tasks.report import Logger
from dataset_tasks.testing.invariants import assert_invariants


@pytest.fixture
def draft() -> Dataset:
    return Dataset.create("d", "p")


def test_all_kinds_are_kept_in_order_also_after_finalize(draft: Dataset, tmp_path: Path) -> None:
    image = tmp_path / "plot.png"
    image.write_bytes(b"\x89PNG...")
    logger = draft.get_logger()
    logger.report_text("<script>alert(1)</script>")
    logger.report_scalar("loss", "train", 0.5, 1)
    logger.report_table("rows", "head", table_plot=pd.DataFrame({"a": [1, 2]}))
    logger.report_histogram("sizes", "all", [1, 2, 3])
    logger.report_image("plot", "p", local_path=image)
    draft.finalize()
    draft.get_logger().report_media("sound", "s", local_path=image)
    found = Dataset.get(draft.id).get_logger().reports()
    assert [each.kind for each in found] == ["text", "scalar", "table", "histogram", "image", "media"]
    assert found[0].value == "<script>alert(1)</script>"
    assert found[2].value == [{"a": 1}, {"a": 2}]
    assert logger.read_media(found[4]) == logger.read_media(found[5]) == b"\x89PNG..."
    assert_invariants(draft._session)


def test_scalars_and_tables_come_back_as_frames(draft: Dataset) -> None:
    logger = draft.get_logger()
    for step in range(3):
        logger.report_scalar("loss", "train", step / 2, step)
    logger.report_table("rows", "head", table_plot=[{"a": 1}])
    assert logger.frame("loss", "train")["value"].tolist() == [0.0, 0.5, 1.0]
    assert logger.frame("rows", "head")["a"].tolist() == [1]
    with pytest.raises(InvalidArgumentError):
        logger.frame("none", "none")


def test_text_goes_to_the_log_too(draft: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dataset_tasks.report"):
        draft.get_logger().report_text("half done")
    assert "half done" in caplog.text


def test_what_can_not_be_kept_is_refused_with_a_hint(draft: Dataset, tmp_path: Path) -> None:
    logger = draft.get_logger()
    for refused in (
        lambda: logger.report_scalar("loss", "train", float("nan"), 0),
        lambda: logger.report_table("rows", "head"),
        lambda: logger.report_image("plot", "p"),
        lambda: logger.report_text("a", title="a\0b"),
    ):
        with pytest.raises(InvalidArgumentError) as raised:
            refused()
        assert raised.value.hint
    with pytest.raises(SourceError, match=r"none\.png"):
        logger.report_image("plot", "p", local_path=tmp_path / "none.png")
    assert logger.reports() == []


def test_a_file_that_gc_takes_away_before_it_is_reported_is_no_report(
    draft: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "plot.png"
    image.write_bytes(b"image")
    logger, session = draft.get_logger(), draft._session
    add_report = session.catalog.add_report

    def late(version_id: str, *, objects: Sequence[str], **report: Any) -> int:
        session.run(Collect(dry_run=False, now=True, idle=0.0))
        return add_report(version_id, objects=objects, **report)

    with monkeypatch.context() as patched:
        patched.setattr(session.catalog, "add_report", late)
        with pytest.raises(ConflictError, match="gone before it was reported") as raised:
            logger.report_image("plot", "p", local_path=image)
    assert raised.value.hint
    assert logger.reports() == []
    logger.report_image("plot", "p", local_path=image)
    session.run(Collect(dry_run=False, now=True, idle=1e9))
    assert logger.read_media(logger.reports()[0]) == b"image"
    assert_invariants(session)


def test_reports_about_no_version_are_refused(draft: Dataset) -> None:
    with pytest.raises(NotFoundError):
        Logger(draft._session, "0" * 32).report_text("x")
