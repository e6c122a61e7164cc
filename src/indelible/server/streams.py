"""The routes for streams: append, read, information, life cycle."""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from indelible import AsyncEventStore, InvalidInput, StreamAppend, StreamNotFound
from indelible.access import Principal, Verb
from indelible.errors import ChannelMismatch, WrongExpectedVersion
from indelible.events import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion
from indelible.query import QueryItem, of_items
from indelible.streams.info import StreamInfo, StreamsReading
from indelible.streams.iterators_async import pages_async
from indelible.streams.read_options import StreamReadOptions
from indelible.streams.read_stream import stream_reading
from indelible.streams.recorded_time import RecordedTimeRange
from indelible.streams.valid_time import ValidTimeRange

from . import cloudevents, parameters, wire
from .paging import LARGEST_PAGE, Limit, link_header, links_of, page, page_size, streamed
from .problems import forbidden, problem_of
from .routing import NDJSON, Call, Header, Link, answer, route

_ETAG = re.compile(r'"([0-9]{1,19})"')
_MATCH = r'^(\*|"[0-9]{1,18}")$'
_OF_ANSWER = {"stream": "$response.body#/stream"}
_READ = Link("read_stream", _OF_ANSWER)
_SHOW = Link("show_stream", _OF_ANSWER)
_CLOSE = Link("close_stream", _OF_ANSWER, {"expected": "$response.body#/version"})
_REOPEN = Link("reopen_stream", _OF_ANSWER, {})
_ARCHIVE = Link("archive_stream", _OF_ANSWER, {})
_ETAG_OF = {"ETag": "The version, for `If-Match` of the next append."}


class Part(msgspec.Struct, kw_only=True):
    """The parameters that select a part of a stream."""

    types: Annotated[list[str], msgspec.Meta(description="Only events of these types.")] = (
        msgspec.field(default_factory=list, name="type")
    )
    from_version: wire.Number | None = None
    to_version: wire.Number | None = None
    backwards: bool = False
    limit: Limit | None = None
    as_of: parameters.AsOfText | None = None
    valid_at: parameters.Moment | None = None
    valid_between: parameters.Interval | None = None


class StreamFilter(msgspec.Struct, kw_only=True):
    """The parameters that select streams."""

    channel: Annotated[str, msgspec.Meta(description="Streams of this channel.")] | None = None
    prefix: Annotated[str, msgspec.Meta(description="Their names start so.")] | None = None
    after: Annotated[str, msgspec.Meta(description="Their names come after this.")] | None = None
    limit: Limit | None = None


class CloseForm(wire.Fields):
    """Why, and at which version, a stream is closed."""

    expected: wire.Expected
    reason: str | None = None


class Reason(wire.Fields):
    """Why a stream is changed."""

    reason: str | None = None


class EraseForm(wire.Fields):
    """Why a stream is erased."""

    reason: str


class ChangeAnswer(msgspec.Struct):
    """A change of a stream: it was closed, reopened, archived or erased."""

    operation: str
    events: wire.Number | None
    changed_by: str
    changed_at: datetime
    reason: str | None


@route(
    "POST",
    "/streams/{stream}/events",
    "streams",
    body=wire.AppendForm,
    bodies={
        cloudevents.STRUCTURED: cloudevents.CloudEvent,
        cloudevents.BATCH: list[cloudevents.CloudEvent],
    },
    answer=wire.AppendAnswer,
    status=201,
    headers=(
        Header("If-Match", "The version that the stream must have, or `*`: it must exist.", _MATCH),
        Header("If-None-Match", "`*`: the stream must not exist.", r"^\*$"),
    ),
    answer_headers=_ETAG_OF,
    problems=(410, 412),
    example={
        "events": [{"type": "OrderPlaced", "data": {"total": 12}, "tags": ["order:17"]}],
        "expected": "any",
    },
    links=(_READ, _SHOW, _CLOSE),
)
async def append(
    call: Call[Any, wire.AppendForm | cloudevents.CloudEvent | list[cloudevents.CloudEvent]],
) -> Response:
    """Append events to the end of a stream, all or none.

    The expected version stands in the body, or in `If-Match: "4"` or `If-None-Match: *`. A repeated
    request with the same event ids stores nothing twice. It gets the first result, with status 200.

    CloudEvents are appended at any version, unless a header names one. The id of a CloudEvent is
    the id of the event if it is a UUID; else one is made from `source` and `id`.
    """
    name, form = call.path["stream"], call.body
    if isinstance(form, wire.AppendForm):
        expected, is_in_header = _expected(call, form.expected)
    else:
        form = cloudevents.append_form(form, await call.request.body())
        expected, is_in_header = _expected(call, None, default=ANY)
    _check_conditions(call.principal, form.conditions)
    channel = _channel(call.principal, name, form.channel)
    await call.request.app.state.inline.check(event.type for event in form.events)
    try:
        result = await call.store.append(
            name,
            [event.event() for event in form.events],
            expected=expected,
            condition=[condition.condition() for condition in form.conditions] or None,
            channel=channel,
        )
    except WrongExpectedVersion as error:
        problem = problem_of(error)
        if is_in_header:
            problem.status = 412
        raise problem from error
    except ChannelMismatch as error:
        raise _hidden(call.principal, error) from error
    return answer(
        wire.append_answer(result),
        200 if result.idempotent else 201,
        {"ETag": f'"{result.version}"'},
    )


