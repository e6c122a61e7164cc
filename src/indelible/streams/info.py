"""Read the information about one stream, and list streams."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Information about a stream.

    Attributes:
        stream: its name.
        channel: the service that owns it.
        version: the version of its last event.
        position: the position of its last event.
        created_at: when its first event was recorded.
        recorded_at: when its last event was recorded.
        closed_at: when it was closed; None for an open stream.
        archived_at: when its events were last archived; None if never.
        erased_at: when the data of its events was last erased; None if never.
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
    """A life cycle change of a stream.

    Attributes:
        operation: `close`, `reopen`, `archive` or `erase`.
        events: how many events were archived or erased; None for `close` and `reopen`.
        changed_by: the database role that was logged in.
        changed_at: when the change was made.
        reason: the reason; None if none was given.
    """

    operation: Literal["close", "reopen", "archive", "erase"]
    events: int | None
    changed_by: str
    changed_at: datetime
    reason: str | None


_STREAMS_PAGE = 1_000


class StreamsReading:
    """A reading of the list of streams; see `EventStore.streams`.

    It begins after the name `after`, if one is given, and reads `page` streams at once.
    """

    def __init__(
        self,
        *,
        channel: str | None,
        prefix: str | None,
        after: str | None = None,
        page: int = _STREAMS_PAGE,
    ) -> None:
        self._channel = None if channel is None else validate_name("channel", channel)
        self._prefix = None if prefix is None else validate_name("prefix", prefix)
        self._after = "" if after is None else validate_name("after", after)
        self._page = page
        self._done = False

    def next_page(self) -> Operation[list[StreamInfo]]:
        """Read the next streams, in order of name; an empty list at the end."""
        if self._done:
            return []
        rows = yield Statement(
            "streams.list",
            {
                "channel": self._channel,
                "prefix": self._prefix,
                "after": self._after,
                "limit": self._page,
            },
            prepared=False,
        )
        streams = [StreamInfo(*row) for row in rows]
        self._done = len(streams) < self._page
        if streams:
            self._after = streams[-1].stream
        return streams


def stream_info(stream: str) -> Operation[StreamInfo | None]:
    """Return the information about one stream; None if it was never written."""
    rows = yield Statement("streams.info", {"stream": validate_name("stream", stream)})
    return StreamInfo(*rows[0]) if rows else None
