"""Operations: one event by its id, and the times of a stream's events without their data."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from indelible.core.operation import EventStatement, Operation, Statement
from indelible.core.validation import validate_name
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec

from .rows import decode_rows


class EventTimes(NamedTuple):
    """When an event was recorded, and when its fact holds."""

    version: int
    position: int
    recorded_at: datetime
    valid_at: datetime
    type: str


def event_by_id(codec: Codec, event_id: UUID) -> Operation[RecordedEvent | None]:
    """Return the event with an id; None if there is none. The cost is one look-up in an index."""
    if not isinstance(event_id, UUID):
        raise InvalidInput(f"id must be a UUID, not {event_id!r}")
    rows = yield EventStatement("streams.appended_events", {"ids": [event_id]})
    return next(iter(decode_rows(codec, rows)), None)


def events_at(codec: Codec, positions: list[int]) -> Operation[list[RecordedEvent]]:
    """Return the events at some positions, in order of position; those that are there."""
    rows = yield EventStatement("streams.read_positions", {"positions": sorted(positions)})
    return decode_rows(codec, rows)


def stream_times(
    stream: str, *, from_version: int, to_version: int, step: int = 1
) -> Operation[list[EventTimes]]:
    """Return the times of the events of a stream between two versions, in order of version.

    The cost is one look-up in an index per event that is returned.

    Args:
        stream: the stream.
        from_version: the lowest version.
        to_version: the highest version.
        step: 1 for each event; a larger number for one of so many.
    """
    rows = yield Statement(
        "streams.times",
        {
            "stream": validate_name("stream", stream),
            "from_version": from_version,
            "to_version": to_version,
            "step": step,
        },
    )
    return [EventTimes(*row) for row in rows]
