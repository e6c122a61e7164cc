"""Operations: map recorded times to positions (docs/explanation/bitemporal.md)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.core.timestamps import (
    AsOf,
    TimeRange,
    previous_instant,
    validate_time_range,
    validate_timestamp,
)
from indelible.core.validation import is_integer
from indelible.errors import EpochMismatch, InvalidInput
from indelible.events import Checkpoint

LAST_POSITION = 2**63 - 1
"""A position and version that is higher than any that exists."""

_INDEXED_AT_ONCE = 200_000
"""How many positions one statement indexes by recorded time."""


class RecordedTimeRange:
    """A part of the log by recorded time, for one reading.

    Args:
        as_of: events recorded up to a moment, a position or a checkpoint; None for all.
        recorded_between: events recorded from a moment on and before another.

    Raises:
        InvalidInput: an argument is invalid, or both are given.
    """

    def __init__(
        self, as_of: AsOf | None = None, recorded_between: TimeRange | None = None
    ) -> None:
        if as_of is not None and recorded_between is not None:
            raise InvalidInput(
                "as_of and recorded_between cannot be combined: both bound the recorded time"
            )
        self._as_of = _check_as_of(as_of)
        self._between = validate_time_range("recorded_between", recorded_between)

    @property
    def is_everything(self) -> bool:
        """Whether the range has no bounds."""
        return self._as_of is None and self._between is None

    @property
    def is_settled(self) -> bool:
        """Whether its positions are at or below the head. Positions found for moments are."""
        return self._between is not None or isinstance(self._as_of, datetime)

    def positions(self) -> Operation[tuple[int, int]]:
        """Return the positions of the range: after the first, up to the second.

        Raises:
            EpochMismatch: the log has lost events below a checkpoint.
        """
        if self._between is not None:
            start, end = self._between
            return (yield from position_before(start)), (yield from position_before(end))
        match self._as_of:
            case None:
                return 0, LAST_POSITION
            case datetime() as moment:
                return 0, (yield from position_at(moment))
            case Checkpoint(position) as checkpoint:
                yield from check_checkpoint(checkpoint)
                return 0, position
            case position:
                return 0, position


def position_at(moment: datetime) -> Operation[int]:
    """Return the position of a moment; see `EventStore.position_at`."""
    position, _ = yield from _look_up(moment)
    return position


def has_passed(moment: datetime) -> Operation[bool]:
    """Return whether the position of a moment is final; see `EventStore.has_passed`."""
    _, passed = yield from _look_up(moment)
    return passed


def _look_up(moment: datetime) -> Operation[tuple[int, bool]]:
    moment = validate_timestamp("the moment", moment)
    ((head,),) = yield Statement("streams.head")
    yield from index_recorded_times()
    ((position, passed),) = yield Statement("streams.position_at", {"moment": moment, "head": head})
    return int(position), bool(passed)


def position_before(moment: datetime) -> Operation[int]:
    """Return the position before the first event recorded at a moment or later."""
    last_moment = previous_instant(moment)
    return 0 if last_moment is None else (yield from position_at(last_moment))


def index_recorded_times() -> Operation[None]:
    """Index the recorded times of settled positions that are not indexed yet."""
    has_more = True
    while has_more:
        ((has_more,),) = yield Statement(
            "streams.index_recorded_times", {"max_rows": _INDEXED_AT_ONCE}
        )


def check_checkpoint(checkpoint: Checkpoint, *, brought_to: int = LAST_POSITION) -> Operation[UUID]:
    """Check that a reader may continue from a checkpoint; return the current epoch.

    Args:
        checkpoint: the checkpoint.
        brought_to: up to where the reader has returned events, if that is not the checkpoint.

    Raises:
        EpochMismatch: the log may have lost events that the reader has seen.
        InvalidInput: the position was never assigned.
    """
    position, epoch, anchor = checkpoint.position, checkpoint.epoch, checkpoint.anchor
    anchor_position, anchor_id = anchor or (None, None)
    ((is_valid, current_epoch, safe_through, last_position),) = yield Statement(
        "streams.check_checkpoint",
        {
            "epoch": epoch,
            "position": position,
            "anchor_position": anchor_position,
            "anchor_id": anchor_id,
        },
    )
    if is_valid:
        return UUID(str(current_epoch))
    if epoch == current_epoch and anchor_id is None:
        raise beyond_last(position, last_position)
    if safe_through is not None:
        safe_through = min(safe_through, brought_to)
    lost_ids = [] if anchor_id is None else [anchor_id]
    raise EpochMismatch(position, safe_through, lost_ids, epoch, current_epoch)


def beyond_last(position: int, last_position: int) -> InvalidInput:
    """Return the error for a position that was never assigned."""
    return InvalidInput(
        f"after={position} is beyond the last position, {last_position}: the position is from"
        " another store, or this store was restored to an earlier time; pass a position up to"
        f" {last_position}"
    )


def _check_as_of(as_of: object) -> AsOf | None:
    if as_of is None or isinstance(as_of, Checkpoint):
        return as_of
    if isinstance(as_of, datetime):
        return validate_timestamp("as_of", as_of)
    if is_integer(as_of):
        return as_of
    raise InvalidInput(
        f"as_of must be a datetime with a time zone, a position or a checkpoint, not {as_of!r}"
    )
