"""All errors of the library, in one tree.

IndelibleError
├── InvalidInput (ValueError)     an argument is wrong; nothing was sent
│   ├── EncodingFailed            an event's data cannot be written as JSON
│   ├── EventTooLarge             an event is over the size limit
│   └── UnregisteredEventClass    the event's class is not registered in `events=`
├── AppendRejected                the append was rejected; nothing was stored
│   ├── WrongExpectedVersion      the stream is at another version
│   ├── AppendConditionFailed     an event conflicts with the append condition
│   ├── ChannelMismatch           the stream belongs to another channel
│   ├── DuplicateEvent            an event id is already stored
│   └── StreamClosed              the stream is closed
├── EpochMismatch                 the log has lost events that a reader may have seen
├── GroupExists                   the consumer group already exists with other settings
├── GroupNotFound                 the consumer group does not exist
├── LeaseLost                     the worker's lease expired; its events were reassigned
├── ProjectionDefinitionChanged   this version is registered with another definition
├── ProjectionFailed              a projection failed on an event
├── ProjectionNotReady            this version of a projection is not built yet
├── ProjectionNotFound            the projection does not exist
├── ProjectionStopped             a partition of a projection stopped because its code failed
├── WaitTimeout                   a reader did not reach a position in time
├── StreamErased                  events that a state depends on were erased
├── StreamNotClosed               the stream must be closed before it is archived
├── StreamNotFound                the stream does not exist
├── UnknownEventType              a stored event type has no registered class
├── DecodingFailed                stored data does not fit the registered class
├── UpcastingFailed               an upcaster failed on a stored event
├── SchemaError                   the database has no store that this library can use
│   ├── SchemaMissing             the schema has no store
│   ├── SchemaOutdated            the store was made by an older library
│   └── SchemaTooNew              the store was made by a newer library
├── TokenNotFound                 the token does not exist
├── TransactionConflict           the database rolled back the transaction; it can be retried
├── TransactionEnded              the transaction was used after its block
├── UnsupportedIsolationLevel     the transaction's snapshot may be older than the head
├── PermissionDenied              the database role, or the token, lacks a right
│   └── TokenRefused              the server does not accept the token
├── NeedsDatabase                 the call cannot be made over HTTP
├── DatabaseError                 any other error of the database
│   └── ServerBusy                the statement failed for now; it can be retried
│       └── LockTimeout           other transactions held a lock for too long
├── DatabaseUnreachable           no connection could be made
├── ConnectionLost                the connection broke, and the outcome is unknown
├── StoreClosed                   the store is closed
├── StoreForked                   the store was opened before this process was forked
├── WrongEventLoop                the store was opened in another event loop
└── EmbeddedUnavailable           the embedded PostgreSQL cannot be used here
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Self, TypeVar
from uuid import UUID

E = TypeVar("E", bound="IndelibleError")

UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
"""Characters that PostgreSQL cannot store: NUL and lone surrogates."""
_TEXT_LENGTH = 2_000


def describe(error: object) -> str:
    """Describe an error in a text that PostgreSQL can store.

    Args:
        error: an exception, described with the name of its class, or any other value.

    Returns:
        At most 2,000 characters, without NUL and lone surrogates.
    """
    try:
        text = str(error)
    except Exception as failure:
        text = f"(str() of the error raised {type(failure).__name__})"
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}"
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:_TEXT_LENGTH]


class IndelibleError(Exception):
    """The base class of all errors that the library raises.

    What to do: Catch it to handle every error of the library in one place.
    """

    location: str = ""
    """Where it happened, such as `line 17` or `event 3`. The text of the error starts with it."""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.location}: {text}" if self.location else text

    def add_location(self, where: str) -> Self:
        """Put an outer location before those added earlier, and return the error."""
        self.location = f"{where}: {self.location}" if self.location else where
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled between processes. Their constructors take attributes, not the message.
        return _made_again, (type(self), self.args, self.__dict__)


def _existing(names: Sequence[str]) -> str:
    return f"existing: {', '.join(map(repr, names))}" if names else "none exists yet"


def _made_again(kind: type[E], args: tuple[Any, ...], facts: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.args = args  # TimeoutError sets them only in its constructor
    error.__dict__.update(facts)
    return error


class InvalidInput(IndelibleError, ValueError):
    """An argument of a call is wrong. Nothing was sent to the database.

    What to do: Correct the argument that the message names.
    """


class EncodingFailed(InvalidInput):
    """The data of an event cannot be written as JSON.

    What to do: Store a value that JSON can hold in the field that the message names, or change
    its type.

    Attributes:
        event_type: the type of the event.
        field: the path of the field that cannot be written: `data.items[2].price`.
    """

    def __init__(self, event_type: str, field: str, reason: str) -> None:
        self.event_type = event_type
        self.field = field
        super().__init__(f"event {event_type!r} cannot be stored: {field} {reason}")


class EventTooLarge(InvalidInput):
    """An event is over the size limit.

    What to do: Store a reference to the large part, or connect with a larger `max_event_bytes`.

    Attributes:
        event_type: the type of the event.
        size: the bytes of the event's data and metadata as JSON.
        limit: the largest size in bytes, `max_event_bytes` of `connect`.
    """

    def __init__(self, event_type: str, size: int, limit: int) -> None:
        self.event_type = event_type
        self.size = size
        self.limit = limit
        super().__init__(
            f"event {event_type!r} has {size:,} bytes of data and metadata, over the limit of"
            f" {limit:,}: store a reference to the large part, or connect with a larger"
            " max_event_bytes"
        )


class UnregisteredEventClass(InvalidInput):
    """An event is an instance of a class that is not registered in `events=`.

    What to do: Name the class in `events=` of `connect`, or append a `NewEvent`.

    Attributes:
        event_class: the class.
    """

    def __init__(self, event_class: type) -> None:
        self.event_class = event_class
        name = event_class.__qualname__
        super().__init__(
            # A list in a list, a generator, a class instead of an instance.
            f"{name} is not an event class: pass an instance of a registered event class, or a"
            " NewEvent, or one flat list of these"
            if event_class.__module__ == "builtins"
            else f"{name} is not a registered event class: connect with events=[…, {name}],"
            " or append a NewEvent with a type and data"
        )


class AppendRejected(IndelibleError):
    """The append was rejected. None of its events was stored.

    What to do: Catch it if your code handles all rejected appends alike, otherwise one of its
    subclasses.
    """


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """One failed check of an expected version.

    Attributes:
        stream: the stream.
        expected: the `expected` of the caller: a version, `NO_STREAM` or `STREAM_EXISTS`.
        actual: the version of the stream's last event; -1 if the stream does not exist.
        last_event_id: the id of that event; None if there is none.
        last_recorded_at: when that event was recorded; None if there is none.
    """

    stream: str
    expected: int | Enum
    actual: int
    last_event_id: UUID | None
    last_recorded_at: datetime | None

    def __str__(self) -> str:
        if self.actual < 0:
            found = "it does not exist (version -1)"
        else:
            found = f"it is at version {self.actual}"
            if self.last_event_id is not None and self.last_recorded_at is not None:
                found += f", event {self.last_event_id} of {self.last_recorded_at.isoformat()}"
        expected = self.expected.name if isinstance(self.expected, Enum) else self.expected
        return f"stream {self.stream!r} was expected at {expected}, but {found}"


class WrongExpectedVersion(AppendRejected):
    """The stream is not at the version that the append expects (optimistic concurrency).

    Usually another writer appended first.

    What to do: Read the stream again, repeat the decision, and append with the version that you
    read. `handle` does this for you.

    Attributes:
        conflicts: all failed checks of the append, as `VersionConflict`.
        stream: the stream of the first conflict.
        expected: the version expected in the first conflict.
        actual: the version of that stream's last event; -1 if the stream does not exist.
        last_event_id: the id of that event; None if there is none.
        last_recorded_at: when that event was recorded; None if there is none.

    Example:
        ```python
        try:
            store.append("order-17", OrderTipped(2), expected=4)
        except WrongExpectedVersion as conflict:
            print(conflict.stream, "is at version", conflict.actual)
        ```
    """

    def __init__(self, conflicts: Sequence[VersionConflict]) -> None:
        self.conflicts: tuple[VersionConflict, ...] = tuple(conflicts)
        first = self.conflicts[0]
        self.stream: str = first.stream
        self.expected: int | Enum = first.expected
        self.actual: int = first.actual
        self.last_event_id: UUID | None = first.last_event_id
        self.last_recorded_at: datetime | None = first.last_recorded_at
        found = "; ".join(str(conflict) for conflict in self.conflicts)
        super().__init__(
            f"{found}. Nothing of this append was stored; read the stream again and repeat the"
            " decision"
        )


class AppendConditionFailed(AppendRejected):
    """An event that the decision has not seen matches the query of the append condition.

    What to do: Read the events again (`read_matching`), repeat the decision, and append with the
    new marker. `decide_with` does this for you.

    Attributes:
        events: the conflicting events, as `RecordedEvent`, in order of position; at most ten.
    """

    def __init__(self, events: Sequence[Any]) -> None:
        self.events: tuple[Any, ...] = tuple(events)
        found = "; ".join(
            f"{event.type} at position {event.position} of stream {event.stream!r}"
            for event in self.events[:3]
        )
        more = ", and more" if len(self.events) > 3 else ""
        super().__init__(
            f"the append condition failed because of events that were not read: {found}{more}."
            " Nothing of this append was stored; read again and repeat the decision"
        )


class ChannelMismatch(AppendRejected):
    """The stream belongs to another channel. The first append to a stream fixes its channel.

    What to do: Append with the channel of the stream, or to another stream.

    Attributes:
        stream: the stream.
        channel: the channel of the append.
        actual: the channel that the stream belongs to.
    """

    def __init__(self, stream: str, channel: str, actual: str) -> None:
        self.stream = stream
        self.channel = channel
        self.actual = actual
        super().__init__(
            f"stream {stream!r} belongs to channel {actual!r}, not {channel!r}. Nothing of"
            f" this append was stored; append with channel={actual!r}, or to another stream"
        )


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An event id of an append that is already stored.

    Attributes:
        id: the event id.
        stream: the stream of the stored event.
        version: the version of the stored event in that stream.
        same_content: whether type, data, metadata, tags and valid time are equal.
    """

    id: UUID
    stream: str
    version: int
    same_content: bool


