"""When a spec runs in Prefect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.spec.plan import Plan, Schedule
from prefect_blocks import events, flow_from_spec
from prefect_blocks.schedules import schedule_of, triggers_of

SPEC = """
version: 1
name: nightly
project: crm
schedule: {schedule}
datasets:
  orders: {{add: [{{path: data}}]}}
"""


def plan(schedule: Schedule | None) -> Plan:
    return Plan(name="p", source="/p.yaml", digest="d", steps=(), datasets=(), schedule=schedule)


def test_a_cron_keeps_its_zone() -> None:
    found = schedule_of(plan(Schedule(cron="0 6 * * *", timezone="America/New_York", start="2026-01-01")))
    assert found is not None
    assert (found.cron, found.timezone) == ("0 6 * * *", "America/New_York")


def test_an_interval_is_counted_from_where_windows_are() -> None:
    found = schedule_of(plan(Schedule(every=3600.0)))
    assert found is not None
    assert (found.interval, found.anchor_date) == (timedelta(hours=1), datetime(1970, 1, 1, tzinfo=UTC))
    found = schedule_of(plan(Schedule(every=3600.0, start="2026-01-01", timezone="Europe/Berlin")))
    assert found is not None
    assert found.anchor_date == datetime(2025, 12, 31, 23, tzinfo=UTC)


def test_no_schedule_is_none() -> None:
    assert schedule_of(plan(None)) is None
    assert schedule_of(plan(Schedule(after=("crm/orders",)))) is None
    assert triggers_of(plan(None)) == []


def test_after_other_datasets_is_a_trigger_for_each() -> None:
    first, second = triggers_of(plan(Schedule(after=("crm/orders", "nyc/eu/weather"))))
    assert first.expect == {events.PUBLISHED}
    assert first.match.root == {"prefect.resource.id": "dataset://crm/orders"}
    assert second.match.root == {"prefect.resource.id": "dataset://nyc/eu/weather"}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "nightly.yaml"
    file.write_text(SPEC.format(schedule='{cron: "0 6 * * *", start: "2026-01-01"}'))
    return file


def test_deployments_of_the_flow_have_the_schedule_of_the_spec_unless_they_are_given_one(spec: Path) -> None:
    flow = flow_from_spec(spec)
    (schedule,) = flow.to_deployment("nightly").schedules
    assert schedule.schedule.cron == "0 6 * * *"
    (schedule,) = flow.to_deployment("nightly", interval=60).schedules
    assert schedule.schedule.interval == timedelta(minutes=1)
    (schedule,) = flow.with_options(name="other").to_deployment("nightly").schedules
    assert schedule.schedule.cron == "0 6 * * *"


def test_deployments_of_a_flow_that_comes_after_others_have_triggers(spec: Path) -> None:
    spec.write_text(SPEC.format(schedule="{after: [crm/visits]}"))
    made = flow_from_spec(spec).to_deployment("nightly")
    assert made.schedules in (None, [])
    (trigger,) = made.triggers
    assert trigger.expect == {events.PUBLISHED}
