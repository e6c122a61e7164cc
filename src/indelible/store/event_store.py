# Generated from event_store_async.py; do not edit.
"""The event store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from indelible.core.concurrency import opens, run_blocking
from indelible.postgres import migrations
from indelible.postgres.adapters import Connection
from indelible.postgres.engine import PoolEngine
from indelible.projections import registry
from indelible.projections.inline import Inline
from indelible.projections.projection import Projection
from indelible.serialization.event_classes import EventClasses, Unknown
from indelible.subscriptions.head_watcher import Wakeup

from .access import AccessMethods
from .bulk_import import ImportMethods
from .connect import MAX_EVENT_BYTES, prepare, remote, remote_url
from .groups import GroupMethods
from .projections import ProjectionMethods
from .subscriptions import SubscriptionMethods
from .transaction_store import CommonMethods, TransactionStore


class EventStore(
    AccessMethods,
    ImportMethods,
    ProjectionMethods,
    SubscriptionMethods,
    GroupMethods,
    CommonMethods,
):
    """An event store. Open one with `connect`.

    All threads may share one store.

    Example:
        ```python
        with EventStore.connect(events=[OrderCreated, OrderCanceled]) as store:
            store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            for event in store.read("order-17"):
                print(event.version, event.type, event.data)
        ```
    """

    @classmethod
    @opens
    def connect(
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
                `RemoteEventStore`. By default `$INDELIBLE_URL`, else the embedded PostgreSQL.
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
            with EventStore.connect(
                "postgresql://app@db.example.com/shop", events=[OrderCreated]
            ) as store:
                store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            ```
        """
        if (server := remote_url(url, token=token, ca_file=ca_file)) is not None:
            remote_module = remote("event_store")
            return remote_module.open_remote(  # type: ignore[no-any-return]
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
        opened = run_blocking(
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
        kept = Inline(opened.writing.codec, inline)
        engine = PoolEngine(
            opened.settings,
            on_close=opened.release,
            on_commit=wakeup.notifier.notify,
            on_append=kept if kept.definition else None,
        )
        try:
            engine.open()
            engine.run(migrations.check(opened.settings))
            engine.run(registry.register_inline(kept.definition))
        except BaseException:
            engine.close()
            raise
        return cls(engine, opened.writing, wakeup)

    def bind(self, connection: Connection) -> TransactionStore:
        """Use the store through your own connection, in its current transaction.

        You commit the transaction. Nothing is retried if the connection is lost. If the connection
        is not in autocommit mode, the first statement of the store begins a transaction, and
        `transaction()` is a savepoint.

        Args:
            connection: a psycopg connection. In Django it is `connection.connection`.

        Returns:
            A store that appends and reads through the connection.

        Raises:
            InvalidInput: `connection` is not a `psycopg.Connection`.

        Example:
            ```python
            with pool.connection() as connection:  # from your own psycopg pool
                connection.execute("INSERT INTO orders …")
                bound = store.bind(connection)
                bound.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            ```
        """
        return TransactionStore(self._engine.bind(connection), self._append_settings)

    def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`. You may close it twice."""
        run_blocking(self._wakeup.close)
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
