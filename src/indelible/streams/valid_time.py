"""Which facts a valid time stands for, and their order (docs/explanation/bitemporal.md)."""

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

Key = tuple[datetime | None, int]
"""A place in the order: a valid time (None is before all) and a position."""


class ValidTimeRange:
    """A part of the facts by valid time, as keys: after the first, before the second.

    Args:
        valid_at: the facts that hold at a moment: those with this valid time or an earlier one.
        valid_between: the facts with a valid time from a moment on and before another.

    Raises:
        InvalidInput: it is something else, or both are given.
    """

    is_everything: bool

    is_nothing: bool

    def __init__(
        self, valid_at: datetime | None = None, valid_between: TimeRange | None = None
    ) -> None:
        if valid_at is not None and valid_between is not None:
            raise InvalidInput("valid_at and valid_between both bound the valid time: give one")
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
    """The place of a stored event in the order of valid time."""
    return row[10], row[0]


def key_parameters(above: Key, below: Key) -> dict[str, object]:
    """The parameters of a statement that reads after one key, up to another."""
    return {
        "above_valid_at": above[0],
        "above_position": above[1],
        "below_valid_at": below[0],
        "below_position": below[1],
    }