class DuplicateEvent(AppendRejected):
    """An event id is already stored, and the append is not an exact retry.

    An exact retry succeeds with `idempotent=True`. It repeats all ids, in the same streams and
    order, with the same content, at the expected versions.

    What to do: Give new events new ids. To retry an append, repeat it with the same content and
    expected version.

    Attributes:
        duplicates: the ids that are already stored, as `Duplicate`.
    """

    def __init__(self, duplicates: Sequence[Duplicate]) -> None:
        self.duplicates: tuple[Duplicate, ...] = tuple(duplicates)
        found = "; ".join(
            f"event {duplicate.id} is already stored in stream {duplicate.stream!r} at version"
            f" {duplicate.version}" + ("" if duplicate.same_content else " with other content")
            for duplicate in self.duplicates
        )
        super().__init__(
            f"{found}. Nothing of this append was stored; use a new id for each new event"
        )


class StreamClosed(AppendRejected):
    """The stream is closed. It takes no new events, at any expected version, until it is reopened.

    What to do: Append to another stream, or reopen this one with `reopen_stream`.

    Attributes:
        stream: the stream.
        version: the version of its last event.
        closed_at: when it was closed.
    """

    def __init__(self, stream: str, version: int, closed_at: datetime) -> None:
        self.stream = stream
        self.version = version
        self.closed_at = closed_at
        super().__init__(
            f"stream {stream!r} was closed at {closed_at.isoformat()}, at version {version}."
            " Nothing of this append was stored; append to another stream, or reopen this one:"
            f" indelible streams reopen {stream}"
        )


