"""The routes for streams: append, read, information, life cycle."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import Response, StreamingResponse

from indelible import AsyncEventStore, InvalidInput, StreamAppend, StreamNotFound
from indelible.access import Principal, Verb
from indelible.errors import ChannelMismatch, WrongExpectedVersion
from indelible.events import NO_STREAM, STREAM_EXISTS, ExpectedVersion, RecordedEvent
from indelible.streams.info import StreamsReading
from indelible.streams.iterators_async import pages_async
from indelible.streams.read_options import StreamReadOptions
from indelible.streams.read_stream import stream_reading
from indelible.streams.recorded_time import RecordedTimeRange
from indelible.streams.valid_time import ValidTimeRange

from . import parameters, wire
from .problems import forbidden, problem_of
from .routing import NDJSON, Call, answer, route

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000
_ETAG = re.compile(r'"([0-9]{1,19})"')
_CHUNK = 500
"""Events in a part of a streamed answer."""

Limit = Annotated[
    int, msgspec.Meta(ge=1, description="At most so many events; a page has 1,000 at most.")
]


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

    channel: str | None = None
    prefix: str | None = None
    after: Annotated[str, msgspec.Meta(description="Only names after this one.")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, description="At most so many.")] | None = None


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
    answer=wire.AppendAnswer,
    status=201,
)
async def append(call: Call[Any, wire.AppendForm]) -> Response:
    """Append events to the end of a stream, all or none.

    The expected version stands in the body, or in `If-Match: "4"` or `If-None-Match: *`. A repeated
    request with the same event ids stores nothing twice. It gets the first result, with status 200.
    """
    name, form = call.path["stream"], call.body
    expected, is_in_header = _expected(call, form.expected)
    _check_conditions(call.principal, form.conditions)
    channel = _channel(call.principal, name, form.channel)
    await _check_inline(call.store, form.events)
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
)
async def append_many(call: Call[Any, wire.AppendManyForm]) -> Response:
    """Append events to several streams, all or none."""
    _check_conditions(call.principal, call.body.conditions)
    appends = []
    for part in call.body.appends:
        await _check_inline(call.store, part.events)
        appends.append(
            StreamAppend(
                part.stream,
                [event.event() for event in part.events],
                wire.expected_of(part.expected),
                channel=_channel(call.principal, part.stream, part.channel),
            )
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
    media_types=(NDJSON,),
)
async def read_stream(call: Call[Part, None]) -> Response:
    """Read a stream, in order of version.

    With `Accept: application/x-ndjson` the answer has one event per line, and no largest page.
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
        return await streamed(events)
    found = [event async for event in events]
    following: dict[str, int] | None = None
    if len(found) == size and options.valid_time.is_everything:
        last = found[-1].version
        if not part.backwards:
            following = {"from_version": last + 1}
        elif last > 0:
            following = {"to_version": last - 1}
    return page(call, found, following)


@route("GET", "/streams", "streams", query=StreamFilter, media_types=(NDJSON,))
async def list_streams(call: Call[StreamFilter, None]) -> Response:
    """List the streams in order of name, one per line."""
    wanted = call.query
    reading = StreamsReading(channel=wanted.channel, prefix=wanted.prefix, after=wanted.after)

    async def parts() -> AsyncIterator[bytes]:
        left = wanted.limit
        async for found in pages_async(call.store._engine, reading):
            if call.principal.may(Verb.READ, found.stream, found.channel):
                yield wire.line(wire.stream_answer(found))
                left = None if left is None else left - 1
                if left == 0:
                    return

    return StreamingResponse(parts(), media_type=NDJSON)


@route("GET", "/streams/{stream}", "streams", answer=wire.StreamAnswer)
async def show_stream(call: Call[Any, None]) -> Response:
    """Show a stream: its channel, version and times."""
    name = call.path["stream"]
    found = await call.store.stream(name)
    if found is None or not call.principal.may(Verb.READ, name, found.channel):
        raise StreamNotFound(name)
    return answer(wire.stream_answer(found))


