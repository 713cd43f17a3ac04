"""When a spec is to run, in Prefect's terms."""

from __future__ import annotations

from datetime import timedelta

from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Interval, Schedule

from dataset_tasks.model import asset_uri
from dataset_tasks.spec.plan import Plan
from dataset_tasks.spec.windows import moment, zone
from prefect_blocks.events import PUBLISHED


def schedule_of(plan: Plan) -> Schedule | None:
    """The spec's `schedule` for Prefect; None where it has none, or follows other datasets.

    Prefect starts what is due from now on; windows that were missed are made by `dataset-tasks backfill`.
    """
    asked = plan.schedule
    if asked is None or asked.after:
        return None
    if asked.cron is not None:
        return Cron(asked.cron, timezone=asked.timezone)
    assert asked.every is not None
    anchor = moment(asked.start or "1970-01-01", zone(asked.timezone))  # what windows are counted from, too
    return Interval(timedelta(seconds=asked.every), anchor_date=anchor, timezone=asked.timezone)


def triggers_of(plan: Plan) -> list[DeploymentEventTrigger]:
    """What starts the spec's flow when one of the datasets it comes `after` has a new published version."""
    if plan.schedule is None:
        return []
    return [
        DeploymentEventTrigger(
            name=f"{plan.name} after {dataset}",
            expect={PUBLISHED},
            match={"prefect.resource.id": asset_uri(*dataset.rsplit("/", 1))},
        )
        for dataset in plan.schedule.after
    ]
