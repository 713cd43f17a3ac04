from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.plan import Schedule
from dataset_tasks.spec.windows import moment, window_at, window_for, windows_between, zone

NEW_YORK = ZoneInfo("America/New_York")
DAILY = Schedule(cron="0 6 * * *", timezone="America/New_York", start="2013-01-01")


def shown(window):
    return f"{window.start.isoformat()}/{window.end.isoformat()}"


@pytest.mark.parametrize(
    ("date", "window"),
    [
        ("2013-01-05", "2013-01-05T06:00:00-05:00/2013-01-06T06:00:00-05:00"),
        ("2013-01-05T06:00", "2013-01-04T06:00:00-05:00/2013-01-05T06:00:00-05:00"),
        ("2013-01-05T05:59:59", "2013-01-03T06:00:00-05:00/2013-01-04T06:00:00-05:00"),
        ("2013-01-05T11:00:00+00:00", "2013-01-04T06:00:00-05:00/2013-01-05T06:00:00-05:00"),
        ("2013-01-05T10:59:59Z", "2013-01-03T06:00:00-05:00/2013-01-04T06:00:00-05:00"),
    ],
)
def test_a_day_names_the_window_that_begins_on_it_and_an_instant_the_last_that_ended(date, window):
    assert shown(window_for(DAILY, date)) == window


def test_windows_meet_across_a_change_of_the_clocks():
    found = list(windows_between(DAILY, datetime(2013, 3, 9, tzinfo=NEW_YORK), datetime(2013, 3, 12, tzinfo=NEW_YORK)))

    assert [shown(window) for window in found] == [
        "2013-03-09T06:00:00-05:00/2013-03-10T06:00:00-04:00",
        "2013-03-10T06:00:00-04:00/2013-03-11T06:00:00-04:00",
    ]


def test_a_tick_that_the_clocks_leave_out_comes_when_they_have_moved():
    schedule = Schedule(cron="30 2 * * *", timezone="America/New_York")

    assert shown(window_for(schedule, "2013-03-10")) == "2013-03-10T03:00:00-04:00/2013-03-11T02:30:00-04:00"


def test_an_hour_that_comes_twice_has_two_windows():
    schedule = Schedule(cron="0 * * * *", timezone="America/New_York")
    found = windows_between(schedule, datetime(2013, 11, 3, tzinfo=NEW_YORK), datetime(2013, 11, 3, 3, tzinfo=NEW_YORK))

    assert [window.start.isoformat() for window in found] == [
        "2013-11-03T00:00:00-04:00",
        "2013-11-03T01:00:00-04:00",
        "2013-11-03T01:00:00-05:00",
        "2013-11-03T02:00:00-05:00",
    ]


def test_ticks_of_a_fixed_distance_are_counted_from_the_start():
    schedule = Schedule(every=6 * 3600, start="2013-01-01T01:00", timezone="UTC")

    assert shown(window_for(schedule, "2013-01-01T14:00")) == "2013-01-01T07:00:00+00:00/2013-01-01T13:00:00+00:00"
    assert shown(window_for(schedule, "2013-01-02")) == "2013-01-02T01:00:00+00:00/2013-01-02T07:00:00+00:00"


def test_a_tick_belongs_to_the_window_that_it_begins():
    schedule = Schedule(every=3600)
    tick = datetime(2013, 1, 1, 5, tzinfo=UTC)

    assert window_at(schedule, tick).end == tick


def test_windows_between_are_whole_and_begin_at_the_start_of_the_schedule():
    found = list(windows_between(DAILY, datetime(2012, 12, 1, tzinfo=UTC), datetime(2013, 1, 3, 12, tzinfo=UTC)))

    assert [window.start.date().isoformat() for window in found] == ["2013-01-01", "2013-01-02"]


def test_a_run_before_the_start_is_an_error_that_names_both():
    with pytest.raises(InvalidArgumentError, match=r"begins before the schedule's start, 2013-01-01") as caught:
        window_for(DAILY, "2012-12-31")
    assert caught.value.hint


def test_a_day_without_a_tick_is_an_error_that_names_the_next():
    weekly = Schedule(cron="0 0 * * 1")

    with pytest.raises(
        InvalidArgumentError, match="no window of the schedule begins on 2013-01-05; the next begins at 2013-01-07"
    ):
        window_for(weekly, "2013-01-05")


@pytest.mark.parametrize("date", ["yesterday", "2013-02-30", "2013-02-30T10:00"])
def test_a_text_that_is_no_date_is_refused(date):
    with pytest.raises(InvalidArgumentError, match="is not a date"):
        window_for(DAILY, date)


def test_a_schedule_after_another_dataset_has_no_windows():
    with pytest.raises(InvalidArgumentError, match="after nyc/weather has no windows"):
        window_for(Schedule(after=("nyc/weather",)), "2013-01-01")


def test_a_moment_without_offset_is_in_the_zone_given():
    assert moment("2013-01-01T06:00", NEW_YORK).isoformat() == "2013-01-01T06:00:00-05:00"
    assert moment("2013-01-01T06:00+01:00", NEW_YORK).isoformat() == "2013-01-01T06:00:00+01:00"


@pytest.mark.parametrize("name", ["Nowhere/Land", "../../etc/passwd", ""])
def test_a_zone_that_does_not_exist_is_refused(name):
    with pytest.raises(InvalidArgumentError, match="is not a time zone"):
        zone(name)
