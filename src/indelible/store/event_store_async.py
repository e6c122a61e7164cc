"""The async event store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from indelible.consumer_groups.group_async import AsyncGroup
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
from .base_async import NOT_IN_A_TRANSACTION
from .connect import prepare
from .dcb_async import AsyncDecisionMethods
from .event_store import MAX_EVENT_BYTES
from .projections_async import AsyncProjectionMethods
from .read_async import AsyncReadMethods
from .streams_async import AsyncStreamMethods
from .subscriptions_async import AsyncSubscriptionMethods


class AsyncEventStore(
    AsyncAppendMethods,
    AsyncDecisionMethods,
    AsyncAggregateMethods,
    AsyncProjectionMethods,
    AsyncSubscriptionMethods,
    AsyncReadMethods,
    AsyncStreamMethods,
):
    """A store of events, for code without `async`. Open one with `connect`.

    Any number of threads may use one store at once.

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
        """Open a store.

        Args:
            url: where the database is: `postgresql://…`, a connection string of libpq, or
                `embedded://` for the embedded PostgreSQL (`embedded:///some/folder` for one in a
                folder of its own). By default `$INDELIBLE_URL`, else the embedded one.
            schema: the PostgreSQL schema that the store lives in, by default the one of
                `$INDELIBLE_SCHEMA`, else `indelible`; several stores may share a
                database.
            events: the event classes: classes, a union of classes, or a mapping from type names to
                classes; and `Upcaster` values for what was stored in earlier shapes. Without any,
                the data of every event is plain JSON data.
            unknown: what to do with a stored type that has no class: `"raise"` an
                `UnknownEventType`, or `"keep"` its data as plain JSON data.
            channel: the channel of every stream that this store appends to. By default a stream's
                name up to the first `-`.
            inline: the projections that each append brings up to date in its own transaction.
                Every process that appends has to name them: what it passes by misses its events,
                and is told in a warning in the log.
            migrate: make the store, or bring it up to date, first. By default only for the
                embedded database.
            max_event_bytes: how many bytes of data and metadata an event may have.
            pool_size: how many connections to open at most.
            timeout: how many seconds a call may wait for a connection, may wait for a lock that
                another transaction holds, and may go on trying when a connection was lost.

        Returns:
            The store: a context manager that closes it.

        Raises:
            InvalidInput: an argument is wrong.
            ProjectionDefinitionChanged: an inline projection was begun in another way under its
                version.
            DatabaseUnreachable: no connection could be made.
            SchemaMissing, SchemaOutdated, SchemaTooNew: there is no store, or an older or newer
                one, in the schema.
            EmbeddedUnavailable: the embedded PostgreSQL cannot be used here.
        """

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
        """Open a transaction for several appends and reads, and for SQL of your own.

        What it appended is there for all at once when the block ends, or not at all when an error
        leaves the block. Keep it short: readers of the log wait behind it. An error of the store
        inside (a wrong version, say) leaves the transaction usable; you may catch it and go on.

        Returns:
            A context manager that gives a store bound to the transaction; its `connection` is
            psycopg's.

        Example:
            ```python
            async with store.transaction() as transaction:
                transaction.append("order-17", OrderPaid(12), expected=4)
                transaction.connection.execute("UPDATE …")
            ```
        """
        async with self._engine.transaction() as engine:
            yield AsyncTransactionStore(engine, self._writing)

    def bind(self, connection: AsyncConnection) -> AsyncTransactionStore:
        """Use the store through a connection of yours, inside its transaction.

        You commit; nothing is repeated when the connection is lost. A connection that is not in
        autocommit mode begins its transaction with the first statement of the store's: there
        `transaction()` is a savepoint.

        Args:
            connection: a psycopg connection. Django's is `connection.connection`.

        Returns:
            A store that appends and reads through the connection.

        Raises:
            InvalidInput: it is no psycopg connection of this colour.

        Example:
            ```python
            with django.db.transaction.atomic():
                order.save()
                await store.bind(django.db.connection.connection).append(…)
            ```
        """
        return AsyncTransactionStore(self._engine.bind(connection), self._writing)

    def group(self, name: str) -> AsyncGroup[AsyncTransactionStore]:
        """Give the face of a consumer group: create it, work for it, look after it.

        Args:
            name: its name, 1 to 255 characters; the group need not be there yet.

        Returns:
            The group.
        """
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        return AsyncGroup(name, self._engine, self._wakeup.watch, self._writing.codec, self._bound)

    def _bound(self, engine: AsyncBoundEngine) -> AsyncTransactionStore:
        return AsyncTransactionStore(engine, self._writing)

    async def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`; closing twice is allowed."""
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


class AsyncTransactionStore(AsyncEventStore):
    """A store inside one transaction, from `transaction` or `bind`.

    Closing it leaves the connection to its owner.
    """

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
