"""Connections: how one is made, and how a statement is run on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from selectors import DefaultSelector
from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg import abc
from psycopg.abc import AdaptContext, Buffer, PQGen
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8
from psycopg.waiting import Wait

from indelible.columns import Column
from indelible.errors import InvalidInput
from indelible.garbage import Uncollected
from indelible.plan import Call, Rows
from indelible.schema import Migration, create_roles, migrate, statements

from .failures import StandbyNotHeard, translate, unreachable
from .settings import Settings

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]

T = TypeVar("T")

_log = logging.getLogger("indelible")


class StandbyWait:
    """Notes that a commit waited for a synchronous standby in vain, as its session was told to.

    A handler of notices. PostgreSQL says no more than a warning then: the transaction is committed
    on this server, and is lost where a standby takes over that does not have it.
    """

    __slots__ = ("is_cut_short",)

    def __init__(self) -> None:
        self.is_cut_short = False

    def __call__(self, notice: psycopg.errors.Diagnostic) -> None:
        """Look at a notice: its text is in the language of the server, where it is from is not."""
        if notice.source_function == "SyncRepWaitForLSN":
            self.is_cut_short = True

    def check(self) -> None:
        """Raise `StandbyNotHeard` if it was so."""
        if self.is_cut_short:
            raise StandbyNotHeard


@contextmanager
def standby_heard(connection: Connection | AsyncConnection) -> Iterator[None]:
    """Raise `StandbyNotHeard` where a commit in the block was not waited for to its end."""
    waits = StandbyWait()
    connection.add_notice_handler(waits)
    try:
        yield
    finally:
        connection.remove_notice_handler(waits)
    waits.check()


class PooledConnection(psycopg.Connection[Any]):
    """A connection of the pool, with the cursor that all its statements use.

    What waits for the server can be used: psycopg's generators tell what they wait for.
    """

    _step: Callable[[], bool] | None = None
    _standby: StandbyWait | None = None

    @cached_property
    def event_cursor(self) -> psycopg.Cursor[Any]:
        """Made once, since it takes longer than the statement."""
        return event_cursor(self)

    @contextmanager
    def using_waits(self, step: Callable[[], bool] | None) -> Iterator[None]:
        """Take steps of other work whenever the server has all and is waited for.

        Args:
            step: does some of it, in less than a millisecond; tells whether there is more. None:
                there is nothing to be done.
        """
        self._step = step
        try:
            yield
        finally:
            self._step = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server, as psycopg does for each exchange with it."""
        if self._step is not None:
            gen = _with_steps(gen, self.fileno(), self._step)
        if self._standby is None:
            return super().wait(gen, *args, **kwargs)
        self._standby.is_cut_short = False
        result = super().wait(gen, *args, **kwargs)
        self._standby.check()
        return result


def _with_steps(gen: PQGen[T], socket: int, step: Callable[[], bool]) -> PQGen[T]:
    try:
        wanted = next(gen)
        while True:
            while step() and not _is_ready(socket, wanted):
                pass
            wanted = gen.send((yield wanted))
    except StopIteration as end:
        result: T = end.value
        return result


def _is_ready(socket: int, wanted: Wait) -> bool:
    with DefaultSelector() as selector:
        selector.register(socket, wanted)
        return bool(selector.select(0))


class AsyncPooledConnection(psycopg.AsyncConnection[Any]):
    """The same, awaiting."""

    _standby: StandbyWait | None = None

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server, as psycopg does for each exchange with it."""
        if self._standby is None:
            return await super().wait(gen, *args, **kwargs)
        self._standby.is_cut_short = False
        result = await super().wait(gen, *args, **kwargs)
        self._standby.check()
        return result

    @cached_property
    def event_cursor(self) -> psycopg.AsyncCursor[Any]:
        """Made once, since it takes longer than the statement."""
        return async_event_cursor(self)


def open_connection(settings: Settings) -> Connection:
    """Open one connection.

    Raises:
        InvalidInput: the URL is none.
        DatabaseUnreachable: it could not be made.
    """
    check_url(settings.url)
    try:
        return psycopg.connect(settings.url, **connection_options(settings))
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


async def open_async_connection(settings: Settings) -> AsyncConnection:
    """Open one connection, as `open_connection` does."""
    check_url(settings.url)
    try:
        return await psycopg.AsyncConnection.connect(settings.url, **connection_options(settings))
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


def speaks_to_the_server(told: int, row: tuple[Any, ...] | None) -> bool:
    """Whether the session is the server's own, so that it keeps what is prepared in it.

    A pooler makes up the number of the process that it tells when a connection is made.
    """
    is_direct = row is not None and row[0] == told
    if not is_direct:
        _log.info("there is a pooler before the server: going on without prepared statements")
    return is_direct


def migrate_store(settings: Settings, *, roles: bool = False) -> list[Migration]:
    """Bring a store up to date, making it where there is none.

    Args:
        settings: how to reach it.
        roles: whether to make its roles, too.

    Returns:
        The migrations that were applied.
    """
    with open_connection(settings) as connection:
        try:
            applied = migrate(connection, settings.schema)
            if roles:
                create_roles(connection, settings.schema)
        except psycopg.Error as error:
            raise translate(error, settings) from error
        return applied


def check_url(url: str) -> None:
    """Check that a URL is one, without repeating its password.

    Raises:
        InvalidInput: it is none.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # The text of the error may repeat the URL, and so its password.
        raise InvalidInput(
            "the URL is neither a PostgreSQL URL (postgresql://user@host:5432/database), nor a"
            " connection string (host=… dbname=…), nor embedded://"
        ) from error


