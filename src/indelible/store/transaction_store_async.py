"""What works inside a transaction, and so in a store as well."""

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
    """What a store and a transaction both do."""

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
                await transaction.append("order-17", OrderPaid(12), expected=4)
                await transaction.connection.execute("UPDATE …")
            ```
        """
        async with self._engine.transaction() as engine:
            yield AsyncTransactionStore(engine, self._append_settings)


class AsyncTransactionStore(AsyncCommonMethods):
    """A store inside one transaction, from `transaction` or `bind`.

    It appends, reads and decides. What commits by itself or outlives a transaction is not here, but
    in `AsyncEventStore`: subscriptions, consumer groups, projections that are kept, imports.
    """

    _engine: AsyncBoundEngine

    @property
    def connection(self) -> AsyncConnection:
        """The connection, for SQL of your own in the same transaction."""
        return self._engine.lend()
