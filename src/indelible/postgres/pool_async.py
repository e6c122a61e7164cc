"""The pool of connections of the tasks."""

from __future__ import annotations

from time import monotonic

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from .connection_async import AsyncPooledConnection


class AsyncPool(AsyncConnectionPool[AsyncPooledConnection]):
    """The same, awaiting."""

    def put_back(self, connection: AsyncPooledConnection) -> bool:
        """Put a connection back without awaiting, so that nobody can be cancelled meanwhile.

        Returns:
            Whether it was done. Else somebody waits for it, or it is not to be used again: then
            `putconn` knows what to do.
        """
        if (
            self._waiting
            or self._closed
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or connection._expire_at <= monotonic()
        ):
            return False
        connection._pool = None  # as psycopg does with those that rest
        self._pool.append(connection)
        return True

    async def _get_ready_connection(
        self,
        timeout: float | None,
    ) -> AsyncPooledConnection | None:
        self._pool.rotate()
        return await super()._get_ready_connection(timeout)
