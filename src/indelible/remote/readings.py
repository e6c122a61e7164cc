"""Readings of streams and of the log, with statements that a server can answer."""

from __future__ import annotations

from collections.abc import Callable

from indelible.core.operation import EventStatement, Operation
from indelible.events import Checkpoint, RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.paging import Page, PagedReading
from indelible.streams.query_parameters import items_json
from indelible.streams.read_log import (
    BoundedLogReading,
    LogReading,
    ValidTimeLogReading,
    last_event,
)
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import StreamReading, ValidTimeStreamReading


def stream_reading(codec: Codec, stream: str, options: StreamReadOptions) -> StreamReading:
    """Create a reading of a stream: in order of valid time if that is bounded, else of version."""
    is_by_version = options.valid_time.is_everything
    return (StreamReading if is_by_version else _ByValidTime)(codec, stream, options)


def log_reading(codec: Codec, query: Query | None, options: LogReadOptions) -> BoundedLogReading:
    """Create a reading of the log: in order of valid time if that is bounded, else of position."""
    is_by_position = options.valid_time.is_everything
    return (_ByPosition if is_by_position else ValidTimeLogReading)(codec, query, options)


class _ByValidTime(ValidTimeStreamReading):
    """A reading of a stream in order of valid time: the server sorts it for each page."""

    def next_window(self) -> Operation[list[RecordedEvent]]:
        return StreamReading.next_window(self)

    def _fetch(self, statement: Callable[[int], EventStatement]) -> Operation[Page]:
        return PagedReading._fetch(self, statement)


class _ByPosition(LogReading):
    """A reading of the log in order of position: the server skips what does not match."""

    def _read_window(self) -> Operation[list[RecordedEvent]]:
        assert self._state is not None  # noqa: S101 - it has begun
        upto = Checkpoint(self._upto, self._state.epoch, anchor=self.anchor(self._upto))
        page = yield from self._fetch(
            lambda limit: EventStatement(
                self._ordered("remote.read_log"),
                {
                    "items": items_json(self._stored_query),
                    "after": self._after,
                    "upto": upto,
                    "limit": limit,
                },
            )
        )
        events, rows = self._take(page), page.rows
        if self._backwards:
            self._upto = rows[-1][0] - 1 if page.is_full else self._after
        else:
            self._after = rows[-1][0] if page.is_full else self._upto
            if rows:
                self._last = last_event(rows)
        return events
