"""What Prefect shows: text from users means nothing in it, and a report that fails takes nothing down."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from markdown_it import MarkdownIt

from dataset_tasks.spec.compiler import compile_spec
from prefect_blocks import reports

NASTY = '<script>alert("x")</script> | **b** _i_ [l](javascript:x) ![p](x) `c`\n# h'


def test_text_from_users_stays_text_in_markdown() -> None:
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(reports.markdown(NASTY))
    assert "<script" not in rendered
    for tag in ("<strong", "<em", "<a ", "<img", "<code", "<h1"):
        assert tag not in rendered
    assert "**b** _i_ [l](javascript:x) ![p](x) `c`" in rendered
    assert not set("<>") & set(reports.markdown(NASTY))
    assert reports.markdown("nyc/training_flat@1.0.0") == "nyc/training_flat@1.0.0"


def test_text_from_users_stays_in_its_cell() -> None:
    table = f"| a | b |\n| --- | --- |\n| {reports.markdown(NASTY)} | second |\n"
    rendered = MarkdownIt("commonmark").enable("table").render(table)
    assert rendered.count("<td>") == 2
    assert "<td>second</td>" in rendered


def test_line_ends_and_terminal_codes_are_shown_not_sent() -> None:
    assert reports.one_line("a\r\n\x1b[31mb\u202e") == "a\\r\\n\\x1b[31mb\\u202e"


@pytest.mark.parametrize(
    ("words", "key"),
    [(("crm/eu/Features", "changes"), "crm-eu-features-changes"), (("é", "x"), "x"), (("ü",), "dataset")],
)
def test_artifact_keys_are_of_the_letters_prefect_allows(words: tuple[str, ...], key: str) -> None:
    assert reports.artifact_key(*words) == key


def test_the_lineage_is_a_picture_and_a_table_of_what_is_made_from_what(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(
        "version: 1\nname: s\nproject: crm\ndatasets:\n"
        "  orders: {add: [{path: data}]}\n"
        "  features: {parents: [orders, crm/labels@prod]}\n"
    )
    text = reports.lineage_markdown(compile_spec(spec, check_sources=False), {"orders": "1.0.3"})
    assert text.startswith("```mermaid\nflowchart LR\n")
    assert "d_orders --> d_features" in text
    assert "| crm/orders | 1.0.3 |  |" in text
    assert "| crm/features |  | orders (parent), crm/labels@prod (parent) |" in text


def test_a_report_that_prefect_does_not_take_is_logged_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports, "get_run_logger", lambda: logging.getLogger("run"))
    with reports.shown("the table"):
        raise httpx.ConnectError("no server")
    assert "the table could not be shown in Prefect: no server" in caplog.text
    with pytest.raises(ZeroDivisionError), reports.shown("the table"):
        _ = 1 / 0


@pytest.mark.parametrize(("dataset", "fits"), [("crm/eu/a.b_c-1", True), ("crm/a b", False), ("crm/50%", False)])
def test_only_names_that_make_an_asset_key_are_assets(dataset: str, fits: bool) -> None:
    assert reports._can_be_asset(dataset) is fits
