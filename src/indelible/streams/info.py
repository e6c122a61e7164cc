"""Read what is known of one stream, and list streams."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the store knows of a stream.

    Attributes:
        stream: its name.
        channel: the service that owns it.
        version: the version of its last event.
        position: the position of its last event.
        created_at: when its first event was recorded.
        recorded_at: when its last event was recorded.
        closed_at: when it was closed; None for an open stream.
        archived_at: when its events were moved out of the way last; None for never.
        erased_at: when the data of its events was erased last; None for never.
    """

    stream: str
    channel: str
    version: int
    position: int
    created_at: datetime
    recorded_at: datetime
    closed_at: datetime | None = None
    archived_at: datetime | None = None
    erased_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StreamChange:
    """Something done to a stream as a whole.

    Attributes:
        operation: `close`, `reopen`, `archive` or `erase`.
        events: how many events were moved or erased; None where none is touched.
        changed_by: the database role that was logged in.
        changed_at: when.
        reason: why; None where nothing was said.
    """

    operation: Literal["close", "reopen", "archive", "erase"]
    events: int | None
    changed_by: str
    changed_at: datetime
    reason: str | None


_STREAMS_PAGE = 1_000


class StreamsReading:
    """A reading of what streams there are; see `EventStore.streams`."""

    def __init__(self, *, channel: str | None, prefix: str | None) -> None:
        self._channel = None if channel is None else validate_name("channel", channel)
        self._prefix = None if prefix is None else validate_name("prefix", prefix)
        self._after = ""
        self._done = False

    def next_page(self) -> Operation[list[StreamInfo]]:
        """Bring the next streams, in order of name; none at the end."""
        if self._done:
            return []
        rows = yield Statement(
            "streams.list",
            {
                "channel": self._channel,
                "prefix": self._prefix,
                "after": self._after,
                "limit": _STREAMS_PAGE,
            },
            prepared=False,
        )
        streams = [StreamInfo(*row) for row in rows]
        self._done = len(streams) < _STREAMS_PAGE
        if streams:
            self._after = streams[-1].stream
        return streams


def stream_info(stream: str) -> Operation[StreamInfo | None]:
    """What the store knows of one stream."""
    rows = yield Statement("streams.info", {"stream": validate_name("stream", stream)})
    return StreamInfo(*rows[0]) if rows else None
