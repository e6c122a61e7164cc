"""Every error of the library, in one tree.

IndelibleError
├── InvalidInput (ValueError)     the call's arguments are wrong; nothing was sent
│   ├── EncodingFailed            an event's data cannot be written as JSON
│   ├── EventTooLarge             an event is over the size limit
│   └── UnregisteredEventClass    an instance of a class that `events=` does not name
├── AppendRejected                the store took nothing
│   ├── WrongExpectedVersion      the stream is at another version
│   ├── AppendConditionFailed     an event stands in the way of the append's condition
│   ├── ChannelMismatch           the stream belongs to another channel
│   ├── DuplicateEvent            an event id is in the store already
│   └── StreamClosed              the stream takes no more events
├── EpochMismatch                 the log has lost events that a reader may have seen
├── GroupExists                   a consumer group of that name has other settings
├── GroupNotFound                 there is no consumer group of that name
├── LeaseLost                     others have taken over what this worker held
├── ProjectionDefinitionChanged   a projection was begun in another way under this version
├── ProjectionFailed              the code of a projection failed at an event
├── ProjectionNotReady            a projection cannot be read or kept up to date yet
├── ProjectionNotFound            there is no projection of that name
├── ProjectionStopped             a projection waits for an operator, its code failed
├── WaitTimeout                   a reader did not come as far as was waited for
├── StreamErased                  what made up a state was erased
├── StreamNotClosed               only a closed stream can be archived
├── StreamNotFound                the stream was never written (and `must_exist=True`)
├── UnknownEventType              a stored type has no registered class
├── DecodingFailed                stored data does not fit the registered class
├── UpcastingFailed               an upcaster cannot be applied to a stored event
├── SchemaError                   the database has no store that this library can use
│   ├── SchemaMissing
│   ├── SchemaOutdated
│   └── SchemaTooNew
├── TransactionConflict           the database undid the transaction; it may be run again
├── UnsupportedIsolationLevel     the head was asked for in a snapshot that may be older
├── PermissionDenied              the role may not do this
├── DatabaseError                 the database refused for a reason of its own
│   └── ServerBusy                the database could not do it now; it may be tried again
│       └── LockTimeout           others held a lock for too long
├── DatabaseUnreachable           no connection could be made
├── ConnectionLost                the connection broke, and the outcome is unknown
├── StoreClosed                   the store was closed before
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
"""Characters that the database does not keep: NUL, and half a surrogate pair."""
_TEXT_LENGTH = 2_000


def describe(error: object) -> str:
    """Tell an error in a text that can be stored, whatever it was raised with.

    Args:
        error: an exception, which is told with its class, or anything else.

    Returns:
        At most 2,000 characters, without NUL and lone surrogates.
    """
    try:
        text = str(error)
    except Exception as failure:
        text = f"(its text cannot be made: {type(failure).__name__})"
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}"
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:_TEXT_LENGTH]


class IndelibleError(Exception):
    """The root of all errors that the library raises on purpose.

    What to do: Catch it to handle every error of the library in one place.
    """

    location: str = ""
    """Where in the input or in the store it happened: `line 17`, `event 3`; its text begins so."""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.location}: {text}" if self.location else text

    def add_location(self, where: str) -> Self:
        """Note where it happened, around what was noted before."""
        self.location = f"{where}: {self.location}" if self.location else where
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes; their constructors take facts, and not the message.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[E], args: tuple[Any, ...], facts: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.args = args  # TimeoutError takes them in its constructor only
    error.__dict__.update(facts)
    return error


class InvalidInput(IndelibleError, ValueError):
    """The arguments of a call are wrong. Nothing was sent to the database.

    What to do: Correct the argument that the message names.
    """


class EncodingFailed(InvalidInput):
    """The data of an event cannot be written as JSON.

    What to do: Store a value that JSON can hold in the field that the message names, or change
    its type.

    Attributes:
        field: the path of the field at fault: `data.items[2].price`.
    """

    def __init__(self, event_type: str, field: str, reason: str) -> None:
        self.event_type = event_type
        self.field = field
        super().__init__(f"event {event_type!r} cannot be stored: {field} {reason}")


class EventTooLarge(InvalidInput):
    """An event is larger than the store takes.

    What to do: Store a reference to the large part, or connect with a larger `max_event_bytes`.

    Attributes:
        size: bytes of the event's data and metadata as JSON.
        limit: bytes that the store takes, `max_event_bytes` of `connect`.
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
    """An event is an instance of a class that the store was not told of.

    What to do: Name the class in `events=` of `connect`, or append a `NewEvent`.
    """

    def __init__(self, event_class: type) -> None:
        self.event_class = event_class
        name = event_class.__qualname__
        super().__init__(
            # A list in a list, a generator, a class instead of an instance.
            f"a {name} is no event: pass instances of event classes, or NewEvent with a type and"
            " data; several in one list"
            if event_class.__module__ == "builtins"
            else f"{name} is not a registered event class: connect with events=[…, {name}],"
            " or append a NewEvent with its type and data"
        )


