"""Read: methods of the store."""

from __future__ import annotations

from datetime import datetime
from types import UnionType
from typing import Any, TypeVar, overload
from uuid import UUID

from indelible.admin import epoch, event_types, statistics
from indelible.admin.event_types import TypeCheck, TypeInfo
from indelible.admin.statistics import StoreStats
from indelible.core.timestamps import AsOf, TimeRange
from indelible.events import HeadInfo
from indelible.query import Query
from indelible.streams import head, recorded_time
from indelible.streams.iterators_async import AsyncStreamEvents
from indelible.streams.log_async import AsyncLog
from indelible.streams.read_log import log_reading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import stream_reading
from indelible.streams.recorded_time import RecordedTimeRange
from indelible.streams.valid_time import ValidTimeRange

from .base_async import AsyncStoreBase

Data = TypeVar("Data")


class AsyncReadMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that reads."""

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

        Events are read in pages as you take them; memory stays bounded for any length.

        Args:
            stream: the stream.
            types: an event class, or a union of some: only these events; None for all.
            from_version: the lowest version to read.
            to_version: the highest version to read; None for no bound.
            backwards: begin at the highest version.
            limit: how many events to read at most. What upcasters made several of counts once.
            must_exist: raise `StreamNotFound` for a stream never written, and give no events
                otherwise.
            as_of: only what was recorded by then: a moment, or the position or checkpoint that
                stands for one.
            recorded_between: only what was recorded from the first moment on and before the
                second.
            valid_at: only the facts that hold at a moment: those with this valid time or an
                earlier one; in order of valid time, and of position where that is the same.
            valid_between: only the facts with a valid time from the first moment on and before
                the second, in that order.

        Returns:
            An iterator over the events, whose `version` is the highest version read so far.

        Raises:
            StreamNotFound: the stream was never written, and `must_exist` was asked for.
            EpochMismatch: the log has lost events below the checkpoint in `as_of`.
            UnsupportedIsolationLevel: a moment of recorded time in a REPEATABLE READ or
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
        return AsyncStreamEvents(
            self._engine,
            stream_reading(self._append_settings.codec, stream, options),
        )

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

        What this returns never changes: no event can appear any more among those read.

        Args:
            query: which events: a `Query`, an event class, or a union of some; None for all.
            after: the position after which to begin, such as the `head` of an earlier read.
            backwards: begin at the head, and go down to `after`.
            limit: how many events to read at most.
            as_of: only what was recorded by then: a moment, or the position or checkpoint that
                stands for one. Once the head `has_passed` the moment, the answer is the same for
                ever.
            recorded_between: only what was recorded from the first moment on and before the
                second.
            valid_at: only the facts that hold at a moment: those with this valid time or an
                earlier one; in order of valid time, and of position where that is the same.
            valid_between: only the facts with a valid time from the first moment on and before
                the second, in that order.

        Returns:
            An iterator over the events; its `head` is the position that it is complete up to.

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
        return AsyncLog(
            self._engine,
            log_reading(self._append_settings.codec, query, options),
        )

    async def head(self) -> int:
        """Ask for the settled position: at and below it nothing can appear any more."""
        return await self._engine.run(head.head())

    async def position_at(self, moment: datetime) -> int:
        """Ask for the position that stands for a moment: everything up to it was recorded by then.

        It is the one before the first event that was recorded later. Where no such event is
        settled yet it is the head, and grows; once the head `has_passed` the moment, it never
        changes.

        Args:
            moment: a moment, with a time zone.

        Returns:
            The position, to read `as_of` or to begin `after`.

        Raises:
            InvalidInput: the moment has no time zone.
            UnsupportedIsolationLevel: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return await self._engine.run(recorded_time.position_at(moment))

    async def has_passed(self, moment: datetime) -> bool:
        """Ask whether the head has passed a moment: an event recorded later is settled.

        Then everything recorded up to the moment is settled too, and what is read `as_of` it is
        the same for ever. Before, transactions may still be under way that began earlier.

        Args:
            moment: a moment, with a time zone.

        Returns:
            Whether it has.

        Raises:
            InvalidInput: the moment has no time zone.
            UnsupportedIsolationLevel: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return await self._engine.run(recorded_time.has_passed(moment))

    async def head_info(self) -> HeadInfo:
        """Ask how far the log is settled, what waits behind the head, and who holds it back.

        Returns:
            The head, how many committed events stand behind it, and the open transactions that
            appended: their process, application, age and last statement.
        """
        return await self._engine.run(head.head_info())

    async def epoch(self) -> UUID:
        """Ask for the store's epoch: a random id, another one after a fail-over or a restore."""
        return await self._engine.run(head.epoch())

    async def renew_epoch(self) -> UUID:
        """Begin a new epoch after a restore that the database cannot notice.

        A promoted standby, a point-in-time recovery and a restored dump begin one by themselves.
        A copied data folder or a snapshot of a disk does not. Afterwards a checkpoint is good only
        if the event that it carries is still at its place; else its reader gets `EpochMismatch`.
        Only the owner of the store may call this.

        Returns:
            The new epoch.

        Raises:
            PermissionDenied: the role may not.
        """
        return await self._engine.run(epoch.renew_epoch())

    async def stats(self) -> StoreStats:
        """Ask how large the store is, per channel too."""
        return await self._engine.run(statistics.stats())

    async def types(self) -> list[TypeInfo]:
        """Say what types of events there are, in order of name.

        The whole log is counted through, in steps of 200,000 positions: a second or two for
        each million events.

        Returns:
            Them, with what is registered for each.
        """
        return await self._engine.run(event_types.types(self._append_settings.codec))

    async def check_types(self, *, samples: int = 100) -> list[TypeCheck]:
        """Check that the events of every type can be read with the classes and upcasters of today.

        Like `types` it goes through the whole log; of each type it reads the first event, the last
        and some at random.

        Args:
            samples: how many events of a type to read at random.

        Returns:
            What it found for each type, in order of name: no `failures` where all were read.

        Raises:
            InvalidInput: the store was opened without event classes, or `samples` is no number.

        Example:
            ```python
            assert not [check for check in await store.check_types() if check.failures]
            ```
        """
        return await self._engine.run(
            event_types.check_types(self._append_settings.codec, samples=samples)
        )
