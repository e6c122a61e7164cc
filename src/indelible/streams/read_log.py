"""Read the log, by position or by valid time.

Events with their own valid time are in an index ordered by it. The others are valid from their
recorded time. They are read in order of position, which is nearly the order of time; the table
`recorded_time_index` shows where it is not. To read by valid time, both are read in windows of
time, and merged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from uuid import UUID

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.errors import DecodingFailed, EpochMismatch, UnknownEventType, UpcastingFailed
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .head import HeadState, check_same_log, epoch_parameters, log_bounds
from .log_windows import MatchingWindows
from .paging import Page, PagedReading
from .query_parameters import current_query, filter_parameters, items_json
from .read_options import LogReadOptions
from .recorded_time import LAST_POSITION, index_recorded_times
from .rows import decode_rows
from .valid_time import Key, key_of, key_parameters

_LARGEST_PAGE = 5_000
_FIRST_WINDOW = 20_000
_UNFILTERED_WINDOW = 8 * _LARGEST_PAGE
"""The window without filters. It is large enough that the planner uses the index and does not sort
the window. It is small enough that little is sorted while the planner has no table statistics."""
_LARGEST_WINDOW = 200_000
_LARGEST_TAGGED_WINDOW = 50_000_000
"""How many positions one statement scans; far more if an index finds the events with a tag."""
_LARGEST_TIME_WINDOW = 200
"""How many periods of 1,000 positions a statement by valid time scans: one at first."""


def log_reading(
    codec: Codec, query: Query | None, options: LogReadOptions
) -> LogReading | ValidTimeLogReading:
    """Create a reading of the log: in order of valid time if that is bounded, else of position."""
    kind = LogReading if options.valid_time.is_everything else ValidTimeLogReading
    return kind(codec, query, options)


class BoundedLogReading(PagedReading):
    """A reading of the log that ends at the head.

    Args:
        codec: decodes the events.
        query: which events; None for all.
        options: the read options.
    """

    def __init__(self, codec: Codec, query: Query | None, options: LogReadOptions) -> None:
        super().__init__(codec, options)
        self._query = current_query(codec, query)
        self._stored_query = self._query and codec.upcasting.stored(self._query)
        self._recorded_time = options.recorded_time
        self._after = self._upto = options.after
        self.known_head: int | None = None
        self._state: HeadState | None = None
        self._last: tuple[int, UUID] | None = None
        self._has_moved = False

    def start(self) -> Operation[int]:
        """Return the position at which the reading ends. Further calls return the same."""
        if self.known_head is None:
            self._after, self._upto, self._state = yield from log_bounds(
                self._after, self._recorded_time
            )
            self.known_head = self._upto
        return self.known_head

    def _begin(self) -> Operation[None]:
        # Read the head in a statement before the one that reads up to it. The second statement then
        # sees all settled events (docs/explanation/ordering.md).
        yield from self.start()

    def anchor(self, position: int) -> tuple[int, UUID] | None:
        """Return an event at a position that was read, or a settled event after it."""
        if self._last is not None and self._last[0] == position:
            return self._last
        state = self._state
        if state is None or state.event_id is None or state.position < position:
            return None
        return state.position, state.event_id

    @property
    def _needed(self) -> int:
        """Up to where the log must be the same as when it was read."""
        return self._upto

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Read the next window; return the matching events, maybe none.

        Raises:
            EpochMismatch: the log has lost events in a failover or a restore.
        """
        if not self._has_moved:
            try:
                return (yield from self._read_window())
            except EpochMismatch:
                pass
        yield from self.confirm()
        return []

    @abstractmethod
    def _read_window(self) -> Operation[list[RecordedEvent]]: ...

    def confirm(self) -> Operation[None]:
        """Check that the log still has the events read so far, and continue in the current log.

        Raises:
            EpochMismatch: the log has lost events in a failover or a restore.
        """
        position = self._needed
        self._state = yield from check_same_log(
            self._state, position, self.anchor(position), self._after
        )
        self._has_moved = False


