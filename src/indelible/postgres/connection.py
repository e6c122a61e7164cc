"""Open and prepare connections, and run one statement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from selectors import DefaultSelector
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.waiting import Wait

from indelible.core.gc import gc_paused
from indelible.core.operation import Rows, Statement
from indelible.errors import IndelibleError, LockTimeout
from indelible.events import HeadHolder

from .adapters import adapt_parameters, event_cursor, prepare
from .errors import add_holders, unreachable
from .forks import keep_from_children
from .session import StandbyWait, check_url, connection_options, session_options, session_parameters
from .settings import Settings
from .statements import statements

T = TypeVar("T")

_log = logging.getLogger("indelible")


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


def with_holders(timeout: LockTimeout, settings: Settings) -> LockTimeout:
    """Say who holds locks of the store, as far as that can be found out."""
    try:
        with open_connection(settings.with_timeout(2.0)) as connection:
            rows = connection.execute(
                statements(settings.schema)["postgres.lock_holders"]
            ).fetchall()
    except (psycopg.Error, IndelibleError) as error:
        _log.debug("who holds the lock is not known: %s", error)
        return timeout
    return add_holders(timeout, [str(HeadHolder(*row)) for row in rows])


def configure(connection: PooledConnection) -> None:
    """Set up a connection of ours, as an object: the driver begins transactions in this way."""
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    _watch_standby(connection)
    connection._as_made = _attributes(connection)


def _set_up(connection: PooledConnection, settings: Settings) -> None:
    """Set up the session of a connection that is made without options."""
    configure(connection)
    statement = statements(settings.schema)["postgres.session"]
    rows = connection.execute(
        statement, session_parameters(connection, settings), prepare=False
    ).fetchall()
    connection.options = session_options(rows)


def restore(connection: PooledConnection, settings: Settings) -> None:
    """Undo what a caller may have changed in a connection that was lent, or close it."""
    if not _restore_object(connection):
        connection.close()
        return
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    row = cursor.execute(statements(settings.schema)["postgres.reset_session"]).fetchone()
    if row is None or row[0]:
        connection.close()


def _attributes(connection: PooledConnection) -> tuple[object, ...]:
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


def _restore_object(connection: PooledConnection) -> bool:
    """Tell whether a connection is as it was made, and in no transaction."""
    connection.is_lent = False
    return (
        connection.pgconn.transaction_status == TransactionStatus.IDLE
        and _attributes(connection) == connection._as_made
    )


def _watch_standby(connection: PooledConnection) -> None:
    connection._standby = StandbyWait()
    connection.add_notice_handler(connection._standby)


def fetch(
    cursor: psycopg.Cursor[Any], statement: Statement, settings: Settings, prepares: object
) -> Rows:
    """Run a statement, and give its rows."""
    text = statements(settings.schema)[statement.name]
    cursor.execute(text, adapt_parameters(statement), prepare=prepare(statement, prepares))
    with gc_paused():
        return cursor.fetchall()
