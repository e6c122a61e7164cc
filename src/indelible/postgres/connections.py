"""Connections: how one is made, and how a statement is run on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from indelible.errors import IndelibleError, InvalidInput, IsolationTooStrict, LockTimeout
from indelible.events import HeadHolder
from indelible.garbage import Uncollected
from indelible.plan import Call, Rows
from indelible.schema import Migration, create_roles, migrate, statements

from .failures import StandbyNotHeard, told_holders, translate, unreachable
from .forks import keep_from_children
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
    options: str | None = None
    """What other sessions are begun with; None where a pooler is in between, which takes none."""
    is_lent = False
    """Whether it was given to the caller, who may have changed its session."""
    _as_made: tuple[object, ...] = ()
    _standby: StandbyWait | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        keep_from_children(self)

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

    options: str | None = None
    is_lent = False
    _as_made: tuple[object, ...] = ()
    _standby: StandbyWait | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        keep_from_children(self)

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


def open_connection(settings: Settings) -> PooledConnection:
    """Open one connection.

    Raises:
        InvalidInput: the URL is none.
        DatabaseUnreachable: it could not be made.
    """
    check_url(settings.url)
    try:
        connection = PooledConnection.connect(settings.url, **connection_options(settings))
        try:
            _set_up(connection, settings)
        except BaseException:
            connection.close()
            raise
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error
    return connection


async def open_async_connection(settings: Settings) -> AsyncPooledConnection:
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


def speaks_to_the_server(told: int, row: tuple[Any, ...] | None) -> bool:
    """Whether the session is the server's own, so that it keeps what is prepared in it.

    A pooler makes up the number of the process that it tells when a connection is made.
    """
    return row is not None and row[0] == told


def tell_about_pooler() -> None:
    """Say in the log that prepared statements are not used."""
    _log.info("there is a pooler before the server: going on without prepared statements")


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


def check_encoding(connection: Connection | AsyncConnection) -> None:
    """Check that a connection of the caller's gives all characters.

    Raises:
        InvalidInput: it has another encoding than UTF-8.
    """
    if not connection.closed:
        found = connection.pgconn.parameter_status(b"client_encoding")
        if found is None or found.upper() not in (b"UTF8", b"UTF-8"):
            raise InvalidInput(
                f"the connection's client_encoding is {(found or b'not known').decode()}, in which"
                " not all text of the store can be written: SET client_encoding = 'UTF8'"
            )


def with_holders(timeout: LockTimeout, settings: Settings) -> LockTimeout:
    """Say who holds locks of the store, as far as that can be found out."""
    impatient = replace(settings, timeout=min(settings.timeout, 2.0))
    try:
        with open_connection(impatient) as connection:
            rows = connection.execute(statements(settings.schema)["lock_holders"]).fetchall()
    except (psycopg.Error, IndelibleError) as error:
        _log.debug("who holds the lock is not known: %s", error)
        return timeout
    return told_holders(timeout, [str(HeadHolder(*row)) for row in rows])


def check_url(url: str) -> None:
    """Check that a URL is one, without repeating its password.

    Raises:
        InvalidInput: it is none, or libpq would take part of a password for a host or a port.
    """
    place, _, _ = url.partition("?")
    if "://" in place and (
        place.count("@") > 1 or "@" in place.partition("://")[2].partition("/")[2]
    ):
        raise InvalidInput(
            "the URL has an @ or a / that may be part of its password: write %40 for @, %2F for /"
            " and %3A for : in the user, the password and the name of the database"
        )
    try:
        given = conninfo_to_dict(url)
        if not all(port.isdecimal() for port in str(given.get("port") or 0).split(",") if port):
            raise psycopg.ProgrammingError("the port is no number")
    except (psycopg.ProgrammingError, UnicodeError) as error:
        # The text of the error may repeat the URL, and so its password.
        raise InvalidInput(
            "the URL is neither a PostgreSQL URL (postgresql://user@host:5432/database), nor a"
            " connection string (host=… dbname=…), nor embedded://"
        ) from error


_LIVENESS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A silent network is found out in half a minute, and not in the two hours of the default."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """What a connection is made with, where the URL does not say otherwise."""
    given = conninfo_to_dict(settings.url)
    return {
        **{name: given.get(name, value) for name, value in _LIVENESS.items()},
        "autocommit": True,
        "application_name": given.get("application_name", "indelible"),
        "connect_timeout": given.get("connect_timeout", max(2, round(settings.timeout))),
        # Of several hosts the one that takes writes; the server says at the start what it is.
        "target_session_attrs": given.get("target_session_attrs", "primary"),
        "client_encoding": "UTF8",
    }


def configure(connection: PooledConnection) -> None:
    """Set up a connection of ours, as an object: the driver begins transactions in this way."""
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _heed_standby(connection)
    connection._as_made = _attributes(connection)


async def configure_async(connection: AsyncPooledConnection) -> None:
    """Set up a connection of ours, as `configure` does."""
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    _heed_standby(connection)
    connection._as_made = _attributes(connection)


def _set_up(connection: PooledConnection, settings: Settings) -> None:
    """Set up the session of a connection that is made without options."""
    configure(connection)
    statement = statements(settings.schema)["session"]
    rows = connection.execute(statement, _session(connection, settings), prepare=False).fetchall()
    connection.options = _options(rows)


async def _set_up_async(connection: AsyncPooledConnection, settings: Settings) -> None:
    """Set up the session of a connection that is made without options."""
    await configure_async(connection)
    statement = statements(settings.schema)["session"]
    cursor = await connection.execute(statement, _session(connection, settings), prepare=False)
    connection.options = _options(await cursor.fetchall())


def _session(
    connection: PooledConnection | AsyncPooledConnection, settings: Settings
) -> dict[str, object]:
    """The parameters of the statement that sets up a session."""
    given = conninfo_to_dict(settings.url)
    return {
        "told": connection.info.backend_pid,
        "lock_timeout": str(min(max(round(settings.timeout * 1000), 1), 2**31 - 1)),
        **{name: str(given.get(name, value)) for name, value in _LIVENESS.items()},
    }


def _options(rows: Rows) -> str | None:
    """What a session has to be begun with to be as this one is; None where it is shared.

    Raises:
        IsolationTooStrict: it is shared, and begins transactions that cannot read the log.
    """
    if not any(is_shared for is_shared, *_ in rows):
        escaped = ((name, value.replace(" ", "\\ ")) for _, name, _, value in rows)
        return " ".join(f"-c {name}={value}" for name, value in escaped)
    for _, name, before, _ in rows:
        if name == "default_transaction_isolation" and before != "read committed":
            raise IsolationTooStrict(
                f"sessions behind this pooler begin with {name} = {before!r}, in which the log"
                f" cannot be read: ALTER ROLE … SET {name} = 'read committed' for the role of the"
                " store, or have the pooler set it"
            )
    return None


def options_of(settings: Settings, options: str | None) -> dict[str, str]:
    """With what a connection is begun, after what the URL or the environment begin it with."""
    if options is None:
        return {}
    given = conninfo_to_dict(settings.url).get("options") or os.environ.get("PGOPTIONS", "")
    return {"options": f"{given} {options}".strip()}


def restore(connection: PooledConnection, settings: Settings) -> None:
    """Undo what a caller may have changed in a connection that was lent, or close it."""
    if not _restore_object(connection):
        connection.close()
        return
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    row = cursor.execute(statements(settings.schema)["reset_session"]).fetchone()
    if row is None or row[0]:
        connection.close()


async def restore_async(connection: AsyncPooledConnection, settings: Settings) -> None:
    """Undo what a caller may have changed in a connection, as `restore` does."""
    if not _restore_object(connection):
        await connection.close()
        return
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(statements(settings.schema)["reset_session"])
    row = await cursor.fetchone()
    if row is None or row[0]:
        await connection.close()


def _attributes(connection: PooledConnection | AsyncPooledConnection) -> tuple[object, ...]:
    """What a caller may change in a connection that is not in its session."""
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
        # psycopg copies these when something is registered; there is no other way to see it.
        *map(id, connection.adapters._dumpers.values()),
        *map(id, connection.adapters._loaders),
    )


def _restore_object(connection: PooledConnection | AsyncPooledConnection) -> bool:
    """Tell whether a connection is as it was made, and in no transaction."""
    connection.is_lent = False
    return (
        connection.pgconn.transaction_status == TransactionStatus.IDLE
        and _attributes(connection) == connection._as_made
    )


def commits_by_itself(connection: Connection | AsyncConnection) -> bool:
    """Whether the next statement is a transaction of its own."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def begins_silently(connection: Connection | AsyncConnection) -> bool:
    """Whether the next statement begins a transaction, which goes on until the caller ends it."""
    status = connection.info.transaction_status
    return not connection.autocommit and status == TransactionStatus.IDLE


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
