"""Read the events of one stream by version."""

from __future__ import annotations

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_integer, validate_limit, validate_name
from indelible.errors import StreamNotFound
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec

from .info import stream_info
from .paging import Pages
from .recorded_time import LAST_POSITION, RecordedTimeRange
from .rows import decode_rows


class StreamReading:
    """A reading of one stream; see `EventStore.read`."""

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
    ) -> None:
        self._codec = codec
        self._stream = validate_name("stream", stream)
        self._versions = Versions(stream, from_version, to_version, span)
        self._lowest, self._highest = 0, LAST_POSITION
        self._backwards = backwards
        self._pages = Pages(validate_limit(limit))
        self._must_exist = must_exist
        self._has_begun = False
        self._done = False
        self.version = -1
        """The highest version that was read, also of what upcasters leave nothing of."""

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        if self._must_exist and (self._done or self._pages.left == 0):
            yield from self._check_exists()
        while not self._done and self._pages.left != 0:
            if events := (yield from self._next_part()):
                return events
        return []

    def _next_part(self) -> Operation[list[RecordedEvent]]:
        if not self._has_begun:
            self._lowest, self._highest = yield from self._versions.find()
            self._has_begun = True
        rows = yield Statement(
            "streams.read_stream.descending" if self._backwards else "streams.read_stream",
            {
                "stream": self._stream,
                "from_version": self._lowest,
                "to_version": self._highest,
                "limit": self._pages.ask(),
            },
        )
        if not rows and self._must_exist:
            yield from self._check_exists()
        self._must_exist = False
        events, size = decode_rows(self._codec, rows, self._stream, backwards=self._backwards)
        self._done = not self._pages.take(len(rows), size, events)
        if rows:
            first, last = rows[0][2], rows[-1][2]
            is_cut = self._pages.left == 0
            self.version = max(self.version, first, events[-1].version if is_cut else last)
            if self._backwards:
                self._highest = last - 1
            else:
                self._lowest = last + 1
        return events

    def _check_exists(self) -> Operation[None]:
        self._must_exist = False
        yield from check_exists(self._stream)


class Versions:
    """The versions of a stream that a reading is about: those asked for, of those recorded then."""

    def __init__(
        self, stream: str, lowest: int, highest: int | None, span: RecordedTimeRange
    ) -> None:
        self._stream = stream
        self._lowest = validate_integer("from_version", lowest)
        self._highest = (
            LAST_POSITION if highest is None else validate_integer("to_version", highest)
        )
        self._span = span

    def find(self) -> Operation[tuple[int, int]]:
        """Find the lowest and the highest."""
        if self._span.is_everything:
            return self._lowest, self._highest
        after, upto = yield from self._span.positions()
        before = (yield from self._version_at(after)) if after else -1
        return max(self._lowest, before + 1), min(
            self._highest, (yield from self._version_at(upto))
        )

    def _version_at(self, position: int) -> Operation[int]:
        ((version,),) = yield Statement(
            "streams.version_at", {"stream": self._stream, "position": position}
        )
        return int(version)


def check_exists(stream: str) -> Operation[None]:
    """Check that a stream was written.

    Raises:
        StreamNotFound: it never was.
    """
    if (yield from stream_info(stream)) is None:
        raise StreamNotFound(stream)
