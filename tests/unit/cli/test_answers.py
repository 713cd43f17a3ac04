"""approve, reject, backfill and what plan, log and lineage tell about them, as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataset_tasks.cli.main import run as program
from dataset_tasks.session import open_session

SPEC = """\
version: 1
name: shop
project: shop
schedule: {cron: "0 0 1 * *", start: "2025-11-01"}
datasets:
  orders:
    sync: {path: orders}
    publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}
  below: {parents: [orders]}
  flat: {squash: [orders]}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "1.csv").write_text("ana,10")
    (tmp_path / "shop.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = program(list(arguments))
        out = self._capsys.readouterr()
        return code, " ".join((out.out + out.err).split())

    def json(self, *arguments: str) -> dict[str, object]:
        program([*arguments, "--json"])
        document: dict[str, object] = json.loads(self._capsys.readouterr().out)
        return document


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_a_run_that_waits_says_how_to_answer_and_ends_with_4(shop: Path, said: Said) -> None:
    code, text = said("run", "shop.yaml")
    assert code == 4
    assert "shop/orders@1.0.0 waits for approval: answer with `dataset-tasks approve shop/orders@1.0.0`" in text
    assert "orders 1.0.0 waits for approval" in text
    assert said.json("run", "shop.yaml")["waits"] is True

    code, text = said("approve", "--list")
    assert (code, text.startswith("shop/orders@1.0.0 waits for approval since")) == (0, True)
    assert "else reject" in text
    code, text = said("approve", "shop/orders", "--by", "bo", "--note", "fine")
    assert code == 0
    assert "asked were ana; the answer of bo is recorded" in text
    assert "shop/orders@1.0.0 approved by bo (fine)" in text
    assert said("approve", "shop/orders")[0] == 3
    assert said("run", "shop.yaml")[0] == 0
    assert said("run", "shop.yaml")[0] == 3
    assert said("approve", "--list") == (3, "nothing waits for an answer")


def test_a_run_that_was_rejected_fails_and_says_how_to_go_on(shop: Path, said: Said) -> None:
    said("run", "shop.yaml")
    assert said("reject", "shop/orders", "--by", "ana", "--note", "too few")[0] == 0
    code, text = said("run", "shop.yaml")
    assert code == 1
    assert "orders 1.0.0 rejected by ana" in text
    assert "dataset-tasks approve shop/orders@1.0.0 --reopen" in text
    assert "answered before: rejected by ana" in said("approve", "shop/orders")[1]
    assert said("approve", "shop/orders", "--reopen", "--note", "x")[0] == 2
    assert said("approve", "shop/orders", "--reopen")[0] == 0
    assert said.json("approve", "shop/orders", "--by", "ana")["state"] == "approved"
    assert said("run", "shop.yaml")[0] == 0
    history = said("log", "shop/orders")[1]
    for line in ("approval asked", "rejected by ana (too few)", "held back: waits for approval", "approved by ana"):
        assert line in history


def test_who_answers_needs_a_question(shop: Path, said: Said) -> None:
    (shop / "plain.yaml").write_text(SPEC.replace("approval: {timeout: 1d, by: [ana]}, ", ""))
    assert said("run", "plain.yaml")[0] == 0
    code, text = said("approve", "shop/orders")
    assert (code, "nobody asked about a version of shop/orders" in text) == (1, True)


def test_plan_says_what_waits_and_what_is_behind_it(shop: Path, said: Said) -> None:
    plan = {each["key"]: each for each in said.json("plan", "shop.yaml")["datasets"]}  # type: ignore[attr-defined]
    assert plan["orders"]["waits"] == "waits for approval"
    assert plan["below"]["blocked"] == "orders waits for approval"
    said("run", "shop.yaml")
    code, text = said("plan", "shop.yaml")
    assert (code, "a run would make nothing, and wait for an answer" in text) == (0, True)
    said("reject", "shop/orders", "--by", "ana")
    plan = {each["key"]: each for each in said.json("plan", "shop.yaml")["datasets"]}  # type: ignore[attr-defined]
    assert plan["below"]["blocked"] == "orders rejected by ana"


def test_plan_says_when_a_dataset_looks_renamed(shop: Path, said: Said) -> None:
    plain = SPEC.replace("approval: {timeout: 1d, by: [ana]}, ", "")
    (shop / "shop.yaml").write_text(plain)
    said("run", "shop.yaml", "--select", "orders")
    (shop / "shop.yaml").write_text(plain.replace("  orders:", "  sales:").replace("[orders]", "[sales]"))

    code, _ = said("plan", "shop.yaml")
    assert code == 0
    assert said.json("plan", "shop.yaml")["datasets"][0]["renamed"] == "shop/orders"  # type: ignore[index]


def test_lint_says_who_may_answer_where(shop: Path, said: Said) -> None:
    code, text = said("lint", "shop.yaml")
    assert code == 0
    assert "datasets.orders.publish.approval.by: only Airflow and our pages let nobody but ana answer" in text
    assert len(said.json("lint", "shop.yaml")["notes"]) == 1  # type: ignore[arg-type]


def test_backfill_runs_what_is_missing_and_then_nothing(shop: Path, said: Said) -> None:
    (shop / "shop.yaml").write_text(
        SPEC.replace("    sync: {path: orders}\n", '    add: [{path: orders}]\n    partition: "${run.date:%Y-%m}"\n')
        .replace("approval: {timeout: 1d, by: [ana]}, ", "")
        .partition("  below:")[0]
    )
    code, text = said("backfill", "shop.yaml", "--to", "2026-02-01", "--jobs", "3")
    assert (code, "3 windows made" in text) == (0, True)
    assert said("backfill", "shop.yaml", "--from", "2025-12-01", "--to", "2026-02-01") == (3, "2 windows done")
    found = said.json("backfill", "shop.yaml", "--to", "2026-02-01")["windows"]
    assert [each["status"] for each in found] == ["done"] * 3  # type: ignore[attr-defined]
    assert said("backfill", "shop.yaml", "--to", "2025-11-02")[0] == 2


def test_lineage_and_log_know_what_was_squashed_and_who_read(shop: Path, said: Said, home: Path) -> None:
    (shop / "work.py").write_text("def copy(inputs, output):\n    (output / 'x').write_text('x')\n")
    (shop / "shop.yaml").write_text(
        SPEC.replace("approval: {timeout: 1d, by: [ana]}, ", "").replace(
            "  below: {parents: [orders]}", '  below: {inputs: [orders], transform: {call: "work:copy"}}'
        )
    )
    assert said("run", "shop.yaml")[0] == 0
    down = said("lineage", "shop/orders", "--down")[1]
    assert "shop/flat@1.0.0" in down
    assert "squash" in down
    history = said("log", "shop/orders")[1]
    assert "read by local, run_id" in history
    assert "step below.build" in history
    assert "spec digest" in history
    assert "code " in said("log", "shop/below@latest")[1]
    with open_session(home=home) as session:
        (read,) = session.catalog.reads(session.catalog.resolve("shop/orders").id)
    assert read.origin["spec"] == "shop"
