"""The store inside a transaction, and the methods that it shares with a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from indelible.postgres.adapters import AsyncConnection
from indelible.postgres.transaction_async import AsyncBoundEngine

from .aggregates_async import AsyncAggregateMethods
from .append_async import AsyncAppendMethods
from .dcb_async import AsyncDecisionMethods
from .documents_async import AsyncDocumentMethods
from .read_async import AsyncReadMethods
from .streams_async import AsyncStreamMethods


class AsyncCommonMethods(
    AsyncAppendMethods,
    AsyncDecisionMethods,
    AsyncAggregateMethods,
    AsyncDocumentMethods,
    AsyncReadMethods,
    AsyncStreamMethods,
):
    """The methods that a store and a transaction store share."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncTransactionStore]:
        """Open a transaction for several appends and reads, and for your own SQL.

        The transaction commits when the block ends, and rolls back if the block raises an error.
        Keep it short, because readers of the log wait for it. An error of the store inside the
        block, such as `WrongExpectedVersion`, leaves the transaction usable if you catch it.

        Returns:
            A context manager that yields a store bound to the transaction. Its `connection` is the
            psycopg connection.

        Example:
            ```python
            async with store.transaction() as transaction:
                await transaction.append("order-17", OrderPaid(12), expected=4)
                await transaction.connection.execute("UPDATE …")
            ```
        """
        async with self._engine.transaction() as engine:
            yield AsyncTransactionStore(engine, self._append_settings)


class AsyncTransactionStore(AsyncCommonMethods):
    """A store bound to one transaction, returned by `transaction` or `bind`.

    It appends, reads and decides. Methods that commit by themselves or outlive a transaction exist
    only on `AsyncEventStore`: subscriptions, consumer groups, daemons and rebuilds, imports.
    """

    _engine: AsyncBoundEngine

    @property
    def connection(self) -> AsyncConnection:
        """The psycopg connection, for your own SQL in the same transaction."""
        return self._engine.lend()
