"""Run operations on pooled connections: retries, transactions, group commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from typing import TypeVar

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from indelible.core.operation import (
    AppendStatement,
    Operation,
    Rows,
    Statement,
    StatementHook,
    run,
)
from indelible.errors import (
    ConnectionLost,
    DatabaseUnreachable,
    IndelibleError,
    LockTimeout,
    StoreClosed,
)

from .adapters import Connection
from .connection import PooledConnection, configure, fetch, open_connection, restore, with_holders
from .errors import (
    ConnectionAttempts,
    commit_errors,
    is_lost_preparation,
    is_read_only,
    log_errors,
    no_connection,
    translate,
    unwrap_transient_errors,
)
from .forks import Origin
from .group_commit import GroupCommit
from .pool import Loan, Pool
from .session import SNAPSHOT, check_url, connection_options, options_of, tell_about_pooler
from .settings import Settings
from .statements import statements
from .transaction import BoundEngine, OnAppend, participates

T = TypeVar("T")


_IMPATIENCE = 1.0
"""The timeout of a `ShortTimeoutEngine`, in seconds."""

_SOON = 0.001
"""Seconds to wait for a connection before the next step of other work."""


def _nothing() -> None:
    """Do nothing."""


Step = Callable[[], bool]
"""A step of other work, run while the engine waits for the database. It takes less than a
millisecond, and returns whether there is more."""


class PoolEngine:
    """Runs operations on a connection pool.

    Args:
        settings: the settings of the store.
        on_close: called when the engine is closed.
        on_commit: called after each commit of an append or an import; must return at once.
        on_append: called in the transaction of each append that it wants.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None],
        on_commit: Callable[[], None] = _nothing,
        on_append: OnAppend | None = None,
    ) -> None:
        self._settings = settings
        self._on_close = on_close
        self._on_commit = on_commit
        self._on_append = on_append
        self._prepares = True
        self._run_statement: Callable[[Statement], Rows] = self._share_or_execute
        self._origin = Origin()
        self._group_commit = GroupCommit(self._execute, settings.pool_size, settings.timeout)
        check_url(settings.url)
        self._pool = Pool(
            settings.url,
            connection_class=PooledConnection,
            min_size=1,
            max_size=settings.pool_size,
            configure=configure,
            open=False,
            name="indelible",
        )

    def open(self) -> None:
        """Open the connection pool.

        Raises:
            DatabaseUnreachable: no connection could be opened.
        """
        # The first connection is opened without the pool, which would hide the reason of a failure.
        with open_connection(self._settings) as connection:
            self._prepares = connection.options is not None
            self._pool.kwargs = {
                **connection_options(self._settings),
                **options_of(self._settings, connection.options),
            }
        if not self._prepares:
            tell_about_pooler()
        self._pool.open()
        self._group_commit.open()

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        self._origin.check()
        return run(operation, self._run_statement)

    def load(
        self,
        statement: Statement,
        copy_statement: str,
        rows: Callable[[Rows], Iterator[bytes] | None],
        check: Callable[[Rows], Statement],
        meanwhile: Step,
    ) -> Rows:
        """Run a statement, copy rows into a table, and check them, in one transaction.

        Args:
            statement: the statement; it must be idempotent, together with the copied rows.
            copy_statement: the name of the COPY.
            rows: takes the rows of the statement, and returns the rows to copy, in parts. None
                rolls the transaction back.
            check: takes the rows of the statement, and returns the statement that checks the copy.
            meanwhile: other work to run while the engine waits.

        Returns:
            The rows of the statement.
        """
        self._origin.check()
        attempts = ConnectionAttempts(self._settings, statement)
        copy_in = statements(self._settings.schema)[copy_statement]
        while True:
            try:
                loan = Loan()
                with (
                    loan.alive,
                    self._checkout(loan=loan) as connection,
                    connection.using_waits(meanwhile),
                    connection.transaction(),
                ):
                    cursors = connection.cursors
                    result_rows = fetch(cursors, statement, self._settings, self._prepares)
                    copy_rows = rows(result_rows)
                    if copy_rows is None:
                        raise psycopg.Rollback
                    with cursors.values.copy(copy_in) as copy:
                        for data in copy_rows:
                            copy.write(data)
                    fetch(cursors, check(result_rows), self._settings, self._prepares)
                if copy_rows is not None:
                    self._on_commit()
                return result_rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                if isinstance(problem, LockTimeout):
                    problem = with_holders(problem, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                self._pool.check()
            time.sleep(pause)

    @property
    def has_inline(self) -> bool:
        """Whether the engine has a hook in the transaction of appends."""
        return self._on_append is not None

    def run_best_effort(self, operation: Operation[None]) -> None:
        """Run an operation that may fail, with a short timeout; failures are only logged."""
        with log_errors():
            ShortTimeoutEngine(self).run(operation)

    def wait(self, seconds: float) -> None:
        """Wait before a decision is retried."""
        time.sleep(seconds)

    @contextmanager
    def transaction(self, settings: Settings | None = None) -> Iterator[BoundEngine]:
        """Open a transaction, and return an engine that runs operations in it.

        Args:
            settings: the settings of the engine with another timeout.
        """
        self._origin.check()
        with (
            commit_errors(self._settings) as body,
            self._begun(settings or self._settings) as connection,
            body,
        ):
            if not self._prepares:
                connection.prepare_threshold = None
            engine = BoundEngine(connection, self._settings, self._on_append)
            try:
                yield engine
            finally:
                engine.end()
            self._origin.check()
        if engine.has_appended:
            self._on_commit()

    @contextmanager
    def _begun(self, settings: Settings) -> Iterator[PooledConnection]:
        """Begin a transaction on a pooled connection; if the connection is dead, use another."""
        attempts = ConnectionAttempts(settings)
        while True:
            pause = None
            with ExitStack() as opened:
                connection = opened.enter_context(self._checkout(settings=settings))
                try:
                    opened.enter_context(connection.transaction())
                except psycopg.Error as error:
                    pause = attempts.pause_after(translate(error, self._settings), error)
                else:
                    yield connection
            if pause is None:
                return
            self._pool.check()
            time.sleep(pause)

    @contextmanager
    def snapshot(self) -> Iterator[BoundEngine]:
        """Open a read-only transaction in which all statements see the same snapshot."""
        with self.transaction() as engine:
            engine.connection.execute(SNAPSHOT)
            yield engine

    def with_hook(self, hook: StatementHook) -> PoolEngine:
        """Return an engine on the same connections whose statements a hook may replace.

        The hook sees each statement of `run` before it is sent. Transactions do not call it.

        Args:
            hook: takes a statement, and returns the operation to run instead of it.
        """
        run_statement, hooked = self._run_statement, copy(self)
        hooked._run_statement = lambda statement: run(hook(statement), run_statement)
        return hooked

    def bind(self, connection: Connection) -> BoundEngine:
        """Return an engine that runs operations on the caller's connection."""
        self._origin.check()
        return BoundEngine(connection, self._settings, self._on_append)

    def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        if self._origin.is_here:  # otherwise the parent process still uses the connections
            self._group_commit.close()
            self._pool.close()
        self._on_close()

    @contextmanager
    def _checkout(
        self,
        meanwhile: Step | None = None,
        loan: Loan | None = None,
        settings: Settings | None = None,
    ) -> Iterator[PooledConnection]:
        """Borrow a connection. A caller that passes a loan holds `loan.alive` in the block."""
        if loan is None:
            with (loan := Loan()).alive, self._checkout(meanwhile, loan, settings) as connection:
                yield connection
            return
        settings = settings or self._settings
        try:
            try:
                try:
                    connection = self._pool.lend(loan, _SOON if meanwhile else settings.timeout)
                except PoolTimeout:
                    if meanwhile is None:
                        raise
                    meanwhile()
                    connection = self._pool.lend(loan, settings.timeout)
            except PoolClosed as error:
                raise StoreClosed from error
            except PoolTimeout as error:
                raise no_connection(settings, self._pool.get_stats()) from error
            yield connection
        except (psycopg.Error, IndelibleError) as error:
            if is_read_only(error) and self._origin.is_here:
                for connection in loan.held:
                    connection.close()
            raise
        finally:
            if self._origin.is_here:
                self._put_back(loan)

    def _put_back(self, loan: Loan) -> None:
        try:
            for connection in loan.held:
                if connection.is_lent and self._prepares and not connection.closed:
                    _restore(connection, self._settings)
        finally:
            self._pool.take_back(loan)

    def _share_or_execute(self, statement: Statement) -> Rows:
        if (
            not isinstance(statement, AppendStatement)
            or statement.ordering_key is None
            or participates(self._on_append, statement)
        ):
            return self._execute(statement)
        return self._group_commit.append(statement)

    def _execute(
        self,
        statement: Statement,
        meanwhile: Step | None = None,
        settings: Settings | None = None,
    ) -> Rows:
        """Run a statement; call `meanwhile` while the engine waits."""
        attempts = ConnectionAttempts(settings or self._settings, statement)
        while True:
            try:
                loan = Loan()
                with loan.alive, self._checkout(meanwhile, loan, settings) as connection:
                    if isinstance(statement, AppendStatement) and participates(
                        self._on_append, statement
                    ):
                        rows = self._append_with(self._on_append, connection, statement)
                    else:
                        with connection.using_waits(meanwhile):
                            rows = fetch(
                                connection.cursors, statement, self._settings, self._prepares
                            )
                if isinstance(statement, AppendStatement):
                    self._on_commit()
                return rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                if isinstance(problem, LockTimeout):
                    problem = with_holders(problem, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if meanwhile is not None:
                meanwhile()
            if isinstance(problem, ConnectionLost):
                self._pool.check()
            time.sleep(pause)

    def _append_with(
        self, on_append: OnAppend, connection: PooledConnection, statement: AppendStatement
    ) -> Rows:
        """Append, and call a hook in the same transaction."""
        if not self._prepares:
            connection.prepare_threshold = None
        with connection.transaction():
            rows = fetch(connection.cursors, statement, self._settings, self._prepares)
            with unwrap_transient_errors(self._settings):
                on_append(BoundEngine(connection, self._settings), statement, rows)
        return rows


class ShortTimeoutEngine:
    """Runs operations on the connections of an engine, with a timeout of one second.

    It is for callers that retry by themselves and must stay stoppable. Their appends share no
    batch, since a batch has the timeout of the store.

    Args:
        engine: the engine with the connection pool.
    """

    def __init__(self, engine: PoolEngine) -> None:
        self._engine = engine
        self._settings = engine._settings.with_timeout(_IMPATIENCE)

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        self._engine._origin.check()
        return run(operation, self._execute)

    def transaction(self) -> AbstractContextManager[BoundEngine]:
        """Open a transaction, and return an engine that runs operations in it."""
        return self._engine.transaction(self._settings)

    def _execute(self, statement: Statement) -> Rows:
        return self._engine._execute(statement, settings=self._settings)


def _restore(connection: PooledConnection, settings: Settings) -> None:
    # A thread of the caller may still wait for a statement of its own.
    if connection.lock.acquire(timeout=settings.timeout):
        connection.lock.release()
    try:
        restore(connection, settings)
    except psycopg.Error:
        connection.close()
