"""Process one partition of a projection: operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_integer
from indelible.errors import (
    DecodingFailed,
    EpochMismatch,
    InvalidInput,
    LeaseLost,
    ProjectionFailed,
    UnknownEventType,
    UpcastingFailed,
)
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState, epoch, head_state
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions
from indelible.streams.rows import decode_rows, stored_form
from indelible.subscriptions.log_follower import Batch

from .definition import ProjectionDefinition, partition_of
from .document_state import DocumentState, bring, changes
from .registry import register

_KEPT_BYTES = 16 * 1024 * 1024
"""How many bytes of documents, as JSON, a partition keeps in memory between batches."""

_encode = msgspec.json.Encoder().encode


class PartitionProcessor:
    """Processes one partition of a build. One thread or task uses it.

    First call `acquire`, then for each batch:

    - For documents: `project`.
    - For tables: `next_batch`, `lock`, the handlers and `advance`, in one transaction.
    - For external state: `next_batch`, the handlers and `advance`.

    After an error other than `LeaseLost` call `forget`. Call `reload_checkpoint` instead if it is
    not known whether the batch was stored.

    Args:
        codec: decodes the events.
        definition: the projection.
        partition: the number of the partition.
        owner: the display name of the worker.
        lease: seconds without a heartbeat after which other workers take over.
        build_id: the build, as `Build.id`; by default the serving build, or the one that is being
            built if none serves.

    Raises:
        InvalidInput: the partition does not exist, or the lease is not above 0.
    """

    def __init__(
        self,
        codec: Codec,
        definition: ProjectionDefinition,
        *,
        partition: int = 0,
        owner: str,
        lease: float = 10.0,
        build_id: int | None = None,
    ) -> None:
        if validate_integer("partition", partition) >= definition.partitions:
            raise InvalidInput(
                f"partition must be from 0 to {definition.partitions - 1} for projection"
                f" {definition.name!r}, not {partition}"
            )
        if not lease > 0:
            raise InvalidInput(f"lease must be more than 0 seconds, not {lease!r}")
        self.definition = definition
        self.build_id = build_id
        self.partition = partition
        self.owner = owner
        self.lease = lease
        self.token: int = 0
        self.position: int = 0
        """The checkpoint: the state includes the partition's events up to here."""
        self.parked: set[int] = set()
        """The positions of parked events, which are skipped."""
        self.isolate_position = 0
        """The position of an event that failed: the events before it form a batch of their own."""
        self._codec = codec
        self._epoch: UUID | None = None
        self.forget()

    def forget(self) -> None:
        """Discard the state in memory, and start again from the checkpoint."""
        self._reading = LogReading(
            self._codec, self.definition.query, LogReadOptions(after=self.position), follows=True
        )
        if self._epoch is not None and self.position < self.isolate_position - 1:
            self._reading.extend(HeadState(self.isolate_position - 1, self._epoch, None))
        self._folding = DocumentState(
            self.definition, partition=self.partition, partitions=self.definition.partitions
        )

    def acquire(self) -> Operation[bool]:
        """Take the partition, unless another worker holds it; return whether it was taken.

        Raises:
            EpochMismatch: the store failed over or was restored, and the state is external.
            ProjectionDefinitionChanged: the projection is registered with another definition under
                the same version.
        """
        if self.build_id is None:
            self.build_id = (yield from register(self.definition, "async"))[0].id
        rows = yield Statement(
            "projections.acquire",
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
        if self._epoch != begun_in and self.definition.kind == "external":
            # State in this database belongs to the same log as its checkpoint. External state may
            # include events that no longer exist.
            yield from self.release()
            raise EpochMismatch(self.position, None, (), begun_in, self._epoch)
        return True

    def renew_lease(self) -> Operation[None]:
        """Renew the lease. Each batch renews it, too.

        Raises:
            LeaseLost: another worker has taken over.
        """
        yield Statement("projections.heartbeat", self._lease())

    def renewal(self) -> Statement | None:
        """Return the statement that only renews the lease; None without a lease."""
        return Statement("projections.renew_lease", self._lease()) if self.token else None

    def reload_checkpoint(self) -> Operation[None]:
        """Read the checkpoint and start again from there, after an error with unknown outcome.

        Raises:
            LeaseLost: another worker has taken over.
        """
        ((self.position,),) = yield Statement("projections.heartbeat", self._lease())
        self.forget()

    def release(self) -> Operation[None]:
        """Give the partition back; other workers can take it at once."""
        yield Statement("projections.release", self._lease())
        self.token = 0

    @property
    def is_caught_up(self) -> bool:
        """Whether the state includes all events up to the last known head."""
        known = self._reading.known_head
        return known is not None and self.position >= known

    def has_more(self, state: HeadState | None) -> bool:
        """Return whether a head is beyond the events read so far, or of another epoch."""
        return self._reading.has_more(state)

    def extend(self, state: HeadState | None) -> None:
        """Read up to a newer head."""
        if state is not None:
            self._reading.extend(state)

    def read_up_to(self, position: int) -> None:
        """Read up to a position that need not be settled; the caller ensures that this is safe."""
        self._reading.read_up_to(position)

    def next_batch(self) -> Operation[Batch]:
        """Read the next events that this partition handles, maybe none.

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
            except EpochMismatch as error:  # its checkpoint belongs to the current log
                raise LeaseLost from error
        position = self._reading.position
        return Batch(
            tuple(event for event in events if self._falls_here(event)),
            position,
            position >= (self._reading.known_head or 0),
        )

    def _next_events(self, reading: LogReading) -> Operation[list[RecordedEvent]]:
        try:
            return (yield from reading.next_window())
        except (UnknownEventType, DecodingFailed, UpcastingFailed):
            return (yield from self._next_one_by_one(reading))

    def project(self) -> Operation[Batch]:
        """Fold the next batch into the documents, and move the checkpoint.

        Raises:
            LeaseLost: another worker has taken over; nothing was stored.
            ProjectionFailed: the projection failed; nothing was stored.
        """
        batch = yield from self.next_batch()
        yield from self.commit(batch)
        return batch

    def commit(self, batch: Batch, known: Sequence[Any] = ()) -> Operation[None]:
        """Fold a batch into the documents, and store them together with the checkpoint.

        Args:
            batch: the last result of `next_batch`.
            known: the result of the projection's `enrich`, as arguments for handlers.

        Raises:
            LeaseLost: another worker has taken over; nothing was stored.
            ProjectionFailed: the projection failed; nothing was stored.
        """
        if batch.position == self.position:
            return
        folding = self._folding
        steps = folding.route(batch.events)
        if folding.size > _KEPT_BYTES:
            folding.documents.clear()
        missing = list({key for _, key in steps if key not in folding.documents})
        if missing:
            rows = yield Statement(
                "projections.load_documents", {"projection_id": self.build_id, "keys": missing}
            )
            bring(self.definition, folding, missing, rows)
        folding.fold(steps, known)
        changed, removed = changes(self.definition, folding)
        yield Statement(
            "projections.commit",
            {
                **self._lease(),
                **self._step(batch),
                "event_count": len({event.position for event, _ in steps}),
                "changed": changed,
                "removed": removed,
            },
        )
        self.moved(batch)

    def lock(self) -> Operation[None]:
        """Lock the partition until the transaction ends: no other worker can take over.

        Raises:
            LeaseLost: another worker has taken over.
        """
        yield Statement("projections.lock", self._lease())

    def advance(self, batch: Batch) -> Operation[None]:
        """Move the checkpoint in the current transaction. Call `moved` after its commit.

        Raises:
            LeaseLost: another worker has taken over.
        """
        ((is_first,),) = yield Statement(
            "projections.advance", {**self._lease(), **self._step(batch)}
        )
        if not is_first and batch.events and self.definition.kind == "tables":
            raise LeaseLost  # another run has already stored what the handlers just wrote

    def moved(self, batch: Batch) -> None:
        """Record in memory that the transaction of a batch was committed."""
        self.position = batch.position
        self._folding.changed.clear()

    def _step(self, batch: Batch) -> dict[str, object]:
        return {"after": self.position, "upto": batch.position, "event_count": len(batch.events)}

    def _lease(self) -> dict[str, object]:
        return {
            "projection_id": self.build_id,
            "partition": self.partition,
            "token": self.token,
        }

    def _falls_here(self, event: RecordedEvent) -> bool:
        definition = self.definition
        return (
            definition.takes(event)
            and event.position not in self.parked
            and (
                definition.partitions == 1
                or not definition.is_by_stream
                or partition_of(event.stream, definition.partitions) == self.partition
            )
        )

    def _next_one_by_one(self, reading: LogReading) -> Operation[list[RecordedEvent]]:
        """Read the window in which an event does not fit its class, and skip parked events."""

        def is_wanted(stored: RecordedEvent) -> bool:
            return stored.position not in self.parked and self.partition in partitions_of(
                self.definition, stored
            )

        self._reading, fitting = yield from read_one_by_one(
            self._codec, self.definition, reading, is_wanted
        )
        return fitting


def partitions_of(definition: ProjectionDefinition, event: RecordedEvent) -> Sequence[int]:
    """Return the partitions that may handle an event, without decoding its data."""
    if definition.is_by_stream:
        return (partition_of(event.stream, definition.partitions),)
    return range(definition.partitions)


def read_one_by_one(
    codec: Codec,
    definition: ProjectionDefinition,
    reading: LogReading,
    is_wanted: Callable[[RecordedEvent], bool],
) -> Operation[tuple[LogReading, list[RecordedEvent]]]:
    """Read the window in which an event does not fit its class, without unwanted events.

    Returns:
        A reading that continues after the window, and the events.

    Raises:
        ProjectionFailed: a wanted event cannot be read.
    """
    query = definition.query
    plain = reading.continue_with(Codec(), codec.upcasting.stored(query), after=reading.position)
    fitting: list[RecordedEvent] = []
    for stored in (yield from plain.next_window()):
        if is_wanted(stored):
            try:
                events = decode_rows(codec, [_row(stored)], query=query)
            except (UnknownEventType, DecodingFailed, UpcastingFailed) as why:
                raise ProjectionFailed(definition.name, stored.position, stored.type, why) from why
            fitting += events
    return reading.continue_with(codec, query, after=plain.position), fitting


def _row(stored: RecordedEvent) -> tuple[Any, ...]:
    """Return the row from which an event with plain data was read."""
    data = None if stored.is_erased else _encode(stored.data)
    return stored_form(stored, data, _encode(stored.metadata))
