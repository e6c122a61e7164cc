"""Assign partitions to processes: operations."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_integer
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent

from . import partition, registry
from .definition import ProjectionDefinition, partition_of
from .types import CUT_OVER_DISTANCE

_LONGEST_INTERVAL = 1.0

_log = logging.getLogger("indelible.projections")


class PartitionKey(NamedTuple):
    """One partition of one build: the unit that is assigned to a process."""

    build_id: int
    partition: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process has to do in this turn.

    Attributes:
        take: the partitions to take, with their projections.
        give_back: the partitions to give back, because other processes have fewer.
        ready: the builds that may be close enough to the serving build to cut over.
        has_retired: whether documents of retired builds remain.
    """

    take: Mapping[PartitionKey, ProjectionDefinition]
    give_back: Collection[PartitionKey]
    ready: Sequence[int]
    has_retired: bool


def assign_partitions(
    workers: Mapping[str, Collection[int]], owners: Mapping[PartitionKey, str | None]
) -> dict[PartitionKey, str]:
    """Assign partitions to workers as evenly as possible, with as few moves as possible.

    Args:
        workers: the live workers, and the builds that each has the code for.
        owners: the partitions, and the current owner of each; None without an owner.

    Returns:
        The worker for each partition. Partitions that no live worker has the code for are missing,
        and so are those whose owner is not one of the workers.
    """
    able = {
        part: sorted(name for name, can_run in workers.items() if part.build_id in can_run)
        for part in owners
    }
    dealt = {part: owner for part, owner in owners.items() if owner in able[part]}
    loads = dict.fromkeys(workers, 0)
    for name in dealt.values():
        loads[name] += 1

    def least(part: PartitionKey) -> str:
        return min(able[part], key=lambda name: (loads[name], name))

    # Start with partitions that few workers have the code for, as in a rolling deployment. The
    # other partitions then fill the gaps.
    free = [part for part, owner in owners.items() if owner is None and able[part]]
    for part in sorted(free, key=lambda part: (len(able[part]), part)):
        dealt[part] = least(part)
        loads[dealt[part]] += 1
    moving = sorted(dealt, key=lambda part: (-len(able[part]), part))
    has_moved = True
    while has_moved:
        has_moved = False
        for part in moving:
            holder, other = dealt[part], least(part)
            if loads[holder] - loads[other] >= 2:
                dealt[part] = other
                loads[holder] -= 1
                loads[other] += 1
                has_moved = True
    return dealt