class EpochMismatch(IndelibleError):
    """The log may have lost events that a reader has seen, in a failover or a restore.

    What to do: Undo what was done for the events after `safe_through`, and continue after that
    position.

    Attributes:
        position: the position that the reader had reached; None if it is not known.
        safe_through: up to this position the log is the same as the one that was read. Continue
            after it. None if no such position is known.
        lost: the known ids of lost events that the reader may have seen.
        checkpoint: the epoch of the reader's checkpoint; None if it is not known.
        epoch: the epoch of the store; None if it is not known.
    """

    def __init__(
        self,
        position: int | None = None,
        safe_through: int | None = None,
        lost: Sequence[UUID] = (),
        checkpoint: UUID | None = None,
        epoch: UUID | None = None,
    ) -> None:
        self.position = position
        self.safe_through = safe_through
        self.lost: tuple[UUID, ...] = tuple(lost)
        self.checkpoint = checkpoint
        self.epoch = epoch
        if position is None:
            super().__init__("the store failed over or was restored during the read: read again")
            return
        gone = ""
        if self.lost:
            ids = ", ".join(map(str, self.lost))
            gone = f" Lost, and possibly seen by the reader: event {ids} and events before it."
        if safe_through is None:
            remedy = (
                " The last position that is still the same is not known: continue from an earlier"
                " checkpoint, or read again from the beginning (after=0)"
            )
        else:
            remedy = (
                f" The log is the same up to position {safe_through}: undo the effects of later"
                f" events, and continue with after={safe_through}"
            )
        super().__init__(
            f"the log has lost events below position {position}, which the reader had reached: the"
            f" store failed over or was restored (epoch {checkpoint}, now {epoch})."
            f"{gone}{remedy}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.position, self.safe_through, self.lost, self.checkpoint, self.epoch)
        return type(self), given, self.__dict__


class GroupExists(IndelibleError):
    """The consumer group already exists with other settings.

    What to do: Choose another name, or create the group with `exists="change"` to change its
    settings.

    Attributes:
        group: the name of the group.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(
            f"consumer group {group!r} already exists with other settings: choose another name, or"
            ' change its settings with exists="change" (indelible groups create --update); it keeps'
            " its checkpoint"
        )


class GroupNotFound(IndelibleError):
    """The consumer group does not exist.

    What to do: Check the name, or create the group: `indelible groups create NAME`.

    Attributes:
        group: the name of the group.
        groups: the names of the existing groups.
    """

    def __init__(self, group: str, groups: Sequence[str] = ()) -> None:
        self.group = group
        self.groups: tuple[str, ...] = tuple(groups)
        super().__init__(
            f"consumer group {group!r} does not exist ({_existing(self.groups)}). Check the name,"
            f" or create it: indelible groups create {group}"
        )


class LeaseLost(IndelibleError):
    """The lease of a worker expired, and other workers took over its events.

    The transaction of `Delivery.transaction` is rolled back. Another worker handles the event, or
    an earlier transaction has already finished it.

    What to do: If handlers or pauses take longer than the lease, create the group with a longer
    one.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "the worker's lease expired and other workers took over its events, so this"
            " transaction was rolled back; if handlers or pauses take longer than the lease,"
            " create the group with a longer lease"
        )