class AppendRejected(IndelibleError):
    """An append was refused as a whole. Nothing was stored.

    What to do: Catch it if your code handles all rejected appends alike, otherwise one of its
    subclasses.
    """


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """One failed check of an expected version.

    Attributes:
        stream: the stream.
        expected: what the caller expected: a version, `NO_STREAM` or `STREAM_EXISTS`.
        actual: the version of the stream's last event; -1 for a stream never written.
        last_event_id: the id of that event, if there is one.
        last_recorded_at: when that event was recorded.
    """

    stream: str
    expected: int | Enum
    actual: int
    last_event_id: UUID | None
    last_recorded_at: datetime | None

    def __str__(self) -> str:
        if self.actual < 0:
            found = "it was never written (version -1)"
        else:
            found = f"it is at version {self.actual}"
            if self.last_event_id is not None and self.last_recorded_at is not None:
                found += f", event {self.last_event_id} of {self.last_recorded_at.isoformat()}"
        expected = self.expected.name if isinstance(self.expected, Enum) else self.expected
        return f"stream {self.stream!r} was expected at {expected}, but {found}"


class WrongExpectedVersion(AppendRejected):
    """Another writer was there first, or the caller expected what never was.

    What to do: Load the stream again, decide again, and append with the version found. `handle`
    does so.

    Attributes:
        conflicts: every check of the call that failed, as `VersionConflict`.
        stream, expected, actual, last_event_id, last_recorded_at: those of the first.
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
            f"{found}. Nothing of this append was stored; read the stream again and decide anew"
        )


class AppendConditionFailed(AppendRejected):
    """Something that the decision has not seen stands in the way of the append's condition.

    What to do: Read again what you decide on (`read_matching`), decide again, and append with
    the new marker. `decide` does so.

    Attributes:
        events: the events in the way, as `RecordedEvent`, in order of position; ten at most.
    """

    def __init__(self, events: Sequence[Any]) -> None:
        self.events: tuple[Any, ...] = tuple(events)
        found = "; ".join(
            f"{event.type} at position {event.position} of stream {event.stream!r}"
            for event in self.events[:3]
        )
        more = ", and more" if len(self.events) > 3 else ""
        super().__init__(
            f"the condition of the append does not hold: {found}{more} came since it was read."
            " Nothing of this append was stored; read again and decide anew"
        )


class ChannelMismatch(AppendRejected):
    """A stream belongs to one channel for ever, and the append named another.

    What to do: Append with the channel of the stream, or to another stream.

    Attributes:
        stream, channel: what was asked for.
        actual: the channel that the stream belongs to.
    """

    def __init__(self, stream: str, channel: str, actual: str) -> None:
        self.stream = stream
        self.channel = channel
        self.actual = actual
        super().__init__(
            f"stream {stream!r} belongs to channel {actual!r}, not {channel!r}. Nothing of"
            f" this append was stored; append with channel={actual!r}, or to a stream of your own"
        )


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An event id of an append that the store has already.

    Attributes:
        id: the event id.
        stream, version: where the stored event stands.
        same_content: whether type, data, metadata, tags and valid time are the same.
    """

    id: UUID
    stream: str
    version: int
    same_content: bool


