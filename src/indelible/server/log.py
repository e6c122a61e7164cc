"""The routes for the log: read, read for a decision, subscribe, types, head."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response, StreamingResponse

from indelible import Checkpoint, InvalidInput
from indelible.access import Verb

from . import cloudevents, parameters, sse, wire
from .problems import forbidden
from .routing import EVENT_STREAM, NDJSON, Call, Header, Link, answer, route
from .streams import Limit, page, page_size, streamed

Start = Annotated[
    str, msgspec.Meta(description="Start after this: a position, a checkpoint, or head.")
]


class LogPart(parameters.Filter, kw_only=True):
    """The parameters that select a part of the log."""

    after: wire.Number | None = None
    backwards: bool = False
    limit: Limit | None = None
    as_of: parameters.AsOfText | None = None
    valid_at: parameters.Moment | None = None


class SubscriptionStart(parameters.Filter, kw_only=True):
    """What to subscribe to, and where to start."""

    after: Start | None = None
    ticket: (
        Annotated[str, msgspec.Meta(description="A ticket of `POST /tickets`, instead of a token.")]
        | None
    ) = None
    format: Annotated[
        Literal["event", "cloudevent"],
        msgspec.Meta(description="Send the events as they are, or as CloudEvents."),
    ] = "event"


class Decision(wire.Fields):
    """The query of a decision."""

    query: list[wire.QueryForm]


class Matching(msgspec.Struct):
    """All events that match a query, and the marker for the condition of an append."""

    events: list[wire.EventAnswer]
    marker: wire.Marker


class TypeAnswer(msgspec.Struct):
    """An event type."""

    type: str
    events: wire.Number


class ChannelAnswer(msgspec.Struct):
    """The streams and events of a channel."""

    channel: str
    streams: wire.Number
    events: wire.Number


class StatisticsAnswer(msgspec.Struct):
    """The size of a store.

    Attributes:
        streams: how many streams there are.
        events: how many events they hold.
        head: the head.
        last_position: the last assigned position, settled or not.
        bytes: the size of the store's tables and indexes on disk.
        channels: the streams and events of each channel, in order of name.
    """

    streams: wire.Number
    events: wire.Number
    head: wire.Number
    last_position: wire.Number
    bytes: wire.Number
    channels: list[ChannelAnswer]


class HeadAnswer(msgspec.Struct):
    """The head: readers of the log see all events up to it, and none after it."""

    position: wire.Number


@route(
    "GET",
    "/events",
    "log",
    query=LogPart,
    answer=wire.Page,
    media_types=(NDJSON, cloudevents.BATCH),
    problems=(410,),
    links=(
        Link("show_stream", {"stream": "$response.body#/events/0/stream"}),
        Link("read_stream", {"stream": "$response.body#/events/0/stream"}),
        Link("read_log", {"after": "$response.body#/events/0/position"}),
    ),
)
async def read_log(call: Call[LogPart, None]) -> Response:
    """Read the log in order of position, up to the head.

    With `Accept: application/x-ndjson` the answer has one event per line, and no largest page.
    With `Accept: application/cloudevents-batch+json` it has CloudEvents, and the next page is in
    `Link`.
    """
    part = call.query
    size = page_size(call, part.limit)
    events = call.store.read_all(
        part.query(call.principal),
        after=int(part.after or 0),
        backwards=part.backwards,
        limit=size,
        as_of=parameters.as_of(part.as_of),
        valid_at=parameters.moment("valid_at", part.valid_at),
    )
    if call.accepts(NDJSON):
        return await streamed(events, wire.lines)
    found = [event async for event in events]
    is_full = len(found) == size and not part.backwards and part.valid_at is None
    return page(call, found, {"after": found[-1].position} if is_full else None)


@route(
    "POST",
    "/events/matching",
    "log",
    body=Decision,
    answer=Matching,
    example={"query": [{"types": ["SeatTaken"], "tags": ["seat:12"]}]},
)
async def read_matching(call: Call[Any, Decision]) -> Response:
    """Read all events that match a query, as the basis of a decision.

    An append with a condition of the same query after the marker fails if others have appended
    matching events meanwhile.
    """
    query = wire.query_of(call.body.query)
    if not call.principal.covers(Verb.READ, query):
        raise forbidden(
            f"a decision needs all events of its query, and {call.principal.name} may not read"
            " them all"
        )
    found = await call.store.read_matching(query)
    return answer(
        Matching([wire.event_answer(event) for event in found.events], wire.Marker.of(found.marker))
    )


@route(
    "GET",
    "/events/subscribe",
    "log",
    query=SubscriptionStart,
    media_types=(EVENT_STREAM,),
    headers=(
        Header(
            "Last-Event-ID",
            "The id of the last event that the client has. It wins over `after`.",
            "^[0-9]{1,18}(@.+)?$",
        ),
    ),
    problems=(410,),
)
async def subscribe(call: Call[SubscriptionStart, None]) -> Response:
    """Subscribe by server-sent events: the stored events, then new ones as they come.

    The id of each event is a checkpoint, which begins with its position. A client that comes back
    with `Last-Event-ID` continues there.
    """
    subscription = call.store.subscribe(
        call.query.query(call.principal),
        after=_start(call.header("last-event-id") or call.query.after),
    )
    await subscription.__aenter__()  # an error of the request has a status of its own
    return StreamingResponse(
        sse.parts(
            subscription,
            call.settings.heartbeat,
            call.request.app.state.stopping,
            cloudevents.cloud_event if call.query.format == "cloudevent" else wire.event_answer,
        ),
        media_type=EVENT_STREAM,
        headers={"X-Accel-Buffering": "no"},
    )


@route("GET", "/types", "log", answer=list[TypeAnswer])
async def list_types(call: Call[Any, None]) -> Response:
    """List the event types, and how many events of each are stored."""
    parameters.require(call.principal, Verb.READ)
    return answer([TypeAnswer(found.type, str(found.events)) for found in await call.store.types()])


@route("GET", "/statistics", "log", answer=StatisticsAnswer)
async def show_statistics(call: Call[Any, None]) -> Response:
    """Count the streams and events, in total and per channel."""
    parameters.require(call.principal, Verb.READ)
    found = await call.store.stats()
    return answer(
        StatisticsAnswer(
            str(found.streams),
            str(found.events),
            str(found.head),
            str(found.last_position),
            str(found.bytes),
            [
                ChannelAnswer(each.channel, str(each.streams), str(each.events))
                for each in found.channels
            ],
        )
    )


@route("GET", "/head", "log", answer=HeadAnswer)
async def show_head(call: Call[Any, None]) -> Response:
    """Show the head: readers of the log see all events up to it, and none after it."""
    return answer(HeadAnswer(str(await call.store.head())))


routes = [read_log, read_matching, subscribe, list_types, show_statistics, show_head]


def _start(text: str | None) -> Any:
    if text is None:
        return 0
    if text == "head":
        return "head"
    if text.isdecimal() and text.isascii():
        return int(text)
    try:
        return Checkpoint.parse(text)
    except InvalidInput:
        raise InvalidInput(
            f"after must be a position, a checkpoint or head, not {text!r}"
        ) from None
