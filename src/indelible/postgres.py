"""The engine: connections, their pool, and what the driver's errors mean.

The only module, beside `schema`, that knows the driver. Engines run plans. A pooled engine gives
each statement a connection of its own, and repeats it where that is right; a bound engine runs all
statements on one connection, and so inside the caller's transaction.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from .errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnreachable,
    IndelibleError,
    InvalidInput,
    IsolationTooStrict,
    LeaseLost,
    PermissionDenied,
    SchemaMissing,
    StoreClosed,
    TransactionConflict,
)
from .plan import Call, Plan, Rows, drive, drive_async
from .schema import Migration, create_roles, migrate, statements

T = TypeVar("T")
Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
_Error = psycopg.Error

_IMPATIENCE = 1.0
"""Seconds that an impatient engine waits for a connection."""

_log = logging.getLogger("indelible")


def _nothing() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a store.

    Attributes:
        url: a PostgreSQL URL or connection string.
        schema: where the store lives.
        pool_size: how many connections a store opens at most.
        timeout: seconds that a call may wait for a connection, and try again after a lost one.
    """

    url: str
    schema: str = "indelible"
    pool_size: int = 10
    timeout: float = 30.0


class PoolEngine:
    """Runs plans on a pool of connections.

    Args:
        settings: how to reach the store.
        on_close: called when the engine is closed.
        on_commit: called after something was written and committed; must return at once.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None],
        on_commit: Callable[[], None] = _nothing,
    ) -> None:
        self._settings = settings
        self._on_close = on_close
        self._on_commit = on_commit
        self._prepares = True
        _check_url(settings.url)
        self._pool = ConnectionPool(
            settings.url,
            connection_class=_PooledConnection,
            min_size=1,
            max_size=settings.pool_size,
            kwargs=_connection_options(settings),
            configure=_configure,
            open=False,
            name="indelible",
        )

    def open(self) -> None:
        """Open the pool, or say why no connection can be made."""
        # A first connection of our own, since the pool does not say why it gets none.
        with open_connection(self._settings) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            self._prepares = speaks_to_the_server(connection.info.backend_pid, row)
        self._pool.open()

    def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return drive(plan, self._execute)

    @contextmanager
    def transaction(self) -> Iterator[BoundEngine]:
        """Open a transaction, and give an engine that runs plans inside it."""
        with (
            self._checkout() as connection,
            _commit_errors(self._settings) as body,
            connection.transaction(),
            body,
        ):
            if not self._prepares:
                connection.prepare_threshold = None
            engine = BoundEngine(connection, self._settings)
            yield engine
        if engine.has_appended:
            self._on_commit()

    def impatient(self) -> PoolEngine:
        """Give an engine on the same pool that soon says that the database is not there.

        For those who go on trying by themselves, and want to be stopped meanwhile.
        """
        twin = copy(self)
        twin._settings = replace(self._settings, timeout=min(_IMPATIENCE, self._settings.timeout))
        return twin

    def bind(self, connection: Connection) -> BoundEngine:
        """Give an engine that runs plans on a connection of the caller's."""
        return BoundEngine(connection, self._settings)

    def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        self._pool.close()
        self._on_close()

    @contextmanager
    def _checkout(self) -> Iterator[_PooledConnection]:
        try:
            connection = self._pool.getconn(timeout=self._settings.timeout)
        except PoolClosed as error:
            raise StoreClosed from error
        except PoolTimeout as error:
            raise _no_connection(self._settings, self._pool.get_stats()) from error
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def _execute(self, call: Call) -> Rows:
        attempts = _Attempts(self._settings, call)
        while True:
            try:
                with self._checkout() as connection:
                    rows = _fetch(connection.event_cursor, call, self._settings, self._prepares)
                if call.appends:
                    self._on_commit()
                return rows
            except _Error as error:
                self._prepares = self._prepares and not _is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                self._pool.check()
            time.sleep(pause)