class LogReading(BoundedLogReading):
    """A reading of the log in order of position; see `EventStore.read_all`.

    Args:
        codec: decodes the events.
        query: which events; None for all.
        options: the read options.
        follows: whether it follows the log. It is then extended, and continues after a failover if
            the log still has the events that it has read. Other readings need the log up to the
            head at which they began.
    """

    def __init__(
        self, codec: Codec, query: Query | None, options: LogReadOptions, *, follows: bool = False
    ) -> None:
        super().__init__(codec, query, options)
        self._follows = follows
        statement, self._filters = filter_parameters(self._stored_query)
        self._statement = self._ordered(statement)
        # A window bounds a page in addition to the limit. So no statement scans the whole log for a
        # few matching events. Nor does it sort the rest of the log while the planner has no
        # statistics for the table.
        self._window = _FIRST_WINDOW if self._filters else _UNFILTERED_WINDOW
        is_tagged = statement == "streams.read_log_tagged"
        self._largest_window = _LARGEST_TAGGED_WINDOW if is_tagged else _LARGEST_WINDOW
        self._windows = (
            None if is_tagged else MatchingWindows.of(self._stored_query, backwards=self._backwards)
        )
        self._is_sparse = False  # whether a page was not full: some windows may have no match

    @property
    def position(self) -> int:
        """In a forward reading, all matching events up to here were returned."""
        return self._after

    @property
    def is_caught_up(self) -> bool:
        """Whether all matching events up to the last known head were returned."""
        head = self.known_head
        return head is not None and self._after >= head and not self._has_moved

    @property
    def state(self) -> HeadState | None:
        """The head up to which it reads, with the epoch of the log; None before it has begun."""
        return self._state

    @property
    def _needed(self) -> int:
        return self._after if self._follows else self._upto

    def has_more(self, state: HeadState | None) -> bool:
        """Return whether a head is beyond the events read so far, or of another epoch."""
        return state is not None and (
            state.position > self._after
            or (self._state is not None and state.epoch != self._state.epoch)
        )

    def extend(self, state: HeadState) -> None:
        """Continue a forward reading up to a newer head. A lower head changes nothing."""
        if self._state is not None and state.epoch != self._state.epoch:
            self._has_moved = True  # the log is checked before the next read
        elif state.position >= self._upto:
            self.known_head = self._upto = state.position
            self._state = state

    def read_up_to(self, position: int) -> None:
        """Read up to a position that need not be settled; the caller ensures that this is safe."""
        self.known_head = self._upto = max(position, self._upto)

    def continue_with(self, codec: Codec, query: Query | None, *, after: int) -> LogReading:
        """Return a reading up to the same head, with another codec and query."""
        reading = LogReading(codec, query, LogReadOptions(after=after), follows=self._follows)
        if self._state is not None:
            reading.extend(self._state)
        if self.known_head is not None:
            reading.read_up_to(self.known_head)
        return reading

    def confirm(self) -> Operation[None]:
        """Check that the log still has the events read so far, and continue in the current log.

        Raises:
            EpochMismatch: the log has lost events in a failover or a restore.
        """
        yield from super().confirm()
        if self._windows is not None:
            self._windows.forget()
        if self._follows and self._state is not None:
            self.known_head = self._upto = max(self._state.position, self._after)

    def _is_at_end(self) -> bool:
        return self._after >= self._upto or self._pages.left == 0

    def _read_window(self) -> Operation[list[RecordedEvent]]:
        log = epoch_parameters(self._state, self.anchor(self._needed))
        low, high = yield from self._bounds(log)
        if low == high:  # no event matches up to there
            if self._backwards:
                self._upto = low
            else:
                self._after = high
            return []
        page = yield from self._fetch(
            lambda limit: EventStatement(
                self._statement,
                {**self._filters, **log, "after": low, "upto": high, "limit": limit},
                # The best plan depends on the limit and on the filters.
                prepared=False,
            )
        )
        events, rows = self._take(page), page.rows
        self._is_sparse = self._is_sparse or not page.is_full
        if self._backwards:
            self._upto = rows[-1][0] - 1 if page.is_full else low
        else:
            self._after = rows[-1][0] if page.is_full else high
            if rows:
                self._last = last_event(rows)
        if not rows:
            self._window = min(self._window * 2, self._largest_window)
        return events

    def _bounds(self, log: Mapping[str, object]) -> Operation[tuple[int, int]]:
        """Return the positions to read next: after the first, up to the second."""
        if self._windows is not None and self._is_sparse:
            found = yield from self._windows.next_bounds(self._after, self._upto, log)
            if found is not None:
                return found
        if self._backwards:
            return max(self._after, self._upto - self._window), self._upto
        return self._after, min(self._upto, self._after + self._window)


def last_event(rows: Rows) -> tuple[int, UUID]:
    """Return the position and the id of the last of some events."""
    return rows[-1][0], UUID(bytes=rows[-1][3])


class ValidTimeLogReading(BoundedLogReading):
    """A reading of the log in order of valid time; see `EventStore.read_all`."""

    def __init__(self, codec: Codec, query: Query | None, options: LogReadOptions) -> None:
        super().__init__(codec, query, options)
        self._items = items_json(self._stored_query)
        self._above, self._below = options.valid_time.above, options.valid_time.below
        self._edge: Key | None = None
        self._window = 1

    def _begin(self) -> Operation[None]:
        yield from super()._begin()
        yield from index_recorded_times()

    def _read_window(self) -> Operation[list[RecordedEvent]]:
        """Read the next events of a window of time; at its end, move to the next window."""
        edge = yield from self._window_edge()
        above, below = (edge, self._below) if self._backwards else (self._above, edge)
        limit = self._pages.next_limit()
        rows = yield EventStatement(
            self._ordered("streams.read_log_by_valid_time"),
            {
                "items": self._items,
                **epoch_parameters(self._state, self.anchor(self._upto)),
                "after": self._after,
                "upto": self._upto,
                **key_parameters(above, below),
                "limit": limit,
            },
            prepared=False,
        )
        page = Page(rows, limit, is_full=len(rows) == limit)
        events = self._take(page)
        if page.is_full:
            self._move(key_of(rows[-1]))
        else:
            self._move(edge)
            self._edge = None
            self._window = min(self._window * 2, _LARGEST_TIME_WINDOW)
        return events

    def _move(self, key: Key) -> None:
        if self._backwards:
            self._below = key
        else:
            self._above = key
        self._is_done = self._above == self._below

    def _window_edge(self) -> Operation[Key]:
        """Return the end of the window: the time in which some thousand positions were recorded."""
        if self._edge is None:
            ((moment,),) = yield Statement(
                self._ordered("streams.valid_time_window"),
                {
                    "upto": self._upto,
                    "above": self._above[0],
                    "below": self._below[0],
                    "periods": self._window,
                },
                prepared=False,
            )
            last = self._above if self._backwards else self._below
            self._edge = last if moment is None else (moment, LAST_POSITION)
        return self._edge


def read_positions(codec: Codec, positions: Sequence[int]) -> Operation[list[RecordedEvent]]:
    """Read the events at some positions; those that do not fit their classes as plain data."""
    rows = yield EventStatement("streams.read_positions", {"positions": list(positions)})
    try:
        return decode_rows(codec, rows)
    except (UnknownEventType, DecodingFailed, UpcastingFailed):
        return decode_rows(Codec(), rows)
