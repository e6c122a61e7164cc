# Generated from event_store_async.py; do not edit.
"""The event store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

from .bulk_import import ImportMethods
from .connect import MAX_EVENT_BYTES, prepare
from .groups import GroupMethods
from .projections import ProjectionMethods
from .subscriptions import SubscriptionMethods
from .transaction_store import CommonMethods, TransactionStore


class EventStore(
    ImportMethods,
    ProjectionMethods,
    SubscriptionMethods,
    GroupMethods,
    CommonMethods,
):
    """A store of events. Open one with `connect`.

    Any number of threads may use one store at once.

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
    ) -> Self:
        """Open a store.

        Args:
            url: where the database is: `postgresql://…`, a connection string of libpq, or
                `embedded://` for the embedded PostgreSQL (`embedded:///some/folder` for one in a
                folder of its own). By default `$INDELIBLE_URL`, else the embedded one.
            schema: the PostgreSQL schema that the store lives in, by default the one of
                `$INDELIBLE_SCHEMA`, else `indelible`; several stores may share a
                database.
            events: the event classes: classes, a union of classes, or a mapping from type names to
                classes; and `Upcaster` values for what was stored in earlier shapes. An aggregate
                class stands for the event classes that it names: `Account(Aggregate[Opened |
                Closed])`. Without any, the data of every event is plain JSON data.
            unknown: what to do with a stored type that has no class: `"raise"` an
                `UnknownEventType`, or `"keep"` its data as plain JSON data.
            channel: the channel of every stream that this store appends to. By default a stream's
                name up to the first `-`.
            metadata: a plain function that returns metadata for every event that this store
                appends, such as the id of the current request. It is called once for each append to
                a stream. What is passed to `append` wins, and an event's own metadata wins over
                both.
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
            The store: a context manager that closes it. An async one is awaited or entered.

        Raises:
            InvalidInput: an argument is wrong.
            ProjectionDefinitionChanged: an inline projection was begun in another way under its
                version.
            DatabaseUnreachable: no connection could be made.
            SchemaMissing, SchemaOutdated, SchemaTooNew: there is no store, or an older or newer
                one, in the schema.
            EmbeddedUnavailable: the embedded PostgreSQL cannot be used here.
        """
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
            engine.run(migrations.check(opened.settings.schema))
            engine.run(registry.register_inline(kept.definition))
        except BaseException:
            engine.close()
            raise
        return cls(engine, opened.writing, wakeup)

    def bind(self, connection: Connection) -> TransactionStore:
        """Use the store through a connection of yours, inside its transaction.

        You commit; nothing is repeated when the connection is lost. A connection that is not in
        autocommit mode begins its transaction with the first statement of the store's: there
        `transaction()` is a savepoint.

        Args:
            connection: a psycopg connection. Django's is `connection.connection`.

        Returns:
            A store that appends and reads through the connection.

        Raises:
            InvalidInput: it is no `psycopg.Connection`.

        Example:
            ```python
            with pool.connection() as connection:  # of a pool of yours, of psycopg's
                connection.execute("INSERT INTO orders …")
                bound = store.bind(connection)
                bound.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            ```
        """
        return TransactionStore(self._engine.bind(connection), self._append_settings)

    def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`; closing twice is allowed."""
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
