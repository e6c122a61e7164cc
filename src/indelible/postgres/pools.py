"""Pools that give the connection that came back last.

psycopg's pools give the one that has been idle for longest, so that all that were ever opened stay
in use, by turns. The server has a process for each, with caches and plans of its own: where one
connection is enough, two by turns made an append of a single client dearer by a third.
"""

from __future__ import annotations

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from .connections import AsyncPooledConnection, PooledConnection


class Pool(ConnectionPool[PooledConnection]):
    """A pool of connections, the last one first; those not needed grow old, and are closed."""

    def _get_ready_connection(self, timeout: float | None) -> PooledConnection | None:
        self._pool.rotate()  # psycopg takes the left one, and puts back on the right
        return super()._get_ready_connection(timeout)


class AsyncPool(AsyncConnectionPool[AsyncPooledConnection]):
    """The same, awaiting."""

    async def _get_ready_connection(
        self,
        timeout: float | None,  # noqa: ASYNC109  # as psycopg has it
    ) -> AsyncPooledConnection | None:
        self._pool.rotate()
        return await super()._get_ready_connection(timeout)