class DuplicateEvent(AppendRejected):
    """Event ids are in the store already, and the append is no exact retry.

    An exact retry (all ids there, in the same streams, in the same order, with the same content,
    at the expected versions) is a success with `idempotent=True` and not this error.

    What to do: Give new events new ids. To retry an append, repeat it with the same content and
    expected version.

    Attributes:
        duplicates: the ids found, as `Duplicate`.
    """

    def __init__(self, duplicates: Sequence[Duplicate]) -> None:
        self.duplicates: tuple[Duplicate, ...] = tuple(duplicates)
        found = "; ".join(
            f"event {duplicate.id} stands in stream {duplicate.stream!r} at version"
            f" {duplicate.version}" + ("" if duplicate.same_content else " with other content")
            for duplicate in self.duplicates
        )
        super().__init__(
            f"{found}. Nothing of this append was stored; give new events ids of their own"
        )


class StreamClosed(AppendRejected):
    """The stream was closed: it takes no more events, whatever version is expected.

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
            " Nothing of this append was stored; append to another stream, or reopen it:"
            f" indelible streams reopen {stream}"
        )


class EpochMismatch(IndelibleError):
    """The log may have lost events that a reader has seen, by a fail-over or a restore.

    What to do: Undo what was done for the events after `safe_through`, and continue after that
    position.

    Attributes:
        position: where the reader was; None if that is not known.
        safe_through: up to this position the log is the same as the one that was read: continue
            after it. None if no such position is known.
        lost: the ids of events that the reader may have seen and that are gone, as far as known.
        checkpoint: the epoch of the reader; None if that is not known.
        epoch: the epoch of the store; None if that is not known.
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
            super().__init__(
                "the store has failed over or was restored while it was read: read again"
            )
            return
        gone = ""
        if self.lost:
            ids = ", ".join(map(str, self.lost))
            gone = f" Gone, and maybe seen by the reader: event {ids} and those before it."
        if safe_through is None:
            remedy = (
                " No position is known up to which the log is the same: continue from a checkpoint"
                " that you kept earlier, or read again from the beginning (after=0)"
            )
        else:
            remedy = (
                f" The log is the same up to position {safe_through}: undo what was done for later"
                f" events, and continue with after={safe_through}"
            )
        super().__init__(
            f"the log has lost events below position {position}, which the reader has reached: the"
            f" store failed over or was restored (epoch {checkpoint}, today {epoch})."
            f"{gone}{remedy}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.position, self.safe_through, self.lost, self.checkpoint, self.epoch)
        return type(self), given, self.__dict__


class GroupExists(IndelibleError):
    """There is a consumer group of that name, with other settings.

    What to do: Choose another name, or create the group with `exists="change"` to change its
    settings.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(
            f"there is a consumer group {group!r} with other settings: choose another name, or"
            ' create it with exists="change" (indelible groups create --change) to change the'
            " settings from where it stands"
        )


class GroupNotFound(IndelibleError):
    """There is no consumer group of that name.

    What to do: Check the name, or create the group: `indelible groups create NAME`.

    Attributes:
        group: the name asked for.
        groups: the names of the groups that there are.
    """

    def __init__(self, group: str, groups: Sequence[str] = ()) -> None:
        self.group = group
        self.groups: tuple[str, ...] = tuple(groups)
        found = f"there are {', '.join(map(repr, self.groups))}" if groups else "there is none yet"
        super().__init__(
            f"there is no consumer group {group!r}; {found}. Check the name, or create it:"
            f" indelible groups create {group}"
        )


class LeaseLost(IndelibleError):
    """A worker was taken for dead, and others have taken over what it held.

    What was done in `Delivery.transaction` is undone; the event is handled by another worker, or
    an earlier transaction has finished it.

    What to do: If handlers or pauses take longer than the lease, create the group with a longer
    one.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "the worker's lease is over and others have taken over its events: nothing of this"
            " transaction was stored; if handlers or pauses take longer than the lease, create the"
            " group with a longer one"
        )


