"""The routes for the log: read, read for a decision, subscribe, types, head."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response, StreamingResponse

from indelible import Checkpoint, WaitTimeout
from indelible.access import Verb
from indelible.streams.head import head_state
from indelible.streams.recorded_time import check_checkpoint

from . import cloudevents, parameters, sse, wire
from .paging import Limit, page, page_size, streamed
from .problems import forbidden
from .routing import EVENT_STREAM, NDJSON, Call, Header, Link, answer, route
from .waiting import unless_stopped

Start = Annotated[
    str, msgspec.Meta(description="Start after this: a position, a checkpoint, a time, or head.")
]

LONGEST_WAIT = 30.0
"""Seconds for which a request may wait for a reader."""


class LogPart(parameters.Filter, kw_only=True):
    """The parameters that select a part of the log."""

    after: wire.Number | None = None
    backwards: bool = False
    limit: Limit | None = None
    as_of: parameters.AsOfText | None = None
    valid_at: parameters.Moment | None = None
    valid_between: parameters.Interval | None = None


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
    deliver_when_valid: bool = False


class Decision(wire.Fields):
    """The query of a decision."""

    query: list[wire.QueryForm]


class Matching(msgspec.Struct):
    """All events that match a query, and the marker for the condition of an append."""

    events: list[wire.EventAnswer]
    marker: wire.Marker


class TypeAnswer(msgspec.Struct):
    """An event type, with its first and its last event."""

    type: str
    events: wire.Number
    first_position: wire.Number
    first_recorded_at: datetime
    last_position: wire.Number
    last_recorded_at: datetime


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
    """The head: readers of the log see all events up to it, and none after it.

    Attributes:
        position: the head.
        epoch: a random id, which changes when the log may have lost events.
        event_id: the id of the event at the head; null if there is none.
    """

    position: wire.Number
    epoch: UUID
    event_id: UUID | None


class KnownPlace(msgspec.Struct, kw_only=True):
    """What a reader knows of the log."""

    checkpoint: (
        Annotated[str, msgspec.Meta(description="Check that the log still has all up to here.")]
        | None
    ) = None


class MomentQuery(msgspec.Struct, kw_only=True):
    """A time."""

    moment: parameters.Moment


class PositionAnswer(msgspec.Struct):
    """The position of a time.

    Attributes:
        position: all events recorded by the time are at it or before it.
        is_final: whether it never changes, because a later event is settled.
    """

    position: wire.Number
    is_final: bool


class Wait(wire.Fields):
    """What to wait for."""

    reader: str
    position: wire.Number
    timeout: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT)] = 10.0


class WaitAnswer(msgspec.Struct):
    """How far a reader is. It is below the position if the time was over."""

    checkpoint: wire.Number


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
        valid_between=parameters.interval("valid_between", part.valid_between),
    )
    if call.accepts(NDJSON):
        return await streamed(events, wire.lines)
    found = [event async for event in events]
    is_by_position = not part.backwards and part.valid_at is None and part.valid_between is None
    is_full = len(found) == size and is_by_position
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
        deliver_when_valid=call.query.deliver_when_valid,
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
    return answer(
        [
            TypeAnswer(
                found.type,
                str(found.events),
                str(found.first_position),
                found.first_recorded_at,
                str(found.last_position),
                found.last_recorded_at,
            )
            for found in await call.store.types()
        ]
    )


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


@route("GET", "/head", "log", query=KnownPlace, answer=HeadAnswer, problems=(410,))
async def show_head(call: Call[KnownPlace, None]) -> Response:
    """Show the head: readers of the log see all events up to it, and none after it.

    With a checkpoint, the status is 410 if the log has lost events that its reader has seen.
    """
    if call.query.checkpoint is not None:
        known = Checkpoint.parse(call.query.checkpoint)
        await call.store._engine.run(check_checkpoint(known))
    state = await call.store._engine.run(head_state())
    return answer(HeadAnswer(str(state.position), state.epoch, state.event_id))


@route("GET", "/position-at", "log", query=MomentQuery, answer=PositionAnswer)
async def show_position(call: Call[MomentQuery, None]) -> Response:
    """Show the position up to which all events were recorded by a time."""
    moment = parameters.moment_of("moment", call.query.moment)
    # In this order: a position that was found later is never less final.
    is_final = await call.store.has_passed(moment)
    position = await call.store.position_at(moment)
    return answer(PositionAnswer(str(position), is_final))


@route(
    "POST",
    "/wait",
    "log",
    body=Wait,
    answer=WaitAnswer,
    problems=(404,),
    example={"reader": "mails", "position": "0", "timeout": 0},
)
async def wait_for_reader(call: Call[Any, Wait]) -> Response:
    """Wait until a consumer group or a projection has processed a position."""
    parameters.require(call.principal, Verb.READ)
    form = call.body
    try:
        found = await unless_stopped(
            call, call.store.wait_for(form.reader, int(form.position), form.timeout)
        )
    except WaitTimeout as timeout:
        found = timeout.checkpoint
    return answer(WaitAnswer(str(found)))


routes = [
    read_log,
    read_matching,
    subscribe,
    list_types,
    show_statistics,
    show_head,
    show_position,
    wait_for_reader,
]


def _start(text: str | None) -> Any:
    if text is None:
        return 0
    return text if text == "head" else parameters.place("after", text)
