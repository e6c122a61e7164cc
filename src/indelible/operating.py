"""Plans: projections as an operator sees them: how they stand, what they leave out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import project, tending
from .errors import ProjectionNotFound
from .names import check_name
from .plan import Call, Plan
from .project import BuildInfo
from .read import check_count, head

_COUNTED = 100_000
"""How many positions are looked through to count a lag; beyond, positions stand for events."""


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
class LeftOut:
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


def statuses(name: str | None = None) -> Plan[list[ProjectionStatus]]:
    """How the builds of a projection, or of all, stand.

    Raises:
        ProjectionNotFound: there is none of the name.
    """
    found = yield from project.builds(name)
    more = {row[0]: row[1:] for row in (yield Call("projection_status", {"name": name}))}
    settled = yield from head()
    told = []
    for build in found:
        if build.id not in more:  # it was retired between the two
            continue
        query, rate, workers, parked = more[build.id]
        lag_events, lag_seconds = 0, 0.0
        if build.lifecycle == "async" or build.state == "building":
            ((lag_events, lag_seconds),) = yield Call(
                "projection_lag",
                {
                    "items": query,
                    "after": build.checkpoint,
                    "head": settled,
                    "counted": _COUNTED,
                },
                prepared=False,
            )
        parts = build.partitions
        told.append(
            ProjectionStatus(
                build=build,
                lag_events=lag_events,
                lag_seconds=lag_seconds,
                events_per_second=rate,
                parked=parked,
                workers=workers,
                errors=sum(part.error is not None for part in parts),
                stopped=sum(part.is_stopped for part in parts),
            )
        )
    return told


def left_out(name: str) -> Plan[list[LeftOut]]:
    """The events that a projection leaves out.

    Raises:
        ProjectionNotFound: there is none of the name.
    """
    yield from project.builds(check_name("projection", name))
    return [LeftOut(*row) for row in (yield Call("projection_parked_events", {"name": name}))]


def restart(name: str) -> Plan[int]:
    """Let what is stopped be tried again; say how many partitions.

    Raises:
        ProjectionNotFound: there is none of the name.
    """
    yield from project.builds(check_name("projection", name))
    ((count,),) = yield Call("projection_restart", {"name": name})
    return int(count)


def discard(name: str, position: int | None) -> Plan[int]:
    """Give up what was left out, one event or all; say how many.

    Raises:
        ProjectionNotFound: there is none of the name.
    """
    if position is not None:
        check_count("position", position)
    yield from project.builds(check_name("projection", name))
    ((count,),) = yield Call("projection_discard", {"name": name, "position": position})
    return int(count)


def drop(name: str, version: int) -> Plan[None]:
    """End a version of a projection, and drop its documents.

    Raises:
        ProjectionNotFound: there is none of the name, or no such version.
    """
    check_count("version", version)
    found = yield from project.builds(check_name("projection", name))
    if version not in {build.version for build in found}:
        there = (f"{name}, version {build.version}" for build in found)
        raise ProjectionNotFound(f"{name}, version {version}", list(dict.fromkeys(there)))
    yield Call("projection_retire", {"name": name, "version": version})
    yield from tending.sweep()
