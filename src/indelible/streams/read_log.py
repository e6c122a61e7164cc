"""Read the log, by position or by valid time.

Facts with a valid time of their own stand in an index of their own, in that order. The others hold
from when they were recorded, and stand in order of position, which is nearly that of time; the
table `recorded_time_index` says where it is not. To read by valid time, both are read window by
window of time, and merged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.errors import DecodingFailed, EpochMismatch, UnknownEventType, UpcastingFailed
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .head import HeadState, check_same_log, epoch_parameters, log_bounds
from .paging import PagedReading
from .query_parameters import current_query, filter_parameters, items_json
from .read_options import LogReadOptions
from .recorded_time import LAST_POSITION, index_recorded_times
from .rows import decode_rows
from .valid_time import Key, key_of, key_parameters

_LARGEST_PAGE = 5_000
_FIRST_WINDOW = 20_000
_UNFILTERED_WINDOW = 8 * _LARGEST_PAGE
"""Without filters: so many that the planner goes by the index and does not sort the window, and so
few that little is sorted where it does not know yet how large the table has become."""
_LARGEST_WINDOW = 200_000
_LARGEST_TAGGED_WINDOW = 50_000_000
"""How many positions one statement looks at; far more where an index leads to those with a tag."""
_LARGEST_TIME_WINDOW = 200
"""How many periods, of a thousand positions each, a statement by valid time looks through: one at
first."""


def log_reading(
    codec: Codec, query: Query | None, options: LogReadOptions
) -> LogReading | ValidTimeLogReading:
    """A reading of the log: in order of valid time where that is asked for, else of position."""
    kind = LogReading if options.valid_time.is_everything else ValidTimeLogReading
    return kind(codec, query, options)


class BoundedLogReading(PagedReading):
    """What the readings of the log have in common: they end at the head.

    Args:
        codec: reads the events.
        query: which events; None for all.
        options: what is asked for.
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
        """Find the position which the reading goes up to; the same at every further call."""
        if self.known_head is None:
            self._after, self._upto, self._state = yield from log_bounds(
                self._after, self._recorded_time
            )
            self.known_head = self._upto
        return self.known_head

    def _begin(self) -> Operation[None]:
        # The head is asked for in a statement before the one that reads up to it, which
        # therefore sees all that is settled (docs/explanation/ordering.md).
        yield from self.start()

    def anchor(self, position: int) -> tuple[int, UUID] | None:
        """An event at a position that was reached, or after it, that was settled then."""
        if self._last is not None and self._last[0] == position:
            return self._last
        state = self._state
        if state is None or state.event_id is None or state.position < position:
            return None
        return state.position, state.event_id

    @property
    def _needed(self) -> int:
        """Up to where the log must be the one that was read."""
        return self._upto

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Look at what comes next; bring the events that match, maybe none.

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

    @abstractmethod
    def _read_window(self) -> Operation[list[RecordedEvent]]: ...

    def confirm(self) -> Operation[None]:
        """Check that nothing is lost that this reading has brought, and continue in today's log.

        Raises:
            EpochMismatch: the log has lost events, by a fail-over or a restore.
        """
        position = self._needed
        self._state = yield from check_same_log(
            self._state, position, self.anchor(position), self._after
        )
        self._has_moved = False


class LogReading(BoundedLogReading):
    """A reading of the log in order of position; see `EventStore.read_all`.

    Args:
        codec: reads the events.
        query: which events; None for all.
        options: what is asked for.
        follows: whether it follows the log: then it is extended, and continues after a fail-over
            if nothing that it has read is lost. Any other needs all up to the head it began with.
    """

    def __init__(
        self, codec: Codec, query: Query | None, options: LogReadOptions, *, follows: bool = False
    ) -> None:
        super().__init__(codec, query, options)
        self._follows = follows
        statement, self._filters = filter_parameters(self._stored_query)
        self._statement = self._ordered(statement)
        # The bounds of a window end a page where its limit does not, so that no single statement
        # scans the whole log for the few events that match, or sorts all that is left of it where
        # the planner does not know yet how large the table has become.
        self._window = _FIRST_WINDOW if self._filters else _UNFILTERED_WINDOW
        is_tagged = statement == "streams.read_log_tagged"
        self._largest_window = _LARGEST_TAGGED_WINDOW if is_tagged else _LARGEST_WINDOW

    @property
    def position(self) -> int:
        """Forwards: up to here everything that matches was brought."""
        return self._after

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was settled at the last look was brought."""
        head = self.known_head
        return head is not None and self._after >= head and not self._has_moved

    @property
    def state(self) -> HeadState | None:
        """The head up to which it reads, and the epoch of the log; None before it has begun."""
        return self._state

    @property
    def _needed(self) -> int:
        return self._after if self._follows else self._upto

    def has_more(self, state: HeadState | None) -> bool:
        """Whether a head that was found is beyond what was brought, or of another epoch."""
        return state is not None and (
            state.position > self._after
            or (self._state is not None and state.epoch != self._state.epoch)
        )

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

    def continue_with(self, codec: Codec, query: Query | None, *, after: int) -> LogReading:
        """Give a reading up to the same head, with another codec and query."""
        reading = LogReading(codec, query, LogReadOptions(after=after), follows=self._follows)
        if self._state is not None:
            reading.extend(self._state)
        if self.known_head is not None:
            reading.read_up_to(self.known_head)
        return reading

    def confirm(self) -> Operation[None]:
        """Check that nothing is lost that this reading has brought, and continue in today's log.

        Raises:
            EpochMismatch: the log has lost events, by a fail-over or a restore.
        """
        yield from super().confirm()
        if self._follows and self._state is not None:
            self.known_head = self._upto = max(self._state.position, self._after)

    def _is_at_end(self) -> bool:
        return self._after >= self._upto or self._pages.left == 0

    def _read_window(self) -> Operation[list[RecordedEvent]]:
        low, high = self._bounds()
        rows = yield Statement(
            self._statement,
            {
                **self._filters,
                **epoch_parameters(self._state, self.anchor(self._needed)),
                "after": low,
                "upto": high,
                "limit": self._pages.next_limit(),
            },
            # The best plan depends on how many rows are asked for, and on the filters.
            prepared=False,
        )
        events, size = decode_rows(self._codec, rows, query=self._query, backwards=self._backwards)
        is_full = self._pages.add(len(rows), size, events)
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
        """Bring the next events of a window of time, and go on to the next at its end."""
        edge = yield from self._window_edge()
        above, below = (edge, self._below) if self._backwards else (self._above, edge)
        rows = yield Statement(
            self._ordered("streams.read_log_by_valid_time"),
            {
                "items": self._items,
                **epoch_parameters(self._state, self.anchor(self._upto)),
                "after": self._after,
                "upto": self._upto,
                **key_parameters(above, below),
                "limit": self._pages.next_limit(),
            },
            prepared=False,
        )
        events, size = decode_rows(self._codec, rows, query=self._query, backwards=self._backwards)
        if self._pages.add(len(rows), size, events):
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
        """The end of the window: so much time as some thousand positions were recorded in."""
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
    """Read the events at some positions, as plain data where they do not fit the classes."""
    rows = yield Statement("streams.read_positions", {"positions": list(positions)})
    try:
        return decode_rows(codec, rows)[0]
    except (UnknownEventType, DecodingFailed, UpcastingFailed):
        return decode_rows(Codec(), rows)[0]
