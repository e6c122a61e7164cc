"""The values that report on projections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .projection import Kind

CUT_OVER_DISTANCE = 2_000
"""How many positions a build may be behind the head when it may begin to serve."""


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How a build of a projection stands, and how fast it is.

    Attributes:
        build: which one, and its partitions.
        lag_events: how many events that it takes stand between its checkpoint and the head; where
            more than 100,000 positions lie between, how many positions. 0 for an inline one that
            serves.
        lag_seconds: how long ago the first of them was recorded; 0 where there is none.
        events_per_second: how many events it takes in, by the last signs of life of its workers.
        parked: how many events it leaves out.
        workers: how many processes that are alive work on it.
        errors: how many of its partitions have failed at their next batch.
        stopped: how many of its partitions wait for an operator.
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
    """An event that a projection leaves out, since its code failed at it.

    Attributes:
        version: of the projection.
        position: the event's position.
        stream: its stream.
        type: its type.
        partition: the part of the projection that leaves it out.
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
        position: its checkpoint: up to here its events are in its state.
        owner: who keeps it up to date, host and process; None for nobody.
        expires_at: when its owner is taken for dead; None for nobody.
        handled: how many events it has taken in.
        is_stopped: whether it waits for an operator.
        error: the text of the last error, until a batch succeeds.
        error_position: the event that it failed at.
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
    """How a build of a projection stands.

    Attributes:
        id: its row in `projections`.
        name, version, kind, lifecycle, state: which one it is.
        types: the types of events that it takes; None where its query names none.
        partitions: its parts.
    """

    id: int
    name: str
    version: int
    kind: Kind
    lifecycle: Lifecycle
    state: BuildState
    types: frozenset[str] | None
    partitions: tuple[PartitionInfo, ...]

    @property
    def serves_inline(self) -> bool:
        """Whether appends are to bring it up to date."""
        return self.lifecycle == "inline" and self.state == "serving"

    @property
    def checkpoint(self) -> int:
        """Up to here the events of all its partitions are in its state."""
        return min(part.position for part in self.partitions)
