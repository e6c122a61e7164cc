"""Values: events, expected versions, append results and checkpoints."""

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
from .core.validation import is_integer
from .errors import InvalidInput

Data_co = TypeVar("Data_co", covariant=True, default=Any)
"""The class of an event's data, for type checkers; `Any` by default."""


class ExpectedVersion(Enum):
    """The values of `expected` other than a version.

    The numbers are those of KurrentDB. The database functions take the same numbers.
    """

    NO_STREAM = -1
    ANY = -2
    STREAM_EXISTS = -4


NO_STREAM = ExpectedVersion.NO_STREAM
"""The stream does not exist. The same as version -1."""
ANY = ExpectedVersion.ANY
"""Append at any version, without a check of the version."""
STREAM_EXISTS = ExpectedVersion.STREAM_EXISTS
"""The stream has at least one event."""


class Erased(Enum):
    """The type of `ERASED`."""

    ERASED = "erased"


ERASED = Erased.ERASED
"""The `data` of an erased event. Test for it with `event.data is ERASED`."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is not stored yet.

    Plain data is read back as JSON: timestamps and ids become text. A float of 1e16 or more
    becomes the integer that JSONB stores. Fields of an event class that have a type other than
    `Any` are read back equal. Data that would not be read back equal is rejected. JSONB does not
    keep the order of the keys of a dict (shorter keys come first): use a list for ordered data.

    Attributes:
        type: the name of the event type, 1 to 255 characters.
        data: a JSON-serializable value, or an instance of an event class. Plain data must fit the
            registered class of the type, if it has one.
        metadata: context of the event, such as the user who caused it.
        id: the id of the event, by default a new UUIDv7. Appending the same events again with the
            same ids is idempotent.
        tags: tags `key:value`. The tags that the event's class declares are added to them.
        valid_at: the valid time, with a time zone: when the fact holds in the world. By default
            the time when it is recorded.

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

    Type checkers know the class of its data from `RecordedEvent[OrderPlaced]`. Without a
    parameter, `data` is `Any`.

    If an `Upcaster` turns one stored event into several, these differ in type and data only.

    Attributes:
        position: the position in the log. Positions increase, start at 1 and may have gaps.
        stream: the stream of the event.
        version: the version in the stream: 0, 1, 2, … without gaps.
        id: the id of the event, unique in the store.
        type: the name of the event type.
        data: an instance of the class registered for the type, else plain JSON data; `ERASED` if
            it was erased.
        metadata: the context of the event; empty if it was erased.
        tags: tags `key:value`.
        channel: the channel of the stream, usually the service that owns it.
        recorded_at: the recorded time: when the event was appended (UTC).
        valid_at: the valid time: when the fact holds in the world (UTC).
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
        """Whether the data of the event was erased."""
        return self.data is ERASED

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain JSON data, for example for a web response.

        Returns:
            A dict with one key per attribute. The data consists of dicts, lists, text and numbers.
            Ids and timestamps are text; timestamps are ISO 8601 in UTC. For an erased event the
            data is None, and the dict also has `"erased": True`.

        Example:
            ```python
            @api.get("/orders/{order}/events")
            def history(order: str) -> list[dict[str, Any]]:
                return [event.to_dict() for event in store.read(f"order-{order}")]
            ```
        """
        from .serialization.json_encoding import to_plain

        return {
            "position": self.position,
            "stream": self.stream,
            "version": self.version,
            "id": str(self.id),
            "type": self.type,
            "channel": self.channel,
            "data": None if self.is_erased else to_plain(self.data),
            **({"erased": True} if self.is_erased else {}),
            "metadata": to_plain(self.metadata),
            "tags": list(self.tags),
            "recorded_at": self.recorded_at.isoformat(),
            "valid_at": self.valid_at.isoformat(),
        }


