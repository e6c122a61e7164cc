"""Read: methods of the async store."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from indelible.admin import epoch, event_types, statistics
from indelible.admin.event_types import TypeCheck, TypeInfo
from indelible.admin.statistics import StoreStats
from indelible.core.operation import documented_as
from indelible.core.timestamps import AsOf, TimeRange
from indelible.events import HeadInfo
from indelible.query import Query
from indelible.streams import head, recorded_time, valid_time
from indelible.streams.iterators_async import AsyncLog, AsyncStreamEvents

from .base_async import AsyncStoreBase
from .read import ReadMethods


@documented_as(ReadMethods)
class AsyncReadMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that reads."""

    def read(
        self,
        stream: str,
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
    ) -> AsyncStreamEvents:
        return AsyncStreamEvents(
            self._engine,
            valid_time.stream_reading(
                self._writing.codec,
                stream,
                from_version=from_version,
                to_version=to_version,
                backwards=backwards,
                limit=limit,
                must_exist=must_exist,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    def read_all(
        self,
        query: Query | None = None,
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: TimeRange | None = None,
        valid_at: datetime | None = None,
        valid_between: TimeRange | None = None,
    ) -> AsyncLog:
        return AsyncLog(
            self._engine,
            valid_time.log_reading(
                self._writing.codec,
                query,
                after=after,
                backwards=backwards,
                limit=limit,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    async def head(self) -> int:
        return await self._engine.run(head.head())

    async def position_at(self, moment: datetime) -> int:
        return await self._engine.run(recorded_time.position_at(moment))

    async def has_passed(self, moment: datetime) -> bool:
        return await self._engine.run(recorded_time.has_passed(moment))

    async def head_info(self) -> HeadInfo:
        return await self._engine.run(head.head_info())

    async def epoch(self) -> UUID:
        return await self._engine.run(head.epoch())

    async def renew_epoch(self) -> UUID:
        return await self._engine.run(epoch.renew_epoch())

    async def stats(self) -> StoreStats:
        return await self._engine.run(statistics.stats())

    async def types(self) -> list[TypeInfo]:
        return await self._engine.run(event_types.types(self._writing.codec))

    async def check_types(self, *, samples: int = 100) -> list[TypeCheck]:
        return await self._engine.run(event_types.check_types(self._writing.codec, samples=samples))
