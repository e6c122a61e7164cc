"""The event store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from indelible.core.concurrency_async import opens_async, run_blocking_async
from indelible.postgres import migrations
from indelible.postgres.adapters import AsyncConnection
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.projections import registry
from indelible.projections.inline_async import AsyncInline
from indelible.projections.projection import Projection
from indelible.serialization.event_classes import EventClasses, Unknown
from indelible.subscriptions.head_watcher import Wakeup

from .access_async import AsyncAccessMethods
from .bulk_import_async import AsyncImportMethods
from .connect import MAX_EVENT_BYTES, prepare, remote, remote_url
from .groups_async import AsyncGroupMethods
from .projections_async import AsyncProjectionMethods
from .subscriptions_async import AsyncSubscriptionMethods
from .transaction_store_async import AsyncCommonMethods, AsyncTransactionStore


class AsyncEventStore(
    AsyncAccessMethods,
    AsyncImportMethods,
    AsyncProjectionMethods,
    AsyncSubscriptionMethods,
    AsyncGroupMethods,
    AsyncCommonMethods,
):
    """An event store. Open one with `connect`.

    All tasks of one event loop may share one store.

    Example:
        ```python
        async with AsyncEventStore.connect(events=[OrderCreated, OrderCanceled]) as store:
            await store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            async for event in store.read("order-17"):
                print(event.version, event.type, event.data)
        ```
    """

    @classmethod
    @opens_async
    async def connect(
        cls,
        url: str | None = None,
        *,
        schema: str | None = None,
        events: EventClasses = (),
        unknown: Unknown = "raise",
        channel: str | None = None,
        metadata: Callable[[], Mapping[str, Any] | None] | None = None,
        inline: Iterable[Projection | type[Projection]] = (),
        migrate: bool | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        pool_size: int = 10,
        timeout: float = 30.0,
        token: str | None = None,
        ca_file: str | Path | None = None,
    ) -> Self:
        """Open a store.

        Args:
            url: the database: `postgresql://…`, a libpq connection string, or `embedded://` for
                the embedded PostgreSQL. `embedded:///some/folder` keeps its data in that folder.
                `https://…` is a server (`indelible serve`): the store is then an
                `AsyncRemoteEventStore`. By default `$INDELIBLE_URL`, else the embedded PostgreSQL.
            schema: the PostgreSQL schema of the store, by default `$INDELIBLE_SCHEMA`, else
                `indelible`. Several stores can share a database.
            events: the event classes: classes, a union of classes, or a mapping from type names to
                classes. Add `Upcaster` values for events stored with an earlier schema. An
                aggregate class stands for the event classes that it names:
                `Account(Aggregate[Opened | Closed])`. Without classes, the data of every event is
                plain JSON data.
            unknown: how to read a stored type without a class. `"raise"` raises
                `UnknownEventType`; `"keep"` returns plain JSON data.
            channel: the channel of all streams that this store appends to. By default a stream's
                channel is its name up to the first `-`.
            metadata: a plain function that returns metadata for every event that this store
                appends, such as the id of the current request. It is called once for each append to
                a stream. What is passed to `append` wins, and an event's own metadata wins over
                both.
            inline: the projections that each append updates in its own transaction. Pass them in
                every process that appends. A projection that is not passed misses the events, and
                a warning is logged.
            migrate: create or update the store first. By default only for an embedded database.
            max_event_bytes: the largest size of an event's data and metadata, in bytes.
            pool_size: the largest number of connections.
            timeout: how long a call waits for a connection or a lock, and how long it retries
                after a lost connection, in seconds.
            token: only for a server: the token, by default `$INDELIBLE_TOKEN`.
            ca_file: only for a server: a file with the certificates that you trust, in PEM format.
                By default those of the system.

        Returns:
            The store, a context manager that closes it. An async store is awaited or entered.

        Raises:
            InvalidInput: an argument is wrong.
            ProjectionDefinitionChanged: the version of an inline projection is registered with
                another definition.
            DatabaseUnreachable: no connection could be made.
            SchemaMissing, SchemaOutdated, SchemaTooNew: the schema has no store, or one made by
                an older or newer library.
            EmbeddedUnavailable: the embedded PostgreSQL cannot be used here.
            TokenRefused: the server does not accept the token.

        Example:
            ```python
            async with AsyncEventStore.connect(
                "postgresql://app@db.example.com/shop", events=[OrderCreated]
            ) as store:
                await store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            ```
        """
        if (server := remote_url(url, token=token, ca_file=ca_file)) is not None:
            remote_module = remote("event_store_async")
            return await remote_module.open_remote_async(  # type: ignore[no-any-return]
                server,
                token=token,
                ca_file=ca_file,
                events=events,
                unknown=unknown,
                channel=channel,
                metadata=metadata,
                max_event_bytes=max_event_bytes,
                pool_size=pool_size,
                timeout=timeout,
                direct={"schema": schema, "inline": list(inline), "migrate": migrate},
            )
        opened = await run_blocking_async(
            prepare,
            url,
            schema=schema,
            events=events,
            unknown=unknown,
            channel=channel,
            metadata=metadata,
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
            on_commit=wakeup.notifier.notify,
            on_append=kept if kept.definition else None,
        )
        try:
            await engine.open()
            await engine.run(migrations.check(opened.settings))
            await engine.run(registry.register_inline(kept.definition))
        except BaseException:
            await engine.close()
            raise
        return cls(engine, opened.writing, wakeup)

    def bind(self, connection: AsyncConnection) -> AsyncTransactionStore:
        """Use the store through your own connection, in its current transaction.

        You commit the transaction. Nothing is retried if the connection is lost. If the connection
        is not in autocommit mode, the first statement of the store begins a transaction, and
        `transaction()` is a savepoint.

        Args:
            connection: a psycopg connection. In Django it is `connection.connection`.

        Returns:
            A store that appends and reads through the connection.

        Raises:
            InvalidInput: `connection` is not a `psycopg.AsyncConnection`.

        Example:
            ```python
            async with pool.connection() as connection:  # from your own psycopg pool
                await connection.execute("INSERT INTO orders …")
                bound = store.bind(connection)
                await bound.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            ```
        """
        return AsyncTransactionStore(self._engine.bind(connection), self._append_settings)

    async def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`. You may close it twice."""
        await run_blocking_async(self._wakeup.close)
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
