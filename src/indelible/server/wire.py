"""The JSON of requests and answers. Positions and versions are text: no client rounds them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from indelible import ANY, NO_STREAM, STREAM_EXISTS, AppendCondition, InvalidInput, NewEvent, Query
from indelible.core.uuid7 import uuid7
from indelible.core.validation import validate_integer
from indelible.events import AppendResult, ExpectedVersion, RecordedEvent
from indelible.query import ConsistencyMarker
from indelible.serialization.codec import Codec
from indelible.streams.info import StreamInfo

Number = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$", description="An integer, as text.")]
Version = Annotated[
    str,
    msgspec.Meta(
        pattern="^(-1|[0-9]{1,19})$",
        description="An integer, as text; -1 for a stream that does not exist.",
    ),
]
TypeName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Expected = Annotated[
    Annotated[
        str,
        msgspec.Meta(
            extra_json_schema={"pattern": "^(any|no-stream|stream-exists|[0-9]{1,18})$"},
        ),
    ]
    | Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 2**63 - 1})],
    msgspec.Meta(
        description="The version that the stream must have, or no-stream, stream-exists or any."
    ),
]

_EXPECTED: dict[object, ExpectedVersion] = {
    "any": ANY,
    "no-stream": NO_STREAM,
    "stream-exists": STREAM_EXISTS,
}
_check = Codec().check
_INTEGER = re.compile(r"-?[0-9]{1,19}")


class Fields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The base of what a request contains: an unknown field is refused."""


class EventToAppend(Fields):
    """An event to append.

    Attributes:
        type: the event type.
        data: any JSON value. It is stored as it is.
        id: its id; a request with the same ids again stores nothing twice.
        metadata: the context of the event.
        tags: tags `key:value`.
        valid_at: when the fact holds, with a time zone; by default now.
    """

    type: TypeName
    data: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    id: UUID | None = None
    metadata: dict[str, msgspec.Raw] = {}
    tags: list[str] = []
    valid_at: Moment | None = None

    def event(self) -> NewEvent:
        """Return the event for the store."""
        _check(self.type, bytes(self.data))
        for name, value in self.metadata.items():
            _check(self.type, bytes(value), field=f"metadata.{name}")
        return NewEvent(
            self.type,
            self.data,
            metadata=self.metadata,
            id=self.id or uuid7(),
            tags=self.tags,
            valid_at=self.valid_at,
        )


class QueryForm(Fields):
    """One alternative of a query: an event must satisfy all its fields."""

    types: list[str] = []
    tags: list[str] = []
    channel: str | None = None
    stream: str | None = None
    stream_prefix: str | None = None

    def query(self) -> Query:
        """Return the query for the store."""
        return Query(
            types=self.types,
            tags=self.tags,
            channel=self.channel,
            stream=self.stream,
            stream_prefix=self.stream_prefix,
        )


class Marker(Fields):
    """What a decision has seen: all matching events up to the head, and some after it."""

    head: Number
    seen: list[Number] = []
    epoch: UUID | None = None
    event_id: UUID | None = None

    @classmethod
    def of(cls, marker: ConsistencyMarker) -> Marker:
        """Return the marker for an answer."""
        seen = [str(position) for position in sorted(marker.seen)]
        return cls(head=str(marker.head), seen=seen, epoch=marker.epoch, event_id=marker.event_id)

    def marker(self) -> ConsistencyMarker:
        """Return the marker for the store."""
        seen = frozenset(validate_integer("seen", int(each)) for each in self.seen)
        head = validate_integer("head", int(self.head))
        return ConsistencyMarker(head, seen, self.epoch, self.event_id)


class ConditionForm(Fields):
    """An append condition: no event matches a query after a marker or a position."""

    query: list[QueryForm]
    after: Marker | Number

    def condition(self) -> AppendCondition:
        """Return the condition for the store."""
        after = self.after.marker() if isinstance(self.after, Marker) else int(self.after)
        return AppendCondition(query_of(self.query), after=after)


