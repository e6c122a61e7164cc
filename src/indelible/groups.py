"""Plans: consumer groups as an operator sees them: create, look, reset, replay, delete."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

from .codec import Codec
from .errors import GroupExists, GroupNotFound, InvalidInput
from .moments import check_moment
from .names import check_name
from .plan import Call, Plan
from .query import Query
from .read import check_count, check_query, head, items_json
from .spans import position_before

GroupStart = int | datetime | Literal["beginning", "head"]
"""Where a group begins: after a position, with the first event recorded at a time or later, with
the first event of all, or with what comes from now on."""

State = Literal["running", "retry", "queued", "parked"]

_COUNTED = 100_000
"""How many positions are looked through to count a lag; beyond, positions stand for events."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What a consumer group reads, and how.

    Attributes:
        query: which events; None for all.
        partition_by: what is kept in order: `"stream"`, `"tag:KEY"` or `"metadata:FIELD"`.
        max_attempts: after how many attempts an event is parked.
        retry_after: seconds that the first retry waits; each later one waits twice as long.
        lease: seconds without a sign of life after which a worker loses what it held.
        hold_back: whether the later events of a stream wait behind a parked one.
        due: whether each event is handed out when its valid time comes.
    """

    query: Query | None = None
    partition_by: str = "stream"
    max_attempts: int = 5
    retry_after: float = 1.0
    lease: float = 10.0
    hold_back: bool = True
    due: bool = False


@dataclass(frozen=True, slots=True)
class GroupWorker:
    """A worker of a group.

    Attributes:
        token: its fencing token: higher than those of all workers before it.
        name: its host and process.
        slices: how many of the 1,024 slices it holds.
        joined_at: when it joined.
        expires_at: when it is taken for dead, unless it gives a sign of life before.
    """

    token: int
    name: str
    slices: int
    joined_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """How a consumer group stands.

    Attributes:
        name: its name.
        settings: what it reads, and how.
        start: the position that it began after.
        checkpoint: below the lowest position that is not finished, counting what is in flight,
            retried or replayed; parked events, and what waits behind them, are set aside. In a
            group that waits for valid times, so is what is not due yet.
        lag_events: how many events that match, and are due, are not finished, but for what is set
            aside; where more than 100,000 positions are yet to be looked at, how many positions.
        lag_seconds: how long ago the first of them was recorded, or became due; 0 where there is
            none.
        waiting: how many events wait for their valid time; 0 in a group that does not wait for
            it. Counted up to 100,000.
        retrying: how many events wait to be tried again.
        queued: how many wait behind an earlier one of their stream.
        parked: how many wait for an operator.
        workers: who works for it.
        created_at: when it was created.
    """

    name: str
    settings: GroupSettings
    start: int
    checkpoint: int
    lag_events: int
    lag_seconds: float
    waiting: int
    retrying: int
    queued: int
    parked: int
    workers: tuple[GroupWorker, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that a group has set aside.

    Attributes:
        position: the event's position.
        stream: its stream.
        version: its version.
        type: its type.
        key: what it is kept in order with: its stream, or a tag or field of its metadata.
        attempts: how often it was handed to a handler.
        reason: why it was parked.
        error: the text of the last error.
        parked_at: when it was parked.
        queued: how many later events wait behind it.
    """

    position: int
    stream: str
    version: int
    type: str
    key: str
    attempts: int
    reason: str
    error: str | None
    parked_at: datetime
    queued: int


def create(
    name: str, settings: GroupSettings, *, start: GroupStart, exists: Literal["raise", "change"]
) -> Plan[bool]:
    """Create a group, or change the settings of the one that is there."""
    check_name("group", name)
    if exists not in ("raise", "change"):
        raise InvalidInput(f'exists must be "raise" or "change", not {exists!r}')
    parameters = _settings_parameters(settings)
    ((created,),) = yield Call(
        "group_create", {"group": name, **(yield from _start(start)), **parameters}
    )
    if created:
        return True
    found = yield from settings_of(name)
    if found == settings:
        return False
    if exists == "raise":
        raise GroupExists(name)
    yield Call("group_change", {"group": name, **parameters})
    return False


def settings_of(name: str) -> Plan[GroupSettings]:
    """What a group reads, and how."""
    rows = yield Call("group", {"group": check_name("group", name)})
    if not rows:
        yield from not_found(name)
    return _settings(rows[0])


def info(codec: Codec, name: str) -> Plan[GroupInfo]:
    """How a group stands."""
    rows = yield Call("group", {"group": check_name("group", name)})
    if not rows:
        yield from not_found(name)
    row = rows[0]
    settings = _settings(row)
    (group_id, start, created_at, checkpoint, place, retrying, queued, parked) = row[8:]
    settled = yield from head()
    matching = {
        "items": items_json(settings.query and codec.upcasting.stored(settings.query)),
        "head": settled,
        "counted": _COUNTED,
    }
    ((lag_events, lag_seconds),) = yield Call(
        "group_lag",
        {
            **matching,
            "group_id": group_id,
            "after": place,
            "due": settings.due,
            "hold_back": settings.hold_back,
        },
        prepared=False,
    )
    waiting = 0
    if settings.due:
        ((waiting,),) = yield Call("group_waiting", matching, prepared=False)
    workers = yield Call("group_workers", {"group_id": group_id})
    return GroupInfo(
        name=row[0],
        settings=settings,
        start=start,
        checkpoint=checkpoint,
        lag_events=lag_events,
        lag_seconds=lag_seconds,
        waiting=waiting,
        retrying=retrying,
        queued=queued,
        parked=parked,
        workers=tuple(GroupWorker(*worker) for worker in workers),
        created_at=created_at,
    )