class PartitionCoordinator:
    """Decides which partitions of projections one process works on.

    Args:
        given: the projections that the process has the code for.
        owner: the name of the process, which must be unique.
        lease: seconds without a heartbeat after which the process loses its partitions.
        only: only this build, for a rebuild; by default all builds of the projections' versions.

    Raises:
        InvalidInput: a projection is given twice, or the lease is not above 0.
    """

    def __init__(
        self,
        given: Sequence[ProjectionDefinition],
        *,
        owner: str,
        lease: float,
        only: int | None = None,
    ) -> None:
        names = [definition.name for definition in given]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInput(f"projection {name!r} is given twice")
        if not lease > 0:
            raise InvalidInput(f"lease must be more than 0 seconds, not {lease!r}")
        self.owner = owner
        self.lease = lease
        self.held: Collection[PartitionKey] = ()
        """The partitions that it works on now."""
        self.refused: dict[int, Exception] = {}
        """The builds that it cannot run, and the error of each. Retrying does not help."""
        self.live_after: dict[int, int] = {}
        """The position above which events are live, for the newest serving versions."""
        self._given = {(definition.name, definition.version): definition for definition in given}
        self._only = only
        self._able: dict[int, ProjectionDefinition] = {}

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two turns."""
        return min(_LONGEST_INTERVAL, self.lease / 3)

    def begin(self) -> Operation[None]:
        """Register the projections.

        Raises:
            ProjectionDefinitionChanged: a projection is registered with another definition under
                the same version.
        """
        if self._only is None:
            for definition in self._given.values():
                yield from registry.register(definition, "async")

    def turn(self) -> Operation[Assignment]:
        """Send a heartbeat, read the work and the live workers, and return what to do."""
        work = yield Statement("projections.work")
        self._learn(work)
        yield Statement(
            "projections.worker_heartbeat",
            {
                "worker": self.owner,
                "projection_ids": sorted(self._able),
                "lease": float(self.lease),
                **self._holding(),
            },
        )
        workers = {name: set(can_run) for name, can_run in (yield Statement("projections.workers"))}
        owners = {
            PartitionKey(row[0], row[6]): row[8]
            for row in work
            if row[4] != "retired" and not row[9]
        }
        dealt = assign_partitions(workers, owners)
        mine = {part for part, name in dealt.items() if name == self.owner}
        return Assignment(
            take={
                part: self._able[part.build_id]
                for part in mine
                if part not in self.held and owners[part] is None
            },
            give_back={
                part
                for part in self.held
                if part not in mine and owners.get(part) in (None, self.owner)
            },
            ready=self._ready(work),
            has_retired=any(row[4] == "retired" for row in work),
        )

    def renewal(self) -> Statement:
        """Return the statement that only renews the lease and those of the held partitions."""
        return Statement(
            "projections.worker_renew_lease",
            {"worker": self.owner, "lease": float(self.lease), **self._holding()},
        )

    def _holding(self) -> dict[str, object]:
        held = sorted(self.held)
        return {
            "held_projections": [part.build_id for part in held],
            "held_partitions": [part.partition for part in held],
        }

    def end(self) -> None:
        """Take no more partitions: other processes get those that are given back from now on."""
        self._given = {}

    def leave(self) -> Operation[None]:
        """Leave, after all partitions were given back."""
        yield Statement("projections.worker_leave", {"worker": self.owner})

    def _learn(self, work: Sequence[tuple[object, ...]]) -> None:
        self._able, self.live_after = {}, {}
        newest: dict[str, int] = {}
        for _, name, version, _, state, *_ in work:
            if state == "serving":
                newest[str(name)] = max(int(str(version)), newest.get(str(name), 0))
        for build_id, name, version, lifecycle, state, live_after, *_ in work:
            definition = self._given.get((str(name), int(str(version))))
            if (
                definition is None
                or build_id in self.refused
                or state == "retired"
                or (self._only is not None and build_id != self._only)
                # Appends keep the serving build of an inline projection up to date.
                or (lifecycle == "inline" and (self._only is None or state == "serving"))
            ):
                continue
            self._able[int(str(build_id))] = definition
            # If old and new versions serve at the same time, only the newest calls `on_live`.
            if state == "serving" and newest[str(name)] == version:
                self.live_after[int(str(build_id))] = int(str(live_after))

    def _ready(self, work: Sequence[tuple[object, ...]]) -> list[int]:
        """Return its builds that are close enough to the serving build of their projection."""
        serving: dict[tuple[str, int], int] = {}
        building: dict[int, tuple[str, int, int]] = {}
        for row in work:
            build_id, name, version, lifecycle, state, _, _, position, *_ = row
            if lifecycle == "inline":
                continue
            build_id, name, version = int(str(build_id)), str(name), int(str(version))
            position = int(str(position))
            if state == "serving":
                lowest = serving.get((name, version), position)
                serving[name, version] = min(lowest, position)
            elif state == "building" and build_id in self._able:
                _, _, lowest = building.get(build_id, (name, version, position))
                building[build_id] = (name, version, min(lowest, position))

        def target(name: str, version: int) -> int:
            # The build that it replaces; for a new version, the newest version that serves.
            if (name, version) in serving:
                return serving[name, version]
            newest = max((other for of, other in serving if of == name), default=None)
            return 0 if newest is None else serving[name, newest]

        return [
            build_id
            for build_id, (name, version, lowest) in building.items()
            if lowest >= target(name, version) - CUT_OVER_DISTANCE
        ]


def check_concurrency(concurrency: object) -> int:
    """Check how many partitions may run at once: a whole number, 1 or more.

    Raises:
        InvalidInput: it is not.
    """
    return validate_integer("concurrency", concurrency, 1)


def sweep() -> Operation[int]:
    """Drop the retired builds; return how many remain because they are still in use."""
    ((kept,),) = yield Statement("projections.drop_retired")
    return int(kept)


def live_events(
    processor: partition.PartitionProcessor, events: Sequence[RecordedEvent], live_after: int | None
) -> list[RecordedEvent]:
    """Return the events of a batch for which `on_live` is to be called.

    Args:
        processor: the partition that the batch belongs to.
        events: the events of the batch.
        live_after: the position above which events are live; None if the build does not serve.
    """
    if live_after is None or not processor.definition.has_live_effects:
        return []
    partitions = processor.definition.partitions
    return [
        event
        for event in events
        # If the key is not the stream, each partition has all events, but only one calls `on_live`.
        if event.position > live_after
        and partition_of(event.stream, partitions) == processor.partition
    ]