def rebuild_command(projection: str) -> str:
    """Say how a projection is built anew."""
    return f"indelible projections rebuild {projection} --app MODULE:APP"


class ProjectionDefinitionChanged(IndelibleError):
    """A projection was begun with another query, other partitions or indexes, or inline.

    What to do: Increase the version of the projection and rebuild it.

    Attributes:
        projection: its name.
        version: the version of its code.
        lifecycle: how it was begun, `inline` or `async`, where it is now used as the other.
    """

    def __init__(self, projection: str, version: int, lifecycle: str | None = None) -> None:
        self.projection = projection
        self.version = version
        self.lifecycle = lifecycle
        if lifecycle == "inline":
            super().__init__(
                f"version {version} of projection {projection!r} is inline: appends keep it up to"
                " date, and nothing else does. Connect with inline=[…]; to build it anew:"
                f" {rebuild_command(projection)}"
            )
            return
        if lifecycle == "async":
            super().__init__(
                f"version {version} of projection {projection!r} is kept by workers, and cannot be"
                " inline under the same version: raise its version, and build that:"
                f" {rebuild_command(projection)}"
            )
            return
        super().__init__(
            f"projection {projection!r} was begun as version {version} with another kind,"
            " query, partitions or indexes than its code has now: raise its version, so"
            " that a new one is built beside it"
        )


class ProjectionFailed(IndelibleError):
    """The code of a projection failed, or the event could not be read.

    What to do: Fix the projection. Nothing of the failed batch was stored.

    Attributes:
        projection: its name.
        position: the event that it failed at; None where no single one is to blame.
        event_type: that event's type.
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
            f"projection {projection!r} failed{where}: {describe(error)}; nothing of its batch was"
            " stored"
        )


class ProjectionNotReady(IndelibleError):
    """A version of a projection does not serve yet: it is being built, or is to be.

    What to do: Build it: `indelible projections rebuild NAME --app MODULE:APP`.

    Attributes:
        projection: its name.
        version: the version of its code.
    """

    def __init__(self, projection: str, version: int) -> None:
        self.projection = projection
        self.version = version
        super().__init__(
            f"version {version} of projection {projection!r} does not serve yet: the log holds"
            f" events that it has not seen. Build it from them: {rebuild_command(projection)}"
        )


class ProjectionNotFound(IndelibleError):
    """There is no projection of that name.

    What to do: Check the name, or run the projection, or connect with it in `inline=`.

    Attributes:
        projection: the name asked for.
        projections: the names of the projections that there are.
    """

    def __init__(self, projection: str, projections: Sequence[str] = ()) -> None:
        self.projection = projection
        self.projections: tuple[str, ...] = tuple(projections)
        found = (
            f"there are {', '.join(map(repr, self.projections))}"
            if projections
            else "there is none yet"
        )
        super().__init__(
            f"there is no projection {projection!r} ({found}): run it, or connect with it inline"
        )


class ProjectionStopped(IndelibleError):
    """A projection cannot be built: a partition of it is stopped, since its code has failed.

    What to do: Fix the projection and rebuild it. The rebuild resumes where it stopped.

    Attributes:
        projection: its name.
        version: the version of its code.
        partition: the part of it that is stopped.
        position: the event that it failed at; None where no single one is to blame.
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
            f"partition {partition} of projection {projection!r}, version {version}, is stopped:"
            f" {error}. Mend its code, and rebuild it again: it goes on from where it stopped"
        )


class WaitTimeout(IndelibleError, TimeoutError):
    """A reader did not come as far as was waited for.

    What to do: See what the reader waits for: `indelible groups show NAME`. Or wait with a
    larger `timeout`.

    Attributes:
        reader: the name of the group.
        position: what was waited for.
        checkpoint: how far it was at the end.
    """

    def __init__(self, reader: str, position: int, checkpoint: int, seconds: float) -> None:
        self.reader = reader
        self.position = position
        self.checkpoint = checkpoint
        super().__init__(
            f"{reader!r} is at {checkpoint:,} and did not reach position {position:,} in"
            f" {seconds:g} s: see `indelible groups show {reader}` for what it waits for"
        )


