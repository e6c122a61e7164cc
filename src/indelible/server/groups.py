"""The routes for consumer groups: create them, look at them, and administer them."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from indelible import Checkpoint, Query
from indelible.access import Verb
from indelible.consumer_groups import AsyncGroup, GroupInfo, ParkedEvent, admin_operations
from indelible.consumer_groups.types import GroupStart
from indelible.errors import GroupNotFound
from indelible.streams.recorded_time import check_checkpoint

from . import parameters, wire
from .problems import Problem, forbidden
from .routing import Call, answer, route
from .waiting import unless_stopped

_log = logging.getLogger("indelible.server")

_SEEING = (Verb.READ, Verb.CONSUME, Verb.MANAGE)

Waiting = Annotated[
    float, msgspec.Meta(ge=0, le=60, description="Seconds to wait at most; a long poll.")
]
StartText = Annotated[
    str,
    msgspec.Meta(
        description="beginning, head, a position, a checkpoint, or a time in ISO 8601."
        " The group begins after it; with the first event recorded at the time or later."
    ),
]


class GroupForm(wire.Fields):
    """The query and the settings of a group, as for `Group.create`."""

    query: list[wire.QueryForm] | None = None
    start: StartText = "beginning"
    partition_by: str = "stream"
    max_attempts: int = 5
    retry_after: float = 1.0
    lease: float = 10.0
    park_blocks_stream: bool = True
    deliver_when_valid: bool = False
    exists: Annotated[
        Literal["raise", "change"],
        msgspec.Meta(description="What to do if the group exists with other settings."),
    ] = "raise"


class WorkerAnswer(msgspec.Struct):
    """A worker of a group."""

    token: wire.Number
    name: str
    slices: int
    joined_at: datetime
    expires_at: datetime


class GroupAnswer(msgspec.Struct):
    """A group: its settings, its progress and its workers."""

    name: str
    query: list[wire.QueryForm] | None
    partition_by: str
    max_attempts: int
    retry_after: float
    lease: float
    park_blocks_stream: bool
    deliver_when_valid: bool
    start: wire.Number
    checkpoint: wire.Number
    lag_events: wire.Number
    lag_seconds: float
    waiting: wire.Number
    retrying: wire.Number
    queued: wire.Number
    parked: wire.Number
    workers: list[WorkerAnswer]
    created_at: datetime


class ResetForm(wire.Fields):
    """Where a group is moved to."""

    to: StartText


class PositionAnswer(msgspec.Struct):
    """A position."""

    position: wire.Number


class ParkedPart(msgspec.Struct, kw_only=True):
    """The parameters that select parked events."""

    stream: (
        Annotated[str, msgspec.Meta(description="Of this stream, or other partition key.")] | None
    ) = None
    after: wire.Number | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, description="At most so many events.")] | None = None


class ParkedAnswer(msgspec.Struct):
    """A parked event (dead letter)."""

    position: wire.Number
    stream: str
    version: wire.Number
    type: str
    key: str
    attempts: int
    reason: str
    error: str | None
    parked_at: datetime
    queued: wire.Number


class ParkedForm(wire.Fields):
    """Which parked events: one, those of a stream, or all."""

    position: wire.Number | None = None
    stream: str | None = None


class CountAnswer(msgspec.Struct):
    """How many events were replayed or discarded."""

    events: wire.Number


class WaitForm(wire.Fields):
    """What to wait for."""

    position: wire.Number
    timeout: Waiting = 10.0


@route("GET", "/groups", "groups", answer=list[GroupAnswer])
async def list_groups(call: Call[Any, None]) -> Response:
    """List the consumer groups whose events one may read, consume or manage."""
    found = await call.store.groups()
    return answer([_group_answer(info) for info in found if may(call, info.settings.query)])


@route(
    "PUT",
    "/groups/{group}",
    "groups",
    body=GroupForm,
    answer=GroupAnswer,
    status=201,
    problems=(410,),
    example={"query": [{"channel": "order"}]},
)
async def create_group(call: Call[Any, GroupForm]) -> Response:
    """Create a consumer group: a durable subscription that several workers share.

    Creating it again with the same settings changes nothing. The status is then 200.
    """
    form, name = call.body, call.path["group"]
    query = None if form.query is None else wire.query_of(form.query)
    if not may(call, query, Verb.MANAGE):
        raise _lacks(call, name, Verb.MANAGE)
    group = call.store.group(name)
    if not call.principal.may_everywhere(Verb.MANAGE):
        with suppress(GroupNotFound):
            existing = await call.store._engine.run(admin_operations.settings_of(name))
            if not may(call, existing.query, Verb.MANAGE):
                raise _lacks(call, name, Verb.MANAGE)
    is_new = await group.create(
        query,
        start=await start_of(call, "start", form.start),
        partition_by=form.partition_by,
        max_attempts=form.max_attempts,
        retry_after=form.retry_after,
        lease=form.lease,
        park_blocks_stream=form.park_blocks_stream,
        deliver_when_valid=form.deliver_when_valid,
        exists=form.exists,
    )
    return answer(_group_answer(await group.info()), 201 if is_new else 200)


@route("GET", "/groups/{group}", "groups", answer=GroupAnswer)
async def show_group(call: Call[Any, None]) -> Response:
    """Show a consumer group: settings, checkpoint, lag, workers, retries and parked events."""
    group = await allowed(call, *_SEEING)
    return answer(_group_answer(await group.info()))


@route("DELETE", "/groups/{group}", "groups", status=204)
async def delete_group(call: Call[Any, None]) -> Response:
    """Delete a consumer group with its progress. The events of the log stay."""
    await (await allowed(call, Verb.MANAGE)).delete()
    return Response(status_code=204)


@route(
    "POST",
    "/groups/{group}/reset",
    "groups",
    body=ResetForm,
    answer=PositionAnswer,
    problems=(410,),
    example={"to": "beginning"},
)
async def reset_group(call: Call[Any, ResetForm]) -> Response:
    """Move a consumer group back or forward. All its leases end."""
    group = await allowed(call, Verb.MANAGE)
    position = await group.reset(await start_of(call, "to", call.body.to))
    return answer(PositionAnswer(str(position)))


@route("GET", "/groups/{group}/parked", "groups", query=ParkedPart, answer=list[ParkedAnswer])
async def list_parked(call: Call[ParkedPart, None]) -> Response:
    """List the parked events (dead letters) of a group, in order of position."""
    group = await allowed(call, *_SEEING)
    query = call.query
    found = await group.parked(stream=query.stream, after=int(query.after or 0), limit=query.limit)
    return answer([_parked_answer(event) for event in found])


@route(
    "POST",
    "/groups/{group}/replay",
    "groups",
    body=ParkedForm,
    answer=CountAnswer,
    example={"stream": "order-17"},
)
async def replay_parked(call: Call[Any, ParkedForm]) -> Response:
    """Retry parked events, with the attempts counted from 1: one, those of a stream, or all."""
    group = await allowed(call, Verb.MANAGE)
    position, stream = _position(call.body.position), call.body.stream
    return answer(CountAnswer(str(await group.replay(position=position, stream=stream))))


@route(
    "POST",
    "/groups/{group}/discard",
    "groups",
    body=ParkedForm,
    answer=CountAnswer,
    example={"stream": "order-17"},
)
async def discard_parked(call: Call[Any, ParkedForm]) -> Response:
    """Discard parked events: one, those of a stream, or all."""
    group = await allowed(call, Verb.MANAGE)
    position, stream = _position(call.body.position), call.body.stream
    return answer(CountAnswer(str(await group.discard(position=position, stream=stream))))


@route(
    "POST",
    "/groups/{group}/wait",
    "groups",
    body=WaitForm,
    answer=PositionAnswer,
    example={"position": "0", "timeout": 0},
)
async def wait_for_group(call: Call[Any, WaitForm]) -> Response:
    """Wait until the checkpoint of a group reaches a position; answer with the checkpoint."""
    group = await allowed(call, *_SEEING)
    reached = await unless_stopped(
        call, group.wait_for(int(call.body.position), timeout=call.body.timeout)
    )
    return answer(PositionAnswer(str(reached)))


routes = [
    list_groups,
    create_group,
    show_group,
    delete_group,
    reset_group,
    list_parked,
    replay_parked,
    discard_parked,
    wait_for_group,
]


def may(call: Call[Any, Any], query: Query | None, *verbs: Verb) -> bool:
    """Return whether the principal may do one of the verbs with all events of a group."""
    return any(call.principal.covers(verb, query or Query()) for verb in verbs or _SEEING)


def _lacks(call: Call[Any, Any], name: str, *verbs: Verb) -> Problem:
    return forbidden(
        f"{call.principal.name} may not {' or '.join(verbs)} all events of group {name!r}"
    )


async def allowed(call: Call[Any, Any], *verbs: Verb) -> AsyncGroup[Any]:
    """Return the group, if the principal may do one of the verbs with all its events.

    Raises:
        GroupNotFound: it does not exist, or the principal may not even see it.
        Problem: the principal may see the group, and lacks the right.
    """
    return await allowed_group(call, call.path["group"], *verbs)


async def allowed_group(call: Call[Any, Any], name: str, *verbs: Verb) -> AsyncGroup[Any]:
    """Return a group by its name; see `allowed`."""
    group = call.store.group(name)
    if any(call.principal.may_everywhere(verb) for verb in verbs):
        return group
    try:
        settings = await call.store._engine.run(admin_operations.settings_of(group.name))
    except GroupNotFound:
        raise GroupNotFound(group.name) from None  # without the names of the others
    if may(call, settings.query, *verbs):
        return group
    raise _lacks(call, name, *verbs) if may(call, settings.query) else GroupNotFound(group.name)


async def start_of(call: Call[Any, Any], name: str, text: str) -> GroupStart:
    """Return where a group begins; see `StartText`.

    Raises:
        InvalidInput: the text names no place in the log.
    """
    match text:
        case "beginning":
            return "beginning"
        case "head":
            return "head"
    found = parameters.place(name, text)
    if isinstance(found, Checkpoint):
        await call.store._engine.run(check_checkpoint(found))
        return found.position
    return found


def _position(text: str | None) -> int | None:
    return None if text is None else int(text)


def _group_answer(info: GroupInfo) -> GroupAnswer:
    settings = info.settings
    return GroupAnswer(
        name=info.name,
        query=None if settings.query is None else _query_forms(settings.query),
        partition_by=settings.partition_by,
        max_attempts=settings.max_attempts,
        retry_after=settings.retry_after,
        lease=settings.lease,
        park_blocks_stream=settings.park_blocks_stream,
        deliver_when_valid=settings.deliver_when_valid,
        start=str(info.start),
        checkpoint=str(info.checkpoint),
        lag_events=str(info.lag_events),
        lag_seconds=info.lag_seconds,
        waiting=str(info.waiting),
        retrying=str(info.retrying),
        queued=str(info.queued),
        parked=str(info.parked),
        workers=[
            WorkerAnswer(
                str(worker.token), worker.name, worker.slices, worker.joined_at, worker.expires_at
            )
            for worker in info.workers
        ],
        created_at=info.created_at,
    )


def _query_forms(query: Query) -> list[wire.QueryForm]:
    return [
        wire.QueryForm(
            types=list(item.types),
            tags=list(item.tags),
            channel=item.channel,
            stream=item.stream,
            stream_prefix=item.stream_prefix,
        )
        for item in query.items
    ]


def _parked_answer(event: ParkedEvent) -> ParkedAnswer:
    return ParkedAnswer(
        position=str(event.position),
        stream=event.stream,
        version=str(event.version),
        type=event.type,
        key=event.key,
        attempts=event.attempts,
        reason=event.reason,
        error=event.error,
        parked_at=event.parked_at,
        queued=str(event.queued),
    )
