"""The async event store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from indelible.consumer_groups.group_async import AsyncGroup
from indelible.core.operation import documented_as
from indelible.errors import InvalidInput
from indelible.postgres import migrations
from indelible.postgres.adapters import AsyncConnection
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.projections import registry
from indelible.projections.inline_async import AsyncInline
from indelible.projections.projection import Projection
from indelible.serialization.event_classes import EventClasses, Unknown
from indelible.subscriptions.head_watcher import Wakeup

from .aggregates_async import AsyncAggregateMethods
from .append_async import AsyncAppendMethods
from .base import NOT_IN_A_TRANSACTION
from .connect import prepare
from .dcb_async import AsyncDecisionMethods
from .event_store import MAX_EVENT_BYTES, EventStore, TransactionStore
from .projections_async import AsyncProjectionMethods
from .read_async import AsyncReadMethods
from .streams_async import AsyncStreamMethods
from .subscriptions_async import AsyncSubscriptionMethods


@documented_as(EventStore)
class AsyncEventStore(
    AsyncAppendMethods,
    AsyncDecisionMethods,
    AsyncAggregateMethods,
    AsyncProjectionMethods,
    AsyncSubscriptionMethods,
    AsyncReadMethods,
    AsyncStreamMethods,
):
    """A store of events, for `async` code: `EventStore` with `await`.

    Any number of tasks of one event loop may use one store at once.

    Example:
        ```python
        async with AsyncEventStore.connect(events=[OrderCreated, OrderCanceled]) as store:
            await store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            async for event in store.read("order-17"):
                print(event.version, event.type, event.data)
        ```
    """

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        schema: str | None = None,
        events: EventClasses = (),
        unknown: Unknown = "raise",
        channel: str | None = None,
        inline: Iterable[Projection | type[Projection]] = (),
        migrate: bool | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        pool_size: int = 10,
        timeout: float = 30.0,
    ) -> Connecting:
        async def connect() -> AsyncEventStore:
            opened = await asyncio.to_thread(
                prepare,
                url,
                schema=schema,
                events=events,
                unknown=unknown,
                channel=channel,
                migrate=migrate,
                max_event_bytes=max_event_bytes,
                pool_size=pool_size,
                timeout=timeout,
            )
            wakeup = Wakeup(opened.settings)
            kept = AsyncInline(opened.writing.codec, inline)
            engine = AsyncPoolEngine(
                opened.settings,
                on_close=opened.release,
                on_commit=wakeup.doorbell.ring,
                on_append=kept if kept.described else None,
            )
            try:
                await engine.open()
                await engine.run(migrations.check(opened.settings.schema))
                await engine.run(registry.register_inline(kept.described))
            except BaseException:
                await engine.close()
                raise
            return AsyncEventStore(engine, opened.writing, wakeup)

        return Connecting(connect)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncTransactionStore]:
        async with self._engine.transaction() as engine:
            yield AsyncTransactionStore(engine, self._writing)

    def bind(self, connection: AsyncConnection) -> AsyncTransactionStore:
        return AsyncTransactionStore(self._engine.bind(connection), self._writing)

    def group(self, name: str) -> AsyncGroup[AsyncTransactionStore]:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        return AsyncGroup(name, self._engine, self._wakeup.watch, self._writing.codec, self._bound)

    def _bound(self, engine: AsyncBoundEngine) -> AsyncTransactionStore:
        return AsyncTransactionStore(engine, self._writing)

    async def close(self) -> None:
        if self._wakeup is not None:
            await asyncio.to_thread(self._wakeup.close)
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


@documented_as(TransactionStore)
class AsyncTransactionStore(AsyncEventStore):
    """A store inside one transaction, from `transaction` or `bind`; see `TransactionStore`."""

    _engine: AsyncBoundEngine

    @property
    def connection(self) -> AsyncConnection:
        """The connection, for SQL of your own in the same transaction."""
        return self._engine.lend()


class Connecting:
    """A store about to be opened: `await` it, or enter it with `async with`."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._store: AsyncEventStore | None = None

    def __await__(self) -> Generator[Any, None, AsyncEventStore]:
        return self._connect().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> AsyncEventStore:
        self._store = await self
        return self._store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._store is not None:
            await self._store.close()
