"""Read the events that a decision is based on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from indelible.core.operation import EventStatement, Operation
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.query import ConsistencyMarker, Query
from indelible.serialization.codec import Codec
from indelible.streams.query_parameters import check_query, items
from indelible.streams.rows import decode_rows


@dataclass(frozen=True, slots=True)
class MatchingEvents:
    """The events that match a query, and the marker for an append condition.

    Attributes:
        events: all visible events that match, settled or not, in order of position.
        marker: the marker that records which events were read. Pass it as `after` of the
            `AppendCondition`.
    """

    events: tuple[RecordedEvent, ...]
    marker: ConsistencyMarker

    def __iter__(self) -> Iterator[RecordedEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def read_matching(codec: Codec, query: Query) -> Operation[MatchingEvents]:
    """Read all visible events that match a query; see `EventStore.read_matching`."""
    if check_query(query) is None:
        raise InvalidInput("query of read_matching must be a Query: use Query() for all events")
    stored = codec.upcasting.stored(codec.check_query(query))
    rows = yield EventStatement("dcb.read_matching", {"items": json.dumps(items(stored))})
    settled, _, _, event_id, _, _, _, _, epoch, *_ = rows[0]
    last = None if event_id is None else UUID(bytes=event_id)
    event_rows = rows[1:]
    events = decode_rows(codec, event_rows, query=codec.upcasting.current(query))
    # Taken from the rows, because an event that upcasters remove was read, too.
    seen = frozenset(row[0] for row in event_rows if row[0] > settled)
    return MatchingEvents(tuple(events), ConsistencyMarker(settled, seen, UUID(epoch), last))
