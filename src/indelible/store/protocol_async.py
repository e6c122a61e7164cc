"""The protocol of an event store, for clients that do not connect to PostgreSQL directly.

The other methods of a store (deciders, aggregates, decisions) can be built on these methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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


class AsyncEvents(Protocol):
    """An iterator over events."""

    def __aiter__(self) -> AsyncIterator[RecordedEvent]: ...

    async def __anext__(self) -> RecordedEvent: ...


class AsyncStreamReading(AsyncEvents, Protocol):
    """The result of `read`: the events of a stream, in order of version."""

    @property
    def version(self) -> int:
        """The highest version read, once the events are taken; -1 before that."""


class AsyncLogReading(AsyncEvents, Protocol):
    """The result of `read_all`: the events of the log, in order of position."""

    @property
    def head(self) -> int:
        """The position up to which the result is complete. Pass it as `after` to the next read."""


class AsyncFollowing(AsyncEvents, Protocol):
    """The result of `subscribe`: the stored events of the log, then new events as they arrive."""

    @property
    def position(self) -> int:
        """The position up to which all matching events were delivered."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The position with the store's epoch. Store it to resume after a restart.

        The epoch detects a store that was restored.
        """

    @property
    def is_caught_up(self) -> bool:
        """Whether all events that were settled at the last poll were delivered."""

    def batches(self) -> AsyncIterator[Batch]:
        """Iterate over the events in batches."""

    def stop(self) -> None:
        """End the iteration at once."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class AsyncEventStoreProtocol(Protocol):
    """The protocol of an `AsyncEventStore`. See there for the description of each method."""

    async def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append events to the end of a stream, all or none."""

    async def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all events or none."""

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
    ) -> AsyncStreamReading:
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
    ) -> AsyncLogReading:
        """Read the log, in order of position, up to the head."""

    async def read_matching(self, query: Query) -> MatchingEvents:
        """Read all visible events that match a query, as the basis of a decision."""

    async def head(self) -> int:
        """Return the head: the settled position, or high-water mark, of the log."""

    async def position_at(self, moment: datetime) -> int:
        """Return the position up to which all events were recorded by a time."""

    async def epoch(self) -> UUID:
        """Return the store's epoch: a random id that changes after a failover or a restore."""

    async def stream(self, name: str) -> StreamInfo | None:
        """Return the channel, version and times of a stream."""

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[StreamInfo]:
        """Iterate over the streams, in order of name."""

    async def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        """Close a stream. It takes no new events until it is reopened."""

    async def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Reopen a closed stream. Its version does not change."""

    async def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Move the events of a closed stream to the archive."""

    async def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        """Erase the data and metadata of a stream's events permanently (GDPR)."""

    async def stream_changes(self, stream: str) -> list[StreamChange]:
        """Return who closed, reopened, archived or erased a stream, when and why, in order."""

    def subscribe(
        self, query: Any = None, *, after: Start = 0, deliver_when_valid: bool = False
    ) -> AsyncFollowing:
        """Subscribe to the log: read the stored events, then new events as they arrive."""

    async def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:
        """Wait until a consumer group or a projection has processed a position."""

    async def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`. You may close it twice."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