@route(
    "POST",
    "/append",
    "streams",
    body=wire.AppendManyForm,
    answer=list[wire.AppendAnswer],
    status=201,
    problems=(410,),
    example={
        "appends": [
            {"stream": "order-17", "expected": "any", "events": [{"type": "OrderPaid"}]},
            {"stream": "bill-17", "expected": "any", "events": [{"type": "BillSent"}]},
        ]
    },
    links=(
        Link("read_stream", {"stream": "$response.body#/0/stream"}),
        Link("show_stream", {"stream": "$response.body#/0/stream"}),
    ),
)
async def append_many(call: Call[Any, wire.AppendManyForm]) -> Response:
    """Append events to several streams, all or none."""
    _check_conditions(call.principal, call.body.conditions)
    appends = [
        StreamAppend(
            part.stream,
            [event.event() for event in part.events],
            wire.expected_of(part.expected),
            channel=_channel(call.principal, part.stream, part.channel),
        )
        for part in call.body.appends
    ]
    await call.request.app.state.inline.check(
        event.type for part in call.body.appends for event in part.events
    )
    conditions = [condition.condition() for condition in call.body.conditions]
    try:
        results = await call.store.append_many(appends, condition=conditions or None)
    except ChannelMismatch as error:
        raise _hidden(call.principal, error) from error
    is_old = all(result.idempotent for result in results)
    return answer([wire.append_answer(result) for result in results], 200 if is_old else 201)


@route(
    "GET",
    "/streams/{stream}/events",
    "streams",
    query=Part,
    answer=wire.Page,
    media_types=(NDJSON, cloudevents.BATCH),
    problems=(410,),
    links=(Link("show_stream", {"stream": "$response.body#/events/0/stream"}),),
)
async def read_stream(call: Call[Part, None]) -> Response:
    """Read a stream, in order of version.

    With `Accept: application/x-ndjson` the answer has one event per line, and no largest page.
    With `Accept: application/cloudevents-batch+json` it has CloudEvents, and the next page is in
    `Link`.
    """
    name, part = call.path["stream"], call.query
    await _check_readable(call.principal, name, call.store)
    size = page_size(call, part.limit)
    options = StreamReadOptions(
        from_version=int(part.from_version or 0),
        to_version=None if part.to_version is None else int(part.to_version),
        backwards=part.backwards,
        limit=size,
        must_exist=True,
        recorded_time=RecordedTimeRange(parameters.as_of(part.as_of)),
        valid_time=ValidTimeRange(
            parameters.moment("valid_at", part.valid_at),
            parameters.interval("valid_between", part.valid_between),
        ),
        type_names=part.types or None,
    )
    reading = stream_reading(call.store._append_settings.codec, name, options)
    events = pages_async(call.store._engine, reading)
    if call.accepts(NDJSON):
        return await streamed(events, wire.lines)
    found = [event async for event in events]
    following: dict[str, int | str] | None = None
    if len(found) == size and options.valid_time.is_everything:
        last = found[-1].version
        if not part.backwards:
            following = {"from_version": last + 1}
        elif last > 0:
            following = {"to_version": last - 1}
    return page(call, found, following)


