"""Versions of a scheduled spec stand in the order of their windows, whenever they are made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dataset_tasks.ops.requests import Create, Finalize
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.run import run_plan

SPEC = """\
version: 1
name: shop
project: shop
schedule: {cron: "0 0 * * *", start: "2026-01-01"}
datasets:
  orders: {transform: {run: [sh, -c, "echo ${run.date} > ${output}/day"]}, publish: {}}
"""


def test_a_backfill_of_an_earlier_day_does_not_become_the_latest(home: Path) -> None:
    """R23."""
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
    with open_session(home=home) as session:
        made = []
        for day in days:
            origin = {"window": day.isoformat()}
            draft = session.run(Create(project="p", name="n"), origin=origin)
            made.append(session.run(Finalize(ref=draft.version_id)).version_id)
        assert [session.catalog.version(i).window for i in made] == days
        assert session.catalog.resolve("p/n@latest").id == made[0]


def test_the_window_of_a_spec_run_is_kept_with_its_versions(home: Path, tmp_path: Path) -> None:
    """R23."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    plan = compile_spec(tmp_path / "spec.yaml")
    with open_session(home=home) as session:
        for day in ("2026-01-05", "2026-01-03"):
            assert run_plan(plan, session, date=day).ok
        found = session.catalog.versions(project="shop", name="orders")
        assert [v.window for v in found] == [datetime(2026, 1, day, tzinfo=UTC) for day in (5, 3)]
        assert session.catalog.resolve("shop/orders").id == found[0].id
