# Generated from transaction_store_async.py; do not edit.
"""What works inside a transaction, and so in a store as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from indelible.postgres.adapters import Connection
from indelible.postgres.transaction import BoundEngine

from .aggregates import AggregateMethods
from .append import AppendMethods
from .dcb import DecisionMethods
from .documents import DocumentMethods
from .read import ReadMethods
from .streams import StreamMethods


class CommonMethods(
    AppendMethods,
    DecisionMethods,
    AggregateMethods,
    DocumentMethods,
    ReadMethods,
    StreamMethods,
):
    """What a store and a transaction both do."""

    @contextmanager
    def transaction(self) -> Iterator[TransactionStore]:
        """Open a transaction for several appends and reads, and for SQL of your own.

        What it appended is there for all at once when the block ends, or not at all when an error
        leaves the block. Keep it short: readers of the log wait behind it. An error of the store
        inside (a wrong version, say) leaves the transaction usable; you may catch it and go on.

        Returns:
            A context manager that gives a store bound to the transaction; its `connection` is
            psycopg's.

        Example:
            ```python
            with store.transaction() as transaction:
                transaction.append("order-17", OrderPaid(12), expected=4)
                transaction.connection.execute("UPDATE …")
            ```
        """
        with self._engine.transaction() as engine:
            yield TransactionStore(engine, self._append_settings)


class TransactionStore(CommonMethods):
    """A store inside one transaction, from `transaction` or `bind`.

    It appends, reads and decides. What commits by itself or outlives a transaction is not here, but
    in `EventStore`: subscriptions, consumer groups, projections that are kept, imports.
    """

    _engine: BoundEngine

    @property
    def connection(self) -> Connection:
        """The connection, for SQL of your own in the same transaction."""
        return self._engine.lend()