def rebuild_command(projection: str) -> str:
    """Return the command that rebuilds a projection."""
    return f"indelible projections rebuild {projection} --app MODULE:APP"


class ProjectionDefinitionChanged(IndelibleError):
    """A projection is registered under this version with another definition.

    The kind, query, partitions, indexes or lifecycle of its code differ from the registered ones.

    What to do: Increase the version of the projection and rebuild it.

    Attributes:
        projection: the name of the projection.
        version: the version of its code.
        lifecycle: the registered lifecycle, `inline` or `async`, if it is now used as the other;
            else None.
    """

    def __init__(self, projection: str, version: int, lifecycle: str | None = None) -> None:
        self.projection = projection
        self.version = version
        self.lifecycle = lifecycle
        if lifecycle == "inline":
            super().__init__(
                f"projection {projection!r} version {version} is inline, so only appends update it:"
                f" connect with inline=[…]; to rebuild it, run {rebuild_command(projection)}"
            )
            return
        if lifecycle == "async":
            super().__init__(
                f"projection {projection!r} version {version} is async and cannot be inline under"
                " the same version: increase its version and build the new one:"
                f" {rebuild_command(projection)}"
            )
            return
        super().__init__(
            f"projection {projection!r} version {version} is registered with a different kind,"
            " query, partitions or indexes; increase its version to build the new definition"
        )


class ProjectionFailed(IndelibleError):
    """A projection raised an error, or an event could not be decoded for it.

    What to do: Fix the projection. Nothing of the failed batch was stored.

    Attributes:
        projection: the name of the projection.
        position: the position of the event that it failed on; None if no single event is known.
        event_type: the type of that event; None if no single event is known.
    """

    def __init__(
        self,
        projection: str,
        position: int | None,
        event_type: str | None,
        error: BaseException,
    ) -> None:
        self.projection = projection
        self.position = position
        self.event_type = event_type
        where = "" if position is None else f" at position {position} ({event_type})"
        super().__init__(
            f"projection {projection!r} failed{where}: {describe(error)}; its batch was rolled back"
        )


