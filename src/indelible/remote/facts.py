"""Operations: facts about a store over HTTP."""

from __future__ import annotations

from datetime import datetime

import msgspec

from indelible.admin.event_types import TypeInfo
from indelible.admin.statistics import StoreStats
from indelible.core.operation import Operation
from indelible.serialization.codec import Codec

from .requests import fetch

_LONGEST_WAIT = 20.0
"""Seconds that the server may wait in one request: proxies end those that take a minute."""


class _Type(msgspec.Struct):
    type: str
    events: int
    first_position: int
    first_recorded_at: datetime
    last_position: int
    last_recorded_at: datetime


def types(codec: Codec) -> Operation[list[TypeInfo]]:
    """List the event types; see `EventStore.types`."""
    stored = yield from fetch("GET", "/types", list[_Type])
    return [
        TypeInfo(
            **msgspec.structs.asdict(found),
            is_registered=found.type in codec.classes,
            upcasters=tuple(map(str, codec.upcasting.steps.get(found.type, ()))),
        )
        for found in stored
    ]


def stats() -> Operation[StoreStats]:
    """Return the size of the store; see `EventStore.stats`."""
    return (yield from fetch("GET", "/statistics", StoreStats))


class _Waited(msgspec.Struct):
    checkpoint: int


def wait_for(reader: str, position: int, seconds: float) -> Operation[int]:
    """Wait until a reader has processed a position, for some seconds; return its checkpoint."""
    wait = min(seconds, _LONGEST_WAIT)
    form = {"reader": reader, "position": str(position), "timeout": wait}
    return (yield from fetch("POST", "/wait", _Waited, form=form, wait=wait)).checkpoint
