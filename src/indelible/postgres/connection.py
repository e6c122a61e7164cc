"""Open and set up connections, and run one statement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from selectors import DefaultSelector
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.waiting import Wait

from indelible.core.gc import without_gc
from indelible.core.operation import Rows, Statement
from indelible.errors import IndelibleError, LockTimeout
from indelible.events import HeadHolder

from .adapters import Cursors, adapt_parameters, prepare
from .direct import Calls, direct_call, note_call
from .errors import add_holders, unreachable
from .forks import keep_from_children
from .session import StandbyWait, check_url, connection_options, session_options, session_parameters
from .settings import Settings
from .statements import statements

T = TypeVar("T")

_log = logging.getLogger("indelible")

_NO_WORK = nullcontext()


class PooledConnection(psycopg.Connection[Any]):
    """A connection of the pool, with the cursors for the statements of the store.

    Other work can run while it waits for the server, see `using_waits`.
    """

    _step: Callable[[], bool] | None = None
    options: str | None = None
    """The options to start further sessions with; None behind a pooler, which accepts none."""
    is_lent = False
    """Whether the caller has used the connection and may have changed its session."""
    _as_made: tuple[object, ...] = ()
    _standby: StandbyWait | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: Calls = {}
        keep_from_children(self)

    @cached_property
    def cursors(self) -> Cursors:
        """The cursors for the statements of the store."""
        return Cursors(self)

    def using_waits(self, step: Callable[[], bool] | None) -> AbstractContextManager[None]:
        """Run steps of other work in the block while the connection waits for the server.

        Args:
            step: does a part of the work in less than a millisecond, and returns whether there is
                more. None for no other work.
        """
        return _NO_WORK if step is None else self._using_waits(step)

    @contextmanager
    def _using_waits(self, step: Callable[[], bool]) -> Iterator[None]:
        self._step = step
        try:
            yield
        finally:
            self._step = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server; psycopg calls this for each exchange with it."""
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
        readiness = next(gen)
        while True:
            while step() and not _is_ready(socket, readiness):
                pass
            readiness = gen.send((yield readiness))
    except StopIteration as end:
        result: T = end.value
        return result


def _is_ready(socket: int, readiness: Wait) -> bool:
    with DefaultSelector() as selector:
        selector.register(socket, readiness)
        return bool(selector.select(0))


def open_connection(settings: Settings) -> PooledConnection:
    """Open one connection.

    Raises:
        InvalidInput: the URL is not valid.
        DatabaseUnreachable: the connection could not be opened.
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


def with_holders(timeout: LockTimeout, settings: Settings) -> LockTimeout:
    """Add the sessions that hold locks of the store to an error, if they can be looked up."""
    try:
        with open_connection(settings.with_timeout(2.0)) as connection:
            rows = connection.execute(
                statements(settings.schema)["postgres.lock_holders"]
            ).fetchall()
    except (psycopg.Error, IndelibleError) as error:
        _log.debug("cannot look up the holders of the lock: %s", error)
        return timeout
    return add_holders(timeout, [str(HeadHolder(*row)) for row in rows])


def configure(connection: PooledConnection) -> None:
    """Set up a connection object of the pool: isolation level and notice handler."""
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _watch_standby(connection)
    connection._as_made = _attributes(connection)


def _set_up(connection: PooledConnection, settings: Settings) -> None:
    """Set up the session of a connection that was opened without options."""
    configure(connection)
    statement = statements(settings.schema)["postgres.session"]
    rows = connection.execute(
        statement, session_parameters(connection, settings), prepare=False
    ).fetchall()
    connection.options = session_options(rows)


def restore(connection: PooledConnection, settings: Settings) -> None:
    """Reset the session of a connection that the caller has used; if that fails, close it."""
    if not _restore_object(connection):
        connection.close()
        return
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    row = cursor.execute(statements(settings.schema)["postgres.reset_session"]).fetchone()
    if row is None or row[0]:
        connection.close()


def _attributes(connection: PooledConnection) -> tuple[object, ...]:
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


def _restore_object(connection: PooledConnection) -> bool:
    """Return whether a connection object is unchanged, and not in a transaction."""
    connection.is_lent = False
    return (
        connection.pgconn.transaction_status == TransactionStatus.IDLE
        and _attributes(connection) == connection._as_made
    )


def _watch_standby(connection: PooledConnection) -> None:
    connection._standby = StandbyWait()
    connection.add_notice_handler(connection._standby)


def fetch(cursors: Cursors, statement: Statement, settings: Settings, prepares: object) -> Rows:
    """Run a statement, and return its rows."""
    cursor = cursors.of(statement)
    connection, is_prepared = cursor.connection, prepare(statement, prepares)
    calls = (
        connection.calls
        if is_prepared and isinstance(connection, PooledConnection) and not connection.is_lent
        else None
    )
    if calls is not None:
        with connection.lock:  # a rollback of another thread drops prepared statements
            if call := direct_call(calls, statement, cursor):
                return connection.wait(call)
    text = statements(settings.schema)[statement.name]
    cursor.execute(text, adapt_parameters(statement), prepare=is_prepared)
    if calls is not None:
        note_call(calls, statement, text, cursor)
    return without_gc(cursor.fetchall)
