# Generated from transaction_async.py; do not edit.
"""Run operations in a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol, TypeGuard, TypeVar

import psycopg

from indelible.core.concurrency import Lock, run_blocking
from indelible.core.operation import (
    AppendStatement,
    Operation,
    Rows,
    Statement,
    run,
)
from indelible.errors import LockTimeout, TransactionEnded

from .adapters import Connection, Cursors, check_connection
from .connection import PooledConnection, fetch, with_holders
from .errors import commit_errors, in_transaction, log_errors, unwrap_transient_errors
from .forks import Origin
from .session import begins_silently, check_encoding, commits_by_itself, standby_heard
from .settings import Settings

T = TypeVar("T")


class OnAppend(Protocol):
    """A hook in the transaction of an append."""

    def wants(self, statement: AppendStatement) -> bool:
        """Return whether to call the hook for this append."""

    def __call__(self, engine: BoundEngine, statement: AppendStatement, rows: Rows) -> None:
        """Run after the statement and before the commit; an error rolls back both."""


def participates(hook: OnAppend | None, statement: AppendStatement) -> TypeGuard[OnAppend]:
    """Return whether a hook must be called in the transaction of an append."""
    return hook is not None and hook.wants(statement)


class BoundEngine:
    """Runs operations on one connection, in the caller's transaction, without retries."""

    has_appended: bool

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        on_append: OnAppend | None = None,
    ) -> None:
        check_connection(connection)
        check_encoding(connection)
        self.connection = connection
        self.has_appended = False
        self._origin = Origin()
        self._settings = settings
        self._on_append = on_append
        self._cursors = Cursors(connection)
        self._has_ended = False
        # Held from a statement until its rows are read: tasks may share a transaction.
        self._lock = Lock()

    def end(self) -> None:
        """Refuse further statements, and wait for the one that another thread may have sent.

        Called before the transaction ends: after that, others use its connection.
        """
        self._has_ended = True
        with self._lock:
            pass

    def lend(self) -> Connection:
        """Return the connection to the caller, for their own SQL."""
        if isinstance(self.connection, PooledConnection):
            self.connection.is_lent = True
        return self.connection

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        return run(operation, self._execute)

    def run_best_effort(self, operation: Operation[None]) -> None:
        """Run an operation that may fail: a failure is rolled back and only logged."""
        with log_errors(), self.transaction():
            self.run(operation)

    def wait(self, seconds: float) -> None:
        """Do not wait: a refused attempt keeps its locks until the transaction ends."""

    @contextmanager
    def transaction(self) -> Iterator[BoundEngine]:
        """Open a transaction, or a savepoint if one is open."""
        self._origin.check()
        with (
            commit_errors(self._settings) as body,
            standby_heard(self.connection),
            self._block(),
            body,
        ):
            yield self

    @contextmanager
    def _block(self) -> Iterator[None]:
        """Open a transaction if each statement would have its own, and otherwise a savepoint."""
        if begins_silently(self.connection):
            # Begin the caller's transaction: psycopg would commit one that this block begins.
            self.connection.execute("SELECT")
        with self.connection.transaction():
            yield

    def _execute(self, statement: Statement) -> Rows:
        self._origin.check()
        self.has_appended = self.has_appended or isinstance(statement, AppendStatement)
        is_own = isinstance(statement, AppendStatement) and commits_by_itself(self.connection)
        try:
            with standby_heard(self.connection) if is_own else nullcontext():
                if not (
                    isinstance(statement, AppendStatement)
                    and participates(self._on_append, statement)
                ):
                    return self._fetch(statement)
                with self._block():  # the hook is rolled back with the append
                    rows = self._fetch(statement)
                    with unwrap_transient_errors(self._settings):
                        self._on_append(
                            BoundEngine(self.connection, self._settings), statement, rows
                        )
                return rows
        except psycopg.Error as error:
            problem = in_transaction(error, self._settings, is_own=is_own)
            if isinstance(problem, LockTimeout):
                problem = run_blocking(with_holders, problem, self._settings)
            raise problem from error

    def _fetch(self, statement: Statement) -> Rows:
        with self._lock:
            if self._has_ended:
                raise TransactionEnded
            return fetch(
                self._cursors, statement, self._settings, self.connection.prepare_threshold
            )
