"""Values: the status of projections, their builds and partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Literal

from indelible.query import Query

from .projection import Kind

CUT_OVER_DISTANCE = 2_000
"""How many positions a build may be behind the head, or the build that it replaces, to cut over."""


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The status of a build of a projection, with its lag and speed.

    Attributes:
        build: the build and its partitions.
        lag_events: how many of its events are between its checkpoint and the head. If more than
            100,000 positions are between them, the number of positions. 0 for a serving inline
            build.
        lag_seconds: how long ago the first of them was recorded; 0 without any.
        events_per_second: how many events it handles, by the last heartbeats of its workers.
        parked: how many parked events it skips.
        workers: how many live processes work on it.
        errors: how many of its partitions have failed at their next batch.
        stopped: how many of its partitions are stopped and wait for an operator.
    """

    build: BuildInfo
    lag_events: int
    lag_seconds: float
    events_per_second: float
    parked: int
    workers: int
    errors: int
    stopped: int


@dataclass(frozen=True, slots=True)
class SkippedEvent:
    """An event that a projection skips because its code failed at it.

    Attributes:
        version: the version of the projection.
        position: the event's position.
        stream: its stream.
        type: its type.
        partition: the partition that skips it.
        error: the text of the error.
        parked_at: when it was parked.
    """

    version: int
    position: int
    stream: str
    type: str
    partition: int
    error: str
    parked_at: datetime


Lifecycle = Literal["inline", "async"]
BuildState = Literal["building", "serving"]


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition of a build.

    Attributes:
        partition: its number.
        position: its checkpoint: its state includes its events up to here.
        owner: the worker that keeps it up to date, as host and process; None without an owner.
        expires_at: when the lease of its owner expires; None without an owner.
        handled: how many events it has handled.
        is_stopped: whether it is stopped and waits for an operator.
        error: the text of the last error, until a batch succeeds.
        error_position: the position of the event at which it failed.
    """

    partition: int
    position: int
    owner: str | None
    expires_at: datetime | None
    handled: int
    is_stopped: bool
    error: str | None
    error_position: int | None


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """A build of a projection.

    Attributes:
        id: the id of its row in `projections`.
        name, version, kind, lifecycle, state: the definition and the state of the build.
        query: which events it handles.
        indexes: the fields of its documents that have an index.
        partitions: its partitions.
    """

    id: int
    name: str
    version: int
    kind: Kind
    lifecycle: Lifecycle
    state: BuildState
    query: Query
    indexes: tuple[str, ...]
    partitions: tuple[PartitionInfo, ...]

    @property
    def types(self) -> frozenset[str] | None:
        """The event types that it handles; None if its query names none."""
        types = [item.types for item in self.query.items]
        return frozenset(chain.from_iterable(types)) if all(types) else None

    @property
    def serves_inline(self) -> bool:
        """Whether appends keep it up to date."""
        return self.lifecycle == "inline" and self.state == "serving"

    @property
    def checkpoint(self) -> int:
        """The lowest checkpoint of its partitions: its state includes all events up to here."""
        return min(part.position for part in self.partitions)
