"""The connection pool for tasks."""

from __future__ import annotations

from time import monotonic

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from .connection_async import AsyncPooledConnection


class AsyncPool(AsyncConnectionPool[AsyncPooledConnection]):
    """A connection pool that lends idle connections, and takes them back, without awaiting."""

    async def getconn(self, timeout: float | None = None) -> AsyncPooledConnection:
        """Lend the last returned connection, or wait for one."""
        if self._waiting or self._closed or not self._pool:
            return await super().getconn(timeout)
        connection = self._pool.pop()
        self._nconns_min = min(self._nconns_min, len(self._pool))
        connection._pool = self
        return connection

    def put_back(self, connection: AsyncPooledConnection) -> bool:
        """Return a connection to the pool without awaiting, so that no cancellation can interrupt.

        Returns:
            Whether the pool has taken it. If not, a task waits for it, or it must not be used
            again: then call `putconn`.
        """
        if (
            self._waiting
            or self._closed
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or connection._expire_at <= monotonic()
        ):
            return False
        connection._pool = None  # as psycopg does with idle connections
        self._pool.append(connection)
        return True
