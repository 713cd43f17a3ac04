"""Which time a run stands for: windows between the ticks of a schedule. Pure, apart from time zone data.

A window is `[previous tick, this tick)`. Ticks of `cron` are wall-clock times in the schedule's zone; ticks of `every` are
counted from `start` (else from 1970-01-01 in the zone) in real time, whatever the clocks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.plan import Schedule


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, `start` included, `end` not; both aware, in the schedule's zone."""

    start: datetime
    end: datetime


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        InvalidArgumentError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgumentError(
            f"{name!r} is not a time zone", hint="Write an IANA name such as UTC or Europe/Berlin."
        ) from error


def check_cron(text: str) -> None:
    """Checks a cron expression of five fields.

    Raises:
        InvalidArgumentError: It is not one.
    """
    fields = text.split()
    if len(fields) != 5:
        raise InvalidArgumentError(
            f"{text!r} is not a cron expression: expected 5 fields (minute, hour, day, month, weekday), "
            f"found {len(fields)}"
        )
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidArgumentError(f"{text!r} is not a cron expression: {error}") from error


def moment(text: str, timezone: ZoneInfo) -> datetime:
    """The instant of an ISO 8601 date or date and time; without an offset it is in the zone given.

    Raises:
        InvalidArgumentError: It is neither.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r} is not a date", hint="Write 2013-01-31 or 2013-01-31T06:00.") from error
    return read if read.tzinfo else read.replace(tzinfo=timezone)


def window_at(schedule: Schedule, instant: datetime) -> Window:
    """The window whose end is the last tick that is not after the instant.

    Raises:
        InvalidArgumentError: The schedule has no ticks, or the window begins before its start.
    """
    _must_tick(schedule)
    ticks = _ticks_back(schedule, instant)
    end = next(ticks)
    found = Window(next(ticks), end)
    _not_before_start(schedule, found)
    return found


def window_of_day(schedule: Schedule, day: date) -> Window:
    """The first window that begins on a day of the schedule's zone.

    Raises:
        InvalidArgumentError: None does, the schedule has no ticks, or the window begins before its start.
    """
    _must_tick(schedule)
    midnight = datetime.combine(day, time(), zone(schedule.timezone))
    ticks = _ticks_on(schedule, midnight)
    found = Window(next(ticks), next(ticks))
    if found.start.date() != day:
        raise InvalidArgumentError(
            f"no window of the schedule begins on {day}; the next begins at {found.start.isoformat()}",
            hint="Give a day on which the schedule ticks, or an instant such as 2013-01-31T06:00.",
        )
    _not_before_start(schedule, found)
    return found


def window_for(schedule: Schedule | None, text: str) -> Window:
    """The window that `--date` means: of a day, or up to an instant.

    Raises:
        InvalidArgumentError: The text is no date, or the schedule has no such window.
    """
    if schedule is None:
        raise InvalidArgumentError(
            "this spec has no schedule, so a date names no window", hint="Leave the date out, or give it a schedule."
        )
    if len(text) == 10:
        try:
            return window_of_day(schedule, date.fromisoformat(text))
        except ValueError as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError(f"{text!r} is not a date", hint="Write 2013-01-31.") from error
    return window_at(schedule, moment(text, zone(schedule.timezone)))


def windows_between(schedule: Schedule, first: datetime, last: datetime) -> Iterator[Window]:
    """All windows that begin at or after `first` and end at or before `last`, in order.

    Raises:
        InvalidArgumentError: The schedule has no ticks.
    """
    _must_tick(schedule)
    begin = first
    if schedule.start is not None:
        begin = max(first, moment(schedule.start, zone(schedule.timezone)))
    ticks = _ticks_on(schedule, begin)
    start = next(ticks)
    for end in ticks:
        if end > last:
            return
        yield Window(start, end)
        start = end


def _must_tick(schedule: Schedule) -> None:
    if schedule.cron is None and schedule.every is None:
        raise InvalidArgumentError(
            f"a schedule after {', '.join(schedule.after)} has no windows",
            hint="Only cron and every give a run a date.",
        )


def _not_before_start(schedule: Schedule, window: Window) -> None:
    if schedule.start is None:
        return
    start = moment(schedule.start, zone(schedule.timezone))
    if window.start < start:
        raise InvalidArgumentError(
            f"the window {window.start.isoformat()} to {window.end.isoformat()} begins before the schedule's start, "
            f"{schedule.start}",
            hint="Give a later date, or move `start` in the spec.",
        )


def _ticks_back(schedule: Schedule, instant: datetime) -> Iterator[datetime]:
    """Ticks at or before an instant, newest first."""
    where = zone(schedule.timezone)
    if schedule.cron is not None:
        after = (instant + timedelta(minutes=1)).astimezone(where).replace(second=0, microsecond=0)
        return (tick for tick in CronSim(schedule.cron, after, reverse=True) if tick <= instant)
    return _every(schedule, instant, where, forward=False)


def _ticks_on(schedule: Schedule, instant: datetime) -> Iterator[datetime]:
    """Ticks at or after an instant, oldest first."""
    where = zone(schedule.timezone)
    if schedule.cron is not None:
        before = (instant - timedelta(minutes=1)).astimezone(where)
        return (tick for tick in CronSim(schedule.cron, before) if tick >= instant)
    return _every(schedule, instant, where, forward=True)


def _every(schedule: Schedule, instant: datetime, where: ZoneInfo, *, forward: bool) -> Iterator[datetime]:
    assert schedule.every is not None
    origin = moment(schedule.start or "1970-01-01", where).astimezone(UTC)
    step = timedelta(seconds=schedule.every)
    count, rest = divmod(instant.astimezone(UTC) - origin, step)
    if forward and rest:
        count += 1
    while True:
        yield (origin + count * step).astimezone(where)
        count += 1 if forward else -1
