# Generated from transaction_store_async.py; do not edit.
"""The store inside a transaction, and the methods that it shares with a store."""

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
    """The methods that a store and a transaction store share."""

    @contextmanager
    def transaction(self) -> Iterator[TransactionStore]:
        """Open a transaction for several appends and reads, and for your own SQL.

        The transaction commits when the block ends, and rolls back if the block raises an error.
        Keep it short, because readers of the log wait for it. An error of the store inside the
        block, such as `WrongExpectedVersion`, leaves the transaction usable if you catch it.

        Returns:
            A context manager that yields a store bound to the transaction. Its `connection` is the
            psycopg connection.

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
    """A store bound to one transaction, returned by `transaction` or `bind`.

    It appends, reads and decides. Methods that commit by themselves or outlive a transaction exist
    only on `EventStore`: subscriptions, consumer groups, daemons and rebuilds, imports.
    """

    _engine: BoundEngine

    @property
    def connection(self) -> Connection:
        """The psycopg connection, for your own SQL in the same transaction."""
        return self._engine.lend()
