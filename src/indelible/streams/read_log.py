"""Read the log by position."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_integer, validate_limit
from indelible.errors import DecodingFailed, EpochMismatch, UnknownEventType, UpcastingFailed
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .head import HeadState, confirmed, log_bounds, reading_in
from .paging import Pages
from .query_parameters import current_query, filter_parameters
from .recorded_time import RecordedTimeRange
from .rows import decode_rows

_LARGEST_PAGE = 5_000
_FIRST_WINDOW = 20_000
_UNFILTERED_WINDOW = 8 * _LARGEST_PAGE
"""Without filters: so many that the planner goes by the index and does not sort the window, and so
few that little is sorted where it does not know yet how large the table has become."""
_LARGEST_WINDOW = 200_000
_LARGEST_TAGGED_WINDOW = 50_000_000
"""How many positions one statement looks at; far more where an index leads to those with a tag."""


class LogReading:
    """A reading of the log up to the head; see `EventStore.read_all`.

    Args:
        codec: reads the events.
        query: which events; None for all.
        after: the position after which to begin.
        backwards: begin at the head.
        limit: how many events at most.
        span: the part of the log by recorded time.
        goes_on: whether it follows the log: then it is extended, and continues after a fail-over
            if nothing that it has read is lost. Any other needs all up to the head it began with.
    """

    def __init__(
        self,
        codec: Codec,
        query: Query | None,
        *,
        after: int,
        backwards: bool = False,
        limit: int | None = None,
        span: RecordedTimeRange | None = None,
        goes_on: bool = False,
    ) -> None:
        self._codec = codec
        self._span = span
        self._goes_on = goes_on
        self._after = validate_integer("after", after)
        self._upto = self._after
        self._backwards = backwards
        self._pages = Pages(validate_limit(limit))
        self._query = current_query(codec, query)
        self._statement, self._filters = filter_parameters(
            self._query and codec.upcasting.stored(self._query)
        )
        # The bounds of a window end a page where its limit does not, so that no single statement
        # scans the whole log for the few events that match, or sorts all that is left of it where
        # the planner does not know yet how large the table has become.
        self._window = _FIRST_WINDOW if self._filters else _UNFILTERED_WINDOW
        is_tagged = self._statement == "streams.read_log_tagged"
        self._largest_window = _LARGEST_TAGGED_WINDOW if is_tagged else _LARGEST_WINDOW
        self.known_head: int | None = None
        self._state: HeadState | None = None
        self._last: tuple[int, UUID] | None = None
        self._has_moved = False

    @property
    def position(self) -> int:
        """Forwards: up to here everything that matches was brought."""
        return self._after

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was settled at the last look was brought."""
        known = self.known_head
        return known is not None and self._after >= known and not self._has_moved

    @property
    def state(self) -> HeadState | None:
        """The head up to which it reads, and the epoch of the log; None before it has begun."""
        return self._state

    @property
    def _needed(self) -> int:
        """Up to where the log must be the one that was read."""
        return self._after if self._goes_on else self._upto

    @property
    def _proof(self) -> tuple[int, UUID] | None:
        """An event that is there if it is."""
        return self.anchor(self._needed)

    def has_more(self, state: HeadState | None) -> bool:
        """Whether a head that was found is beyond what was brought, or of another epoch."""
        return state is not None and (
            state.position > self._after
            or (self._state is not None and state.epoch != self._state.epoch)
        )

    def anchor(self, position: int) -> tuple[int, UUID] | None:
        """An event at a position that was reached, or after it, that was settled then."""
        if self._last is not None and self._last[0] == position:
            return self._last
        state = self._state
        if state is None or state.event_id is None or state.position < position:
            return None
        return state.position, state.event_id

    def start(self) -> Operation[int]:
        """Find the position which the reading goes up to; the same at every further call."""
        if self.known_head is None:
            self._after, self._upto, self._state = yield from log_bounds(self._after, self._span)
            self.known_head = self._upto
        return self.known_head

    def extend(self, state: HeadState) -> None:
        """Go on, forwards, up to a head found by somebody else. A lower one changes nothing."""
        if self._state is not None and state.epoch != self._state.epoch:
            self._has_moved = True  # it is checked before anything more is read
        elif state.position >= self._upto:
            self.known_head = self._upto = state.position
            self._state = state

    def read_up_to(self, position: int) -> None:
        """Read up to a position, settled or not, that the caller vouches for."""
        self.known_head = self._upto = max(position, self._upto)

    def again(self, codec: Codec, query: Query | None, *, after: int) -> LogReading:
        """Give a reading up to the same head, with another codec and query."""
        reading = LogReading(codec, query, after=after, goes_on=self._goes_on)
        if self._state is not None:
            reading.extend(self._state)
        if self.known_head is not None:
            reading.read_up_to(self.known_head)
        return reading

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        # The head is asked for in a statement before the one that reads up to it, which
        # therefore sees all that is settled (docs/explanation/ordering.md).
        yield from self.start()
        while self._after < self._upto and self._pages.left != 0:
            if events := (yield from self.next_window()):
                return events
        return []

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Look at the next positions; bring those of their events that match, maybe none.

        Raises:
            EpochMismatch: the log has lost events, by a fail-over or a restore.
        """
        if not self._has_moved:
            try:
                return (yield from self._read_window())
            except EpochMismatch:
                pass
        yield from self.confirm()
        return []

    def confirm(self) -> Operation[None]:
        """Check that nothing is lost that this reading has brought, and continue in today's log.

        Raises:
            EpochMismatch: the log has lost events, by a fail-over or a restore.
        """
        position = self._needed
        self._state = yield from confirmed(self._state, position, self._proof, self._after)
        self._has_moved = False
        if self._goes_on:
            self.known_head = self._upto = max(self._state.position, position)

    def _read_window(self) -> Operation[list[RecordedEvent]]:
        low, high = self._bounds()
        rows = yield Statement(
            self._statement + (".descending" if self._backwards else ""),
            {
                **self._filters,
                **reading_in(self._state, self._proof),
                "after": low,
                "upto": high,
                "limit": self._pages.ask(),
            },
            # The best plan depends on how many rows are asked for, and on the filters.
            prepared=False,
        )
        events, size = decode_rows(self._codec, rows, query=self._query, backwards=self._backwards)
        is_full = self._pages.take(len(rows), size, events)
        if self._backwards:
            self._upto = rows[-1][0] - 1 if is_full else low
        else:
            self._after = rows[-1][0] if is_full else high
            if rows:
                self._last = rows[-1][0], rows[-1][3]
        if not rows:
            self._window = min(self._window * 2, self._largest_window)
        return events

    def _bounds(self) -> tuple[int, int]:
        """The positions to look at next: after the first, up to the second."""
        if self._backwards:
            return max(self._after, self._upto - self._window), self._upto
        return self._after, min(self._upto, self._after + self._window)


def at_positions(codec: Codec, positions: Sequence[int]) -> Operation[list[RecordedEvent]]:
    """Read the events at some positions, as plain data where they do not fit the classes."""
    rows = yield Statement("streams.read_positions", {"positions": list(positions)})
    try:
        return decode_rows(codec, rows)[0]
    except (UnknownEventType, DecodingFailed, UpcastingFailed):
        return decode_rows(Codec(), rows)[0]
