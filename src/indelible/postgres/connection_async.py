"""Open and set up async connections, and run one statement."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from indelible.core.gc import without_gc_async
from indelible.core.operation import Rows, Statement

from .adapters import AsyncCursors, adapt_parameters, prepare
from .direct import Calls, direct_call, note_call
from .errors import unreachable
from .forks import keep_from_children
from .session import StandbyWait, check_url, connection_options, session_options, session_parameters
from .settings import Settings
from .statements import statements

T = TypeVar("T")


class AsyncPooledConnection(psycopg.AsyncConnection[Any]):
    """A connection of the async pool, with the cursors for the statements of the store."""

    options: str | None = None
    is_lent = False
    _as_made: tuple[object, ...] = ()
    _standby: StandbyWait | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: Calls = {}
        keep_from_children(self)

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server; psycopg calls this for each exchange with it."""
        if self._standby is None:
            return await super().wait(gen, *args, **kwargs)
        self._standby.is_cut_short = False
        result = await super().wait(gen, *args, **kwargs)
        self._standby.check()
        return result

    @cached_property
    def cursors(self) -> AsyncCursors:
        """The cursors for the statements of the store."""
        return AsyncCursors(self)


async def open_connection_async(settings: Settings) -> AsyncPooledConnection:
    """Open one connection, as `open_connection` does."""
    check_url(settings.url)
    try:
        connection = await AsyncPooledConnection.connect(
            settings.url, **connection_options(settings)
        )
        try:
            await _set_up_async(connection, settings)
        except BaseException:
            await connection.close()
            raise
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error
    return connection


async def configure_async(connection: AsyncPooledConnection) -> None:
    """Set up a connection object of the pool, as `configure` does."""
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    _watch_standby(connection)
    connection._as_made = _attributes(connection)


async def _set_up_async(connection: AsyncPooledConnection, settings: Settings) -> None:
    """Set up the session of a connection that was opened without options."""
    await configure_async(connection)
    statement = statements(settings.schema)["postgres.session"]
    cursor = await connection.execute(
        statement, session_parameters(connection, settings), prepare=False
    )
    connection.options = session_options(await cursor.fetchall())


async def restore_async(connection: AsyncPooledConnection, settings: Settings) -> None:
    """Reset the session of a connection that the caller has used, as `restore` does."""
    if not _restore_object(connection):
        await connection.close()
        return
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(statements(settings.schema)["postgres.reset_session"])
    row = await cursor.fetchone()
    if row is None or row[0]:
        await connection.close()


def _attributes(connection: AsyncPooledConnection) -> tuple[object, ...]:
    """Return the attributes that a caller may change on the connection object."""
    return (
        connection.autocommit,
        connection.isolation_level,
        connection.read_only,
        connection.deferrable,
        connection.row_factory,
        connection.cursor_factory,
        connection.server_cursor_factory,
        tuple(connection._notice_handlers),
        tuple(connection._notify_handlers),
        # psycopg copies these when an adapter is registered; nothing else shows that.
        *map(id, connection.adapters._dumpers.values()),
        *map(id, connection.adapters._loaders),
    )


def _restore_object(connection: AsyncPooledConnection) -> bool:
    """Return whether a connection object is unchanged, and not in a transaction."""
    connection.is_lent = False
    return (
        connection.pgconn.transaction_status == TransactionStatus.IDLE
        and _attributes(connection) == connection._as_made
    )


def _watch_standby(connection: AsyncPooledConnection) -> None:
    connection._standby = StandbyWait()
    connection.add_notice_handler(connection._standby)


async def fetch_async(
    cursors: AsyncCursors, statement: Statement, settings: Settings, prepares: object
) -> Rows:
    """Run a statement, and return its rows."""
    cursor = cursors.of(statement)
    connection, is_prepared = cursor.connection, prepare(statement, prepares)
    calls = (
        connection.calls
        if is_prepared and isinstance(connection, AsyncPooledConnection) and not connection.is_lent
        else None
    )
    if calls is not None:
        async with connection.lock:  # a rollback of another task drops prepared statements
            if call := direct_call(calls, statement, cursor):
                return await connection.wait(call)
    text = statements(settings.schema)[statement.name]
    await cursor.execute(text, adapt_parameters(statement), prepare=is_prepared)
    if calls is not None:
        note_call(calls, statement, text, cursor)
    return await without_gc_async(cursor.fetchall())