@route(
    "GET",
    "/streams",
    "streams",
    query=StreamFilter,
    answer=wire.StreamPage,
    media_types=(NDJSON,),
    links=(
        Link("read_stream", {"stream": "$response.body#/streams/0/stream"}),
        Link("show_stream", {"stream": "$response.body#/streams/0/stream"}),
        Link("list_streams", {"after": "$response.body#/streams/0/stream"}),
    ),
)
async def list_streams(call: Call[StreamFilter, None]) -> Response:
    """List the streams in order of name.

    With `Accept: application/x-ndjson` the answer has one stream per line, and no largest page.
    """
    selected = call.query
    size = page_size(call, selected.limit)
    streams = _in_order(
        [
            pages_async(
                call.store._engine,
                StreamsReading(
                    channel=part.channel,
                    prefix=part.stream_prefix,
                    after=selected.after,
                    page=min(size or LARGEST_PAGE, LARGEST_PAGE),
                ),
            )
            for part in _readable_parts(call.principal, selected)
        ],
        size,
    )
    if call.accepts(NDJSON):
        return await streamed(streams, _stream_lines)
    found = [stream async for stream in streams]
    links = links_of(call, {"after": found[-1].stream} if len(found) == size else None)
    return answer(
        wire.StreamPage([wire.stream_answer(stream) for stream in found], links),
        200,
        link_header(links),
    )


@route(
    "GET",
    "/streams/{stream}",
    "streams",
    answer=wire.StreamAnswer,
    answer_headers=_ETAG_OF,
    links=(_READ, _CLOSE),
)
async def show_stream(call: Call[Any, None]) -> Response:
    """Show a stream: its channel, version and times."""
    name = call.path["stream"]
    found = await call.store.stream(name)
    if found is None or not call.principal.may(Verb.READ, name, found.channel):
        raise StreamNotFound(name)
    return answer(wire.stream_answer(found), 200, {"ETag": f'"{found.version}"'})


@route(
    "POST",
    "/streams/{stream}/close",
    "streams",
    body=CloseForm,
    answer=wire.StreamAnswer,
    example={"expected": "any", "reason": "delivered"},
    links=(_READ, _REOPEN, _ARCHIVE),
)
async def close_stream(call: Call[Any, CloseForm]) -> Response:
    """Close a stream: it takes no new events until it is reopened."""
    name = await _manageable(call)
    expected = wire.expected_of(call.body.expected)
    closed = await call.store.close_stream(name, expected=expected, reason=call.body.reason)
    return answer(wire.stream_answer(closed))


@route(
    "POST",
    "/streams/{stream}/reopen",
    "streams",
    body=Reason,
    answer=wire.StreamAnswer,
    example={"reason": "a complaint"},
    links=(_READ, _CLOSE),
)
async def reopen_stream(call: Call[Any, Reason]) -> Response:
    """Reopen a closed stream."""
    name = await _manageable(call)
    return answer(wire.stream_answer(await call.store.reopen_stream(name, reason=call.body.reason)))


@route(
    "POST",
    "/streams/{stream}/archive",
    "streams",
    body=Reason,
    answer=wire.StreamAnswer,
    example={"reason": "older than a year"},
    links=(_READ, _REOPEN),
)
async def archive_stream(call: Call[Any, Reason]) -> Response:
    """Archive the events of a closed stream."""
    name = await _manageable(call)
    return answer(
        wire.stream_answer(await call.store.archive_stream(name, reason=call.body.reason))
    )


@route(
    "POST",
    "/streams/{stream}/erase",
    "streams",
    body=EraseForm,
    answer=wire.StreamAnswer,
    example={"reason": "asked by the customer"},
)
async def erase_stream(call: Call[Any, EraseForm]) -> Response:
    """Erase the data and metadata of a stream's events permanently (GDPR)."""
    name = await _manageable(call)
    return answer(wire.stream_answer(await call.store.erase_stream(name, reason=call.body.reason)))


@route("GET", "/streams/{stream}/changes", "streams", answer=list[ChangeAnswer])
async def list_changes(call: Call[Any, None]) -> Response:
    """List who closed, reopened, archived or erased a stream, when and why."""
    name = call.path["stream"]
    await _check_readable(call.principal, name, call.store)
    return answer(
        [
            ChangeAnswer(
                found.operation,
                None if found.events is None else str(found.events),
                found.changed_by,
                found.changed_at,
                found.reason,
            )
            for found in await call.store.stream_changes(name)
        ]
    )


