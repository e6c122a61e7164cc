"""The values of consumer groups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indelible.query import Query

GroupStart = int | datetime | Literal["beginning", "head"]
"""Where a group begins: after a position, with the first event recorded at a time or later, with
the first event of the log, or after the current head."""

State = Literal["in_progress", "retry", "queued", "parked"]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The settings of a consumer group.

    Attributes:
        query: which events to deliver; None for all.
        partition_by: the key within which events are delivered in order: `"stream"`, `"tag:KEY"` or
            `"metadata:FIELD"`.
        max_attempts: after how many attempts an event is parked.
        retry_after: seconds before the first retry; the delay doubles with each further retry.
        lease: seconds without a heartbeat after which a worker loses its slices.
        park_blocks_stream: whether the later events of a stream wait behind a parked one.
        deliver_when_valid: whether each event is delivered at its valid time.
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
        token: its fencing token, higher than those of all earlier workers.
        name: its display name; by default host and process.
        slices: how many of the 1,024 slices it owns.
        joined_at: when it joined.
        expires_at: when its lease expires, unless a heartbeat renews it.
    """

    token: int
    name: str
    slices: int
    joined_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """The status of a consumer group.

    Attributes:
        name: its name.
        settings: its settings.
        start: the position after which it began.
        checkpoint: below the lowest position that is not finished. Events in progress, retried or
            replayed count. Parked events and those queued behind them do not. With
            `deliver_when_valid`, events that are not due yet do not count either.
        lag_events: how many matching, due events are not finished; parked events and those queued
            behind them are not counted. If more than 100,000 positions are unread, the number of
            these positions.
        lag_seconds: how long ago the first of them was recorded or became due; 0 without any.
        waiting: how many events wait for their valid time, counted up to 100,000; 0 without
            `deliver_when_valid`.
        retrying: how many events wait for a retry or are being retried.
        queued: how many events wait behind an earlier one of their stream.
        parked: how many events are parked and wait for an operator.
        workers: the workers of the group.
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
    """A parked event (dead letter) of a consumer group.

    Attributes:
        position: the event's position.
        stream: its stream.
        version: its version.
        type: its type.
        key: its partition key: its stream, or a tag or field of its metadata.
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
