"""Operations: read facts in order of valid time: those that hold at a moment, or began in a range.

Facts with a valid time of their own stand in an index of their own, in that order. The others hold
from when they were recorded, and stand in order of position, which is nearly that of time; the
table `recorded_time_index` says where it is not. Both are read window by window of time, and
merged.
"""

from __future__ import annotations

from array import array
from datetime import datetime
from typing import Any
from uuid import UUID

from indelible.core.operation import Operation, Rows, Statement
from indelible.core.timestamps import (
    AsOf,
    TimeRange,
    previous_instant,
    validate_time_range,
    validate_timestamp,
)
from indelible.core.validation import validate_integer, validate_limit, validate_name
from indelible.errors import EpochMismatch, InvalidInput
from indelible.events import RecordedEvent
from indelible.postgres.binary import Column
from indelible.postgres.binary import array as column_of
from indelible.query import Query
from indelible.serialization.codec import Codec

from .head import HeadState, confirmed, log_bounds, reading_in
from .paging import Pages
from .query_parameters import current_query, items_json
from .read_log import LogReading
from .read_stream import StreamReading, Versions, check_exists
from .recorded_time import LAST_POSITION, RecordedTimeRange, index_recorded_times
from .rows import decode_rows

_FIRST_WINDOW = 1
_LARGEST_WINDOW = 200
"""How many periods, of a thousand positions each, one statement looks through: fewer at first."""

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

    def __init__(self, valid_at: datetime | None, valid_between: TimeRange | None) -> None:
        if valid_at is not None and valid_between is not None:
            raise InvalidInput("valid_at and valid_between both bound the valid time: give one")
        self.above: Key = (None, LAST_POSITION)
        self.below: Key = (None, LAST_POSITION)
        self.is_everything = False
        self.is_nothing = False
        if valid_at is not None:
            self.below = (validate_timestamp("valid_at", valid_at), LAST_POSITION)
        elif (between := validate_time_range("valid_between", valid_between)) is not None:
            begins, ends = between
            self.above, self.below = (
                (previous_instant(begins), LAST_POSITION),
                (previous_instant(ends), LAST_POSITION),
            )
            self.is_nothing = self.below[0] is None
        else:
            self.is_everything = True


class ValidStreamReading:
    """A reading of one stream in order of valid time; see `EventStore.read`."""

    def __init__(
        self,
        codec: Codec,
        stream: str,
        *,
        from_version: int,
        to_version: int | None,
        backwards: bool,
        limit: int | None,
        must_exist: bool,
        span: RecordedTimeRange,
        valid: ValidTimeRange,
    ) -> None:
        self._codec = codec
        self._stream = validate_name("stream", stream)
        self._versions = Versions(stream, from_version, to_version, span)
        self._found: tuple[int, int] | None = None
        self._above, self._below = valid.above, valid.below
        self._backwards = backwards
        self._pages = Pages(validate_limit(limit))
        self._must_exist = must_exist
        self._done = valid.is_nothing
        self.version = -1
        """The highest version of the events that were read."""
        # Of a stream that is longer than a page: it is sorted once, without its data.
        self._order: array[int] | None = None
        self._brought = 0

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        if self._must_exist:
            yield from check_exists(self._stream)
            self._must_exist = False
        while not self._done and self._pages.left != 0:
            if events := (yield from self._next_part()):
                return events
        return []

    def _next_part(self) -> Operation[list[RecordedEvent]]:
        if self._found is None:
            self._found = yield from self._versions.find()
        rows = yield self._next_rows(self._pages.ask())
        events, size = decode_rows(self._codec, rows, self._stream, backwards=self._backwards)
        self._done = not self._pages.take(len(rows), size, events)
        if rows:
            self.version = max([self.version, *(event.version for event in events)])
        if self._order is None and not self._done:
            if self._backwards:
                self._below = key_of(rows[-1])
            else:
                self._above = key_of(rows[-1])
            ((versions,),) = yield Statement(
                "streams.valid_time_order", self._bounds(), prepared=False
            )
            self._order = array("q", versions or [])
            if self._backwards:
                self._order.reverse()
        self._done = self._done or (self._order is not None and self._brought >= len(self._order))
        return events

    def _next_rows(self, limit: int) -> Statement:
        """What brings the next events: sorted for a first page, else by the order that is known."""
        if self._order is None:
            statement = (
                "streams.read_stream_by_valid_time.descending"
                if self._backwards
                else "streams.read_stream_by_valid_time"
            )
            return Statement(statement, {**self._bounds(), "limit": limit}, prepared=False)
        versions = self._order[self._brought : self._brought + limit]
        self._brought += limit
        return Statement(
            "streams.read_versions",
            {"stream": self._stream, "versions": Column(column_of("bigint", versions))},
            prepared=False,
        )

    def _bounds(self) -> dict[str, object]:
        assert self._found is not None  # noqa: S101
        return {
            "stream": self._stream,
            "from_version": self._found[0],
            "to_version": self._found[1],
            **_keys(self._above, self._below),
        }