routes = [
    append,
    append_many,
    read_stream,
    list_streams,
    show_stream,
    close_stream,
    reopen_stream,
    archive_stream,
    erase_stream,
    list_changes,
]


def _readable_parts(principal: Principal, selected: StreamFilter) -> Sequence[QueryItem]:
    """Return the parts of the list that a principal may read: the database is asked for these."""
    wanted = QueryItem(channel=selected.channel, stream_prefix=selected.prefix)
    narrowed = principal.narrow(Verb.READ, of_items([wanted]))
    if narrowed is None:
        raise forbidden(f"{principal.name} may not read any of these streams")
    return narrowed.items


async def _in_order(
    lists: Sequence[AsyncIterator[StreamInfo]], limit: int | None
) -> AsyncIterator[StreamInfo]:
    """Merge lists of streams in order of name, each stream once."""
    waiting: list[tuple[str, int, StreamInfo]] = []

    async def take(place: int) -> None:
        found = await anext(lists[place], None)
        if found is not None:
            heapq.heappush(waiting, (found.stream, place, found))

    for place in range(len(lists)):
        await take(place)
    last = None
    while waiting and limit != 0:
        name, place, found = heapq.heappop(waiting)
        await take(place)
        if name != last:
            yield found
            last = name
            limit = None if limit is None else limit - 1


def _stream_lines(streams: list[StreamInfo]) -> bytes:
    return wire.lines_of(map(wire.stream_answer, streams))


async def _check_readable(principal: Principal, name: str, store: AsyncEventStore) -> None:
    channels = principal.channels(Verb.READ, name)
    if channels is None:
        return
    if not channels:
        raise forbidden(f"{principal.name} may not read stream {name!r}")
    found = await store.stream(name)
    # A stream of another channel looks like one that does not exist.
    if found is None or found.channel not in channels:
        raise StreamNotFound(name)


async def _manageable(call: Call[Any, Any]) -> str:
    """Return the name of the stream, which the principal may manage."""
    name = call.path["stream"]
    channels = call.principal.channels(Verb.MANAGE, name)
    if channels is not None:
        found = await call.store.stream(name)
        if found is None or found.channel not in channels:
            raise forbidden(f"{call.principal.name} may not manage stream {name!r}")
    return name


def _channel(principal: Principal, name: str, given: str | None) -> str | None:
    """Return the channel to append with: the store refuses a stream of another one."""
    channels = principal.channels(Verb.APPEND, name)
    if channels is None:
        return given
    wanted = given or name.partition("-")[0]
    if given is None and wanted not in channels and len(channels) == 1:
        return next(iter(channels))
    if wanted not in channels:
        raise forbidden(f"{principal.name} may not append to stream {name!r} of channel {wanted!r}")
    return wanted


def _hidden(principal: Principal, error: ChannelMismatch) -> Exception:
    """Tell about another channel only those who may know it."""
    if principal.may_everywhere(Verb.READ):
        return error
    return forbidden(f"{principal.name} may not append to this stream: it is of another channel")


def _check_conditions(principal: Principal, conditions: list[wire.ConditionForm]) -> None:
    for condition in conditions:
        if not principal.covers(Verb.READ, wire.query_of(condition.query)):
            raise forbidden(
                f"a condition tells whether events exist: {principal.name} may not read all that"
                " this one asks for"
            )


def _expected(
    call: Call[Any, Any], given: str | int | None, *, default: ExpectedVersion | None = None
) -> tuple[int | ExpectedVersion, bool]:
    """Return the expected version, and whether a header has it."""
    match, none_match = call.header("if-match"), call.header("if-none-match")
    if sum(each is not None for each in (match, none_match, given)) > 1:
        raise InvalidInput("expected must stand in one place: the body, If-Match or If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise InvalidInput(f"If-None-Match must be *, not {none_match!r}")
        return NO_STREAM, True
    if match is not None:
        if match.strip() == "*":
            return STREAM_EXISTS, True
        found = _ETAG.fullmatch(match.strip())
        if found is None:
            raise InvalidInput(f'If-Match must be a version in quotes, such as "4", not {match!r}')
        return int(found.group(1)), True
    if given is None and default is not None:
        return default, False
    if given is None:
        raise InvalidInput(
            "expected is missing: give the version that the stream must have, no-stream,"
            " stream-exists or any"
        )
    return wire.expected_of(given), False