class AsyncPoolEngine:
    """Runs plans on a pool of connections, awaiting; the twin of `PoolEngine`."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None],
        on_commit: Callable[[], None] = _nothing,
    ) -> None:
        self._settings = settings
        self._on_close = on_close
        self._on_commit = on_commit
        self._prepares = True
        _check_url(settings.url)
        self._pool = AsyncConnectionPool(
            settings.url,
            connection_class=_AsyncPooledConnection,
            min_size=1,
            max_size=settings.pool_size,
            kwargs=_connection_options(settings),
            configure=_configure_async,
            open=False,
            name="indelible",
        )

    async def open(self) -> None:
        """Open the pool, or say why no connection can be made."""
        # A first connection of our own, since the pool does not say why it gets none.
        async with await _open_async_connection(self._settings) as connection:
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            self._prepares = speaks_to_the_server(connection.info.backend_pid, row)
        await self._pool.open()

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return await drive_async(plan, self._execute)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, and give an engine that runs plans inside it."""
        async with self._checkout() as connection:
            with _commit_errors(self._settings) as body:
                async with connection.transaction():
                    with body:
                        if not self._prepares:
                            connection.prepare_threshold = None
                        engine = AsyncBoundEngine(connection, self._settings)
                        yield engine
        if engine.has_appended:
            self._on_commit()

    def impatient(self) -> AsyncPoolEngine:
        """Give an engine on the same pool that soon says that the database is not there.

        For those who go on trying by themselves, and want to be stopped meanwhile.
        """
        twin = copy(self)
        twin._settings = replace(self._settings, timeout=min(_IMPATIENCE, self._settings.timeout))
        return twin

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Give an engine that runs plans on a connection of the caller's."""
        return AsyncBoundEngine(connection, self._settings)

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        await self._pool.close()
        self._on_close()

    @asynccontextmanager
    async def _checkout(self) -> AsyncIterator[_AsyncPooledConnection]:
        try:
            connection = await self._pool.getconn(timeout=self._settings.timeout)
        except PoolClosed as error:
            raise StoreClosed from error
        except PoolTimeout as error:
            raise _no_connection(self._settings, self._pool.get_stats()) from error
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)

    async def _execute(self, call: Call) -> Rows:
        attempts = _Attempts(self._settings, call)
        while True:
            try:
                async with self._checkout() as connection:
                    rows = await _fetch_async(
                        connection.event_cursor, call, self._settings, self._prepares
                    )
                if call.appends:
                    self._on_commit()
                return rows
            except _Error as error:
                self._prepares = self._prepares and not _is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                await self._pool.check()
            await asyncio.sleep(pause)


class BoundEngine:
    """Runs plans on one connection, whose transaction is the caller's. Nothing is repeated."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        if not isinstance(connection, psycopg.Connection):
            raise InvalidInput(
                f"bind takes a psycopg.Connection, not {type(connection).__name__}: Django's is"
                " connection.connection, SQLAlchemy's is"
                " session.connection().connection.driver_connection"
            )
        self.connection = connection
        self.has_appended = False
        self._settings = settings
        self._cursor = _event_cursor(connection)

    def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return drive(plan, self._execute)

    @contextmanager
    def transaction(self) -> Iterator[BoundEngine]:
        """Open a transaction, or a savepoint inside the one that is open."""
        with _commit_errors(self._settings) as body, self.connection.transaction(), body:
            yield self

    def bind(self, connection: Connection) -> BoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return BoundEngine(connection, self._settings)

    def close(self) -> None:
        """Leave the connection to its owner."""

    def _execute(self, call: Call) -> Rows:
        self.has_appended = self.has_appended or call.appends
        try:
            return _fetch(self._cursor, call, self._settings, self.connection.prepare_threshold)
        except _Error as error:
            raise _in_transaction(error, self._settings) from error


class AsyncBoundEngine:
    """Runs plans on one connection, awaiting; the twin of `BoundEngine`."""

    def __init__(self, connection: AsyncConnection, settings: Settings) -> None:
        if not isinstance(connection, psycopg.AsyncConnection):
            raise InvalidInput(
                f"bind takes a psycopg.AsyncConnection, not {type(connection).__name__}:"
                " SQLAlchemy's is (await session.connection()).get_raw_connection()"
                ".driver_connection"
            )
        self.connection = connection
        self.has_appended = False
        self._settings = settings
        self._cursor = _async_event_cursor(connection)

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return await drive_async(plan, self._execute)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, or a savepoint inside the one that is open."""
        with _commit_errors(self._settings) as body:
            async with self.connection.transaction():
                with body:
                    yield self

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return AsyncBoundEngine(connection, self._settings)

    async def close(self) -> None:
        """Leave the connection to its owner."""

    async def _execute(self, call: Call) -> Rows:
        self.has_appended = self.has_appended or call.appends
        try:
            return await _fetch_async(
                self._cursor, call, self._settings, self.connection.prepare_threshold
            )
        except _Error as error:
            raise _in_transaction(error, self._settings) from error


