"""Schedules with a first window of their own, so that a DAG needs no start date.

Airflow makes no tasks for a run that is dated before its DAG's (or tasks') start date, and calls that run a success. With
the start in the timetable instead, the scheduler still begins there, and a run by hand before it has tasks: they fail, and
say why.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, DataInterval, Timetable
    from pendulum import DateTime


class _FromStart:
    """Beside one of Airflow's timetables: no scheduled window begins before `start`."""

    start: DateTime

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """As Airflow's own, from `start` on."""
        earliest = self.start if restriction.earliest is None else max(self.start, restriction.earliest)
        return super().next_dagrun_info(  # type: ignore[misc,no-any-return]  # of the timetable beside it
            last_automated_data_interval=last_automated_data_interval,
            restriction=TimeRestriction(earliest, restriction.latest, restriction.catchup),
        )


class CronFromStartTimetable(_FromStart, CronDataIntervalTimetable):
    """Windows between the ticks of a cron expression, the first one at or after a moment.

    Args:
        cron: The expression.
        timezone: In which its ticks are meant.
        start: Moment of the first window, with an offset.
    """

    def __init__(self, cron: str, *, timezone: str, start: str) -> None:
        super().__init__(cron, timezone=timezone)
        self._zone_name = timezone
        self.start = _moment(start)

    def serialize(self) -> dict[str, Any]:  # Any: as the base class says
        """As JSON, for the scheduler."""
        return {"cron": self._expression, "timezone": self._zone_name, "start": self.start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:  # Any: as above
        """What `serialize` gave."""
        return cls(data["cron"], timezone=data["timezone"], start=data["start"])


class EveryFromStartTimetable(_FromStart, DeltaDataIntervalTimetable):
    """Windows of equal length, counted from a moment.

    Args:
        seconds: How long each is.
        start: Moment at which the first one begins, with an offset.
    """

    def __init__(self, seconds: float, *, start: str) -> None:
        super().__init__(timedelta(seconds=seconds))
        self._seconds = seconds
        self.start = _moment(start)

    def infer_manual_data_interval(self, run_after: DateTime) -> DataInterval:
        """The last whole window before a moment."""
        from airflow.timetables.base import DataInterval

        end = self._floor(run_after)
        return DataInterval(start=end - timedelta(seconds=self._seconds), end=end)

    def _align_to_next(self, current: DateTime) -> DateTime:
        floor = self._floor(current)
        return floor if floor == current else floor + timedelta(seconds=self._seconds)

    def _align_to_prev(self, current: DateTime) -> DateTime:
        return self._floor(current)

    def _skip_to_latest(self, earliest: DateTime | None) -> DateTime:
        last = self._floor(pendulum.now("UTC")) - timedelta(seconds=self._seconds)
        return last if earliest is None else max(last, self._align_to_next(earliest))

    def _floor(self, moment: DateTime) -> DateTime:
        """The last tick that is not after a moment."""
        ticks = (moment - self.start).total_seconds() // self._seconds
        return self.start + timedelta(seconds=ticks * self._seconds)

    def serialize(self) -> dict[str, Any]:  # Any: as above
        """As JSON, for the scheduler."""
        return {"seconds": self._seconds, "start": self.start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:  # Any: as above
        """What `serialize` gave."""
        return cls(data["seconds"], start=data["start"])


def _moment(text: str) -> DateTime:
    return pendulum.DateTime.fromisoformat(text).in_timezone("UTC")
