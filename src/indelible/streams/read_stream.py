"""Read the events of one stream, by version or by valid time."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.core.validation import validate_name
from indelible.errors import StreamNotFound
from indelible.events import RecordedEvent
from indelible.postgres.binary import Column
from indelible.postgres.binary import array as column_of
from indelible.serialization.codec import Codec

from .info import stream_info
from .paging import Page, PagedReading
from .query_parameters import stored_types, types_query
from .read_options import StreamReadOptions
from .recorded_time import LAST_POSITION
from .valid_time import key_of, key_parameters


def stream_reading(codec: Codec, stream: str, options: StreamReadOptions) -> StreamReading:
    """Create a reading of a stream: in order of valid time if that is bounded, else of version."""
    kind = StreamReading if options.valid_time.is_everything else ValidTimeStreamReading
    return kind(codec, stream, options)


class StreamReading(PagedReading):
    """A reading of one stream in order of version; see `EventStore.read`."""

    version: int

    def __init__(self, codec: Codec, stream: str, options: StreamReadOptions) -> None:
        super().__init__(codec, options)
        self._stream: str = validate_name("stream", stream)
        self._options = options
        self._statement = self._ordered("streams.read_stream")
        self._lowest, self._highest = 0, LAST_POSITION
        self._must_exist = options.must_exist
        self._query = (
            None if options.types is None else types_query(codec, options.types, "types must be")
        )
        self._types = (
            stored_types(codec, self._query)
            if options.type_names is None
            else list(options.type_names)
        )
        self.version = -1
        """The highest version that was read, including events that upcasters drop."""

    def _begin(self) -> Operation[None]:
        if not self._is_at_end():
            self._lowest, self._highest = yield from version_bounds(self._stream, self._options)
        elif self._must_exist:
            yield from check_exists(self._stream)

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Read the next events; an empty list at the end, or if upcasters drop all of them."""
        page = yield from self._fetch(self._page_statement)
        if not page.rows and self._must_exist:
            yield from check_exists(self._stream)
        self._must_exist = False
        events = self._take(page)
        self._is_done = not page.is_full
        if page.rows:
            self._advance(page.rows, events)
        return events

    def _page_statement(self, limit: int) -> EventStatement:
        lowest, highest = self._lowest, self._highest
        # Versions have no gaps. So a planner that expects few events and sorts them sorts one page,
        # and not the rest of the stream for each page.
        if self._types is None and not self._backwards:
            highest = min(highest, lowest + limit - 1)
        elif self._types is None and self.version >= 0:  # where it ends is known
            lowest = max(lowest, highest - limit + 1)
        return EventStatement(
            self._statement,
            {
                "stream": self._stream,
                "from_version": lowest,
                "to_version": highest,
                "types": self._types,
                "limit": limit,
            },
        )

    def _advance(self, rows: Rows, events: list[RecordedEvent]) -> None:
        """Continue after the rows."""
        first, last = rows[0][2], rows[-1][2]
        is_cut = self._pages.left == 0
        self.version = max(self.version, first, events[-1].version if is_cut else last)
        if self._backwards:
            self._highest = last - 1
        else:
            self._lowest = last + 1


class ValidTimeStreamReading(StreamReading):
    """A reading of one stream in order of valid time; see `EventStore.read`.

    The database sorts the first page. A longer stream is sorted once more, without its data, and
    read in that order.
    """

    def __init__(self, codec: Codec, stream: str, options: StreamReadOptions) -> None:
        super().__init__(codec, stream, options)
        self._statement = self._ordered("streams.read_stream_by_valid_time")
        self._above, self._below = options.valid_time.above, options.valid_time.below
        self._order: array[int] | None = None
        """The versions after the first page."""
        self._brought = 0

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Read the next events; an empty list at the end, or if upcasters drop all of them."""
        events = yield from super().next_window()
        if self._order is None and not self._is_at_end():
            ((versions,),) = yield Statement(
                "streams.valid_time_order", self._range(), prepared=False
            )
            self._order = array("q", versions or [])
            if self._backwards:
                self._order.reverse()
        self._is_done = self._is_done or (
            self._order is not None and self._brought >= len(self._order)
        )
        return events

    def _fetch(self, statement: Callable[[int], EventStatement]) -> Operation[Page]:
        limit = self._pages.next_limit()
        rows = yield statement(limit)  # the order of the versions tells how many follow
        return Page(rows, limit, is_full=len(rows) == limit)

    def _page_statement(self, limit: int) -> EventStatement:
        if self._order is None:
            return EventStatement(
                self._statement, {**self._range(), "limit": limit}, prepared=False
            )
        versions = self._order[self._brought : self._brought + limit]
        self._brought += limit
        return EventStatement(
            "streams.read_versions",
            {"stream": self._stream, "versions": Column(column_of("bigint", versions))},
            prepared=False,
        )

    def _advance(self, rows: Rows, events: list[RecordedEvent]) -> None:
        self.version: int = max([self.version, *(event.version for event in events)])
        if self._backwards:
            self._below = key_of(rows[-1])
        else:
            self._above = key_of(rows[-1])

    def _range(self) -> dict[str, object]:
        return {
            "stream": self._stream,
            "from_version": self._lowest,
            "to_version": self._highest,
            "types": self._types,
            **key_parameters(self._above, self._below),
        }


def version_bounds(stream: str, options: StreamReadOptions) -> Operation[tuple[int, int]]:
    """Return the lowest and the highest version to read, within the requested recorded time."""
    highest = LAST_POSITION if options.to_version is None else options.to_version
    if options.recorded_time.is_everything:
        return options.from_version, highest
    after, upto = yield from options.recorded_time.positions()
    before = (yield from _version_at(stream, after)) if after else -1
    upto_version = yield from _version_at(stream, upto)
    return max(options.from_version, before + 1), min(highest, upto_version)


def check_exists(stream: str) -> Operation[None]:
    """Check that a stream was written.

    Raises:
        StreamNotFound: it was never written.
    """
    if (yield from stream_info(stream)) is None:
        raise StreamNotFound(stream)


def _version_at(stream: str, position: int) -> Operation[int]:
    ((version,),) = yield Statement("streams.version_at", {"stream": stream, "position": position})
    return int(version)