class AppendForm(Fields):
    """Events to append to one stream."""

    events: list[EventToAppend]
    expected: Expected | None = None
    channel: str | None = None
    conditions: list[ConditionForm] = []


class StreamAppendForm(Fields):
    """Events to append to one of several streams. Without events, only its version is checked."""

    stream: str
    expected: Expected
    events: list[EventToAppend] = []
    channel: str | None = None


class AppendManyForm(Fields):
    """Events to append to several streams, all or none."""

    appends: list[StreamAppendForm]
    conditions: list[ConditionForm] = []


class AppendAnswer(msgspec.Struct):
    """The result of an append: the stream's last event."""

    stream: str
    version: Version
    position: Number
    recorded_at: datetime
    idempotent: bool


class EventAnswer(msgspec.Struct, omit_defaults=True):
    """A stored event."""

    position: Number
    stream: str
    version: Number
    id: UUID
    type: str
    channel: str
    data: Any
    metadata: Any
    tags: tuple[str, ...]
    recorded_at: datetime
    valid_at: datetime
    erased: bool = False


class Links(msgspec.Struct, omit_defaults=True):
    """The addresses of other pages."""

    next: str | None = None


class Page(msgspec.Struct):
    """A page of events."""

    events: list[EventAnswer]
    links: Links


class StreamAnswer(msgspec.Struct):
    """A stream."""

    stream: str
    channel: str
    version: Number
    position: Number
    created_at: datetime
    recorded_at: datetime
    closed_at: datetime | None
    archived_at: datetime | None
    erased_at: datetime | None


class StreamPage(msgspec.Struct):
    """A page of streams."""

    streams: list[StreamAnswer]
    links: Links


def query_of(forms: Iterable[QueryForm]) -> Query:
    """Join the alternatives of a query.

    Raises:
        InvalidInput: there is none, or one is not valid.
    """
    found: Query | None = None
    for form in forms:
        found = form.query() if found is None else found | form.query()
    if found is None:
        raise InvalidInput("query needs at least one alternative; [{}] matches every event")
    return found


def expected_of(given: str | int) -> int | ExpectedVersion:
    """Return the expected version that a request names.

    Raises:
        InvalidInput: it names none.
    """
    named = _EXPECTED.get(given)
    if named is not None:
        return named
    if _INTEGER.fullmatch(str(given)):
        return int(given)
    raise InvalidInput(
        f"expected must be a version, no-stream, stream-exists or any, not {given!r}"
    )


def append_answer(result: AppendResult) -> AppendAnswer:
    """Return the result of an append for an answer."""
    return AppendAnswer(
        result.stream,
        str(result.version),
        str(result.position),
        result.recorded_at,
        result.idempotent,
    )


def event_answer(event: RecordedEvent) -> EventAnswer:
    """Return an event for an answer."""
    is_erased = event.is_erased
    return EventAnswer(
        str(event.position),
        event.stream,
        str(event.version),
        event.id,
        event.type,
        event.channel,
        None if is_erased else event.data,
        event.metadata,
        event.tags,
        event.recorded_at,
        event.valid_at,
        is_erased,
    )


def stream_answer(stream: StreamInfo) -> StreamAnswer:
    """Return a stream for an answer."""
    return StreamAnswer(
        stream.stream,
        stream.channel,
        str(stream.version),
        str(stream.position),
        stream.created_at,
        stream.recorded_at,
        stream.closed_at,
        stream.archived_at,
        stream.erased_at,
    )


_encoder = msgspec.json.Encoder()


def lines_of(values: Iterable[msgspec.Struct]) -> bytes:
    """Return values as lines of NDJSON."""
    return _encoder.encode_lines(list(values))


def lines(events: Iterable[RecordedEvent]) -> bytes:
    """Return events as lines of NDJSON."""
    return lines_of(map(event_answer, events))
