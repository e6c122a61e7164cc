"""Plans: read a stream, the log, the head, and what streams there are.

A reading holds where it is; each of its plans brings one page, so that memory stays bounded
however much there is, and no connection is held while the caller is at work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from .codec import Codec, cause_of, succeeds
from .errors import (
    DecodingFailed,
    EpochMismatch,
    InvalidInput,
    StreamNotFound,
    UnknownEventType,
    UpcastingFailed,
)
from .events import (
    ERASED,
    ChannelStats,
    Checkpoint,
    HeadHolder,
    HeadInfo,
    RecordedEvent,
    StoreStats,
    StreamInfo,
)
from .garbage import Uncollected
from .names import check_name
from .plan import Call, Plan, Rows
from .query import Marker, Query
from .spans import LAST, Span, check_checkpoint
from .upcasting import UpcasterFailure

_FIRST_PAGE = 100
_LARGEST_PAGE = 5_000
_PAGE_BYTES = 4 * 1024 * 1024
_FIRST_WINDOW = 20_000
_UNFILTERED_WINDOW = 8 * _LARGEST_PAGE
"""Without filters: so many that the planner goes by the index and does not sort the window, and so
few that little is sorted where it does not know yet how large the table has become."""
_LARGEST_WINDOW = 200_000
_LARGEST_TAGGED_WINDOW = 50_000_000
"""How many positions one statement looks at; far more where an index leads to those with a tag."""
_STREAMS_PAGE = 1_000


class Pages:
    """How many events to ask for next: few at first, then as many as a page's bytes hold."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.size = _FIRST_PAGE
        self.asked = 0
        self._has_holes = False

    def ask(self) -> int:
        """Say how many events to ask for."""
        # Where upcasters leave nothing of some, more than are wanted: else it is one by one.
        is_bounded = self.left is not None and not self._has_holes
        self.asked = min(self.size, self.left or 0) if is_bounded else self.size
        return self.asked

    def take(self, received: int, received_bytes: int, events: list[RecordedEvent]) -> bool:
        """Note a page; return whether it was full, so that more may stand behind it.

        Args:
            received: how many stored events it had.
            received_bytes: how many bytes of data.
            events: what they were read as, which are cut at the limit. What became several counts
                once, and what became none not at all.
        """
        if self.left is not None:
            kept = list(dict.fromkeys(event.position for event in events))
            self._has_holes = self._has_holes or len(kept) < received
            wanted = set(kept[: self.left])
            self.left -= len(wanted)
            if len(wanted) < len(kept):
                events[:] = [event for event in events if event.position in wanted]
        if received:
            fitting = _PAGE_BYTES * received // max(received_bytes, 1)
            self.size = max(1, min(_LARGEST_PAGE, self.asked * 10, fitting))
        return received == self.asked


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
        span: Span,
    ) -> None:
        self._codec = codec
        self._stream = check_name("stream", stream)
        self._versions = Versions(stream, from_version, to_version, span)
        self._lowest, self._highest = 0, LAST
        self._backwards = backwards
        self._pages = Pages(check_limit(limit))
        self._must_exist = must_exist
        self._has_begun = False
        self._done = False
        self.version = -1
        """The highest version that was read, also of what upcasters leave nothing of."""

    def next_page(self) -> Plan[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        if self._must_exist and (self._done or self._pages.left == 0):
            yield from self._check_exists()
        while not self._done and self._pages.left != 0:
            if events := (yield from self._next_part()):
                return events
        return []

    def _next_part(self) -> Plan[list[RecordedEvent]]:
        if not self._has_begun:
            self._lowest, self._highest = yield from self._versions.find()
            self._has_begun = True
        rows = yield Call(
            "read_stream_backwards" if self._backwards else "read_stream",
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

    def _check_exists(self) -> Plan[None]:
        self._must_exist = False
        yield from check_exists(self._stream)


class Versions:
    """The versions of a stream that a reading is about: those asked for, of those recorded then."""

    def __init__(self, stream: str, lowest: int, highest: int | None, span: Span) -> None:
        self._stream = stream
        self._lowest = check_count("from_version", lowest)
        self._highest = LAST if highest is None else check_count("to_version", highest)
        self._span = span

    def find(self) -> Plan[tuple[int, int]]:
        """Find the lowest and the highest."""
        if self._span.is_everything:
            return self._lowest, self._highest
        after, upto = yield from self._span.positions()
        before = (yield from self._version_at(after)) if after else -1
        return max(self._lowest, before + 1), min(
            self._highest, (yield from self._version_at(upto))
        )

    def _version_at(self, position: int) -> Plan[int]:
        ((version,),) = yield Call("version_at", {"stream": self._stream, "position": position})
        return int(version)


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
        span: Span | None = None,
        goes_on: bool = False,
    ) -> None:
        self._codec = codec
        self._span = span
        self._goes_on = goes_on
        self._after = check_count("after", after)
        self._upto = self._after
        self._backwards = backwards
        self._pages = Pages(check_limit(limit))
        self._query = current_query(codec, query)
        self._statement, self._filters = _filters(
            self._query and codec.upcasting.stored(self._query)
        )
        # The bounds of a window end a page where its limit does not, so that no single statement
        # scans the whole log for the few events that match, or sorts all that is left of it where
        # the planner does not know yet how large the table has become.
        self._window = _FIRST_WINDOW if self._filters else _UNFILTERED_WINDOW
        is_tagged = self._statement == "read_all_tagged"
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

    def start(self) -> Plan[int]:
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

    def next_page(self) -> Plan[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        # The head is asked for in a statement before the one that reads up to it, which
        # therefore sees all that is settled (docs/explanation/ordering.md).
        yield from self.start()
        while self._after < self._upto and self._pages.left != 0:
            if events := (yield from self.next_window()):
                return events
        return []

    def next_window(self) -> Plan[list[RecordedEvent]]:
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

    def confirm(self) -> Plan[None]:
        """Check that nothing is lost that this reading has brought, and continue in today's log.

        Raises:
            EpochMismatch: the log has lost events, by a fail-over or a restore.
        """
        position = self._needed
        self._state = yield from confirmed(self._state, position, self._proof, self._after)
        self._has_moved = False
        if self._goes_on:
            self.known_head = self._upto = max(self._state.position, position)

    def _read_window(self) -> Plan[list[RecordedEvent]]:
        low, high = self._bounds()
        rows = yield Call(
            self._statement + ("_backwards" if self._backwards else ""),
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


class StreamsReading:
    """A reading of what streams there are; see `EventStore.streams`."""

    def __init__(self, *, channel: str | None, prefix: str | None) -> None:
        self._channel = None if channel is None else check_name("channel", channel)
        self._prefix = None if prefix is None else check_name("prefix", prefix)
        self._after = ""
        self._done = False

    def next_page(self) -> Plan[list[StreamInfo]]:
        """Bring the next streams, in order of name; none at the end."""
        if self._done:
            return []
        rows = yield Call(
            "streams",
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


@dataclass(frozen=True, slots=True)
class Matching:
    """What a decision is made on: the events that match, and the marker of having seen them.

    Attributes:
        events: every visible event that matches, settled or not, in order of position.
        marker: the `after` of the condition under which the decision is appended.
    """

    events: tuple[RecordedEvent, ...]
    marker: Marker

    def __iter__(self) -> Iterator[RecordedEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def matching(codec: Codec, query: Query) -> Plan[Matching]:
    """Read what a decision is made on; see `EventStore.read_matching`."""
    if check_query(query) is None:
        raise InvalidInput("read_matching needs a Query: Query() for every event")
    stored = codec.upcasting.stored(codec.check_query(query))
    rows = yield Call("read_matching", {"items": json.dumps(items(stored))})
    settled, _, _, event_id, _, _, _, _, epoch, *_ = rows[0]
    found = rows[1:]
    events, _ = decode_rows(codec, found, query=codec.upcasting.current(query))
    # Of the rows: what upcasters leave nothing of was seen, too.
    seen = frozenset(row[0] for row in found if row[0] > settled)
    return Matching(tuple(events), Marker(settled, seen, UUID(epoch), event_id))


def at_positions(codec: Codec, positions: Sequence[int]) -> Plan[list[RecordedEvent]]:
    """Read the events at some positions, as plain data where they do not fit the classes."""
    rows = yield Call("read_positions", {"positions": list(positions)})
    try:
        return decode_rows(codec, rows)[0]
    except (UnknownEventType, DecodingFailed, UpcastingFailed):
        return decode_rows(Codec(), rows)[0]


class HeadState(NamedTuple):
    """What a look at the head brings.

    Attributes:
        position: the settled position.
        epoch: the epoch of the log.
        event_id: the id of the event at that position; None if there is none.
    """

    position: int
    epoch: UUID
    event_id: UUID | None


def confirmed(
    state: HeadState | None, position: int, anchor: tuple[int, UUID] | None, brought_to: int
) -> Plan[HeadState]:
    """Check that the log is the one that a reader has read; give the head of today.

    Args:
        state: the head that the reader knows.
        position: up to where the log must be the same.
        anchor: an event at this position or after it.
        brought_to: up to where the reader has brought all events.

    Raises:
        EpochMismatch: it is another one.
    """
    assert state is not None  # noqa: S101 - else nothing was read
    yield from check_checkpoint(
        Checkpoint(position, state.epoch, anchor=anchor), brought_to=brought_to
    )
    return (yield from head_state())


def reading_in(
    state: HeadState | None, anchor: tuple[int, UUID] | None = None
) -> dict[str, object]:
    """Name the log that a statement is to read: nulls for whatever log there is."""
    position, event_id = anchor or (None, None)
    epoch = None if state is None else state.epoch
    return {"epoch": epoch, "anchor": position, "anchor_id": event_id}


def head_state() -> Plan[HeadState]:
    """Look at the head."""
    ((position, epoch, event_id),) = yield Call("head_state")
    return HeadState(position, epoch, event_id)


def note_settled() -> Plan[None]:
    """Note the settled position for a server that takes over."""
    yield Call("note_settled")


def log_bounds(after: int, span: Span | None) -> Plan[tuple[int, int, HeadState]]:
    """The positions to read: after the first, up to the second, which is the head at most."""
    state = yield from head_state()
    begins, ends = (0, LAST) if span is None else (yield from span.positions())
    if span is None or not span.is_settled:
        ends = min(ends, state.position)
    return max(after, begins), ends, state


def head() -> Plan[int]:
    """The settled position."""
    ((position,),) = yield Call("head")
    return int(position)


def epoch() -> Plan[UUID]:
    """The store's epoch."""
    ((found,),) = yield Call("epoch")
    return UUID(str(found))


def renew_epoch() -> Plan[UUID]:
    """Begin a new epoch."""
    ((found,),) = yield Call("renew_epoch")
    return UUID(str(found))


def head_info() -> Plan[HeadInfo]:
    """The settled position, what waits behind it, and who holds it."""
    settled = yield from head()
    ((last_position, waiting),) = yield Call("head_info", {"head": settled})
    holders = tuple(HeadHolder(*row) for row in (yield Call("head_holders")))
    return HeadInfo(settled, last_position, waiting, holders if last_position > settled else ())


def check_exists(stream: str) -> Plan[None]:
    """Check that a stream was written.

    Raises:
        StreamNotFound: it never was.
    """
    if (yield from stream_info(stream)) is None:
        raise StreamNotFound(stream)


def stream_info(stream: str) -> Plan[StreamInfo | None]:
    """What the store knows of one stream."""
    rows = yield Call("stream", {"stream": check_name("stream", stream)})
    return StreamInfo(*rows[0]) if rows else None


def stats() -> Plan[StoreStats]:
    """The size of the store."""
    settled = yield from head()
    ((last_position, size),) = yield Call("stats")
    channels = tuple(ChannelStats(*row) for row in (yield Call("channels")))
    return StoreStats(
        streams=sum(channel.streams for channel in channels),
        events=sum(channel.events for channel in channels),
        head=settled,
        last_position=last_position,
        bytes=size,
        channels=channels,
    )


def check_query(query: object) -> Query | None:
    """Check a query: a `Query`, or None for every event.

    Raises:
        InvalidInput: it is something else.
    """
    if query is None or isinstance(query, Query):
        return query
    raise InvalidInput(f"query must be a Query, not {query!r}")


def current_query(codec: Codec, query: object) -> Query | None:
    """Check a query, and give it with the names that its types are read under today.

    Raises:
        InvalidInput: it is none, or names a type that is not known.
    """
    checked = check_query(query)
    return None if checked is None else codec.upcasting.current(codec.check_query(checked))


def items_json(query: Query | None) -> str | None:
    """The items of a query as JSON; None where every event matches."""
    if query is None or query.matches_everything:
        return None
    return json.dumps(items(query))


def items(query: Query) -> list[dict[str, Any]]:
    """The items of a query as the functions in the database take them."""
    return [
        {
            "types": list(map(str, item.types)) or None,
            "tags": item.tags or None,
            "channel": item.channel,
            "stream_prefix": item.stream_prefix,
        }
        for item in query.items
    ]


def _filters(query: Query | None) -> tuple[str, dict[str, Any]]:
    """The statement for a query, and its parameters."""
    if query is None or query.matches_everything:
        return "read_all", {}
    if all(item.tags for item in query.items):
        return "read_all_tagged", {"items": items_json(query)}
    if len(query.items) > 1:
        return "read_all_any", {"items": items_json(query)}
    (item,) = query.items
    return "read_all_matching", {
        "types": list(map(str, item.types)) or None,
        "tags": list(item.tags) or None,
        "channel": item.channel,
        "stream_prefix": item.stream_prefix,
    }


def decode_rows(
    codec: Codec,
    rows: Rows,
    stream: str | None = None,
    *,
    query: Query | None = None,
    backwards: bool = False,
) -> tuple[list[RecordedEvent], int]:
    """Make events of rows, and count the bytes of their data.

    Args:
        codec: the classes and the upcasters. By these a row may become several events, or none:
            who counts, or goes on from where it is, goes by the rows.
        rows: the stored events.
        stream: their stream, where the rows do not name it.
        query: what was asked for, in the names of today: of that which a row became, only this.
        backwards: whether what became several comes in reverse.

    Raises:
        UnknownEventType, DecodingFailed, UpcastingFailed: a row does not fit the registered
            classes.
    """
    steps = codec.upcasting.steps
    if steps and not steps.keys().isdisjoint(row[4] for row in rows):
        rows = _upcast(codec, rows, stream, query, backwards=backwards)
    decoders, decode_metadata = codec.decoders, codec.decode_metadata
    events: list[RecordedEvent] = []
    size = 0
    position, name, version, event_type = 0, "", 0, ""
    with Uncollected():
        try:
            for (
                position, name, version, event_id, event_type, data, metadata, tags, channel,
                recorded_at, valid_at,
            ) in rows:  # fmt: skip
                size += len(data or b"")
                events.append(
                    RecordedEvent(
                        position,
                        stream or name,
                        version,
                        event_id,
                        event_type,
                        ERASED if data is None else decoders[event_type](data),
                        {} if metadata is None else decode_metadata(metadata),
                        () if tags is None else tuple(tags),
                        channel,
                        recorded_at,
                        valid_at,
                    )
                )
        except UnknownEventType as error:
            raise error.placed(place(position, stream or name, version)) from None
        except Exception as error:
            if succeeds(lambda: data is None or decoders[event_type](data)):
                raise
            failure = codec.failure(event_type, error)
            raise failure.placed(place(position, stream or name, version)) from cause_of(error)
    return events, size


def place(position: int, stream: str, version: int) -> str:
    """Say where an event stands, as errors begin that say what is wrong with it."""
    return f"event {version} of stream {stream!r}, at position {position}"


def _upcast(
    codec: Codec, rows: Rows, stream: str | None, query: Query | None, *, backwards: bool
) -> Rows:
    """Put what upcasters make of them in the place of the rows whose types have any."""
    found: Rows = []
    for row in rows:
        if row[4] not in codec.upcasting.steps:
            found.append(row)
            continue
        try:
            parts = codec.upcast(row[4], row[5])
        except UpcasterFailure as failure:
            raise UpcastingFailed(
                stream or row[1], row[2], row[4], str(failure.upcaster), failure.reason
            ) from failure.__cause__
        new = [(*row[:4], event_type, data, *row[6:]) for event_type, data in parts]
        if query is not None:
            new = [part for part in new if query.matches(_undecoded(part))]
        found += reversed(new) if backwards else new
    return found


def _undecoded(row: tuple[Any, ...]) -> RecordedEvent:
    position, stream, version, event_id, event_type, _, _, tags, channel, *times = row
    return RecordedEvent(
        position,
        stream,
        version,
        event_id,
        event_type,
        None,
        {},
        tuple(tags or ()),
        channel,
        *times,
    )


def check_count(what: str, value: object) -> int:
    """Check a version or a position to read from: a whole number, 0 or more.

    Raises:
        InvalidInput: it is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    raise InvalidInput(f"{what} must be a whole number from 0 on, not {value!r}")


def check_limit(limit: object) -> int | None:
    """Check a limit: a whole number, 0 or more, or None for no limit."""
    return None if limit is None else check_count("limit", limit)
