"""Plans: keep a projection up to date: its builds, their leases, batches, checkpoints.

State and checkpoint move in one transaction, under a fencing token; what is held in memory may
vanish at any moment (docs/explanation/projections.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec

from . import groups
from .codec import Codec
from .errors import (
    DecodingFailed,
    EpochMismatch,
    GroupNotFound,
    IndelibleError,
    InvalidInput,
    LeaseLost,
    ProjectionChanged,
    ProjectionFailed,
    ProjectionNotBuilt,
    ProjectionNotFound,
    UnknownEventType,
    UpcastingFailed,
    rebuild_command,
)
from .events import RecordedEvent
from .folding import Folding, bring, changes
from .plan import Call, Plan
from .projection import Described, Kind, partition_of
from .read import (
    HeadState,
    LogReading,
    check_count,
    decode_rows,
    epoch,
    head_state,
    items,
)
from .subscribe import Batch

D = TypeVar("D")

Lifecycle = Literal["inline", "async"]
BuildState = Literal["building", "serving"]

_log = logging.getLogger("indelible.projections")
_inline_log = logging.getLogger("indelible.projections.inline")

_KEPT_BYTES = 16 * 1024 * 1024
"""How many bytes of documents, as JSON, a run keeps in memory from one batch to the next."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a projection: one that serves, or one that is built beside it.

    Attributes:
        id: its row in `projections`.
        state: `"serving"`: what is read; `"building"`: not to be read yet.
    """

    id: int
    state: BuildState


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


def register(described: Described, lifecycle: Lifecycle) -> Plan[list[Build]]:
    """Make a projection known to the store, and say which builds it has: what serves comes first.

    One that is new to the store serves at once, from the beginning of the log. It is `"building"`
    where another version of it serves, or where it is inline and there are events already.

    Raises:
        ProjectionChanged: it was begun in another way under this version.
    """
    rows = yield Call(
        "projection_register",
        {
            "name": described.name,
            "version": described.version,
            "kind": described.kind,
            "lifecycle": lifecycle,
            "items": _encode(items(described.query)).decode(),
            "partitions": described.partitions,
            "indexes": described.indexes,
        },
    )
    for _, _, found, fits in rows:
        if found != lifecycle:
            raise ProjectionChanged(described.name, described.version, found)
        if not fits:
            raise ProjectionChanged(described.name, described.version)
    return [Build(build_id, state) for build_id, state, _, _ in rows]


def register_inline(given: Iterable[Described]) -> Plan[None]:
    """Make inline projections known to the store; say so where others serve that are not given.

    Raises:
        ProjectionChanged: one was begun in another way under its version.
    """
    kept = set()
    for described in given:
        (build, *_) = yield from register(described, "inline")
        kept.add((described.name, described.version))
        if build.state == "building":
            _inline_log.warning("%s", ProjectionNotBuilt(described.name, described.version))
    passed_by = [
        build
        for build in (yield from builds())
        if build.serves_inline and (build.name, build.version) not in kept
    ]
    if passed_by:
        _inline_log.warning(
            "appends of this store pass by inline projections, which then miss its events: %s;"
            " name them in connect(inline=[…]), or drop what no code uses any more; to build what"
            " missed events: %s",
            ", ".join(f"{build.name} (version {build.version})" for build in passed_by),
            "; ".join(rebuild_command(build.name) for build in passed_by),
        )


def builds(name: str | None = None) -> Plan[list[BuildInfo]]:
    """Ask which builds there are that are not retired, of one projection or of all.

    Raises:
        ProjectionNotFound: there is none of the name.
    """
    found: dict[int, BuildInfo] = {}
    for build_id, of, version, kind, lifecycle, state, query, *part in (
        yield Call("projection_builds", {"name": name})
    ):
        before = found[build_id].partitions if build_id in found else ()
        found[build_id] = BuildInfo(
            build_id,
            of,
            version,
            kind,
            lifecycle,
            state,
            _types(query),
            (*before, PartitionInfo(*part)),
        )
    if name is not None and not found:
        known = yield from builds()
        raise ProjectionNotFound(name, list(dict.fromkeys(build.name for build in known)))
    return list(found.values())


def inline_types(found: Iterable[BuildInfo]) -> dict[str, frozenset[str] | None]:
    """Give the inline projections that serve, and the types that they take (None for all)."""
    return {build.name: build.types for build in found if build.serves_inline}


def _types(query: str) -> frozenset[str] | None:
    types = [item["types"] for item in msgspec.json.decode(query)]
    return frozenset(chain.from_iterable(types)) if all(types) else None


def checkpoint(name: str, position: int) -> Plan[int]:
    """How far a projection is, of its newest version that serves.

    Args:
        name: its name.
        position: what is waited for; an inline projection is always as far.

    Raises:
        ProjectionNotFound: there is none of the name.
        ProjectionNotBuilt: it does not serve yet.
    """
    found = yield from builds(name)
    serving = [build for build in found if build.state == "serving"]
    if not serving:
        raise ProjectionNotBuilt(name, found[-1].version)
    newest = serving[-1]
    return position if newest.lifecycle == "inline" else newest.checkpoint


def version_checkpoint(described: Described) -> Plan[int]:
    """How far the version of a projection is that its code has, serving or not yet.

    Raises:
        ProjectionNotFound: it never ran.
        ProjectionNotBuilt: this version never ran.
    """
    found = [
        build for build in (yield from builds(described.name)) if build.version == described.version
    ]
    if not found:
        raise ProjectionNotBuilt(described.name, described.version)
    return max(found, key=lambda build: build.state == "serving").checkpoint


def reader_checkpoint(name: str, position: int) -> Plan[int]:
    """How far a consumer group or a projection is; of both where both have the name.

    Raises:
        GroupNotFound: there is neither.
        ProjectionNotBuilt: it is a projection that does not serve yet.
    """
    found = []
    missing: IndelibleError | None = None
    try:
        found.append((yield from groups.checkpoint(name)))
    except GroupNotFound as error:
        missing = error
    try:
        found.append((yield from checkpoint(name, position)))
    except ProjectionNotFound as why:
        if missing is not None:
            missing.add_note(str(why))
            raise missing from None
    return min(found)


class Run:
    """One partition of a build, for whoever keeps it up to date: one thread or task.

    `take_over`, then batch after batch: `project` for documents, or `next_batch`, `fence`, the
    handlers and `advance` in one transaction for tables (`next_batch`, the handlers, `advance` for
    what is elsewhere). After an error other than `LeaseLost`: `forget`, or `resume` where it is not
    known whether the batch was stored.

    Args:
        codec: reads the events.
        described: the projection.
        partition: which of its partitions.
        owner: who runs it, for people.
        lease: seconds without a sign of life after which others take over.
        build_id: which build of it, `Build.id`; by default the one that serves, and where none
            does the one that is built.

    Raises:
        InvalidInput: there is no such partition, or no lease so short.
    """

    def __init__(
        self,
        codec: Codec,
        described: Described,
        *,
        partition: int = 0,
        owner: str,
        lease: float = 10.0,
        build_id: int | None = None,
    ) -> None:
        if check_count("partition", partition) >= described.partitions:
            raise InvalidInput(
                f"projection {described.name!r} has {described.partitions} partitions, and the"
                f" first is 0: there is no partition {partition}"
            )
        if not lease > 0:
            raise InvalidInput(f"lease must be a number of seconds above 0, not {lease!r}")
        self.described = described
        self.build_id = build_id
        self.partition = partition
        self.owner = owner
        self.lease = lease
        self.token = 0
        self.position = 0
        """The checkpoint: up to here its events are in its state."""
        self.parked: set[int] = set()
        """The positions of events that are left out."""
        self.short_of = 0
        """An event that failed: what stands before it is a batch of its own."""
        self._codec = codec
        self._epoch: UUID | None = None
        self.forget()

    def forget(self) -> None:
        """Drop what is in memory beyond the checkpoint: begin anew from there."""
        self._reading = LogReading(
            self._codec, self.described.query, after=self.position, goes_on=True
        )
        if self._epoch is not None and self.position < self.short_of - 1:
            self._reading.extend(HeadState(self.short_of - 1, self._epoch, None))
        self._folding = Folding(
            self.described, partition=self.partition, partitions=self.described.partitions
        )

    def take_over(self) -> Plan[bool]:
        """Take the partition, unless somebody else holds it; say whether it was taken.

        Raises:
            EpochMismatch: the store failed over or was restored, and the state is elsewhere.
            ProjectionChanged: it was begun in another way under its version.
        """
        if self.build_id is None:
            self.build_id = (yield from register(self.described, "async"))[0].id
        rows = yield Call(
            "projection_lease",
            {
                "projection_id": self.build_id,
                "partition": self.partition,
                "owner": self.owner,
                "lease": float(self.lease),
            },
        )
        if not rows:
            return False
        self.token, self.position, begun_in = rows[0]
        self._epoch = yield from epoch()
        self.forget()
        if self._epoch != begun_in and self.described.kind == "external":
            # State in this database is of the same log as its checkpoint; what is elsewhere may
            # have been made of events that are gone.
            yield from self.release()
            raise EpochMismatch(self.position, None, (), begun_in, self._epoch)
        return True

    def beat(self) -> Plan[None]:
        """Renew the lease. Each batch does so, too.

        Raises:
            LeaseLost: others have taken over.
        """
        yield Call("projection_beat", self._lease())

    def renewal(self) -> Call | None:
        """Give the statement that only renews the lease; None where it has none."""
        return Call("projection_renew_lease", self._lease()) if self.token else None

    def resume(self) -> Plan[None]:
        """Begin anew from the checkpoint, wherever it stands: after an error in the middle.

        Raises:
            LeaseLost: others have taken over.
        """
        ((self.position,),) = yield Call("projection_beat", self._lease())
        self.forget()

    def release(self) -> Plan[None]:
        """Give the partition back, for others to take at once."""
        yield Call("projection_release", self._lease())
        self.token = 0

    @property
    def is_caught_up(self) -> bool:
        """Whether all that was settled at the last look is in the state."""
        known = self._reading.known_head
        return known is not None and self.position >= known

    def has_more(self, state: HeadState | None) -> bool:
        """Whether a head that was found is beyond what was read, or of another epoch."""
        return self._reading.has_more(state)

    def extend(self, state: HeadState | None) -> None:
        """Go on up to a head that was found since."""
        if state is not None:
            self._reading.extend(state)

    def read_up_to(self, position: int) -> None:
        """Read up to a position, settled or not, that the caller vouches for."""
        self._reading.read_up_to(position)

    def next_batch(self) -> Plan[Batch]:
        """Bring the next events that this partition is to handle, maybe none.

        Raises:
            ProjectionFailed: an event cannot be read.
        """
        reading = self._reading
        yield from reading.start()
        if reading.is_caught_up:
            reading.extend((yield from head_state()))
        events: Sequence[RecordedEvent] = ()
        if not reading.is_caught_up:
            try:
                events = yield from self._next_events(reading)
            except EpochMismatch as error:  # its checkpoint is of the log of today
                raise LeaseLost from error
        position = self._reading.position
        return Batch(
            tuple(event for event in events if self._falls_here(event)),
            position,
            position >= (self._reading.known_head or 0),
        )

    def _next_events(self, reading: LogReading) -> Plan[list[RecordedEvent]]:
        try:
            return (yield from reading.next_window())
        except (UnknownEventType, DecodingFailed, UpcastingFailed):
            return (yield from self._next_one_by_one(reading))

    def project(self) -> Plan[Batch]:
        """Take the next batch into the documents, and move the checkpoint.

        Raises:
            LeaseLost: others have taken over; nothing was stored.
            ProjectionFailed: the projection failed; nothing was stored.
        """
        batch = yield from self.next_batch()
        yield from self.commit(batch)
        return batch

    def commit(self, batch: Batch, known: Sequence[Any] = ()) -> Plan[None]:
        """Fold a batch into the documents, and store them together with the checkpoint.

        Args:
            batch: the last one that `next_batch` gave.
            known: what the projection's `enrich` has found, as handlers take it.

        Raises:
            LeaseLost: others have taken over; nothing was stored.
            ProjectionFailed: the projection failed; nothing was stored.
        """
        if batch.position == self.position:
            return
        folding = self._folding
        steps = folding.plan(batch.events)
        if folding.size > _KEPT_BYTES:
            folding.documents.clear()
        missing = list({key for _, key in steps if key not in folding.documents})
        if missing:
            rows = yield Call("projection_load", {"projection_id": self.build_id, "keys": missing})
            bring(self.described, folding, missing, rows)
        folding.fold(steps, known)
        changed, removed = changes(self.described, folding)
        yield Call(
            "projection_commit",
            {
                **self._lease(),
                **self._step(batch),
                "events": len({event.position for event, _ in steps}),
                "changed": changed,
                "removed": removed,
            },
        )
        self._moved(batch)

    def fence(self) -> Plan[None]:
        """Keep others from taking over until the transaction ends that the plan runs in.

        Raises:
            LeaseLost: others have taken over.
        """
        yield Call("projection_fence", self._lease())

    def advance(self, batch: Batch) -> Plan[None]:
        """Move the checkpoint, in the transaction that the plan runs in; then call `moved`.

        Raises:
            LeaseLost: others have taken over.
        """
        ((is_first,),) = yield Call("projection_advance", {**self._lease(), **self._step(batch)})
        if not is_first and batch.events and self.described.kind == "tables":
            raise LeaseLost  # what the handlers have just written is there already

    def moved(self, batch: Batch) -> None:
        """Note that a batch is in the state: its transaction was committed."""
        self._moved(batch)

    def _moved(self, batch: Batch) -> None:
        self.position = batch.position
        self._folding.changed.clear()

    def _step(self, batch: Batch) -> dict[str, object]:
        return {"after": self.position, "upto": batch.position, "events": len(batch.events)}

    def _lease(self) -> dict[str, object]:
        return {
            "projection_id": self.build_id,
            "partition": self.partition,
            "token": self.token,
        }

    def _falls_here(self, event: RecordedEvent) -> bool:
        described = self.described
        return (
            described.takes(event)
            and event.position not in self.parked
            and (
                described.partitions == 1
                or not described.is_by_stream
                or partition_of(event.stream, described.partitions) == self.partition
            )
        )

    def _next_one_by_one(self, reading: LogReading) -> Plan[list[RecordedEvent]]:
        """Read the window in which an event does not fit its class; leave out what is parked."""

        def is_wanted(stored: RecordedEvent) -> bool:
            return stored.position not in self.parked and self.partition in partitions_of(
                self.described, stored
            )

        self._reading, fitting = yield from read_one_by_one(
            self._codec, self.described, reading, is_wanted
        )
        return fitting


def partitions_of(described: Described, event: RecordedEvent) -> Sequence[int]:
    """The partitions that an event may fall to, as far as can be said without its data."""
    if described.is_by_stream:
        return (partition_of(event.stream, described.partitions),)
    return range(described.partitions)


def read_one_by_one(
    codec: Codec,
    described: Described,
    reading: LogReading,
    is_wanted: Callable[[RecordedEvent], bool],
) -> Plan[tuple[LogReading, list[RecordedEvent]]]:
    """Read the window in which an event does not fit its class, without what is not wanted.

    Returns:
        A reading that goes on after the window, and the events.

    Raises:
        ProjectionFailed: a wanted event cannot be read.
    """
    query = described.query
    plain = reading.again(Codec(), codec.upcasting.stored(query), after=reading.position)
    fitting: list[RecordedEvent] = []
    for stored in (yield from plain.next_window()):
        if is_wanted(stored):
            try:
                events, _ = decode_rows(codec, [_row(stored)], query=query)
            except (UnknownEventType, DecodingFailed, UpcastingFailed) as why:
                raise ProjectionFailed(described.name, stored.position, stored.type, why) from why
            fitting += events
    return reading.again(codec, query, after=plain.position), fitting


def _row(stored: RecordedEvent) -> tuple[Any, ...]:
    """The row that an event with plain data was read from."""
    data = None if stored.is_erased else _encode(stored.data)
    row = msgspec.structs.replace(stored, data=data, metadata=_encode(stored.metadata))
    return msgspec.structs.astuple(row)


# Inline ----------------------------------------------------------------------------------------


def hold(described: Described) -> Plan[int | None]:
    """Keep the build of an inline projection that serves in its place until the transaction ends.

    Returns:
        Which one; None where it is not built yet.
    """
    rows = yield Call("projection_hold", {"name": described.name, "version": described.version})
    return int(rows[0][0]) if rows else None


def appended(codec: Codec, ids: Sequence[str]) -> Plan[list[RecordedEvent]]:
    """Read what was appended in this transaction, in order of position."""
    rows = yield Call("appended_events", {"ids": list(ids)})
    return decode_rows(codec, rows)[0]


def fold_inline(
    described: Described, events: Sequence[RecordedEvent], known: Sequence[Any] = ()
) -> Plan[None]:
    """Fold events into the documents of an inline projection, in the transaction of their append.

    Where it is not built yet nothing happens.

    Raises:
        ProjectionFailed: the projection failed.
    """
    folding = Folding(described)
    steps = folding.plan(events)
    keys = list({key for _, key in steps})
    if not keys:
        return
    rows = yield Call(
        "projection_take",
        {"name": described.name, "version": described.version, "keys": keys},
    )
    if not rows:
        return
    bring(described, folding, keys, [row[1:] for row in rows if row[1] is not None])
    folding.fold(steps, known)
    changed, removed = changes(described, folding)
    yield Call(
        "projection_put", {"projection_id": rows[0][0], "changed": changed, "removed": removed}
    )