def connection_options(settings: Settings) -> dict[str, Any]:
    """What a connection is made with, where the URL does not say otherwise."""
    given = conninfo_to_dict(settings.url)
    return {
        # A silent network is found out in half a minute, and not in the two hours of the default.
        **{
            name: given.get(name, value)
            for name, value in (
                ("keepalives_idle", 10),
                ("keepalives_interval", 5),
                ("keepalives_count", 3),
                ("tcp_user_timeout", 25_000),
            )
        },
        "autocommit": True,
        "application_name": given.get("application_name", "indelible"),
        "connect_timeout": given.get("connect_timeout", max(2, round(settings.timeout))),
    }


def configure(connection: PooledConnection) -> None:
    """Set up a connection of the pool."""
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _heed_standby(connection)


async def configure_async(connection: AsyncPooledConnection) -> None:
    """Set up a connection of the pool."""
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    _heed_standby(connection)


def commits_by_itself(connection: Connection | AsyncConnection) -> bool:
    """Whether the next statement is a transaction of its own."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def _heed_standby(connection: PooledConnection | AsyncPooledConnection) -> None:
    connection._standby = StandbyWait()
    connection.add_notice_handler(connection._standby)


# Statements ------------------------------------------------------------------------------------


class _JsonLoader(Loader):
    """JSON as the bytes that it is: the codec reads it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data[1:])  # the first byte is the version of the jsonb format


_MOMENTS: Final = psycopg.adapters.types["timestamptz"].oid


class _ColumnDumper(Dumper):
    """A column as it is; the statement casts it to its type."""

    format = Format.BINARY

    def dump(self, column: Column) -> bytes:
        return column.binary


class _MomentLoaders:
    """Makes psycopg's own loaders of moments, in C, without a session that they would ask its zone.

    So moments are in UTC, whatever the time zone of the session. Used in place of a class.
    """

    format = Format.BINARY

    def __call__(self, oid: int, context: AdaptContext | None = None) -> abc.Loader:
        made = psycopg.adapters.get_loader(_MOMENTS, Format.BINARY)
        assert made is not None  # noqa: S101
        return made(oid, None)


_moment_loaders = cast("type[Loader]", _MomentLoaders())


def event_cursor(connection: Connection) -> psycopg.Cursor[Any]:
    """A cursor that reads events: JSON as bytes, moments in UTC."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    _adapt(cursor)
    return cursor


def async_event_cursor(connection: AsyncConnection) -> psycopg.AsyncCursor[Any]:
    """A cursor that reads events, as `event_cursor` makes one."""
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    _adapt(cursor)
    return cursor


def _adapt(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    cursor.format = Format.BINARY
    # On the cursor and not on the connection, which its owner uses for other things.
    cursor.adapters.register_loader("jsonb", _JsonLoader)
    cursor.adapters.register_loader("timestamptz", _moment_loaders)
    cursor.adapters.register_dumper(Column, _ColumnDumper)


def fetch(cursor: psycopg.Cursor[Any], call: Call, settings: Settings, prepares: object) -> Rows:
    """Run a statement, and give its rows."""
    statement = statements(settings.schema)[call.statement]
    cursor.execute(statement, _parameters(call), prepare=_prepare(call, prepares))
    with Uncollected():
        return cursor.fetchall()


async def fetch_async(
    cursor: psycopg.AsyncCursor[Any], call: Call, settings: Settings, prepares: object
) -> Rows:
    """Run a statement, and give its rows."""
    statement = statements(settings.schema)[call.statement]
    await cursor.execute(statement, _parameters(call), prepare=_prepare(call, prepares))
    with Uncollected():
        return await cursor.fetchall()


def _prepare(call: Call, prepares: object) -> bool:
    # At the first call already: a process runs few statements, and each of them often.
    return call.prepared and prepares not in (False, None)


def _parameters(call: Call) -> dict[str, object]:
    # By itself psycopg sends the smallest type that holds a number, and each type would have a
    # prepared statement of its own.
    return {
        name: Int8(value) if type(value) is int else value
        for name, value in call.parameters.items()
    }
