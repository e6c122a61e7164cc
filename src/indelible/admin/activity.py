"""What happens in the log: how many events over time, and the busiest streams and types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from indelible.core.operation import Operation, Statement
from indelible.core.timestamps import validate_timestamp

NEWEST = 10_000
"""How many of the newest positions are looked at for what is busiest."""
MOST_EDGES = 97
"""Moments that `positions_over` looks up at once."""
_INDEXED_AT_ONCE = 200_000
_MOST_UNINDEXED = 5_000
"""Positions without the index that a look-up may read."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A stream or an event type, and how many of the newest events it has."""

    name: str
    events: int


@dataclass(frozen=True, slots=True)
class Busiest:
    """What the newest events belong to.

    Attributes:
        looked_after: they are those after this position.
        streams: the streams with most of them.
        types: the types with most of them.
        channels: the channels with most of them.
    """

    looked_after: int
    streams: Sequence[Busy]
    types: Sequence[Busy]
    channels: Sequence[Busy]


def index_times() -> Operation[bool]:
    """Index the recorded times of at most 200,000 positions, and return whether there are more."""
    ((has_more,),) = yield Statement("streams.index_recorded_times", {"max_rows": _INDEXED_AT_ONCE})
    return bool(has_more)


def positions_over(edges: Sequence[datetime], upto: int) -> Operation[list[int] | None]:
    """Return the position of each moment; see `EventStore.position_at`.

    The cost is a few look-ups per moment, whatever the length of the log.

    Args:
        edges: at most 97 moments, in order.
        upto: the head.

    Returns:
        The positions. None if the recorded times of the log are not indexed yet: without the
        index, each look-up would read the log. Each call indexes some more of it.
    """
    assert len(edges) <= MOST_EDGES  # noqa: S101 - a fault of the caller
    yield from index_times()
    # It may be another session that indexes, or the database that takes no writes.
    ((indexed,),) = yield Statement("admin.indexed_up_to")
    if upto - indexed > _MOST_UNINDEXED:
        return None
    moments = [validate_timestamp("edge", edge) for edge in edges]
    rows = yield Statement("admin.positions_over", {"moments": moments, "head": upto})
    return [position for (position,) in rows]


def busiest(upto: int, *, most: int = 8) -> Operation[Busiest]:
    """Return the streams, types and channels of the newest 10,000 events.

    Args:
        upto: the head.
        most: how many of each.
    """
    after = max(upto - NEWEST, 0)
    rows = yield Statement("admin.busiest", {"after": after, "upto": upto, "most": most})

    def of(kind: str) -> list[Busy]:
        return [Busy(name, events) for found, name, events in rows if found == kind]

    return Busiest(after, of("stream"), of("type"), of("channel"))
