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
    """One partition of one build: what is dealt out."""

    build_id: int
    partition: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process is to do now.

    Attributes:
        take: partitions to take, and the projections that they are of.
        give_back: partitions to give back, since others have fewer.
        ready: builds that may be as far as the one in whose place they are to serve.
        has_retired: whether something is left of builds that are retired.
    """

    take: Mapping[PartitionKey, ProjectionDefinition]
    give_back: Collection[PartitionKey]
    ready: Sequence[int]
    has_retired: bool


def assign_partitions(
    workers: Mapping[str, Collection[int]], owners: Mapping[PartitionKey, str | None]
) -> dict[PartitionKey, str]:
    """Say who is to hold which partition: as evenly as can be, with as few moves as can be.

    Args:
        workers: who is alive, and the builds that each has the code for.
        owners: the partitions, and who holds each now; None for nobody.

    Returns:
        Who is to hold each; without those that nobody alive has the code for, and those of owners
        who are none of the workers.
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

    # First what few have the code for: in a rolling deployment the rest is dealt around it.
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
    """What one process does for projections.

    Args:
        given: the projections that it has the code for.
        owner: its name; no other process has the same.
        lease: seconds without a sign of life after which it is taken for dead.
        only: only this build, for a rebuild; by default all of the projections' versions.

    Raises:
        InvalidInput: a projection is given twice, or the lease is none.
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
            raise InvalidInput(f"lease must be a number of seconds above 0, not {lease!r}")
        self.owner = owner
        self.lease = lease
        self.held: Collection[PartitionKey] = ()
        """What it works on at this moment."""
        self.refused: dict[int, Exception] = {}
        """The builds that it cannot run, and why: for reasons that do not pass by themselves."""
        self.live_after: dict[int, int] = {}
        """Above which position events are live, of the newest versions that serve."""
        self._given = {(definition.name, definition.version): definition for definition in given}
        self._only = only
        self._able: dict[int, ProjectionDefinition] = {}

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two turns."""
        return min(_LONGEST_INTERVAL, self.lease / 3)

    def begin(self) -> Operation[None]:
        """Make the projections known to the store.

        Raises:
            ProjectionDefinitionChanged: one was begun in another way under its version.
        """
        if self._only is None:
            for definition in self._given.values():
                yield from registry.register(definition, "async")

    def turn(self) -> Operation[Assignment]:
        """Give a sign of life, look around, and say what to do."""
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
        """Give the statement that only renews what it holds."""
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
        """Take nothing more: what is given back from now on falls to others."""
        self._given = {}

    def leave(self) -> Operation[None]:
        """Be there no more, having given everything back."""
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
                # What serves is brought on by appends.
                or (lifecycle == "inline" and (self._only is None or state == "serving"))
            ):
                continue
            self._able[int(str(build_id))] = definition
            # Where old and new versions serve side by side one of them speaks.
            if state == "serving" and newest[str(name)] == version:
                self.live_after[int(str(build_id))] = int(str(live_after))

    def _ready(self, work: Sequence[tuple[object, ...]]) -> list[int]:
        """The builds of its own that are nearly as far as what serves, of their projection."""
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
            # The one whose place it takes; for a new version the newest that serves.
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
    """Check how much is to be done at once: a whole number, 1 or more.

    Raises:
        InvalidInput: it is something else.
    """
    return validate_integer("concurrency", concurrency, 1)


def sweep() -> Operation[int]:
    """Drop what retired builds have left; say how many are kept, since somebody is still at it."""
    ((kept,),) = yield Statement("projections.drop_retired")
    return int(kept)


def live_events(
    processor: partition.PartitionProcessor, events: Sequence[RecordedEvent], live_after: int | None
) -> list[RecordedEvent]:
    """The events of a batch that `on_live` is to be called for.

    Args:
        processor: whose batch it is.
        events: the events of the batch.
        live_after: above which position; None where the build does not serve.
    """
    if live_after is None or not processor.definition.has_live_effects:
        return []
    partitions = processor.definition.partitions
    return [
        event
        for event in events
        # Where the key is not the stream each partition has all events: one of them speaks.
        if event.position > live_after
        and partition_of(event.stream, partitions) == processor.partition
    ]
