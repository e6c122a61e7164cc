"""Run operations on pooled connections, async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any, TypeVar

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from indelible.core.operation import (
    AppendStatement,
    Operation,
    Rows,
    Statement,
    StatementHook,
    run_async,
)
from indelible.errors import (
    ConnectionLost,
    DatabaseUnreachable,
    IndelibleError,
    LockTimeout,
    StoreClosed,
    WrongEventLoop,
)

from .adapters import AsyncConnection
from .connection import with_holders
from .connection_async import (
    AsyncPooledConnection,
    configure_async,
    fetch_async,
    open_connection_async,
    restore_async,
)
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
from .group_commit_async import AsyncGroupCommit
from .pool_async import AsyncPool
from .session import SNAPSHOT, check_url, connection_options, options_of, tell_about_pooler
from .settings import Settings
from .statements import statements
from .transaction_async import AsyncBoundEngine, AsyncOnAppend, participates

T = TypeVar("T")


_IMPATIENCE = 1.0
"""The timeout of a `AsyncShortTimeoutEngine`, in seconds."""


def _nothing() -> None:
    """Do nothing."""


class AsyncPoolEngine:
    """Runs operations on an async connection pool; the async variant of `PoolEngine`."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None],
        on_commit: Callable[[], None] = _nothing,
        on_append: AsyncOnAppend | None = None,
    ) -> None:
        self._settings = settings
        self._on_close = on_close
        self._on_commit = on_commit
        self._on_append = on_append
        self._prepares = True
        self._run_statement: Callable[[Statement], Awaitable[Rows]] = self._share_or_execute
        self._origin = Origin()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._group_commit = AsyncGroupCommit(self._execute, settings.pool_size)
        check_url(settings.url)
        self._pool = AsyncPool(
            settings.url,
            connection_class=AsyncPooledConnection,
            min_size=1,
            max_size=settings.pool_size,
            configure=configure_async,
            open=False,
            name="indelible",
        )

    async def open(self) -> None:
        """Open the connection pool.

        Raises:
            DatabaseUnreachable: no connection could be opened.
        """
        self._loop = asyncio.get_running_loop()
        # The first connection is opened without the pool, which would hide the reason of a failure.
        async with await open_connection_async(self._settings) as connection:
            self._prepares = connection.options is not None
            self._pool.kwargs = {
                **connection_options(self._settings),
                **options_of(self._settings, connection.options),
            }
        if not self._prepares:
            tell_about_pooler()
        await self._pool.open()

    def check_origin(self) -> None:
        """Check that the engine is used in the process and event loop that opened it.

        Raises:
            StoreForked: the store was opened in another process.
            WrongEventLoop: the store was opened in another event loop.
        """
        self._origin.check()
        if asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoop

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        self.check_origin()
        return await run_async(operation, self._run_statement)

    async def load(
        self,
        statement: Statement,
        copy_statement: str,
        rows: Callable[[Rows], Iterator[bytes] | None],
        check: Callable[[Rows], Statement],
    ) -> Rows:
        """Run a statement, copy rows into a table, and check them, as `PoolEngine.load` does.

        Other work runs in its own task meanwhile, so there is no parameter for it.
        """
        self.check_origin()
        attempts = ConnectionAttempts(self._settings, statement)
        copy_in = statements(self._settings.schema)[copy_statement]
        while True:
            try:
                async with self._checkout() as connection, connection.transaction():
                    cursors = connection.cursors
                    result_rows = await fetch_async(
                        cursors, statement, self._settings, self._prepares
                    )
                    copy_rows = rows(result_rows)
                    if copy_rows is None:
                        raise psycopg.Rollback
                    async with cursors.values.copy(copy_in) as copy:
                        for data in copy_rows:
                            await copy.write(data)
                    await fetch_async(cursors, check(result_rows), self._settings, self._prepares)
                if copy_rows is not None:
                    self._on_commit()
                return result_rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                if isinstance(problem, LockTimeout):
                    problem = await asyncio.to_thread(with_holders, problem, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                await self._unbroken(self._pool.check())
            await asyncio.sleep(pause)

    @property
    def has_inline(self) -> bool:
        """Whether the engine has a hook in the transaction of appends."""
        return self._on_append is not None

    async def run_best_effort(self, operation: Operation[None]) -> None:
        """Run an operation that may fail, with a short timeout; failures are only logged."""
        with log_errors():
            await AsyncShortTimeoutEngine(self).run(operation)

    async def wait(self, seconds: float) -> None:
        """Wait before a decision is retried."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def transaction(
        self, settings: Settings | None = None
    ) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, and return an engine that runs operations in it.

        Args:
            settings: the settings of the engine with another timeout.
        """
        self.check_origin()
        with commit_errors(self._settings) as body:
            async with self._begun(settings or self._settings) as connection:
                with body:
                    if not self._prepares:
                        connection.prepare_threshold = None
                    engine = AsyncBoundEngine(connection, self._settings, self._on_append)
                    try:
                        yield engine
                    finally:
                        await engine.end()
                    self.check_origin()
        if engine.has_appended:
            self._on_commit()

    @asynccontextmanager
    async def _begun(self, settings: Settings) -> AsyncIterator[AsyncPooledConnection]:
        """Begin a transaction on a pooled connection; if the connection is dead, use another."""
        attempts = ConnectionAttempts(settings)
        while True:
            pause = None
            async with AsyncExitStack() as opened:
                connection = await opened.enter_async_context(self._checkout(settings))
                try:
                    await opened.enter_async_context(connection.transaction())
                except psycopg.Error as error:
                    pause = attempts.pause_after(translate(error, self._settings), error)
                else:
                    yield connection
            if pause is None:
                return
            await self._unbroken(self._pool.check())
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a read-only transaction in which all statements see the same snapshot."""
        async with self.transaction() as engine:
            await engine.connection.execute(SNAPSHOT)
            yield engine

    def with_hook(self, hook: StatementHook) -> AsyncPoolEngine:
        """Return an engine on the same connections whose statements a hook may replace.

        The hook sees each statement of `run` before it is sent. Transactions do not call it.

        Args:
            hook: takes a statement, and returns the operation to run instead of it.
        """
        run_statement, hooked = self._run_statement, copy(self)
        hooked._run_statement = lambda statement: run_async(hook(statement), run_statement)
        return hooked

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Return an engine that runs operations on the caller's connection."""
        self._origin.check()
        return AsyncBoundEngine(connection, self._settings, self._on_append)

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        if self._origin.is_here:
            self.check_origin()
            if self._aside:
                await asyncio.wait(self._aside)
            await self._pool.close()
        self._on_close()

    @asynccontextmanager
    async def _checkout(
        self, settings: Settings | None = None
    ) -> AsyncIterator[AsyncPooledConnection]:
        settings = settings or self._settings
        task = asyncio.current_task()
        cancellations = 0 if task is None else task.cancelling()
        try:
            connection = await self._pool.getconn(timeout=settings.timeout)
        except PoolClosed as error:
            raise StoreClosed from error
        except PoolTimeout as error:
            raise no_connection(settings, self._pool.get_stats()) from error
        try:
            if task is not None and task.cancelling() > cancellations:
                # Python 3.11 loses a cancellation that comes together with the connection.
                raise asyncio.CancelledError
            yield connection
        except (psycopg.Error, IndelibleError) as error:
            if is_read_only(error) and self._origin.is_here:
                await connection.close()
            raise
        finally:
            if self._origin.is_here and (connection.is_lent or not self._pool.put_back(connection)):
                await self._unbroken(self._put_back(connection))

    async def _put_back(self, connection: AsyncPooledConnection) -> None:
        try:
            if connection.is_lent and self._prepares and not connection.closed:
                async with connection.lock:  # a task may still wait for a statement of its own
                    pass
                await restore_async(connection, self._settings)
        except psycopg.Error:
            await connection.close()
        finally:
            await self._pool.putconn(connection)

    async def _unbroken(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, even if the caller is cancelled while it waits."""
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        await asyncio.shield(task)

    async def _share_or_execute(self, statement: Statement) -> Rows:
        if (
            not isinstance(statement, AppendStatement)
            or statement.ordering_key is None
            or participates(self._on_append, statement)
        ):
            return await self._execute(statement)
        return await self._group_commit.append(statement)

    async def _execute(self, statement: Statement, settings: Settings | None = None) -> Rows:
        attempts = ConnectionAttempts(settings or self._settings, statement)
        while True:
            try:
                async with self._checkout(settings) as connection:
                    if isinstance(statement, AppendStatement) and participates(
                        self._on_append, statement
                    ):
                        rows = await self._append_with(self._on_append, connection, statement)
                    else:
                        rows = await fetch_async(
                            connection.cursors, statement, self._settings, self._prepares
                        )
                if isinstance(statement, AppendStatement):
                    self._on_commit()
                return rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                if isinstance(problem, LockTimeout):
                    problem = await asyncio.to_thread(with_holders, problem, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                await self._unbroken(self._pool.check())
            await asyncio.sleep(pause)

    async def _append_with(
        self,
        on_append: AsyncOnAppend,
        connection: AsyncPooledConnection,
        statement: AppendStatement,
    ) -> Rows:
        """Append, and call a hook in the same transaction."""
        if not self._prepares:
            connection.prepare_threshold = None
        async with connection.transaction():
            rows = await fetch_async(connection.cursors, statement, self._settings, self._prepares)
            with unwrap_transient_errors(self._settings):
                await on_append(AsyncBoundEngine(connection, self._settings), statement, rows)
        return rows


class AsyncShortTimeoutEngine:
    """Runs operations on the connections of an engine, with a timeout of one second.

    It is for callers that retry by themselves and must stay stoppable. Their appends share no
    batch, since a batch has the timeout of the store.

    Args:
        engine: the engine with the connection pool.
    """

    def __init__(self, engine: AsyncPoolEngine) -> None:
        self._engine = engine
        self._settings = engine._settings.with_timeout(_IMPATIENCE)

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        self._engine.check_origin()
        return await run_async(operation, self._execute)

    def transaction(self) -> AbstractAsyncContextManager[AsyncBoundEngine]:
        """Open a transaction, and return an engine that runs operations in it."""
        return self._engine.transaction(self._settings)

    async def _execute(self, statement: Statement) -> Rows:
        return await self._engine._execute(statement, settings=self._settings)
