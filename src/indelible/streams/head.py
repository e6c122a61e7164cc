"""The settled position of the log, and what holds it back."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.events import Checkpoint, HeadHolder, HeadInfo

from .recorded_time import RecordedTimeRange, check_checkpoint

LAG_WINDOW = 100_000
"""How many positions are scanned to count a lag. Beyond that, positions are counted instead."""


class HeadState(NamedTuple):
    """The state of the head.

    Attributes:
        position: the settled position.
        epoch: the epoch of the log.
        event_id: the id of the event at that position; None without such an event.
    """

    position: int
    epoch: UUID
    event_id: UUID | None


def check_same_log(
    state: HeadState | None, position: int, anchor: tuple[int, UUID] | None, brought_to: int
) -> Operation[HeadState]:
    """Check that the log is the one that a reader has read; return the current head.

    Args:
        state: the head that the reader knows.
        position: up to where the log must be the same.
        anchor: an event at this position or after it.
        brought_to: up to where the reader has returned all events.

    Raises:
        EpochMismatch: the log differs.
    """
    assert state is not None  # noqa: S101 - else nothing was read
    yield from check_checkpoint(
        Checkpoint(position, state.epoch, anchor=anchor), brought_to=brought_to
    )
    return (yield from head_state())


def epoch_parameters(
    state: HeadState | None, anchor: tuple[int, UUID] | None = None
) -> dict[str, object]:
    """Return the parameters that identify the log that a statement reads; nulls for any log."""
    position, event_id = anchor or (None, None)
    epoch = None if state is None else state.epoch
    return {"epoch": epoch, "anchor": position, "anchor_id": event_id}


def head_state() -> Operation[HeadState]:
    """Return the state of the head."""
    ((position, epoch, event_id),) = yield Statement("streams.head_state")
    return HeadState(position, epoch, event_id)


def note_settled() -> Operation[None]:
    """Store the settled position for a server that takes over."""
    yield Statement("streams.note_settled")


def log_bounds(
    after: int, recorded_time: RecordedTimeRange
) -> Operation[tuple[int, int, HeadState]]:
    """Return the positions to read, after the first and up to the second, and the head.

    The second position is the head at most.
    """
    state = yield from head_state()
    lowest, highest = yield from recorded_time.positions()
    if not recorded_time.is_settled:
        highest = min(highest, state.position)
    return max(after, lowest), highest, state


def head() -> Operation[int]:
    """Return the settled position."""
    ((position,),) = yield Statement("streams.head")
    return int(position)


def epoch() -> Operation[UUID]:
    """Return the store's epoch."""
    ((epoch_id,),) = yield Statement("streams.epoch")
    return UUID(str(epoch_id))


def head_info() -> Operation[HeadInfo]:
    """Return the settled position, the events behind it, and the transactions that hold it."""
    settled = yield from head()
    ((last_position, waiting),) = yield Statement("streams.head_info", {"head": settled})
    holders = tuple(HeadHolder(*row) for row in (yield Statement("streams.head_holders")))
    return HeadInfo(settled, last_position, waiting, holders if last_position > settled else ())
