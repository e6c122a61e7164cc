"""Pools that give the connection that came back last.

psycopg's pools give the one that has been idle for longest, so that all that were ever opened stay
in use, by turns. The server has a process for each, with caches and plans of its own: where one
connection is enough, two by turns made an append of a single client dearer by a third.
"""

from __future__ import annotations

import time
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from .connections import AsyncPooledConnection, PooledConnection
from .forks import Origin


class Pool(ConnectionPool[PooledConnection]):
    """A pool of connections, the last one first; those not needed grow old, and are closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._origin = Origin()
        super().__init__(*args, **options)

    def __del__(self) -> None:
        if self._origin.is_here:  # a child has neither its threads nor what frees its locks
            super().__del__()

    def _get_ready_connection(self, timeout: float | None) -> PooledConnection | None:
        self._pool.rotate()  # psycopg takes the left one, and puts back on the right
        return super()._get_ready_connection(timeout)


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
            or connection._expire_at <= time.monotonic()
        ):
            return False
        connection._pool = None  # as psycopg does with those that rest
        self._pool.append(connection)
        return True

    async def _get_ready_connection(
        self,
        timeout: float | None,  # noqa: ASYNC109  # as psycopg has it
    ) -> AsyncPooledConnection | None:
        self._pool.rotate()
        return await super()._get_ready_connection(timeout)