class StreamErased(IndelibleError):
    """Events that a state is made of were erased, so that nobody knows it any more.

    What to do: Use another stream.

    Attributes:
        stream: the stream.
        version: the version of the first event that was erased.
    """

    def __init__(self, stream: str, version: int) -> None:
        self.stream = stream
        self.version = version
        super().__init__(
            f"stream {stream!r} was erased, from version {version} on: its events say no more what"
            " happened, and there is no state to load or decide on. Use another stream"
        )


class StreamNotClosed(IndelibleError):
    """The stream is open, and only a closed stream can be archived.

    What to do: Close the stream first with `close_stream`.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(
            f"stream {stream!r} is open, and only a closed one can be archived: close it first:"
            f" indelible streams close {stream} --expected VERSION"
        )


class StreamNotFound(IndelibleError):
    """The stream was never written, and what was asked for needs it.

    What to do: Check the name of the stream, or read without `must_exist`.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(
            f"stream {stream!r} was never written: check its name (indelible streams lists what"
            " there is), or read without must_exist"
        )


class UnknownEventType(IndelibleError):
    """A stored event has a type that no registered class stands for.

    What to do: Name the class in `events=` of `connect`, or connect with `unknown="keep"` to
    get the data as a dict.
    """

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        super().__init__(
            f"event type {event_type!r} has no registered class: add it to events= of connect,"
            ' or connect with unknown="keep" to get its data as a dict'
        )


class DecodingFailed(IndelibleError):
    """Stored data does not fit the class registered for its type.

    What to do: Give new fields a default, write an `Upcaster`, or read with a store that does
    not register the class.

    Attributes:
        event_type: the type.
        event_class: its class.
        place: the path of the field that does not fit, `.items[2].price`; empty for the whole.
        reason: why; without the value, which may be personal.
    """

    def __init__(self, event_type: str, event_class: type, reason: str, place: str = "") -> None:
        self.event_type = event_type
        self.event_class = event_class
        self.place = place
        self.reason = reason
        at = f" at {place.removeprefix('.')}" if place else ""
        super().__init__(
            f"stored data of event type {event_type!r} does not fit"
            f" {event_class.__qualname__}{at}: {reason}. Give new fields a default, or read it with"
            " a store that does not register the class"
        )


