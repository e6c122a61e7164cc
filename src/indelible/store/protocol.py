# Generated from protocol_async.py; do not edit.
"""What an event store promises, for clients that reach one in another way than by PostgreSQL.

All the rest of a store (deciders, aggregates, decisions) can be built on these methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

from indelible.core.timestamps import AsOf, TimeRange
from indelible.dcb.matching_events import MatchingEvents
from indelible.events import (
    AppendResult,
    Checkpoint,
    ExpectedVersion,
    RecordedEvent,
    StreamAppend,
)
from indelible.query import AppendCondition, Query
from indelible.streams.info import StreamChange, StreamInfo
from indelible.subscriptions.log_follower import Batch, Start


class Events(Protocol):
    """Events, one by one."""

    def __iter__(self) -> Iterator[RecordedEvent]: ...

    def __next__(self) -> RecordedEvent: ...


class StreamReading(Events, Protocol):
    """What `read` gives: the events of a stream, in order of version."""

    @property
    def version(self) -> int:
        """Once the events are taken, the highest version read; else -1."""


class LogReading(Events, Protocol):
    """What `read_all` gives: the events of the log, in order of position."""

    @property
    def head(self) -> int:
        """The position that the reading is complete up to: the `after` of the next one."""


class Following(Events, Protocol):
    """What `subscribe` gives: the events of the log, those that are there and those that come."""

    @property
    def position(self) -> int:
        """Up to here everything that matches was handed out: the `after` of a later reader."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The same with the store's epoch: keep this, and a restored store is noticed."""

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was settled at the last look was handed out."""

    def batches(self) -> Iterator[Batch]:
        """Take what comes in batches."""

    def stop(self) -> None:
        """End the iteration at once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class EventStoreProtocol(Protocol):
    """What an `EventStore` promises; each method is described there."""

    def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append events to the end of a stream: all of them, or none."""

    def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all of it, or nothing."""

    def read(
        self,
        stream: str,
        types: Any = None,
        *,
        from_version: int = 0,
        to_version: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        recorded_between: TimeRange | None = None,
        valid_at: datetime | None = None,
        valid_between: TimeRange | None = None,
    ) -> StreamReading:
        """Read a stream, in order of version."""

    def read_all(
        self,
        query: Any = None,
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: TimeRange | None = None,
        valid_at: datetime | None = None,
        valid_between: TimeRange | None = None,
    ) -> LogReading:
        """Read the log, in order of position, up to the head."""

    def read_matching(self, query: Query) -> MatchingEvents:
        """Read what a decision is made on: every visible event that matches a query."""

    def head(self) -> int:
        """Ask for the settled position: at and below it nothing can appear any more."""

    def position_at(self, moment: datetime) -> int:
        """Ask for the position up to which everything was recorded by a moment."""

    def epoch(self) -> UUID:
        """Ask for the store's epoch: a random id, another one after a fail-over or a restore."""

    def stream(self, name: str) -> StreamInfo | None:
        """Ask what the store knows of a stream."""

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> Iterator[StreamInfo]:
        """Ask what streams there are, in order of name."""

    def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        """Close a stream: it takes no more events, until it is reopened."""

    def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Open a closed stream again; it goes on at the version where it stands."""

    def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Move the events of a closed stream out of the way of those that are still written to."""

    def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        """Destroy the data and the metadata of a stream's events, for good."""

    def stream_changes(self, stream: str) -> list[StreamChange]:
        """Ask who closed, reopened, archived or erased a stream, when and why, in order."""

    def subscribe(
        self, query: Any = None, *, after: Start = 0, deliver_when_valid: bool = False
    ) -> Following:
        """Read the log, and go on with what comes."""

    def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:
        """Wait until a consumer group or a projection is done up to a position."""

    def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`; closing twice is allowed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