class ProjectionNotReady(IndelibleError):
    """This version of a projection is not built yet, so it cannot be read or kept up to date.

    What to do: Build it: `indelible projections rebuild NAME --app MODULE:APP`.

    Attributes:
        projection: the name of the projection.
        version: the version of its code.
    """

    def __init__(self, projection: str, version: int) -> None:
        self.projection = projection
        self.version = version
        super().__init__(
            f"projection {projection!r} version {version} is not ready: it has not processed all"
            f" earlier events. Build it: {rebuild_command(projection)}"
        )


class ProjectionNotFound(IndelibleError):
    """The projection does not exist in the store.

    What to do: Check the name, or run the projection, or connect with it in `inline=`.

    Attributes:
        projection: the name of the projection.
        projections: the names of the existing projections.
    """

    def __init__(self, projection: str, projections: Sequence[str] = ()) -> None:
        self.projection = projection
        self.projections: tuple[str, ...] = tuple(projections)
        super().__init__(
            f"projection {projection!r} does not exist ({_existing(self.projections)}): check the"
            " name, run the projection, or connect with inline=[…]"
        )


class ProjectionStopped(IndelibleError):
    """A projection cannot be built because one of its partitions failed and stopped.

    What to do: Fix the projection and rebuild it. The rebuild resumes where it stopped.

    Attributes:
        projection: the name of the projection.
        version: the version of its code.
        partition: the number of the stopped partition.
        position: the position of the event that it failed on; None if no single event is known.
    """

    def __init__(
        self,
        projection: str,
        version: int,
        partition: int,
        position: int | None,
        error: str | None,
    ) -> None:
        self.projection = projection
        self.version = version
        self.partition = partition
        self.position = position
        super().__init__(
            f"partition {partition} of projection {projection!r} version {version} is stopped:"
            f" {error}. Fix the projection and run the rebuild again; it resumes at the failed"
            " event"
        )


class WaitTimeout(IndelibleError, TimeoutError):
    """A consumer group or projection did not reach a position in time.

    What to do: See what the reader waits for: `indelible groups show NAME`. Or wait with a
    larger `timeout`.

    Attributes:
        reader: the name of the consumer group or projection.
        position: the position waited for.
        checkpoint: the reader's checkpoint at the end of the wait.
    """

    def __init__(self, reader: str, position: int, checkpoint: int, seconds: float) -> None:
        self.reader = reader
        self.position = position
        self.checkpoint = checkpoint
        super().__init__(
            f"{reader!r} is at {checkpoint:,} and did not reach position {position:,} in"
            f" {seconds:g} s: look for missing workers and for errors with `indelible groups show"
            f" {reader}` or `indelible projections list`"
        )


class StreamErased(IndelibleError):
    """A state cannot be loaded because events of its stream were erased.

    What to do: Use another stream.

    Attributes:
        stream: the stream.
        version: the version of the first erased event.
    """

    def __init__(self, stream: str, version: int) -> None:
        self.stream = stream
        self.version = version
        super().__init__(
            f"stream {stream!r} was erased from version {version} on, so its state cannot be"
            " loaded; use another stream"
        )


class StreamNotClosed(IndelibleError):
    """The stream is open. Only a closed stream can be archived.

    What to do: Close the stream first with `close_stream`.

    Attributes:
        stream: the stream.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(
            f"stream {stream!r} cannot be archived because it is open; close it first:"
            f" indelible streams close {stream} --expected VERSION"
        )


class TokenNotFound(IndelibleError):
    """The token does not exist.

    What to do: Look up its id with `tokens()`, or `indelible tokens list`.

    Attributes:
        id: the id that was asked for.
    """

    def __init__(self, token_id: str) -> None:
        self.id = token_id
        super().__init__(
            f"there is no token {token_id!r}: look up its id (indelible tokens list), which is the"
            " part between the underscores"
        )


class StreamNotFound(IndelibleError):
    """The stream does not exist: no event was ever appended to it.

    What to do: Check the name of the stream, or read without `must_exist`.

    Attributes:
        stream: the stream.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(
            f"stream {stream!r} does not exist: check its name (indelible streams list), or read"
            " without must_exist"
        )