class UpcastingFailed(IndelibleError):
    """An upcaster failed on a stored event, or gave something that is no data of its type.

    What to do: Correct the upcaster. The stored event is unchanged.

    Attributes:
        stream: the event's stream.
        version: its place there.
        event_type: the type that it is stored under.
        upcaster: which upcaster it was.
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
            f" upcaster {upcaster} {reason}. Correct the upcaster: the stored event is as it was"
        )


class SchemaError(IndelibleError):
    """The database has no store that this library can use.

    What to do: Follow the message, or what one of its subclasses says.

    Attributes:
        schema: the name of the PostgreSQL schema asked for.
    """

    def __init__(self, schema: str, message: str) -> None:
        self.schema = schema
        super().__init__(message)


class SchemaMissing(SchemaError):
    """There is no store in that schema.

    What to do: Run `indelible store init`, or connect with `migrate=True`.
    """

    def __init__(self, schema: str) -> None:
        super().__init__(
            schema,
            f"there is no store in schema {schema!r}: run `indelible store init --schema {schema}`,"
            " or connect with migrate=True",
        )


class SchemaOutdated(SchemaError):
    """The store was made by an older library.

    What to do: Run `indelible store migrate`, or connect with `migrate=True`.

    Attributes:
        found: the version of the store's tables, or the number of its functions.
        wanted: the one that this library needs.
    """

    def __init__(self, schema: str, found: int, wanted: int, what: str = "version") -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            schema,
            f"the store in schema {schema!r} is at {what} {found}, and this library needs"
            f" {wanted}: run `indelible store migrate --schema {schema}`, or connect"
            " with migrate=True",
        )


class SchemaTooNew(SchemaError):
    """The store was made by a newer library.

    What to do: Upgrade the library: `pip install --upgrade indelible`.
    """

    def __init__(self, schema: str, found: int, wanted: int) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            schema,
            f"the store in schema {schema!r} is at version {found}, and this library knows"
            f" {wanted} at most: run `pip install --upgrade indelible`",
        )


class TransactionConflict(IndelibleError):
    """The database undid the transaction because of another one (deadlock, serialization).

    What to do: Run the whole transaction again.
    """


class UnsupportedIsolationLevel(IndelibleError):
    """The log was read in a transaction whose snapshot may be older than the head.

    What to do: Read the log in a transaction with the isolation level `READ COMMITTED`.
    """


class PermissionDenied(IndelibleError):
    """The database role may not do what was asked.

    What to do: Connect as the owner of the store, or grant the role that the message names.
    """


class DatabaseError(IndelibleError):
    """The database refused for a reason of its own; the message is the database's.

    What to do: Follow the message of the database.
    """


class ServerBusy(DatabaseError):
    """The database could not carry out a statement now; nothing of it was stored.

    The statement was cancelled or ran into a timeout, or the server lacked connections, memory or
    disk space, or its disk failed.

    What to do: Try again later. Subscriptions and consumer groups do so by themselves.
    """


class LockTimeout(ServerBusy):
    """Others held a lock for longer than the lock timeout; nothing of the statement was stored.

    What to do: End the transactions in `holders`, or try again.

    Attributes:
        holders: the transactions that hold locks of the store and have been open for longest, each
            told in words: process, application, for how long, last statement.
    """

    def __init__(self, message: str, holders: Sequence[str] = ()) -> None:
        self.holders: tuple[str, ...] = tuple(holders)
        super().__init__(message)


class DatabaseUnreachable(IndelibleError):
    """No connection could be made; the message says where it was tried.

    What to do: Check the URL and that the server runs and is no standby. If the pool was empty,
    use a larger `pool_size`.
    """


class ConnectionLost(IndelibleError):
    """The connection broke while something was being written; the message says what is known.

    What to do: Append again with the same event ids: nothing is stored twice. Or look for
    `event_ids` in the stream.

    Attributes:
        event_ids: the ids of the events that were being appended, where it is known. Look for them
            in their stream to learn the outcome, or append them again with these ids
            (`NewEvent.id`): nothing is stored twice.
    """

    def __init__(self, message: str, event_ids: Sequence[UUID] = ()) -> None:
        self.event_ids: tuple[UUID, ...] = tuple(event_ids)
        super().__init__(message)


class StoreClosed(IndelibleError):
    """The store was used after it was closed.

    What to do: Open another store with `connect`.
    """

    def __init__(self) -> None:
        super().__init__("the store is closed: open another one with connect()")


class StoreForked(IndelibleError):
    """The store was opened in another process, of which this one was forked.

    Its connections are the parent's: each would get the answers of the other.

    What to do: Connect in the process that uses the store.

    Attributes:
        pid: the process that opened it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(
            f"the store was opened before the fork, in process {pid}: connect in this process"
        )


class WrongEventLoop(IndelibleError):
    """An `AsyncEventStore` was used in another event loop than the one that it was opened in.

    Its connections wait in that loop, which may have ended: each `asyncio.run` makes one.

    What to do: Use the store inside the `asyncio.run` that it was opened in, or open one in
    each.
    """

    def __init__(self) -> None:
        super().__init__(
            "the store was opened in another event loop: use it inside the asyncio.run() that it"
            " was opened in, or open one in each"
        )


class EmbeddedUnavailable(IndelibleError):
    """The embedded PostgreSQL cannot be used; the message says why and what to do.

    What to do: Follow the message: it names what is missing.
    """
