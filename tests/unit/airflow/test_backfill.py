"""Airflow's own backfills of compiled specs: a window that was run before is left as it is where nothing changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider.compat import AirflowSkipException
from airflow_provider.dags import dag_from_spec
from tests.unit.airflow.catalogs import Shop, shop

__all__ = ["shop"]

SPEC = """
version: 1
name: days
project: crm
schedule: {{cron: "0 6 * * *", timezone: UTC, start: "2024-01-01"}}
defaults: {{on_unchanged: version, granularity: {granularity}}}
datasets:
  day:
    partition: "${{run.date}}"
    sync: {{path: {folder}}}
"""


class Days:
    """Runs the first step of a spec as runs of a kind do, each under a key of its own."""

    def __init__(self, shop: Shop, context: dict[str, Any], tmp_path: Path, granularity: str = "dataset") -> None:
        self.shop, self.context = shop, context
        self.folder = tmp_path / "days"
        self.folder.mkdir()
        (self.folder / "a.txt").write_text("a")
        path = tmp_path / "days.yaml"
        path.write_text(SPEC.format(folder=self.folder, granularity=granularity))
        self.tasks = [task for task in dag_from_spec(path).tasks if task.task_id != "day.publish"]

    def run(self, kind: str, run: str, day: int = 3) -> list[str]:
        """The states that the tasks end in."""
        ti, window = (
            self.context["ti"],
            (datetime(2024, 1, day, 6, tzinfo=UTC), datetime(2024, 1, day + 1, 6, tzinfo=UTC)),
        )
        ti.run_id, ti.xcom = run, {}
        run_of = {"run_id": run, "dag_run": SimpleNamespace(clear_number=0, run_type=kind)}
        run_of |= {"data_interval_start": window[0], "data_interval_end": window[1]}
        states = []
        for task in self.tasks:
            ti.task_id = task.task_id
            try:
                ti.xcom_push(key="return_value", value=task.execute(self.context | run_of))
            except AirflowSkipException:
                states.append("skipped")
            else:
                states.append("success")
        return states

    def versions(self) -> list[str | None]:
        """The partitions of the versions that there are."""
        return [version.partition for version in self.shop.catalog.versions(project="crm", name="day")]


@pytest.mark.parametrize("granularity", ["dataset", "operation"])
def test_a_window_that_is_run_again_has_one_version_though_the_spec_asks_for_one_in_each_run(
    shop: Shop, context: dict[str, Any], tmp_path: Path, granularity: str
) -> None:
    days = Days(shop, context, tmp_path, granularity)
    assert set(days.run("backfill", "first")) == {"success"}
    assert set(days.run("backfill", "second")) == {"skipped"}
    assert days.versions() == ["2024-01-03"]
    left = context["ti"].xcom[days.tasks[-1].task_id, "return_value"]
    (version,) = shop.catalog.versions(project="crm", name="day")
    assert (left["version_id"], left["unchanged"]) == (version.id, True)


def test_a_window_is_made_anew_when_what_it_is_made_of_has_changed(
    shop: Shop, context: dict[str, Any], tmp_path: Path
) -> None:
    days = Days(shop, context, tmp_path)
    days.run("backfill", "first")
    (days.folder / "b.txt").write_text("b")
    assert days.run("backfill", "second") == ["success"]
    assert days.versions() == ["2024-01-03"] * 2


def test_each_window_has_its_own_version_and_other_runs_make_theirs(
    shop: Shop, context: dict[str, Any], tmp_path: Path
) -> None:
    days = Days(shop, context, tmp_path)
    days.run("backfill", "first")
    assert days.run("backfill", "other day", day=2) == ["success"]
    assert days.run("manual", "by hand") == ["success"]
    assert days.versions() == ["2024-01-03", "2024-01-02", "2024-01-03"]
