"""Operations: follow the log, and return each event at its valid time.

The events returned so far are always those up to a position whose valid time is up to a moment.
Reading the log raises the position. Reading the index of valid times raises the moment.
docs/explanation/bitemporal.md explains why each event is returned exactly once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from indelible.core.operation import EventStatement, Operation, Statement
from indelible.errors import EpochMismatch
from indelible.events import Checkpoint, RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.head import epoch_parameters
from indelible.streams.query_parameters import items_json
from indelible.streams.recorded_time import LAST_POSITION
from indelible.streams.rows import decode_rows, valid_at_of

from .log_follower import Batch, LogFollower, Start

_PAGE = 1_000
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 60.0


def seconds_until(due: datetime, now: datetime) -> float:
    """Return how long to wait for the next due event; short enough to notice a changed clock."""
    return min(max((due - now).total_seconds(), _SHORTEST_WAIT), _LONGEST_WAIT)


class ValidTimeFollower(LogFollower):
    """A reading of the log by valid time that continues; see `EventStore.subscribe`."""

    _is_by_valid_time = True

    def __init__(self, codec: Codec, query: Query | None, *, after: Start) -> None:
        super().__init__(codec, query, after=after)
        self._reached = after.due if isinstance(after, Checkpoint) else None
        self._has_looked = False
        self._comes_from_index = False
        self._seconds: float | None = None

    def checkpoint_after(self, event: RecordedEvent | None, *, has_more: bool) -> Checkpoint:
        """Return the checkpoint after an event of the last batch is handled, or all (None)."""
        position, reached = self.position, self._reached
        if event is not None and self._comes_from_index:
            reached = event.valid_at, event.position - has_more
        elif event is not None:
            position = event.position - has_more
        return replace(self._checkpoint(position, event), due=reached)

    def position_after(self, event: RecordedEvent | None, *, has_more: bool) -> int:
        """Return up to where the log was read."""
        if self._comes_from_index:
            return self.position
        return super().position_after(event, has_more=has_more)

    @property
    def is_caught_up(self) -> bool:
        """Whether all matching events that were settled and due at the last read were returned."""
        return self._has_looked and super().is_caught_up

    @property
    def wait_seconds(self) -> float | None:
        """Seconds until the next known event is due; None if no event is known."""
        return self._seconds

    def look_again(self) -> None:
        """Look for due events in the next batch."""
        self._has_looked = False

    def begin(self) -> Operation[None]:
        """Find the head and the time when the subscription starts; further calls keep them."""
        yield from super().begin()
        if self._reached is None:
            now, _ = yield from self._next_due((datetime.max.replace(tzinfo=UTC), LAST_POSITION))
            self._reached = now, LAST_POSITION

    def next_batch(self) -> Operation[Batch]:
        """Read the next positions up to the known head; at the end, the events due by now."""
        yield from self.begin()
        try:
            return (yield from self._next_batch())
        except EpochMismatch as error:
            if error.position is not None:
                raise
            yield from self._reading.confirm()
            return self._batch([])

    def _next_batch(self) -> Operation[Batch]:
        assert self._reached is not None  # noqa: S101
        if not super().is_caught_up:
            self._has_looked = self._comes_from_index = False
            window = yield from self._reading.next_window()
            return self._batch([event for event in window if not self._is_yet_to_come(event)])
        now, next_due = yield from self._next_due(self._reached)
        if next_due is None or next_due > now:
            self._seconds = None if next_due is None else seconds_until(next_due, now)
            # Do not go back if the server's clock was set back.
            self._reached = max(self._reached, (now, LAST_POSITION))
            self._has_looked = True
            return self._batch([])
        rows = yield EventStatement(
            "subscriptions.due",
            {
                "items": items_json(self._query and self._codec.upcasting.stored(self._query)),
                **epoch_parameters(self._reading.state, self._reading.anchor(self.position)),
                "upto": self.position,
                "above_valid_at": self._reached[0],
                "above_position": self._reached[1],
                "until": now,
                "limit": _PAGE,
            },
            prepared=False,
        )
        events = decode_rows(self._codec, rows, query=self._query)
        self._comes_from_index = True
        is_full = len(rows) == _PAGE
        self._reached = (valid_at_of(rows[-1]), rows[-1][0]) if is_full else (now, LAST_POSITION)
        return self._batch(events)

    def _batch(self, events: list[RecordedEvent]) -> Batch:
        return Batch(tuple(events), self.position, self.is_caught_up)

    def _is_yet_to_come(self, event: RecordedEvent) -> bool:
        # An event whose valid time is its recorded time is due at once, whatever the clock shows.
        assert self._reached is not None  # noqa: S101
        return (
            event.valid_at != event.recorded_at and (event.valid_at, event.position) > self._reached
        )

    def _next_due(
        self, reached: tuple[datetime, int]
    ) -> Operation[tuple[datetime, datetime | None]]:
        """Return the time of the database, and the next valid time after the one reached."""
        ((now, next_due),) = yield Statement(
            "subscriptions.next_due",
            {
                **epoch_parameters(self._reading.state, self._reading.anchor(self.position)),
                "upto": self.position,
                "above_valid_at": reached[0],
                "above_position": reached[1],
            },
        )
        return now, next_due
