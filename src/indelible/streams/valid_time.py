"""Ranges of valid time, and the order of events in them (docs/explanation/bitemporal.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from indelible.core.timestamps import (
    TimeRange,
    previous_instant,
    validate_time_range,
    validate_timestamp,
)
from indelible.errors import InvalidInput

from .recorded_time import LAST_POSITION
from .rows import valid_at_of

Key = tuple[datetime | None, int]
"""A key in the order of valid time: a valid time (None is before all others) and a position."""


class ValidTimeRange:
    """A range of valid time, as two keys: after the first, before the second.

    Args:
        valid_at: events that are valid at a moment: their valid time is this moment or earlier.
        valid_between: events with a valid time from a moment on and before another.

    Raises:
        InvalidInput: an argument is invalid, or both are given.
    """

    is_everything: bool

    is_nothing: bool

    def __init__(
        self, valid_at: datetime | None = None, valid_between: TimeRange | None = None
    ) -> None:
        if valid_at is not None and valid_between is not None:
            raise InvalidInput(
                "valid_at and valid_between cannot be combined: both bound the valid time"
            )
        self.above: Key = (None, LAST_POSITION)
        self.below: Key = (None, LAST_POSITION)
        self.is_everything = False
        self.is_nothing = False
        if valid_at is not None:
            self.below = (validate_timestamp("valid_at", valid_at), LAST_POSITION)
        elif (time_range := validate_time_range("valid_between", valid_between)) is not None:
            start, end = time_range
            self.above, self.below = (
                (previous_instant(start), LAST_POSITION),
                (previous_instant(end), LAST_POSITION),
            )
            self.is_nothing = self.below[0] is None
        else:
            self.is_everything = True


def key_of(row: tuple[Any, ...]) -> Key:
    """Return the key of a stored event in the order of valid time."""
    return valid_at_of(row), row[0]


def key_parameters(above: Key, below: Key) -> dict[str, object]:
    """Return the parameters of a statement that reads after one key, up to another."""
    return {
        "above_valid_at": above[0],
        "above_position": above[1],
        "below_valid_at": below[0],
        "below_position": below[1],
    }