@route("POST", "/streams/{stream}/close", "streams", body=CloseForm, answer=wire.StreamAnswer)
async def close_stream(call: Call[Any, CloseForm]) -> Response:
    """Close a stream: it takes no new events until it is reopened."""
    name = await _manageable(call)
    expected = wire.expected_of(call.body.expected)
    closed = await call.store.close_stream(name, expected=expected, reason=call.body.reason)
    return answer(wire.stream_answer(closed))


@route("POST", "/streams/{stream}/reopen", "streams", body=Reason, answer=wire.StreamAnswer)
async def reopen_stream(call: Call[Any, Reason]) -> Response:
    """Reopen a closed stream."""
    name = await _manageable(call)
    return answer(wire.stream_answer(await call.store.reopen_stream(name, reason=call.body.reason)))


@route("POST", "/streams/{stream}/archive", "streams", body=Reason, answer=wire.StreamAnswer)
async def archive_stream(call: Call[Any, Reason]) -> Response:
    """Archive the events of a closed stream."""
    name = await _manageable(call)
    return answer(
        wire.stream_answer(await call.store.archive_stream(name, reason=call.body.reason))
    )


@route("POST", "/streams/{stream}/erase", "streams", body=EraseForm, answer=wire.StreamAnswer)
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


def page_size(call: Call[Any, None], limit: int | None) -> int | None:
    """Return how many events an answer may have.

    Raises:
        InvalidInput: a page would be too large.
    """
    if call.accepts(NDJSON):
        return limit
    if limit is not None and limit > LARGEST_PAGE:
        raise InvalidInput(
            f"limit must be at most {LARGEST_PAGE:,} for a page, not {limit:,}: follow the links,"
            f" or ask for all events with Accept: {NDJSON}"
        )
    return limit or DEFAULT_PAGE


async def streamed(events: AsyncIterator[RecordedEvent]) -> Response:
    """Answer with one event per line, in constant memory.

    The first part is read before, so that an error of the request has a status of its own.
    """
    first = await _taken(events)

    async def parts() -> AsyncIterator[bytes]:
        part = first
        while part:
            yield wire.lines(part)
            part = await _taken(events)

    return StreamingResponse(parts(), media_type=NDJSON)


def page(
    call: Call[Any, None], events: list[RecordedEvent], following: dict[str, int] | None
) -> Response:
    """Answer with a page of events.

    Args:
        call: the request.
        events: the events.
        following: the parameters that differ on the next page; None for the last one.
    """
    links = wire.Links()
    if following is not None:
        given = call.request.query_params.multi_items()
        kept = [(key, value) for key, value in given if key not in following]
        links.next = f"?{urlencode([*kept, *following.items()], quote_via=quote)}"
    return answer(wire.Page([wire.event_answer(event) for event in events], links))


async def _taken(events: AsyncIterator[RecordedEvent]) -> list[RecordedEvent]:
    part: list[RecordedEvent] = []
    async for event in events:
        part.append(event)
        if len(part) == _CHUNK:
            break
    return part


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


def _expected(call: Call[Any, Any], given: str | int | None) -> tuple[int | ExpectedVersion, bool]:
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
    if given is None:
        raise InvalidInput(
            "expected is missing: give the version that the stream must have, no-stream,"
            " stream-exists or any"
        )
    return wire.expected_of(given), False


async def _check_inline(store: AsyncEventStore, events: list[wire.EventToAppend]) -> None:
    """Refuse events of inline projections, whose code the server does not have."""
    types = {event.type for event in events}
    for build in await store.projections():
        handled = types if build.types is None else types & set(build.types)
        if build.serves_inline and handled:
            raise InvalidInput(
                f"inline projection {build.name!r} handles {min(handled)!r} in the transaction of"
                " the append, and the server does not have its code: append it in the program that"
                " connects with connect(inline=[…])"
            )
