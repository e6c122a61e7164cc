"""Operate projections: status, skipped events, restart, discard, drop: operations."""

from __future__ import annotations

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_integer, validate_name
from indelible.errors import ProjectionNotFound
from indelible.streams.head import LAG_WINDOW, head

from . import assignment, registry
from .types import ProjectionStatus, SkippedEvent


def statuses(name: str | None = None) -> Operation[list[ProjectionStatus]]:
    """Return the status of the builds of one projection, or of all.

    Raises:
        ProjectionNotFound: no projection has this name.
    """
    all_builds = yield from registry.builds(name)
    more = {row[0]: row[1:] for row in (yield Statement("projections.status", {"name": name}))}
    settled = yield from head()
    result = []
    for build in all_builds:
        if build.id not in more:  # it was retired between the two statements
            continue
        query, rate, workers, parked = more[build.id]
        lag_events, lag_seconds = 0, 0.0
        if build.lifecycle == "async" or build.state == "building":
            ((lag_events, lag_seconds),) = yield Statement(
                "projections.lag",
                {
                    "items": query,
                    "after": build.checkpoint,
                    "head": settled,
                    "max_count": LAG_WINDOW,
                },
                prepared=False,
            )
        parts = build.partitions
        result.append(
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
    return result


def left_out(name: str, limit: int | None = None) -> Operation[list[SkippedEvent]]:
    """List the events that a projection skips, all or the first of them.

    Raises:
        ProjectionNotFound: no projection has this name.
    """
    yield from registry.builds(validate_name("projection", name))
    return [
        SkippedEvent(*row)
        for row in (yield Statement("projections.parked_events", {"name": name, "limit": limit}))
    ]


def restart(name: str) -> Operation[int]:
    """Restart the stopped partitions, and return their number.

    Raises:
        ProjectionNotFound: no projection has this name.
    """
    yield from registry.builds(validate_name("projection", name))
    ((count,),) = yield Statement("projections.restart", {"name": name})
    return int(count)


def discard(name: str, position: int | None) -> Operation[int]:
    """Discard parked events, one or all, and return their number.

    Raises:
        ProjectionNotFound: no projection has this name.
    """
    if position is not None:
        validate_integer("position", position)
    yield from registry.builds(validate_name("projection", name))
    ((count,),) = yield Statement("projections.discard", {"name": name, "position": position})
    return int(count)


def drop(name: str, version: int) -> Operation[None]:
    """Drop a version of a projection with its documents.

    Raises:
        ProjectionNotFound: no projection has this name, or it has no such version.
    """
    validate_integer("version", version)
    found = yield from registry.builds(validate_name("projection", name))
    if version not in {build.version for build in found}:
        there = (f"{name}, version {build.version}" for build in found)
        raise ProjectionNotFound(f"{name}, version {version}", list(dict.fromkeys(there)))
    yield Statement("projections.retire", {"name": name, "version": version})
    yield from assignment.sweep()
