"""Create, inspect, change, reset and delete consumer groups: operations."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, NoReturn

from indelible.core.operation import Operation, Statement
from indelible.core.timestamps import validate_timestamp
from indelible.core.validation import is_integer, validate_integer, validate_name
from indelible.errors import GroupExists, GroupNotFound, InvalidInput
from indelible.serialization.codec import Codec
from indelible.streams.head import LAG_WINDOW, head
from indelible.streams.query_parameters import check_query, items_json, query_of
from indelible.streams.recorded_time import position_before

from .types import GroupInfo, GroupSettings, GroupStart, GroupWorker, ParkedEvent


def create(
    name: str, settings: GroupSettings, *, start: GroupStart, exists: Literal["raise", "change"]
) -> Operation[bool]:
    """Create a group, or change the settings of an existing one."""
    validate_name("group", name)
    if exists not in ("raise", "change"):
        raise InvalidInput(f'exists must be "raise" or "change", not {exists!r}')
    parameters = _settings_parameters(settings)
    ((created,),) = yield Statement(
        "consumer_groups.create", {"group": name, **(yield from _start(start)), **parameters}
    )
    if created:
        return True
    existing = yield from settings_of(name)
    if existing == settings:
        return False
    if exists == "raise":
        raise GroupExists(name)
    yield Statement("consumer_groups.update", {"group": name, **parameters})
    return False


def settings_of(name: str) -> Operation[GroupSettings]:
    """Return the settings of a group."""
    rows = yield Statement("consumer_groups.get", {"group": validate_name("group", name)})
    if not rows:
        yield from not_found(name)
    return _settings(rows[0])


def info(codec: Codec, name: str) -> Operation[GroupInfo]:
    """Return the status of a group."""
    rows = yield Statement("consumer_groups.get", {"group": validate_name("group", name)})
    if not rows:
        yield from not_found(name)
    row = rows[0]
    settings = _settings(row)
    (group_id, start, created_at, checkpoint, place, retrying, queued, parked) = row[8:]
    settled = yield from head()
    matching = {
        "items": items_json(settings.query and codec.upcasting.stored(settings.query)),
        "head": settled,
        "max_count": LAG_WINDOW,
    }
    ((lag_events, lag_seconds),) = yield Statement(
        "consumer_groups.lag",
        {
            **matching,
            "group_id": group_id,
            "after": place,
            "deliver_when_valid": settings.deliver_when_valid,
            "park_blocks_stream": settings.park_blocks_stream,
        },
        prepared=False,
    )
    waiting = 0
    if settings.deliver_when_valid:
        ((waiting,),) = yield Statement("consumer_groups.scheduled_count", matching, prepared=False)
    workers = yield Statement("consumer_groups.workers", {"group_id": group_id})
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


def names() -> Operation[list[str]]:
    """List the names of all groups, in order of name."""
    return [name for (name,) in (yield Statement("consumer_groups.list"))]


def infos(codec: Codec) -> Operation[list[GroupInfo]]:
    """Return the status of all groups, in order of name."""
    groups = []
    for name in (yield from names()):
        try:
            groups.append((yield from info(codec, name)))
        except GroupNotFound:
            continue  # deleted in the meantime
    return groups


def checkpoint(name: str) -> Operation[int]:
    """Return the checkpoint of a group."""
    rows = yield Statement("consumer_groups.checkpoint", {"group": validate_name("group", name)})
    if not rows:
        yield from not_found(name)
    return int(rows[0][0])


def reset(name: str, to: GroupStart) -> Operation[int]:
    """Move a group to another position, and return that position."""
    validate_name("group", name)
    ((position,),) = yield Statement(
        "consumer_groups.reset", {"group": name, **(yield from _start(to))}
    )
    if position is None:
        yield from not_found(name)
    return int(position)


def delete(name: str) -> Operation[None]:
    """Delete a group."""
    ((deleted,),) = yield Statement(
        "consumer_groups.delete", {"group": validate_name("group", name)}
    )
    if not deleted:
        yield from not_found(name)


def parked(
    name: str, *, key: str | None, after: int = 0, limit: int | None
) -> Operation[list[ParkedEvent]]:
    """List the parked events of a group, in order of position."""
    yield from settings_of(name)
    rows = yield Statement(
        "consumer_groups.parked",
        {
            "group": name,
            "key": key,
            "after": validate_integer("after", after),
            "limit": 2**62 if limit is None else validate_integer("limit", limit),
        },
    )
    return [ParkedEvent(*row) for row in rows]


def act_on_parked(
    name: str, action: Literal["replay", "discard"], *, position: int | None, key: str | None
) -> Operation[int]:
    """Replay or discard parked events, and return their number."""
    yield from settings_of(name)
    ((count,),) = yield Statement(
        "consumer_groups.replay" if action == "replay" else "consumer_groups.discard",
        {
            "group": name,
            "position": None if position is None else validate_integer("position", position),
            "key": key,
        },
    )
    return int(count)


def not_found(name: str) -> Operation[NoReturn]:
    """Raise GroupNotFound with the names of the existing groups."""
    raise GroupNotFound(name, (yield from names()))


def _start(start: object) -> Operation[dict[str, object]]:
    after: int | None
    since = None
    match start:
        case "beginning":
            after = 0
        case "head":
            after = None
        case datetime():
            since = validate_timestamp("start", start)
            after = yield from position_before(since)
        case int() if is_integer(start):
            after = start
        case _:
            raise InvalidInput(
                'the start of a group must be "beginning", "head", a position or a datetime, not'
                f" {start!r}"
            )
    return {"after": after, "since": since}


def _settings_parameters(settings: GroupSettings) -> dict[str, object]:
    kind, _, field = settings.partition_by.partition(":")
    if settings.partition_by != "stream" and (kind not in ("tag", "metadata") or not field):
        raise InvalidInput(
            'partition_by must be "stream", "tag:KEY" or "metadata:FIELD", not'
            f" {settings.partition_by!r}"
        )
    max_attempts = validate_integer("max_attempts", settings.max_attempts, 1, 9_999)
    for what, value, least in (
        ("retry_after", settings.retry_after, 0),
        ("lease", settings.lease, 0.2),
    ):
        if not _is_number(value) or not least <= value < 1e6:
            raise InvalidInput(
                f"{what} must be at least {least} and less than 1,000,000 seconds, not {value!r}"
            )
    return {
        "items": items_json(check_query(settings.query)),
        "partition_by": None if settings.partition_by == "stream" else settings.partition_by,
        "max_attempts": max_attempts,
        "retry_seconds": float(settings.retry_after),
        "lease_seconds": float(settings.lease),
        "park_blocks_stream": bool(settings.park_blocks_stream),
        "deliver_when_valid": bool(settings.deliver_when_valid),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _settings(row: tuple[Any, ...]) -> GroupSettings:
    (
        _,
        query,
        partition_by,
        max_attempts,
        retry_after,
        lease,
        park_blocks_stream,
        deliver_when_valid,
    ) = row[:8]
    return GroupSettings(
        query=None if query is None else query_of(json.loads(query)),
        partition_by=partition_by or "stream",
        max_attempts=max_attempts,
        retry_after=retry_after,
        lease=lease,
        park_blocks_stream=park_blocks_stream,
        deliver_when_valid=deliver_when_valid,
    )
