"""Run operations in a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Protocol, TypeGuard, TypeVar

import psycopg

from indelible.core.concurrency_async import AsyncLock, run_blocking_async
from indelible.core.operation import (
    AppendStatement,
    Operation,
    Rows,
    Statement,
    run_async,
)
from indelible.errors import LockTimeout, TransactionEnded

from .adapters import AsyncConnection, AsyncCursors, check_connection_async
from .connection import with_holders
from .connection_async import AsyncPooledConnection, fetch_async
from .errors import commit_errors, in_transaction, log_errors, unwrap_transient_errors
from .forks import Origin
from .session import begins_silently, check_encoding, commits_by_itself, standby_heard
from .settings import Settings

T = TypeVar("T")


class AsyncOnAppend(Protocol):
    """A hook in the transaction of an append."""

    def wants(self, statement: AppendStatement) -> bool:
        """Return whether to call the hook for this append."""

    async def __call__(
        self, engine: AsyncBoundEngine, statement: AppendStatement, rows: Rows
    ) -> None:
        """Run after the statement and before the commit; an error rolls back both."""


def participates(
    hook: AsyncOnAppend | None, statement: AppendStatement
) -> TypeGuard[AsyncOnAppend]:
    """Return whether a hook must be called in the transaction of an append."""
    return hook is not None and hook.wants(statement)


class AsyncBoundEngine:
    """Runs operations on one connection, in the caller's transaction, without retries."""

    has_appended: bool

    def __init__(
        self,
        connection: AsyncConnection,
        settings: Settings,
        on_append: AsyncOnAppend | None = None,
    ) -> None:
        check_connection_async(connection)
        check_encoding(connection)
        self.connection = connection
        self.has_appended = False
        self._origin = Origin()
        self._settings = settings
        self._on_append = on_append
        self._cursors = AsyncCursors(connection)
        self._has_ended = False
        # Held from a statement until its rows are read: tasks may share a transaction.
        self._lock = AsyncLock()

    async def end(self) -> None:
        """Refuse further statements, and wait for the one that another task may have sent.

        Called before the transaction ends: after that, others use its connection.
        """
        self._has_ended = True
        async with self._lock:
            pass

    def lend(self) -> AsyncConnection:
        """Return the connection to the caller, for their own SQL."""
        if isinstance(self.connection, AsyncPooledConnection):
            self.connection.is_lent = True
        return self.connection

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        return await run_async(operation, self._execute)

    async def run_best_effort(self, operation: Operation[None]) -> None:
        """Run an operation that may fail: a failure is rolled back and only logged."""
        with log_errors():
            async with self.transaction():
                await self.run(operation)

    async def wait(self, seconds: float) -> None:
        """Do not wait: a refused attempt keeps its locks until the transaction ends."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, or a savepoint if one is open."""
        self._origin.check()
        with commit_errors(self._settings) as body, standby_heard(self.connection):
            async with self._block():
                with body:
                    yield self

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        """Open a transaction if each statement would have its own, and otherwise a savepoint."""
        if begins_silently(self.connection):
            # Begin the caller's transaction: psycopg would commit one that this block begins.
            await self.connection.execute("SELECT")
        async with self.connection.transaction():
            yield

    async def _execute(self, statement: Statement) -> Rows:
        self._origin.check()
        self.has_appended = self.has_appended or isinstance(statement, AppendStatement)
        is_own = isinstance(statement, AppendStatement) and commits_by_itself(self.connection)
        try:
            with standby_heard(self.connection) if is_own else nullcontext():
                if not (
                    isinstance(statement, AppendStatement)
                    and participates(self._on_append, statement)
                ):
                    return await self._fetch(statement)
                async with self._block():  # the hook is rolled back with the append
                    rows = await self._fetch(statement)
                    with unwrap_transient_errors(self._settings):
                        await self._on_append(
                            AsyncBoundEngine(self.connection, self._settings), statement, rows
                        )
                return rows
        except psycopg.Error as error:
            problem = in_transaction(error, self._settings, is_own=is_own)
            if isinstance(problem, LockTimeout):
                problem = await run_blocking_async(with_holders, problem, self._settings)
            raise problem from error

    async def _fetch(self, statement: Statement) -> Rows:
        async with self._lock:
            if self._has_ended:
                raise TransactionEnded
            return await fetch_async(
                self._cursors, statement, self._settings, self.connection.prepare_threshold
            )
