"""Check timestamps and time ranges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from indelible.errors import InvalidInput
from indelible.events import Checkpoint

AsOf: TypeAlias = datetime | int | Checkpoint
"""The value of `as_of`: a timestamp, or the position or checkpoint that identifies a moment."""

TimeRange: TypeAlias = tuple[datetime, datetime]
"""A half-open time range: it includes the first timestamp and excludes the second."""

_SMALLEST = timedelta(microseconds=1)


def validate_timestamp(what: str, moment: object) -> datetime:
    """Check that a value is a datetime with a time zone; return it in UTC.

    Raises:
        InvalidInput: it is something else.
    """
    if not isinstance(moment, datetime):
        raise InvalidInput(f"{what} must be a datetime with a time zone, not {moment!r}")
    if moment.utcoffset() is None:
        raise InvalidInput(
            f"{what} must be a datetime with a time zone, such as datetime.now(UTC):"
            f" {moment.isoformat()} has no time zone"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(
            f"{what} must be in the years 1 to 9999 (UTC): {moment.isoformat()} is not"
        ) from None


def validate_time_range(what: str, value: object) -> TimeRange | None:
    """Check that a value is a time range or None.

    Raises:
        InvalidInput: it is something else, or a range that ends before it begins.
    """
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2:
        raise InvalidInput(f"{what} must be a pair of timestamps (from, before), not {value!r}")
    start, end = (validate_timestamp(what, moment) for moment in value)
    if end < start:
        raise InvalidInput(f"{what} must not end before it begins: {start} to {end}")
    return start, end


def previous_instant(moment: datetime) -> datetime | None:
    """Return the last timestamp before another one; None if there is no earlier one."""
    try:
        return moment - _SMALLEST
    except OverflowError:
        return None
