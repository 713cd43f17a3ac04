"""The schedule of a spec as one of Airflow's: windows of cron and fixed length, or the assets of other datasets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider.assets import dataset_asset
from airflow_provider.compat import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from dataset_tasks.spec.windows import moment, zone

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from dataset_tasks.spec.plan import Schedule


def schedule_of(schedule: Schedule | None, known: Mapping[str, Asset]) -> Any:  # Any: a timetable, assets, or None
    """What a DAG is scheduled by.

    Args:
        schedule: Of the spec; None: runs are started by hand.
        known: Assets to take in the place of plain ones, by URI.
    """
    if schedule is None:
        return None
    start = None if schedule.start is None else moment(schedule.start, zone(schedule.timezone)).isoformat()
    if start is not None and not schedule.after:
        # Not as the DAG's start date: Airflow would make no tasks for a run before it, and call that a success.
        from airflow_provider.timetables import CronFromStartTimetable, EveryFromStartTimetable

        if schedule.cron is not None:
            return CronFromStartTimetable(schedule.cron, timezone=schedule.timezone, start=start)
        if schedule.every is not None:
            return EveryFromStartTimetable(schedule.every, start=start)
    if schedule.cron is not None:
        # A cron text alone would give Airflow's trigger timetable, in which a run has no data interval.
        return CronDataIntervalTimetable(schedule.cron, timezone=schedule.timezone)
    if schedule.every is not None:
        return DeltaDataIntervalTimetable(timedelta(seconds=schedule.every))
    plain = (dataset_asset(dataset) for dataset in schedule.after)
    return [known.get(asset.uri, asset) for asset in plain]