def names() -> Plan[list[str]]:
    """What groups there are, in order of name."""
    return [name for (name,) in (yield Call("groups"))]


def infos(codec: Codec) -> Plan[list[GroupInfo]]:
    """How all groups stand, in order of name."""
    found = []
    for name in (yield from names()):
        try:
            found.append((yield from info(codec, name)))
        except GroupNotFound:
            continue  # deleted since
    return found


def checkpoint(name: str) -> Plan[int]:
    """Up to where a group is done."""
    rows = yield Call("group_checkpoint", {"group": check_name("group", name)})
    if not rows:
        yield from not_found(name)
    return int(rows[0][0])


def reset(name: str, to: GroupStart) -> Plan[int]:
    """Send a group to another position."""
    check_name("group", name)
    ((position,),) = yield Call("group_reset", {"group": name, **(yield from _start(to))})
    if position is None:
        yield from not_found(name)
    return int(position)


def delete(name: str) -> Plan[None]:
    """Delete a group."""
    ((deleted,),) = yield Call("group_delete", {"group": check_name("group", name)})
    if not deleted:
        yield from not_found(name)


def parked(name: str, *, key: str | None, limit: int | None) -> Plan[list[ParkedEvent]]:
    """The events that a group has set aside, in order of position."""
    yield from settings_of(name)
    rows = yield Call(
        "group_parked",
        {
            "group": name,
            "key": key,
            "limit": 2**62 if limit is None else check_count("limit", limit),
        },
    )
    return [ParkedEvent(*row) for row in rows]


def act_on_parked(
    name: str, action: Literal["replay", "discard"], *, position: int | None, key: str | None
) -> Plan[int]:
    """Have parked events tried again, or give them up; return how many."""
    yield from settings_of(name)
    ((count,),) = yield Call(
        f"group_{action}",
        {
            "group": name,
            "position": None if position is None else check_count("position", position),
            "key": key,
        },
    )
    return int(count)


def not_found(name: str) -> Plan[NoReturn]:
    """Raise that there is no such group, naming those that there are."""
    raise GroupNotFound(name, (yield from names()))


def _start(start: object) -> Plan[dict[str, object]]:
    after: int | None
    since = None
    match start:
        case "beginning":
            after = 0
        case "head":
            after = None
        case datetime():
            since = check_moment("start", start)
            after = yield from position_before(since)
        case int() if not isinstance(start, bool) and 0 <= start < 2**63:
            after = start
        case _:
            raise InvalidInput(
                'a group begins at "beginning", at "head", after a position or at a moment, not'
                f" at {start!r}"
            )
    return {"after": after, "since": since}


def _settings_parameters(settings: GroupSettings) -> dict[str, object]:
    kind, _, field = settings.partition_by.partition(":")
    if settings.partition_by != "stream" and (kind not in ("tag", "metadata") or not field):
        raise InvalidInput(
            'partition_by must be "stream", "tag:KEY" or "metadata:FIELD", not'
            f" {settings.partition_by!r}"
        )
    attempts = settings.max_attempts
    if not _is_number(attempts) or attempts != int(attempts) or not 0 < attempts < 10_000:
        raise InvalidInput(f"max_attempts must be a whole number over 0, not {attempts!r}")
    for what, value, least in (
        ("retry_after", settings.retry_after, 0),
        ("lease", settings.lease, 0.2),
    ):
        if not _is_number(value) or not least <= value < 1e6:
            raise InvalidInput(f"{what} must be {least} seconds or more, not {value!r}")
    return {
        "items": items_json(check_query(settings.query)),
        "partition_by": None if settings.partition_by == "stream" else settings.partition_by,
        "max_attempts": attempts,
        "retry_after": float(settings.retry_after),
        "lease": float(settings.lease),
        "hold_back": bool(settings.hold_back),
        "due": bool(settings.due),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _settings(row: tuple[Any, ...]) -> GroupSettings:
    _, query, partition_by, max_attempts, retry_after, lease, hold_back, due = row[:8]
    return GroupSettings(
        query=None if query is None else _query(json.loads(query)),
        partition_by=partition_by or "stream",
        max_attempts=max_attempts,
        retry_after=retry_after,
        lease=lease,
        hold_back=hold_back,
        due=due,
    )


def _query(items: list[dict[str, Any]]) -> Query:
    first, *rest = [
        Query(
            types=item["types"] or (),
            tags=item["tags"] or (),
            channel=item["channel"],
            stream_prefix=item["stream_prefix"],
        )
        for item in items
    ]
    for query in rest:
        first |= query
    return first
