"""Names that moved between Airflow 3.1 and 3.3, so that nothing else has to ask for the version."""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException
except ImportError:  # before 3.2
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined,unused-ignore]
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
    )

try:
    from airflow.sdk import CronDataIntervalTimetable, DeltaDataIntervalTimetable
except ImportError:  # before 3.2
    from airflow.timetables.interval import (  # type: ignore[no-redef,assignment,unused-ignore]
        CronDataIntervalTimetable,
        DeltaDataIntervalTimetable,
    )

try:
    from airflow.sdk.configuration import conf
except ImportError:  # before 3.2
    from airflow.configuration import conf  # type: ignore[no-redef,assignment,attr-defined,unused-ignore]

__all__ = [
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "CronDataIntervalTimetable",
    "DeltaDataIntervalTimetable",
    "conf",
]
