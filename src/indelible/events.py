"""Values: events before and after they are stored, and what goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Generic
from uuid import UUID

import msgspec
from typing_extensions import TypeVar

from .core.uuid7 import uuid7
from .errors import InvalidInput

Data_co = TypeVar("Data_co", covariant=True, default=Any)
"""The class of an event's data, for type checkers. Without one it is `Any`."""


class ExpectedVersion(Enum):
    """What a writer may believe of a stream other than a version.

    The values are those of KurrentDB, and what the functions in the database take.
    """

    NO_STREAM = -1
    ANY = -2
    STREAM_EXISTS = -4


NO_STREAM = ExpectedVersion.NO_STREAM
"""The stream was never written. The same as version -1."""
ANY = ExpectedVersion.ANY
"""Append after whatever is there; never a conflict."""
STREAM_EXISTS = ExpectedVersion.STREAM_EXISTS
"""The stream has at least one event."""


class Erased(Enum):
    """What stands in the place of data that was erased."""

    ERASED = "erased"


ERASED = Erased.ERASED
"""The data of an erased event: `event.data is ERASED`."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it is stored.

    Attributes:
        type: what kind of fact it is, 1 to 255 characters.
        data: the fact: anything that can be written as JSON, or an instance of an event class.
            Plain data comes back as JSON has it: moments and ids as text, and a float of 1e16 or
            more as the whole number that JSONB keeps. In the fields of a class that have a type
            (not `Any`) all come back equal, but for the order of the keys of a dict, which JSONB
            has of its own (the shorter ones first): what has an order goes into a list. What would
            not come back equal is refused. Plain data of a type that has a class must fit it.
        metadata: what is known about the event, such as who caused it.
        id: its identity. Appending the same events with the same ids again is a safe retry.
        tags: labels `key:value`; those that the type's class declares come with them.
        valid_at: when the fact holds in the world; by default when it is recorded.

    Example:
        ```python
        NewEvent("DeliveryCanceled", {"reason": "no driver"}, metadata={"by": "ann"})
        ```
    """

    type: str
    data: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)
    tags: Sequence[str] = ()
    valid_at: datetime | None = None


class RecordedEvent(msgspec.Struct, Generic[Data_co], frozen=True, gc=False):
    """A stored event.

    Name the class of its data for type checkers: `RecordedEvent[OrderPlaced]`. Without one,
    `data` is `Any`.

    Where an `Upcaster` makes several of a stored event they share all but type and data.

    Attributes:
        position: its place in the whole log; grows, may have gaps, starts at 1.
        stream: the stream it belongs to.
        version: its place in that stream: 0, 1, 2, … without gaps.
        id: its identity, unique in the store.
        type: what kind of fact it is.
        data: the fact: an instance of the class registered for the type, else plain JSON data;
            `ERASED` where it was erased.
        metadata: what is known about the event; nothing where it was erased.
        tags: labels `key:value`.
        channel: the service that owns the stream.
        recorded_at: when the store took the event (UTC).
        valid_at: when the fact holds in the world (UTC).
    """

    position: int
    stream: str
    version: int
    id: UUID
    type: str
    data: Data_co
    metadata: dict[str, Any]
    tags: tuple[str, ...]
    channel: str
    recorded_at: datetime
    valid_at: datetime

    @property
    def is_erased(self) -> bool:
        """Whether its data was erased: then it holds its place, and says no more what happened."""
        return self.data is ERASED


class AppendResult(msgspec.Struct, frozen=True, gc=False):
    """What an append did; of several events, the facts of the last one.

    Attributes:
        stream: the stream appended to.
        version: the version of the last event: the `expected` of the next append.
        position: its place in the log; 0 for a pure check, which writes nothing.
        recorded_at: when the store took it; for a pure check, when it was made.
        idempotent: whether this was a retry of an append that had succeeded before.
    """

    stream: str
    version: int
    position: int
    recorded_at: datetime
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class StreamAppend:
    """One stream's part of `append_many`.

    Attributes:
        stream: the stream.
        events: what to append; nothing makes it a pure check of the expected version.
        expected: a version, `NO_STREAM`, `STREAM_EXISTS` or `ANY`.
        channel: the stream's channel, as for `append`.
    """

    stream: str
    events: Any
    expected: int | ExpectedVersion
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where a reader is done, and in which history of the store.

    Its text (`str(checkpoint)`) is what to keep; `Checkpoint.parse` reads it again.

    Attributes:
        position: everything up to here was handed out.
        epoch: the store's epoch: another one after a fail-over or a restore.
        due: of a subscription to what is due: everything up to this valid time, and of that up to
            this position, was handed out; None for any other reader.
        anchor: an event at this position or after it, which was settled when this position was
            reached: its position and its id. If the event is still there after a fail-over, nothing
            before it is lost. None if the reader knows none.
    """

    position: int
    epoch: UUID
    due: tuple[datetime, int] | None = None
    anchor: tuple[int, UUID] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        text = f"{self.position}@{self.epoch}"
        if self.due is not None:
            text += f"@{self.due[0].isoformat()}/{self.due[1]}"
        if self.anchor is not None:
            position, event_id = self.anchor
            text += f"#{event_id}" if position == self.position else f"#{position}:{event_id}"
        return text

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint from its text.

        Raises:
            InvalidInput: it is no text of a checkpoint.
        """
        place, _, anchor = text.partition("#")
        position, _, rest = place.partition("@")
        epoch, _, due = rest.partition("@")
        moment, _, due_position = due.partition("/")
        anchor_position, _, event_id = anchor.rpartition(":")
        try:
            return cls(
                int(position),
                UUID(epoch),
                (datetime.fromisoformat(moment), int(due_position)) if due else None,
                (int(anchor_position or position), UUID(event_id)) if anchor else None,
            )
        except ValueError as error:
            raise InvalidInput(
                f"{text!r} is no checkpoint: it looks like {cls(17, UUID(int=0))}"
            ) from error


@dataclass(frozen=True, slots=True)
class HeadHolder:
    """A transaction that appended and has not ended, so that the head stands before its events.

    Attributes:
        pid: the process of its session in the server; None for a prepared transaction.
        application: the session's `application_name`.
        state: what the session does: `active`, `idle in transaction`, …, or `prepared`.
        seconds: how long the transaction has been open; None where that is not known.
        query: the session's last statement.
    """

    pid: int | None
    application: str | None
    state: str
    seconds: float | None
    query: str | None

    def __str__(self) -> str:
        # As describe_transaction() tells it in the errors of the database.
        if self.pid is None:
            who = "a prepared transaction"
        else:
            who = f"process {self.pid} ({self.application or 'without a name'}, {self.state})"
        age = "" if self.seconds is None else f" in a transaction of {self.seconds:.1f} s"
        lines = (line for line in (self.query or "").splitlines() if not line.startswith("--"))
        query = " ".join(" ".join(lines).split())[:100]
        return f"{who}{age}" + (f", last statement: {query}" if query else "")


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """How far the log is settled, and who holds it back.

    Attributes:
        head: the settled position.
        last_position: the last position handed out, settled or not.
        waiting: how many committed events stand behind the head.
        holders: the open transactions that hold it, the oldest first.
    """

    head: int
    last_position: int
    waiting: int
    holders: tuple[HeadHolder, ...]
