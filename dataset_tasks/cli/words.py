"""Counts, sizes and moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(number: int) -> str:
    """Bytes in powers of 1,000.

    >>> size(12_345_678)
    '12.3 MB'
    """
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in _UNITS:
        value /= 1000
        if value < 999.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def count(number: int, thing: str) -> str:
    """A number of things.

    >>> count(1, "file"), count(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def moment(when: datetime | None) -> str:
    """A UTC moment to the second; nothing for None."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if when is not None else ""


def seconds(duration: float) -> str:
    """How long something took.

    >>> seconds(4.21), seconds(192)
    ('4.2 s', '3 min 12 s')
    """
    if duration < 60:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