# Connections -----------------------------------------------------------------------------------


class _PooledConnection(psycopg.Connection[Any]):
    @cached_property
    def event_cursor(self) -> psycopg.Cursor[Any]:
        return _event_cursor(self)


class _AsyncPooledConnection(psycopg.AsyncConnection[Any]):
    @cached_property
    def event_cursor(self) -> psycopg.AsyncCursor[Any]:
        return _async_event_cursor(self)


def open_connection(settings: Settings) -> Connection:
    """Open one connection.

    Raises:
        InvalidInput: the URL is none.
        DatabaseUnreachable: it could not be made.
    """
    _check_url(settings.url)
    try:
        return psycopg.connect(settings.url, **_connection_options(settings))
    except psycopg.OperationalError as error:
        raise _unreachable(settings, error) from error


async def _open_async_connection(settings: Settings) -> AsyncConnection:
    _check_url(settings.url)
    try:
        return await psycopg.AsyncConnection.connect(settings.url, **_connection_options(settings))
    except psycopg.OperationalError as error:
        raise _unreachable(settings, error) from error


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
        except _Error as error:
            raise translate(error, settings) from error
        return applied


def _check_url(url: str) -> None:
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # The text of the error may repeat the URL, and so its password.
        raise InvalidInput(
            "the URL is neither a PostgreSQL URL (postgresql://user@host:5432/database), nor a"
            " connection string (host=… dbname=…), nor embedded://"
        ) from error


def _connection_options(settings: Settings) -> dict[str, Any]:
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


