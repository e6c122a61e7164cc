"""Store methods that read streams, the log and facts about the store."""

from __future__ import annotations

from datetime import datetime
from types import UnionType
from typing import Any, TypeVar, overload
from uuid import UUID

from indelible.admin import epoch, event_types, statistics
from indelible.admin.event_types import TypeCheck, TypeInfo
from indelible.admin.statistics import StoreStats
from indelible.core.timestamps import AsOf, TimeRange
from indelible.events import HeadInfo, RecordedEvent
from indelible.query import Query
from indelible.streams import head, look_up, recorded_time
from indelible.streams.iterators_async import AsyncStreamEvents
from indelible.streams.log_async import AsyncLog
from indelible.streams.read_log import BoundedLogReading, log_reading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import StreamReading, stream_reading
from indelible.streams.recorded_time import RecordedTimeRange
from indelible.streams.valid_time import ValidTimeRange

from .base_async import AsyncStoreBase

Data = TypeVar("Data")


class AsyncReadMethods(AsyncStoreBase):
    """The methods of an `AsyncEventStore` that read."""

    @overload
    def read(
        self,
        stream: str,
        types: type[Data],
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
    ) -> AsyncStreamEvents[Data]: ...

    @overload
    def read(
        self,
        stream: str,
        types: UnionType | None = None,
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
    ) -> AsyncStreamEvents[Any]: ...

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
    ) -> AsyncStreamEvents[Any]:
        """Read a stream, in order of version.

        Events are read in pages as you take them, so memory use is bounded for any length.

        Args:
            stream: the stream.
            types: an event class, or a union of classes, to read only these events; None for all.
            from_version: the lowest version to read.
            to_version: the highest version to read; None for no limit.
            backwards: read from the highest version down.
            limit: the largest number of events. A stored event that an upcaster turns into several
                counts once.
            must_exist: raise `StreamNotFound` if the stream does not exist. By default such a
                stream has no events.
            as_of: read only events recorded by this time. Instead of a time you can pass a
                position or a checkpoint.
            recorded_between: read only events recorded at or after the first time and before the
                second.
            valid_at: read only facts that hold at this time: valid at or before it. The order is
                that of valid time, then of position.
            valid_between: read only facts valid at or after the first time and before the second.
                The order is that of valid time, then of position.

        Returns:
            An iterator over the events. Its `version` is the highest version read so far.

        Raises:
            StreamNotFound: the stream does not exist and `must_exist` is true.
            EpochMismatch: the log has lost events below the checkpoint in `as_of`.
            UnsupportedIsolationLevel: a recorded time was passed in a REPEATABLE READ or
                SERIALIZABLE transaction of `bind`.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            InvalidInput: an argument is wrong.

        Example:
            ```python
            last = await anext(store.read("order-17", backwards=True, limit=1))
            async for event in store.read("order-17", OrderTipped):
                total += event.data.amount  # a type checker knows the class
            believed = store.read("menu-3", as_of=monday, valid_at=friday)
            ```
        """
        options = StreamReadOptions(
            from_version=from_version,
            to_version=to_version,
            backwards=backwards,
            limit=limit,
            must_exist=must_exist,
            recorded_time=RecordedTimeRange(as_of, recorded_between),
            valid_time=ValidTimeRange(valid_at, valid_between),
            types=types,
        )
        return AsyncStreamEvents(self._engine, self._stream_reading(stream, options))

    @overload
    def read_all(
        self,
        query: type[Data],
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: TimeRange | None = None,
        valid_at: datetime | None = None,
        valid_between: TimeRange | None = None,
    ) -> AsyncLog[Data]: ...

    @overload
    def read_all(
        self,
        query: Query | UnionType | None = None,
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: TimeRange | None = None,
        valid_at: datetime | None = None,
        valid_between: TimeRange | None = None,
    ) -> AsyncLog[Any]: ...

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
    ) -> AsyncLog[Any]:
        """Read the log, in order of position, up to the head.

        The result is stable: no event can appear later among the events that were read.

        Args:
            query: a `Query`, an event class, or a union of classes; None for all events.
            after: read events after this position, such as the `head` of an earlier read.
            backwards: read from the head down to `after`.
            limit: the largest number of events.
            as_of: read only events recorded by this time. Instead of a time you can pass a
                position or a checkpoint. Once `has_passed` is true for a time, the result never
                changes again.
            recorded_between: read only events recorded at or after the first time and before the
                second.
            valid_at: read only facts that hold at this time: valid at or before it. The order is
                that of valid time, then of position.
            valid_between: read only facts valid at or after the first time and before the second.
                The order is that of valid time, then of position.

        Returns:
            An iterator over the events. Its `head` is the position up to which it is complete.

        Raises:
            EpochMismatch: the log has lost events below the checkpoint in `as_of`.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            UnsupportedIsolationLevel: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
            InvalidInput: an argument is wrong.

        Example:
            ```python
            log = store.read_all(Query(channel="delivery"), after=checkpoint)
            async for event in log:
                print(event.position, event.type)
            checkpoint = log.head
            ```
        """
        options = LogReadOptions(
            after=after,
            backwards=backwards,
            limit=limit,
            recorded_time=RecordedTimeRange(as_of, recorded_between),
            valid_time=ValidTimeRange(valid_at, valid_between),
        )
        return AsyncLog(self._engine, self._log_reading(query, options))

    def _stream_reading(self, stream: str, options: StreamReadOptions) -> StreamReading:
        return stream_reading(self._append_settings.codec, stream, options)

    def _log_reading(self, query: Any, options: LogReadOptions) -> BoundedLogReading:
        return log_reading(self._append_settings.codec, query, options)

    async def head(self) -> int:
        """Return the head: the settled position, or high-water mark, of the log.

        No event can appear at or below it any more.
        """
        return await self._engine.run(head.head())

    async def event(self, event_id: UUID) -> RecordedEvent | None:
        """Return the event with an id, archived or not.

        Args:
            event_id: the id.

        Returns:
            The event; None if there is none. If an upcaster turns it into several events, the first
            of them.

        Raises:
            UnknownEventType, DecodingFailed, UpcastingFailed: the event does not fit the registered
                classes, or an upcaster fails on it.
            InvalidInput: `event_id` is no UUID.

        Example:
            ```python
            cause = await store.event(UUID(event.metadata["causation_id"]))
            ```
        """
        return await self._engine.run(look_up.event_by_id(self._append_settings.codec, event_id))

    async def position_at(self, moment: datetime) -> int:
        """Return the position up to which all events were recorded by a time.

        It is the last position before the first event that was recorded later. If no later event
        is settled yet, it is the head, and may grow. Once `has_passed` is true for the time, the
        position never changes.

        Args:
            moment: a time, with a time zone.

        Returns:
            The position. Pass it as `as_of` or `after`.

        Raises:
            InvalidInput: `moment` has no time zone.
            UnsupportedIsolationLevel: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return await self._engine.run(recorded_time.position_at(moment))

    async def has_passed(self, moment: datetime) -> bool:
        """Return whether an event recorded after a time is settled.

        If so, all events recorded by that time are settled too, and reads `as_of` that time never
        change. If not, transactions that began earlier may still be open.

        Args:
            moment: a time, with a time zone.

        Returns:
            Whether the head has passed the time.

        Raises:
            InvalidInput: `moment` has no time zone.
            UnsupportedIsolationLevel: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return await self._engine.run(recorded_time.has_passed(moment))

    async def head_info(self) -> HeadInfo:
        """Return the head, the number of events waiting after it, and the cause of the wait.

        Returns:
            The head, the number of committed events after it, and the open transactions that hold
            it back. Each transaction has process, application, age and last statement.
        """
        return await self._engine.run(head.head_info())

    async def epoch(self) -> UUID:
        """Return the store's epoch: a random id that changes after a failover or a restore."""
        return await self._engine.run(head.epoch())

    async def renew_epoch(self) -> UUID:
        """Start a new epoch after a restore that the database cannot detect.

        Call this after you restored a copied data folder or a disk snapshot. A promoted standby, a
        point-in-time recovery and a restored dump start a new epoch automatically. An old
        checkpoint stays valid only if its anchor event still exists at its position. Otherwise its
        reader gets `EpochMismatch`.

        Returns:
            The new epoch.

        Raises:
            PermissionDenied: the role is not the owner of the store.
        """
        return await self._engine.run(epoch.renew_epoch())

    async def stats(self) -> StoreStats:
        """Return the size of the store, in total and per channel."""
        return await self._engine.run(statistics.stats())

    async def types(self) -> list[TypeInfo]:
        """Return the event types in the log, in order of name.

        The call adds up the counts of the windows of the log, which takes milliseconds. It first
        writes the missing windows. This takes a few seconds per million events, once.

        Returns:
            The types, each with its upcasters and whether a class is registered for it.
        """
        return await self._engine.run(event_types.types(self._append_settings.codec))

    async def check_types(self, *, samples: int = 100) -> list[TypeCheck]:
        """Check that stored events can be read with the current classes and upcasters.

        The call scans the whole log: one or two seconds per million events. For each type it reads
        the first event, the last event and a random sample.

        Args:
            samples: the number of random events to read per type.

        Returns:
            One result per type, in order of name. Its `failures` are empty if all events were
            read.

        Raises:
            InvalidInput: the store was opened without event classes, or `samples` is not a valid
                number.

        Example:
            ```python
            assert not [check for check in await store.check_types() if check.failures]
            ```
        """
        return await self._engine.run(
            event_types.check_types(self._append_settings.codec, samples=samples)
        )
