"""The report of a check: kept with the draft that was given up for it, and found by the user afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.cli.main import run as program
from dataset_tasks.errors import CheckFailedError
from dataset_tasks.model import State
from dataset_tasks.session import Session, open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import RunReport
from dataset_tasks.spec.run import run_plan

pytest.importorskip("pandera")

SPEC = """\
version: 1
name: shop
project: shop
datasets:
  orders:
    sync: {path: orders}
    check: CHECK
"""
SCHEMA = """\
schema_type: dataframe
version: 0.22.1
columns:
  amount:
    dtype: int64
    nullable: false
    checks:
      greater_than: 0
    unique: false
    coerce: false
    required: true
    regex: false
checks: null
index: null
coerce: false
strict: false
"""
TABLES = '{tables: [{files: "*", schema: orders.yaml}]}'


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders.yaml").write_text(SCHEMA)
    return tmp_path


def write(shop: Path, name: str, amounts: list[int]) -> None:
    import pandas as pd

    frame = pd.DataFrame({"amount": pd.array(amounts, dtype="int64")})
    path = shop / "orders" / name
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)


def run(shop: Path, session: Session, check: str = TABLES) -> RunReport:
    (shop / "spec.yaml").write_text(SPEC.replace("CHECK", check))
    return run_plan(compile_spec(shop / "spec.yaml", environ={}), session)


@pytest.mark.parametrize("name", ["bad.csv", "bad.parquet", "bad.jsonl"])
def test_the_report_names_file_column_rule_and_the_first_ten_rows(shop: Path, session: Session, name: str) -> None:
    write(shop, name, [5, *[-number for number in range(1, 13)]])
    write(shop, "good.csv", [1, 2])
    report = run(shop, session)

    error = report.outcomes[0].error
    assert isinstance(error, CheckFailedError)
    rows = ", ".join(f"row {number}: -{number}" for number in range(1, 11))
    assert error.findings == (f"tables: {name}, column amount: greater_than(0): {rows} and 2 more",)
    (draft,) = session.catalog.versions(name="orders", states=[State.ABORTED])
    (kept,) = session.catalog.reports(draft.id)
    assert (kept.kind, kept.title) == ("table", "check")
    assert kept.value == [
        {
            "gate": "tables",
            "file": name,
            "column": "amount",
            "rule": "greater_than(0)",
            "more": 2,
            "row": n,
            "value": -n,
        }
        for n in range(1, 11)
    ]
    assert not [version for version in session.catalog.versions() if version.state.is_final]


def test_the_command_line_shows_it_when_it_fails_and_afterwards(
    shop: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(shop, "bad.csv", [-1])
    (shop / "spec.yaml").write_text(SPEC.replace("CHECK", TABLES))

    assert program(["run", str(shop / "spec.yaml"), "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert "tables: bad.csv, column amount: greater_than(0): row 0: -1" in said
    draft = said.partition("dataset-tasks log ")[2][:32]
    assert program(["log", draft, "--home", str(home)]) == 0
    assert "tables: bad.csv, column amount: greater_than(0): row 0: -1" in capsys.readouterr().out
    assert program(["log", "shop/orders", "--json", "--home", str(home)]) == 0
    (version,) = json.loads(capsys.readouterr().out)["versions"]
    assert version["reports"][0]["value"][0]["column"] == "amount"


def test_what_only_warns_is_kept_with_the_version(shop: Path, session: Session) -> None:
    write(shop, "bad.csv", [-1])
    report = run(shop, session, "{min_files: 3, max_files: 5, min_bytes: 1000, severity: warn}")

    assert report.ok
    (kept,) = session.catalog.reports(session.catalog.resolve("shop/orders@latest").id)
    assert isinstance(kept.value, list)
    assert [row["rule"] for row in kept.value if isinstance(row, dict)] == [
        "expected at least 3 files, found 1", "expected at least 1000 bytes, found 10",
    ]  # fmt: skip


def test_a_check_that_holds_leaves_no_report(shop: Path, session: Session) -> None:
    write(shop, "good.csv", [1])
    assert run(shop, session).ok
    assert session.catalog.reports(session.catalog.resolve("shop/orders@latest").id) == []


def test_the_share_of_change_passes_on_the_first_version_and_says_so(shop: Path, session: Session) -> None:
    for number in range(4):
        write(shop, f"{number}.csv", [number + 1])
    first = run(shop, session, "{max_change: 0.25}")
    assert first.ok
    assert first.outcomes[0].result is not None
    assert "max_change: passed over, there is no previous version to compare with" in first.outcomes[0].result.notes

    write(shop, "0.csv", [100])
    assert run(shop, session, "{max_change: 0.25}").ok
    write(shop, "1.csv", [100])
    write(shop, "2.csv", [200])
    failed = run(shop, session, "{max_change: 0.25}").outcomes[0]
    assert "2 of 4 files differ from 1.0.1 (50.0%), expected at most 25.0%" in failed.why


def test_a_function_says_what_does_not_hold(shop: Path, session: Session) -> None:
    module = f"gates_{shop.name}"
    (shop / f"{module}.py").write_text(
        "def listed(folder):\n    return [f'{p.name} is empty' for p in sorted(folder.iterdir()) if not p.read_text()]\n"
        "def asserted(folder):\n    assert len(list(folder.iterdir())) > 1, 'one file only'\n"
    )
    (shop / "orders" / "empty.csv").touch()
    for function, said in (("listed", "empty.csv is empty"), ("asserted", "one file only")):
        outcome = run(shop, session, f'{{call: "{module}:{function}"}}').outcomes[0]
        assert isinstance(outcome.error, CheckFailedError)
        assert outcome.error.findings == (f"{module}:{function}: {said}",)
