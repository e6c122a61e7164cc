"""Check timestamps and ranges of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from indelible.errors import InvalidInput
from indelible.events import Checkpoint

AsOf: TypeAlias = datetime | int | Checkpoint
"""What a reading may be as of: a moment, or the position or checkpoint that stands for one."""

TimeRange: TypeAlias = tuple[datetime, datetime]
"""A range of time: from the first moment on, and before the second (half-open)."""

_SMALLEST = timedelta(microseconds=1)


def validate_timestamp(what: str, moment: object) -> datetime:
    """Check that a moment is a datetime with a time zone.

    Raises:
        InvalidInput: it is something else.
    """
    if not isinstance(moment, datetime):
        raise InvalidInput(f"{what} must be a datetime with a time zone, not {moment!r}")
    if moment.utcoffset() is None:
        raise InvalidInput(
            f"{what} must be a datetime with a time zone, such as datetime.now(UTC):"
            f" {moment.isoformat()} has none"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(
            f"{what} must lie in the years 1 to 9999 (UTC): {moment.isoformat()} does not"
        ) from None


def validate_time_range(what: str, value: object) -> TimeRange | None:
    """Check a range of time, or None for none.

    Raises:
        InvalidInput: it is something else, or ends before it begins.
    """
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2:
        raise InvalidInput(f"{what} must be a pair of moments (from, before), not {value!r}")
    start, end = (validate_timestamp(what, moment) for moment in value)
    if end < start:
        raise InvalidInput(f"{what} must not end before it begins: {start} to {end}")
    return start, end


def previous_instant(moment: datetime) -> datetime | None:
    """The last moment before a moment; None before the first of all."""
    try:
        return moment - _SMALLEST
    except OverflowError:
        return None