class ValidLogReading:
    """A reading of the log, up to the head, in order of valid time; see `EventStore.read_all`."""

    def __init__(
        self,
        codec: Codec,
        query: Query | None,
        *,
        after: int,
        backwards: bool,
        limit: int | None,
        span: RecordedTimeRange,
        valid: ValidTimeRange,
    ) -> None:
        self._codec = codec
        self._query = current_query(codec, query)
        self._items = items_json(self._query and codec.upcasting.stored(self._query))
        self._after = validate_integer("after", after)
        self._upto = 0
        self._span = span
        self._above, self._below = valid.above, valid.below
        self._edge: Key | None = None
        self._backwards = backwards
        self._pages = Pages(validate_limit(limit))
        self._window = _FIRST_WINDOW
        self._done = valid.is_nothing
        self.known_head: int | None = None
        self._state: HeadState | None = None

    def start(self) -> Operation[int]:
        """Find the position which the reading goes up to; the same at every further call."""
        if self.known_head is None:
            self._after, self._upto, self._state = yield from log_bounds(self._after, self._span)
            yield from index_recorded_times()
            self.known_head = self._upto
        return self.known_head

    @property
    def _anchor(self) -> tuple[int, UUID] | None:
        state = self._state
        if state is None or state.event_id is None or state.position < self._upto:
            return None
        return state.position, state.event_id

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        yield from self.start()
        while not self._done and self._pages.left != 0:
            if events := (yield from self._next_part()):
                return events
        return []

    def _next_part(self) -> Operation[list[RecordedEvent]]:
        """Bring the next events of a window of time, and go on to the next at its end."""
        edge = yield from self._window_edge()
        above, below = (edge, self._below) if self._backwards else (self._above, edge)
        try:
            rows = yield from self._rows(above, below)
        except EpochMismatch:
            # In order of valid time nothing is brought up to a position.
            self._state = yield from confirmed(self._state, self._upto, self._anchor, 0)
            return []
        events, size = decode_rows(self._codec, rows, query=self._query, backwards=self._backwards)
        if self._pages.take(len(rows), size, events):
            self._move(key_of(rows[-1]))
        else:
            self._move(edge)
            self._edge = None
            self._window = min(self._window * 2, _LARGEST_WINDOW)
        return events

    def _rows(self, above: Key, below: Key) -> Operation[Rows]:
        return (
            yield Statement(
                "streams.read_log_by_valid_time.descending"
                if self._backwards
                else "streams.read_log_by_valid_time",
                {
                    "items": self._items,
                    **reading_in(self._state, self._anchor),
                    "after": self._after,
                    "upto": self._upto,
                    **_keys(above, below),
                    "limit": self._pages.ask(),
                },
                prepared=False,
            )
        )

    def _move(self, key: Key) -> None:
        if self._backwards:
            self._below = key
        else:
            self._above = key
        self._done = self._above == self._below

    def _window_edge(self) -> Operation[Key]:
        """The end of the window: so much time as some thousand positions were recorded in."""
        if self._edge is None:
            ((moment,),) = yield Statement(
                "streams.valid_time_window.descending"
                if self._backwards
                else "streams.valid_time_window",
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


def stream_reading(
    codec: Codec,
    stream: str,
    *,
    from_version: int,
    to_version: int | None,
    backwards: bool,
    limit: int | None,
    must_exist: bool,
    as_of: AsOf | None,
    recorded_between: TimeRange | None,
    valid_at: datetime | None,
    valid_between: TimeRange | None,
) -> StreamReading | ValidStreamReading:
    """A reading of a stream: in order of valid time where that is asked for, else of version."""
    span, valid = (
        RecordedTimeRange(as_of, recorded_between),
        ValidTimeRange(valid_at, valid_between),
    )
    if valid.is_everything:
        return StreamReading(
            codec,
            stream,
            from_version=from_version,
            to_version=to_version,
            backwards=backwards,
            limit=limit,
            must_exist=must_exist,
            span=span,
        )
    return ValidStreamReading(
        codec,
        stream,
        from_version=from_version,
        to_version=to_version,
        backwards=backwards,
        limit=limit,
        must_exist=must_exist,
        span=span,
        valid=valid,
    )


def log_reading(
    codec: Codec,
    query: Query | None,
    *,
    after: int,
    backwards: bool,
    limit: int | None,
    as_of: AsOf | None,
    recorded_between: TimeRange | None,
    valid_at: datetime | None,
    valid_between: TimeRange | None,
) -> LogReading | ValidLogReading:
    """A reading of the log: in order of valid time where that is asked for, else of position."""
    span, valid = (
        RecordedTimeRange(as_of, recorded_between),
        ValidTimeRange(valid_at, valid_between),
    )
    if valid.is_everything:
        return LogReading(codec, query, after=after, backwards=backwards, limit=limit, span=span)
    return ValidLogReading(
        codec, query, after=after, backwards=backwards, limit=limit, span=span, valid=valid
    )


def key_of(row: tuple[Any, ...]) -> Key:
    """The place of a stored event in the order of valid time."""
    return row[10], row[0]


def _keys(above: Key, below: Key) -> dict[str, object]:
    return {
        "above_valid_at": above[0],
        "above_position": above[1],
        "below_valid_at": below[0],
        "below_position": below[1],
    }
