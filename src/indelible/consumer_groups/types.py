"""The values of consumer groups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indelible.query import Query

GroupStart = int | datetime | Literal["beginning", "head"]
"""Where a group begins: after a position, with the first event recorded at a time or later, with
the first event of all, or with what comes from now on."""

State = Literal["in_progress", "retry", "queued", "parked"]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What a consumer group reads, and how.

    Attributes:
        query: which events; None for all.
        partition_by: what is kept in order: `"stream"`, `"tag:KEY"` or `"metadata:FIELD"`.
        max_attempts: after how many attempts an event is parked.
        retry_after: seconds that the first retry waits; each later one waits twice as long.
        lease: seconds without a sign of life after which a worker loses what it held.
        park_blocks_stream: whether the later events of a stream wait behind a parked one.
        deliver_when_valid: whether each event is handed out when its valid time comes.
    """

    query: Query | None = None
    partition_by: str = "stream"
    max_attempts: int = 5
    retry_after: float = 1.0
    lease: float = 10.0
    park_blocks_stream: bool = True
    deliver_when_valid: bool = False


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
