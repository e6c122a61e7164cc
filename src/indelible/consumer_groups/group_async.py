"""The async client API of a consumer group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from indelible.core.operation import documented_as
from indelible.core.validation import validate_name
from indelible.core.worker_name import worker_name
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.wait_async import wait_for_async

from . import admin
from .consumer_async import AsyncConsumer
from .group import Group
from .types import GroupInfo, GroupSettings, GroupStart, ParkedEvent
from .worker import Worker

Bound = TypeVar("Bound")


@documented_as(Group)
class AsyncGroup(Generic[Bound]):
    """A consumer group, for `async` code: `Group` with `await`.

    Example:
        ```python
        group = store.group("delivery")
        await group.create(Query(types="OrderCreated"))
        async with group.consume() as consumer:
            async for event in consumer:
                with event:
                    await book_delivery(event.data)
        ```
    """

    def __init__(
        self,
        name: str,
        engine: AsyncPoolEngine,
        watch: HeadWatcher,
        codec: Codec,
        bind: Callable[[AsyncBoundEngine], Bound],
    ) -> None:
        self.name = validate_name("group", name)
        """Its name."""
        self._engine = engine
        self._watch = watch
        self._codec = codec
        self._bind = bind

    async def create(
        self,
        query: Query | None = None,
        *,
        start: GroupStart = "beginning",
        partition_by: str = "stream",
        max_attempts: int = 5,
        retry_after: float = 1.0,
        lease: float = 10.0,
        hold_back: bool = True,
        due: bool = False,
        exists: Literal["raise", "change"] = "raise",
    ) -> bool:
        settings = GroupSettings(
            query=query and self._codec.check_query(query),
            partition_by=partition_by,
            max_attempts=max_attempts,
            retry_after=retry_after,
            lease=lease,
            hold_back=hold_back,
            due=due,
        )
        return await self._engine.run(admin.create(self.name, settings, start=start, exists=exists))

    async def info(self) -> GroupInfo:
        return await self._engine.run(admin.info(self._codec, self.name))

    def consume(self, *, name: str | None = None) -> AsyncConsumer[Bound]:
        worker = Worker(self._codec, self.name, name or worker_name())
        return AsyncConsumer(self._engine, self._watch, worker, self._bind)

    async def reset(self, to: GroupStart) -> int:
        return await self._engine.run(admin.reset(self.name, to))

    async def delete(self) -> None:
        await self._engine.run(admin.delete(self.name))

    async def parked(
        self, *, stream: str | None = None, limit: int | None = None
    ) -> list[ParkedEvent]:
        return await self._engine.run(admin.parked(self.name, key=stream, limit=limit))

    async def replay(self, *, position: int | None = None, stream: str | None = None) -> int:
        return await self._engine.run(
            admin.act_on_parked(self.name, "replay", position=position, key=stream)
        )

    async def discard(self, *, position: int | None = None, stream: str | None = None) -> int:
        return await self._engine.run(
            admin.act_on_parked(self.name, "discard", position=position, key=stream)
        )

    async def wait_for(self, position: int, *, timeout: float = 10.0) -> int:  # noqa: ASYNC109
        return await wait_for_async(
            self._engine, lambda: admin.checkpoint(self.name), self.name, position, timeout
        )