def _configure(connection: Connection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


async def _configure_async(connection: AsyncConnection) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


# Statements ------------------------------------------------------------------------------------


class _JsonLoader(Loader):
    """JSON as the bytes that it is: the codec reads it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]  # the first byte is the version of the jsonb format


_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class _MomentLoader(Loader):
    """A moment in UTC, whatever the time zone of the session."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _EPOCH + timedelta(microseconds=int.from_bytes(bytes(data), "big", signed=True))


def _event_cursor(connection: Connection) -> psycopg.Cursor[Any]:
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    # On the cursor and not on the connection, which its owner uses for other things.
    cursor.adapters.register_loader("jsonb", _JsonLoader)
    cursor.adapters.register_loader("timestamptz", _MomentLoader)
    return cursor


def _async_event_cursor(connection: AsyncConnection) -> psycopg.AsyncCursor[Any]:
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    cursor.adapters.register_loader("jsonb", _JsonLoader)
    cursor.adapters.register_loader("timestamptz", _MomentLoader)
    return cursor


def _fetch(cursor: psycopg.Cursor[Any], call: Call, settings: Settings, prepares: object) -> Rows:
    statement = statements(settings.schema)[call.statement]
    cursor.execute(statement, _parameters(call), prepare=_prepare(call, prepares))
    return cursor.fetchall()


async def _fetch_async(
    cursor: psycopg.AsyncCursor[Any], call: Call, settings: Settings, prepares: object
) -> Rows:
    statement = statements(settings.schema)[call.statement]
    await cursor.execute(statement, _parameters(call), prepare=_prepare(call, prepares))
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


# Errors ----------------------------------------------------------------------------------------


class _Attempts:
    """When a statement is repeated, and when it is given up.

    Every statement of the library may be repeated: reads change nothing, and an append with the
    same event ids is taken once.
    """

    def __init__(self, settings: Settings, call: Call) -> None:
        self._settings = settings
        self._call = call
        self._deadline = time.monotonic() + settings.timeout
        self._pause = 0.01
        self.loss: IndelibleError | None = None

    def pause_after(self, problem: IndelibleError, error: _Error) -> float:
        """Say how many seconds to wait before the next attempt, or raise the problem."""
        if isinstance(problem, ConnectionLost):
            problem = self.loss = self._lost(problem, error)
        elif not (isinstance(problem, TransactionConflict) or _is_lost_preparation(error)):
            raise problem from error
        if time.monotonic() + self._pause > self._deadline:
            raise problem from error
        self._pause = min(self._pause * 2, 1.0)
        return self._pause / 2

    def _lost(self, problem: IndelibleError, error: _Error) -> IndelibleError:
        if self._call.appends:
            return ConnectionLost(
                f"{problem}; whether the events were stored is not known: look for their ids"
                " (error.event_ids) in the stream, or append them again with the same ids, which"
                " stores nothing twice"
            )
        return _unreachable(self._settings, error)


class _Body:
    """Notes whether the body of a transaction failed by itself."""

    failed = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.failed = error is not None


@contextmanager
def _commit_errors(settings: Settings) -> Iterator[_Body]:
    """Translate errors of BEGIN and COMMIT; those of the caller's own SQL stay as they are."""
    body = _Body()
    try:
        yield body
    except _Error as error:
        if body.failed:
            raise
        problem = translate(error, settings)
        if isinstance(problem, ConnectionLost):
            problem = ConnectionLost(
                f"{problem} at the commit; whether the transaction was carried out is not known:"
                " look for what it appended"
            )
        raise problem from error


def _is_lost_preparation(error: Exception) -> bool:
    """Whether a prepared statement is another session's: a pooler is in between."""
    lost = isinstance(
        error, psycopg.errors.DuplicatePreparedStatement | psycopg.errors.InvalidSqlStatementName
    )
    if lost:
        _log.info("prepared statements do not work here: going on without them")
    return lost


def translate(error: _Error, settings: Settings) -> IndelibleError:
    """Say in the library's terms what an error of the driver means."""
    text = _first_line(error)
    hint = error.diag.message_hint
    match error.sqlstate:
        case "IND02" | "IND03":
            return IsolationTooStrict(f"{text}. {hint}")
        case "IND05":
            return LeaseLost()
        case "IND04" | "22P02" | "22P05" | "22021":
            return InvalidInput(f"{text}. {hint}" if hint else text)
        case "3F000" | "42883" | "42P01":
            return SchemaMissing(settings.schema)
        case "42501":
            return PermissionDenied(
                f"{text}: connect as the owner of the store, or as a member of the role"
                f" {settings.schema}_writer or {settings.schema}_reader"
                " (`indelible init --roles` makes them)"
            )
        case "40001" | "40P01":
            return TransactionConflict(
                f"the database undid the transaction ({text}): run the whole transaction again"
            )
        case "23505" if error.diag.constraint_name == "events_id_key":
            # Another transaction appended the same id at the same moment, to another stream.
            return TransactionConflict(
                f"an event with the same id was appended at the same moment ({text}): run the"
                " whole transaction again to learn where it stands"
            )
    if _is_loss(error):
        return ConnectionLost(f"the connection to {_target(settings.url)} was lost ({text})")
    return DatabaseError(f"the database refused: {text}" + (f". {hint}" if hint else ""))


def _in_transaction(error: _Error, settings: Settings) -> IndelibleError:
    """Say what an error in the middle of a transaction means."""
    problem = translate(error, settings)
    if isinstance(problem, ConnectionLost):
        return ConnectionLost(
            f"{problem} and the transaction with it; nothing of it was stored: run it again"
        )
    return problem


def _is_loss(error: _Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P"))


def _first_line(error: _Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0]


def _unreachable(settings: Settings, error: _Error) -> DatabaseUnreachable:
    reason = " ".join(str(error).split())
    return DatabaseUnreachable(
        f"cannot reach the database at {_target(settings.url)} ({reason.rstrip('?.')}): check the"
        " URL, and that the server runs"
    )


def _no_connection(settings: Settings, stats: dict[str, int]) -> DatabaseUnreachable:
    if stats.get("pool_size", 0) >= settings.pool_size and not stats.get("connections_errors"):
        return DatabaseUnreachable(
            f"all {settings.pool_size} connections were in use for {settings.timeout:g} s: finish"
            " transactions sooner, or connect with a larger pool_size"
        )
    return DatabaseUnreachable(
        f"cannot reach the database at {_target(settings.url)} for {settings.timeout:g} s: check"
        " that the server runs"
    )


def _target(url: str) -> str:
    """Where the database is, for messages: never with its password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or given.get("hostaddr") or "the default host"
    return f"{host}:{given.get('port', 5432)}/{given.get('dbname', '')}"
