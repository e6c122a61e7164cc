"""Consumer groups over HTTP: operations, and answers to statements."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from indelible.consumer_groups.types import (
    GroupInfo,
    GroupSettings,
    GroupWorker,
    ParkedEvent,
)
from indelible.core.operation import Operation, Rows
from indelible.errors import GroupExists
from indelible.query import Query

from .requests import Request, StoredEvent, fetch, row_of, segment

Parameters = Mapping[str, Any]
_ALL = 2**62


class _Alternative(msgspec.Struct):
    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    channel: str | None = None
    stream: str | None = None
    stream_prefix: str | None = None

    def query(self) -> Query:
        return Query(self.types, self.tags, self.channel, self.stream_prefix, stream=self.stream)


class _Worker(msgspec.Struct):
    token: int
    name: str
    slices: int
    joined_at: datetime
    expires_at: datetime


class _Group(msgspec.Struct):
    name: str
    query: list[_Alternative] | None
    partition_by: str
    max_attempts: int
    retry_after: float
    lease: float
    park_blocks_stream: bool
    deliver_when_valid: bool
    start: int
    checkpoint: int
    lag_events: int
    lag_seconds: float
    waiting: int
    retrying: int
    queued: int
    parked: int
    workers: list[_Worker]
    created_at: datetime

    def info(self) -> GroupInfo:
        query = None
        if self.query is not None:
            query = reduce(or_, (alternative.query() for alternative in self.query))
        return GroupInfo(
            name=self.name,
            settings=GroupSettings(
                query=query,
                partition_by=self.partition_by,
                max_attempts=self.max_attempts,
                retry_after=self.retry_after,
                lease=self.lease,
                park_blocks_stream=self.park_blocks_stream,
                deliver_when_valid=self.deliver_when_valid,
            ),
            start=self.start,
            checkpoint=self.checkpoint,
            lag_events=self.lag_events,
            lag_seconds=self.lag_seconds,
            waiting=self.waiting,
            retrying=self.retrying,
            queued=self.queued,
            parked=self.parked,
            workers=tuple(GroupWorker(*msgspec.structs.astuple(one)) for one in self.workers),
            created_at=self.created_at,
        )


class Delivered(msgspec.Struct):
    """An event of a lease, and the number of this attempt."""

    event: StoredEvent
    attempt: int


class Lent(msgspec.Struct):
    """A lease on events; without any if there were none in time."""

    lease: str | None
    deliveries: list[Delivered]


class _Left(msgspec.Struct):
    left: int


class _Position(msgspec.Struct):
    position: int


class _Count(msgspec.Struct):
    events: int


def info(name: str) -> Operation[GroupInfo]:
    """Return the status of a group."""
    return (yield from fetch("GET", _path(name), _Group)).info()


def infos() -> Operation[list[GroupInfo]]:
    """Return the status of all groups, in order of name."""
    return [group.info() for group in (yield from _all())]


def wait_for(name: str, position: int, seconds: float) -> Operation[int]:
    """Wait until a group has processed a position, for some seconds; return its checkpoint."""
    form = {"position": str(position), "timeout": seconds}
    path = f"{_path(name)}/wait"
    return (yield from fetch("POST", path, _Position, form=form, wait=seconds)).position


def lend(name: str, *, limit: int, seconds: float, wait: float, worker: str) -> Operation[Lent]:
    """Lease the next events of a group.

    Args:
        name: the group.
        limit: how many events at most.
        seconds: the length of the lease.
        wait: seconds to wait for an event.
        worker: who leases them, for people.
    """
    form = {"limit": limit, "seconds": seconds, "wait": wait, "worker": worker}
    return (yield from fetch("POST", f"{_path(name)}/leases", Lent, form=form, wait=wait))


def settle(
    name: str,
    lease: str,
    outcome: str,
    positions: Sequence[int],
    *,
    reason: str | None,
    error: str | None,
) -> Operation[int]:
    """Report an outcome of events; return how many events of the lease have none yet."""
    form = {"positions": list(map(str, positions)), "reason": reason, "error": error}
    path = f"{_path(name)}/leases/{segment(lease)}/{outcome}"
    return (yield from fetch("POST", path, _Left, form=form)).left


def extend(name: str, lease: str, seconds: float) -> Operation[None]:
    """Extend a lease: it expires so many seconds from now."""
    path = f"{_path(name)}/leases/{segment(lease)}/extend"
    yield from fetch("POST", path, _Left, form={"seconds": seconds})


# Answers to statements -----------------------------------------------------------------------


def _create(given: Parameters, _: bool) -> Operation[Rows]:
    try:
        ((_, status),) = yield _put(given, start=_start(given), exists="raise")
    except GroupExists:
        return [(False,)]
    return [(status == 201,)]


def _update(given: Parameters, _: bool) -> Operation[Rows]:
    yield _put(given, start="beginning", exists="change")
    return []


def _put(given: Parameters, *, start: str, exists: str) -> Request:
    items = None if given["items"] is None else json.loads(given["items"])
    form = {
        "query": items
        and [{name: value for name, value in item.items() if value is not None} for item in items],
        "start": start,
        "partition_by": given["partition_by"] or "stream",
        "max_attempts": given["max_attempts"],
        "retry_after": given["retry_seconds"],
        "lease": given["lease_seconds"],
        "park_blocks_stream": given["park_blocks_stream"],
        "deliver_when_valid": given["deliver_when_valid"],
        "exists": exists,
    }
    return Request("PUT", path=_path(given["group"]), body=msgspec.json.encode(form))


def _get(given: Parameters, _: bool) -> Operation[Rows]:
    group = yield from fetch("GET", _path(given["group"]), _Group)
    query = None if group.query is None else msgspec.json.encode(group.query)
    settings = (group.name, query, group.partition_by, group.max_attempts, group.retry_after)
    return [(*settings, group.lease, group.park_blocks_stream, group.deliver_when_valid)]


def _list(given: Parameters, _: bool) -> Operation[Rows]:
    return [(group.name,) for group in (yield from _all())]


def _all() -> Operation[list[_Group]]:
    return (yield from fetch("GET", "/groups", list[_Group]))


def _reset(given: Parameters, _: bool) -> Operation[Rows]:
    path = f"{_path(given['group'])}/reset"
    found = yield from fetch("POST", path, _Position, form={"to": _start(given)})
    return [(found.position,)]


def _delete(given: Parameters, _: bool) -> Operation[Rows]:
    yield Request("DELETE", path=_path(given["group"]))
    return [(True,)]


def _parked(given: Parameters, _: bool) -> Operation[Rows]:
    if given["limit"] == 0:
        return []
    selected = {
        "stream": given["key"],
        "after": given["after"] or None,
        "limit": None if given["limit"] >= _ALL else given["limit"],
    }
    path = f"{_path(given['group'])}/parked"
    found = yield from fetch("GET", path, list[ParkedEvent], parameters=selected)
    return list(map(row_of, found))


def _act(operation: str) -> Callable[[Parameters, bool], Operation[Rows]]:
    def act(given: Parameters, _: bool) -> Operation[Rows]:
        position = given["position"]
        form = {
            "position": None if position is None else str(position),
            "stream": given["key"],
        }
        path = f"{_path(given['group'])}/{operation}"
        return [((yield from fetch("POST", path, _Count, form=form)).events,)]

    return act


def _start(given: Parameters) -> str:
    if given["since"] is not None:
        return str(given["since"].isoformat())
    return "head" if given["after"] is None else str(given["after"])


def _path(name: str) -> str:
    return f"/groups/{segment(name)}"


ANSWERS: dict[str, Callable[[Parameters, bool], Operation[Rows]]] = {
    "consumer_groups.create": _create,
    "consumer_groups.update": _update,
    "consumer_groups.get": _get,
    "consumer_groups.list": _list,
    "consumer_groups.reset": _reset,
    "consumer_groups.delete": _delete,
    "consumer_groups.parked": _parked,
    "consumer_groups.replay": _act("replay"),
    "consumer_groups.discard": _act("discard"),
}