class UnknownEventType(IndelibleError):
    """A stored event has a type without a registered class.

    What to do: Name the class in `events=` of `connect`, or connect with `unknown="keep"` to
    get the data as a dict.

    Attributes:
        event_type: the type.
    """

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        super().__init__(
            f"event type {event_type!r} has no registered class: add its class to events= of"
            ' connect, or connect with unknown="keep" to get its data as a dict'
        )


class DecodingFailed(IndelibleError):
    """Stored data does not fit the class registered for its type.

    What to do: Give new fields a default, write an `Upcaster`, or read with a store that does
    not register the class.

    Attributes:
        event_type: the type.
        event_class: its class.
        place: the path of the field that does not fit, `.items[2].price`; empty if it is not known.
        reason: why it does not fit, without the value, which may be personal data.
    """

    def __init__(self, event_type: str, event_class: type, reason: str, place: str = "") -> None:
        self.event_type = event_type
        self.event_class = event_class
        self.place = place
        self.reason = reason
        at = f" at {place.removeprefix('.')}" if place else ""
        super().__init__(
            f"stored data of event type {event_type!r} does not fit"
            f" {event_class.__qualname__}{at}: {reason}. Give new fields a default, or read the"
            " event with a store that does not register the class"
        )


class UpcastingFailed(IndelibleError):
    """An upcaster raised an error on a stored event, or returned data that does not fit.

    What to do: Correct the upcaster. The stored event is unchanged.

    Attributes:
        stream: the stream of the event.
        version: the version of the event in the stream.
        event_type: the stored type of the event.
        upcaster: the description of the upcaster.
    """

    def __init__(
        self, stream: str, version: int, event_type: str, upcaster: str, reason: str
    ) -> None:
        self.stream = stream
        self.version = version
        self.event_type = event_type
        self.upcaster = upcaster
        super().__init__(
            f"event {version} of stream {stream!r}, stored as {event_type!r}, cannot be read: the"
            f" upcaster {upcaster} {reason}. Fix the upcaster; the stored event is unchanged"
        )


class SchemaError(IndelibleError):
    """The database has no store that this library can use.

    What to do: Follow the message, or what one of its subclasses says.

    Attributes:
        schema: the name of the PostgreSQL schema.
    """

    def __init__(self, schema: str, message: str) -> None:
        self.schema = schema
        super().__init__(message)


class SchemaMissing(SchemaError):
    """The schema has no store.

    What to do: Run `indelible store init`, or connect with `migrate=True`.
    """

    def __init__(self, schema: str) -> None:
        super().__init__(
            schema,
            f"schema {schema!r} has no store: run `indelible store init --schema {schema}`,"
            " or connect with migrate=True",
        )


class SchemaOutdated(SchemaError):
    """The store was made by an older library.

    What to do: Run `indelible store migrate`, or connect with `migrate=True`.

    Attributes:
        found: the version of the store's tables, or of its functions.
        wanted: the version that this library needs.
    """

    def __init__(self, schema: str, found: int, wanted: int, what: str = "version") -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            schema,
            f"the store in schema {schema!r} is at {what} {found}, but this library needs"
            f" {wanted}: run `indelible store migrate --schema {schema}`, or connect"
            " with migrate=True",
        )


class SchemaTooNew(SchemaError):
    """The store was made by a newer library.

    What to do: Upgrade the library: `pip install --upgrade indelible`.

    Attributes:
        found: the version of the store's tables.
        wanted: the newest version that this library supports.
    """

    def __init__(self, schema: str, found: int, wanted: int) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            schema,
            f"the store in schema {schema!r} is at version {found}, but this library supports at"
            f" most version {wanted}: run `pip install --upgrade indelible`",
        )


class TransactionConflict(IndelibleError):
    """The database rolled back the transaction: a deadlock or a serialization failure.

    What to do: Run the whole transaction again.
    """