class AppendResult(msgspec.Struct, frozen=True, gc=False):
    """The result of an append. For several events it describes the last one.

    Attributes:
        stream: the stream appended to.
        version: the version of the last event. Pass it as `expected` to the next append.
        position: the position of the last event in the log; 0 if only the version was checked.
        recorded_at: when the event was recorded, or when the version was checked.
        idempotent: whether this was a retry of an append that had already succeeded.
    """

    stream: str
    version: int
    position: int
    recorded_at: datetime
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class StreamAppend:
    """The events that `append_many` appends to one stream.

    Attributes:
        stream: the stream.
        events: one or many events, as for `append`. An empty list only checks the version.
        expected: a version, `NO_STREAM`, `STREAM_EXISTS` or `ANY`.
        channel: the stream's channel, as for `append`.
        metadata: metadata of all of these events. An event's own metadata wins.

    Example:
        ```python
        store.append_many([
            StreamAppend("order-17", OrderPaid(12), expected=4),
            StreamAppend("account-3", [], expected=8),  # only checks the version
        ])
        ```
    """

    stream: str
    events: Any
    expected: int | ExpectedVersion
    channel: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The progress of a reader: a position in the log, and the store's epoch.

    Store its text, `str(checkpoint)`. `Checkpoint.parse` turns the text back into a checkpoint.

    Attributes:
        position: the reader has received all events up to this position.
        epoch: the store's epoch, which changes after a failover or a restore.
        due: only for subscriptions with `deliver_when_valid`, else None: a valid time and a
            position. The reader has received all due events up to this valid time, and those of
            exactly this time up to this position.
        anchor: the position and id of an event at or after `position` that was settled when
            `position` was reached. If the event still exists after a failover, no event before it
            is lost. None if the reader knows no such event.

    Example:
        ```python
        text = str(subscription.checkpoint)
        store.subscribe(after=Checkpoint.parse(text))
        ```
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
        """Parse the text of a checkpoint.

        Args:
            text: the result of `str(checkpoint)`.

        Returns:
            The checkpoint.

        Raises:
            InvalidInput: the text is not a checkpoint.
        """
        place, _, anchor = text.partition("#")
        position, _, rest = place.partition("@")
        epoch, _, due = rest.partition("@")
        moment, _, due_position = due.partition("/")
        anchor_position, _, event_id = anchor.rpartition(":")
        try:
            parsed = cls(
                int(position),
                UUID(epoch),
                (datetime.fromisoformat(moment), int(due_position)) if due else None,
                (int(anchor_position or position), UUID(event_id)) if anchor else None,
            )
            parsed._check()
        except ValueError as error:
            raise InvalidInput(
                f"{text!r} is not a checkpoint: pass a text such as {cls(17, UUID(int=0))}"
            ) from error
        return parsed

    def _check(self) -> None:
        numbers = [self.position, self.position if self.anchor is None else self.anchor[0]]
        if self.due is not None:
            numbers.append(self.due[1])
            if self.due[0].tzinfo is None:
                raise ValueError("the valid time has no time zone")
        if not all(map(is_integer, numbers)):
            raise ValueError("a position is negative, or too large for the database")


@dataclass(frozen=True, slots=True)
class HeadHolder:
    """An open transaction that has appended events. The head cannot pass these events yet.

    Attributes:
        pid: the process id of its session in the server; None for a prepared transaction.
        application: the `application_name` of the session.
        state: the state of the session (`active`, `idle in transaction`, …), or `prepared`.
        seconds: the age of the transaction in seconds; None if it is not known.
        query: the last statement of the session.
    """

    pid: int | None
    application: str | None
    state: str
    seconds: float | None
    query: str | None

    def __str__(self) -> str:
        # The same text as describe_transaction() writes into the errors of the database.
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
    """The head of the log (its high-water mark), and the transactions that hold it back.

    Attributes:
        head: the settled position. No event can appear at or below it any more.
        last_position: the last position assigned to an event, settled or not.
        waiting: the number of committed events after the head.
        holders: the open transactions that hold the head back, the oldest first.
    """

    head: int
    last_position: int
    waiting: int
    holders: tuple[HeadHolder, ...]