class TransactionEnded(IndelibleError):
    """The object of a transaction was used after the block of the transaction had ended.

    Nothing was sent. Usually a task or a thread that the block started is still running, for
    example because `asyncio.gather` does not cancel the others when one fails.

    What to do: Use the object inside the block only. Wait for the tasks that use it before the
    block ends, for example with `asyncio.TaskGroup`.
    """

    def __init__(self) -> None:
        super().__init__(
            "the transaction has ended, and its object cannot be used any more: use it inside of"
            " its `with` block only, and let the block wait for the tasks and threads that use it"
        )


class UnsupportedIsolationLevel(IndelibleError):
    """The log was read in a transaction whose snapshot may be older than the head.

    What to do: Read the log in a transaction with the isolation level `READ COMMITTED`.
    """


class PermissionDenied(IndelibleError):
    """The database role, or the token of a store over HTTP, lacks the right for this operation.

    What to do: Connect as the owner of the store, or grant the role that the message names. Over
    HTTP, use a token that may do this.
    """


class TokenRefused(PermissionDenied):
    """The server does not accept the token: it is missing or unknown, has expired or was revoked.

    What to do: Pass `token=` to `connect`. Create a token with `indelible tokens create`.
    """


class NeedsDatabase(IndelibleError):
    """The call cannot be made over HTTP, because it needs a connection to the database.

    What to do: Make the call in a program that connects with the URL of the database.
    """

    def __init__(self) -> None:
        super().__init__(
            "this call cannot be made over HTTP, because it needs a connection to the database:"
            " make it in a program that connects with the URL of the database (postgresql://…)"
        )


class DatabaseError(IndelibleError):
    """The database raised another error. The message is that of the database.

    What to do: Follow the message of the database.
    """


class ServerBusy(DatabaseError):
    """The database could not run a statement for now. Nothing of the statement was stored.

    The statement was cancelled or timed out, or the server lacked connections, memory or disk
    space, or its disk failed.

    What to do: Try again later. Subscriptions and consumer groups do so by themselves.
    """


class LockTimeout(ServerBusy):
    """Other transactions held a lock for longer than the lock timeout.

    Nothing of the statement was stored.

    What to do: End the transactions in `holders`, or try again.

    Attributes:
        holders: descriptions of the transactions that hold locks of the store, those open for
            longest. Each names process, application, age and last statement.
    """

    def __init__(self, message: str, holders: Sequence[str] = ()) -> None:
        self.holders: tuple[str, ...] = tuple(holders)
        super().__init__(message)


class DatabaseUnreachable(IndelibleError):
    """No connection could be made. The message names the server.

    What to do: Check the URL and that the server runs and is no standby. If the pool was empty,
    use a larger `pool_size`.
    """


class ConnectionLost(IndelibleError):
    """The connection broke during a write. The message says what is known of the outcome.

    What to do: Append again with the same event ids: nothing is stored twice. Or look for
    `event_ids` in the stream.

    Attributes:
        event_ids: the ids of the events of the append, if they are known. Append the events again
            with these ids (`NewEvent.id`): the retry is idempotent. Or look for the ids in the
            stream to learn the outcome.
    """

    def __init__(self, message: str, event_ids: Sequence[UUID] = ()) -> None:
        self.event_ids: tuple[UUID, ...] = tuple(event_ids)
        super().__init__(message)


class StoreClosed(IndelibleError):
    """The store was used after it was closed.

    What to do: Open another store with `connect`.
    """

    def __init__(self) -> None:
        super().__init__("the store is closed: open a new one with connect()")


class StoreForked(IndelibleError):
    """The store was opened before this process was forked.

    Its connections belong to the parent process. Sharing them would mix up the replies.

    What to do: Connect in the process that uses the store.

    Attributes:
        pid: the id of the process that opened the store.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(
            f"the store was opened in process {pid}, before the fork: connect again in this process"
        )


class WrongEventLoop(IndelibleError):
    """An `AsyncEventStore` was used in an event loop other than the one that opened it.

    Its connections are bound to that loop. Each call of `asyncio.run` creates a new loop.

    What to do: Use the store inside the `asyncio.run` that it was opened in, or open one in
    each.
    """

    def __init__(self) -> None:
        super().__init__(
            "the store was opened in another event loop: use it inside the asyncio.run() that"
            " opened it, or open a store in each"
        )


class EmbeddedUnavailable(IndelibleError):
    """The embedded PostgreSQL cannot be used. The message says why and what to do.

    What to do: Follow the message: it names what is missing.
    """
