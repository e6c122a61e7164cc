"""The engines, which run plans: on a pool, or on one connection of the caller's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import replace
from typing import Protocol, TypeGuard, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from indelible.errors import (
    ConnectionLost,
    DatabaseUnreachable,
    InvalidInput,
    StoreClosed,
)
from indelible.plan import Call, Plan, Rows, drive, drive_async
from indelible.schema import statements

from .connections import (
    AsyncConnection,
    AsyncPooledConnection,
    Connection,
    PooledConnection,
    async_event_cursor,
    check_url,
    configure,
    configure_async,
    connection_options,
    event_cursor,
    fetch,
    fetch_async,
    open_async_connection,
    open_connection,
    speaks_to_the_server,
)
from .failures import (
    Attempts,
    causes_that_pass,
    commit_errors,
    in_transaction,
    is_lost_preparation,
    no_connection,
    translate,
    unimportant,
)
from .group_commit import AsyncGroupCommit, GroupCommit
from .loading import LoadingConnection
from .settings import Settings

T = TypeVar("T")


class OnAppend(Protocol):
    """What takes part in the transaction of an append."""

    def wants(self, call: Call) -> bool:
        """Whether it takes part in this one."""

    def __call__(self, engine: BoundEngine, call: Call, rows: Rows) -> None:
        """Do its part, after the statement and before the commit; an error undoes both."""


class AsyncOnAppend(Protocol):
    """The same, awaiting."""

    def wants(self, call: Call) -> bool:
        """Whether it takes part in this one."""

    async def __call__(self, engine: AsyncBoundEngine, call: Call, rows: Rows) -> None:
        """Do its part, after the statement and before the commit; an error undoes both."""


_IMPATIENCE = 1.0
"""Seconds that an impatient engine waits for a connection."""

_SOON = 0.001
"""Seconds to wait for a connection before one does something else meanwhile."""

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


def _nothing() -> None:
    """Tell nobody."""


class PoolEngine:
    """Runs plans on a pool of connections.

    Args:
        settings: how to reach the store.
        on_close: called when the engine is closed.
        on_commit: called after something was written and committed; must return at once.
        on_append: takes part in the transaction of appends.
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
        self._group_commit = GroupCommit(self._execute, settings.pool_size)
        check_url(settings.url)
        self._pool = ConnectionPool(
            settings.url,
            connection_class=LoadingConnection,
            min_size=1,
            max_size=settings.pool_size,
            kwargs=connection_options(settings),
            configure=configure,
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
        return drive(plan, self._share_or_execute)

    def load(
        self,
        call: Call,
        statement: str,
        rows: Callable[[Rows], Iterator[bytes] | None],
        meanwhile: Callable[[], bool],
    ) -> Rows:
        """Run a statement, and copy rows into a table, in one transaction.

        Args:
            call: the statement; it must bear being repeated, and the rows with it.
            statement: the name of the COPY.
            rows: makes the rows, in parts, from what the statement gave; None undoes the
                transaction.
            meanwhile: a step of other work, taken while the database is waited for; takes less
                than a millisecond, and tells whether there is more.

        Returns:
            What the statement gave.
        """
        attempts = Attempts(self._settings, call)
        copy_in = statements(self._settings.schema)[statement]
        while True:
            try:
                with (
                    self._checkout() as connection,
                    connection.using_waits(meanwhile),
                    connection.transaction(),
                ):
                    cursor = connection.event_cursor
                    given = fetch(cursor, call, self._settings, self._prepares)
                    copied = rows(given)
                    if copied is None:
                        raise psycopg.Rollback
                    with cursor.copy(copy_in) as copy:
                        for part in copied:
                            copy.write(part)
                if copied is not None:
                    self._on_commit()
                return given
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                self._pool.check()
            time.sleep(pause)

    @property
    def has_inline(self) -> bool:
        """Whether something takes part in the transaction of appends."""
        return self._on_append is not None

    def run_aside(self, plan: Plan[None]) -> None:
        """Run a plan that nothing depends on: it is soon given up, and its failure is logged."""
        with unimportant():
            self.impatient().run(plan)

    def wait(self, seconds: float) -> None:
        """Wait before a decision is made anew."""
        time.sleep(seconds)

    @contextmanager
    def transaction(self) -> Iterator[BoundEngine]:
        """Open a transaction, and give an engine that runs plans inside it."""
        with (
            self._checkout() as connection,
            commit_errors(self._settings) as body,
            connection.transaction(),
            body,
        ):
            if not self._prepares:
                connection.prepare_threshold = None
            engine = BoundEngine(connection, self._settings, self._on_append)
            yield engine
        if engine.has_appended:
            self._on_commit()

    @contextmanager
    def snapshot(self) -> Iterator[BoundEngine]:
        """Open a transaction that reads only, and sees one moment throughout."""
        with self.transaction() as engine:
            engine.connection.execute(_SNAPSHOT)
            yield engine

    def impatient(self) -> PoolEngine:
        """Give an engine on the same pool that soon says that the database is not there.

        For those who go on trying by themselves, and want to be stopped meanwhile.
        """
        twin = copy(self)
        twin._settings = replace(self._settings, timeout=min(_IMPATIENCE, self._settings.timeout))
        return twin

    def bind(self, connection: Connection) -> BoundEngine:
        """Give an engine that runs plans on a connection of the caller's."""
        return BoundEngine(connection, self._settings, self._on_append)

    def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        self._group_commit.close()
        self._pool.close()
        self._on_close()

    @contextmanager
    def _checkout(self, meanwhile: Callable[[], None] = _nothing) -> Iterator[LoadingConnection]:
        try:
            try:
                connection = self._pool.getconn(_SOON)
            except PoolTimeout:
                meanwhile()
                connection = self._pool.getconn(self._settings.timeout)
        except PoolClosed as error:
            raise StoreClosed from error
        except PoolTimeout as error:
            raise no_connection(self._settings, self._pool.get_stats()) from error
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def _share_or_execute(self, call: Call) -> Rows:
        if call.lane is None or _takes_part(self._on_append, call):
            return self._execute(call)
        return self._group_commit.append(call)

    def _execute(self, call: Call, meanwhile: Callable[[], None] = _nothing) -> Rows:
        """Run a statement; `meanwhile` is called whenever there is something to wait for."""
        attempts = Attempts(self._settings, call)
        while True:
            try:
                with self._checkout(meanwhile) as connection:
                    if _takes_part(self._on_append, call):
                        rows = self._append_with(self._on_append, connection, call)
                    else:
                        connection.meanwhile = meanwhile
                        try:
                            rows = fetch(
                                connection.event_cursor, call, self._settings, self._prepares
                            )
                        finally:
                            connection.meanwhile = None
                if call.appends:
                    self._on_commit()
                return rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            meanwhile()
            if isinstance(problem, ConnectionLost):
                self._pool.check()
            time.sleep(pause)

    def _append_with(self, part: OnAppend, connection: PooledConnection, call: Call) -> Rows:
        """Append, and have something done in the same transaction."""
        if not self._prepares:
            connection.prepare_threshold = None
        with connection.transaction():
            rows = fetch(connection.event_cursor, call, self._settings, self._prepares)
            with causes_that_pass(self._settings):
                part(BoundEngine(connection, self._settings), call, rows)
        return rows


class AsyncPoolEngine:
    """Runs plans on a pool of connections, awaiting; the twin of `PoolEngine`."""

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
        self._group_commit = AsyncGroupCommit(self._execute, settings.pool_size)
        check_url(settings.url)
        self._pool = AsyncConnectionPool(
            settings.url,
            connection_class=AsyncPooledConnection,
            min_size=1,
            max_size=settings.pool_size,
            kwargs=connection_options(settings),
            configure=configure_async,
            open=False,
            name="indelible",
        )

    async def open(self) -> None:
        """Open the pool, or say why no connection can be made."""
        # A first connection of our own, since the pool does not say why it gets none.
        async with await open_async_connection(self._settings) as connection:
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            self._prepares = speaks_to_the_server(connection.info.backend_pid, row)
        await self._pool.open()

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return await drive_async(plan, self._share_or_execute)

    async def load(
        self,
        call: Call,
        statement: str,
        rows: Callable[[Rows], Iterator[bytes] | None],
    ) -> Rows:
        """Run a statement, and copy rows into a table, as `PoolEngine.load` does.

        What is to be done meanwhile is a task of its own.
        """
        attempts = Attempts(self._settings, call)
        copy_in = statements(self._settings.schema)[statement]
        while True:
            try:
                async with self._checkout() as connection, connection.transaction():
                    cursor = connection.event_cursor
                    given = await fetch_async(cursor, call, self._settings, self._prepares)
                    copied = rows(given)
                    if copied is None:
                        raise psycopg.Rollback
                    async with cursor.copy(copy_in) as copy:
                        for part in copied:
                            await copy.write(part)
                if copied is not None:
                    self._on_commit()
                return given
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                await self._pool.check()
            await asyncio.sleep(pause)

    @property
    def has_inline(self) -> bool:
        """Whether something takes part in the transaction of appends."""
        return self._on_append is not None

    async def run_aside(self, plan: Plan[None]) -> None:
        """Run a plan that nothing depends on: it is soon given up, and its failure is logged."""
        with unimportant():
            await self.impatient().run(plan)

    async def wait(self, seconds: float) -> None:
        """Wait before a decision is made anew."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, and give an engine that runs plans inside it."""
        async with self._checkout() as connection:
            with commit_errors(self._settings) as body:
                async with connection.transaction():
                    with body:
                        if not self._prepares:
                            connection.prepare_threshold = None
                        engine = AsyncBoundEngine(connection, self._settings, self._on_append)
                        yield engine
        if engine.has_appended:
            self._on_commit()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction that reads only, and sees one moment throughout."""
        async with self.transaction() as engine:
            await engine.connection.execute(_SNAPSHOT)
            yield engine

    def impatient(self) -> AsyncPoolEngine:
        """Give an engine on the same pool that soon says that the database is not there.

        For those who go on trying by themselves, and want to be stopped meanwhile.
        """
        twin = copy(self)
        twin._settings = replace(self._settings, timeout=min(_IMPATIENCE, self._settings.timeout))
        return twin

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Give an engine that runs plans on a connection of the caller's."""
        return AsyncBoundEngine(connection, self._settings, self._on_append)

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        await self._pool.close()
        self._on_close()

    @asynccontextmanager
    async def _checkout(self) -> AsyncIterator[AsyncPooledConnection]:
        try:
            connection = await self._pool.getconn(timeout=self._settings.timeout)
        except PoolClosed as error:
            raise StoreClosed from error
        except PoolTimeout as error:
            raise no_connection(self._settings, self._pool.get_stats()) from error
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)

    async def _share_or_execute(self, call: Call) -> Rows:
        if call.lane is None or _takes_part(self._on_append, call):
            return await self._execute(call)
        return await self._group_commit.append(call)

    async def _execute(self, call: Call) -> Rows:
        attempts = Attempts(self._settings, call)
        while True:
            try:
                async with self._checkout() as connection:
                    if _takes_part(self._on_append, call):
                        rows = await self._append_with(self._on_append, connection, call)
                    else:
                        rows = await fetch_async(
                            connection.event_cursor, call, self._settings, self._prepares
                        )
                if call.appends:
                    self._on_commit()
                return rows
            except psycopg.Error as error:
                self._prepares = self._prepares and not is_lost_preparation(error)
                problem = translate(error, self._settings)
                pause = attempts.pause_after(problem, error)
            except DatabaseUnreachable as error:
                raise attempts.loss or error from error
            if isinstance(problem, ConnectionLost):
                await self._pool.check()
            await asyncio.sleep(pause)

    async def _append_with(
        self, part: AsyncOnAppend, connection: AsyncPooledConnection, call: Call
    ) -> Rows:
        """Append, and have something done in the same transaction."""
        if not self._prepares:
            connection.prepare_threshold = None
        async with connection.transaction():
            rows = await fetch_async(connection.event_cursor, call, self._settings, self._prepares)
            with causes_that_pass(self._settings):
                await part(AsyncBoundEngine(connection, self._settings), call, rows)
        return rows


class BoundEngine:
    """Runs plans on one connection, whose transaction is the caller's. Nothing is repeated."""

    def __init__(
        self, connection: Connection, settings: Settings, on_append: OnAppend | None = None
    ) -> None:
        if not isinstance(connection, psycopg.Connection):
            raise InvalidInput(
                f"bind takes a psycopg.Connection, not {type(connection).__name__}: Django's is"
                " connection.connection, SQLAlchemy's is"
                " session.connection().connection.driver_connection"
            )
        self.connection = connection
        self.has_appended = False
        self._settings = settings
        self._on_append = on_append
        self._cursor = event_cursor(connection)

    def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return drive(plan, self._execute)

    def run_aside(self, plan: Plan[None]) -> None:
        """Run a plan that nothing depends on: its failure undoes nothing else, and is logged."""
        with unimportant(), self.transaction():
            self.run(plan)

    def wait(self, seconds: float) -> None:
        """Go on at once: what a refused attempt has locked is ours until the transaction ends."""

    @contextmanager
    def transaction(self) -> Iterator[BoundEngine]:
        """Open a transaction, or a savepoint inside the one that is open."""
        with commit_errors(self._settings) as body, self.connection.transaction(), body:
            yield self

    def impatient(self) -> BoundEngine:
        """Give itself: nothing is repeated here."""
        return self

    def bind(self, connection: Connection) -> BoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return BoundEngine(connection, self._settings, self._on_append)

    def close(self) -> None:
        """Leave the connection to its owner."""

    def _execute(self, call: Call) -> Rows:
        self.has_appended = self.has_appended or call.appends
        try:
            if not _takes_part(self._on_append, call):
                return self._fetch(call)
            with self.connection.transaction():  # what takes part is undone with the append
                rows = self._fetch(call)
                with causes_that_pass(self._settings):
                    self._on_append(BoundEngine(self.connection, self._settings), call, rows)
            return rows
        except psycopg.Error as error:
            raise in_transaction(error, self._settings) from error

    def _fetch(self, call: Call) -> Rows:
        return fetch(self._cursor, call, self._settings, self.connection.prepare_threshold)


class AsyncBoundEngine:
    """Runs plans on one connection, awaiting; the twin of `BoundEngine`."""

    def __init__(
        self,
        connection: AsyncConnection,
        settings: Settings,
        on_append: AsyncOnAppend | None = None,
    ) -> None:
        if not isinstance(connection, psycopg.AsyncConnection):
            raise InvalidInput(
                f"bind takes a psycopg.AsyncConnection, not {type(connection).__name__}:"
                " SQLAlchemy's is (await session.connection()).get_raw_connection()"
                ".driver_connection"
            )
        self.connection = connection
        self.has_appended = False
        self._settings = settings
        self._on_append = on_append
        self._cursor = async_event_cursor(connection)

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan to its end."""
        return await drive_async(plan, self._execute)

    async def run_aside(self, plan: Plan[None]) -> None:
        """Run a plan that nothing depends on: its failure undoes nothing else, and is logged."""
        with unimportant():
            async with self.transaction():
                await self.run(plan)

    async def wait(self, seconds: float) -> None:
        """Go on at once: what a refused attempt has locked is ours until the transaction ends."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEngine]:
        """Open a transaction, or a savepoint inside the one that is open."""
        with commit_errors(self._settings) as body:
            async with self.connection.transaction():
                with body:
                    yield self

    def impatient(self) -> AsyncBoundEngine:
        """Give itself: nothing is repeated here."""
        return self

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return AsyncBoundEngine(connection, self._settings, self._on_append)

    async def close(self) -> None:
        """Leave the connection to its owner."""

    async def _execute(self, call: Call) -> Rows:
        self.has_appended = self.has_appended or call.appends
        try:
            if not _takes_part(self._on_append, call):
                return await self._fetch(call)
            async with self.connection.transaction():
                rows = await self._fetch(call)
                with causes_that_pass(self._settings):
                    await self._on_append(
                        AsyncBoundEngine(self.connection, self._settings), call, rows
                    )
            return rows
        except psycopg.Error as error:
            raise in_transaction(error, self._settings) from error

    async def _fetch(self, call: Call) -> Rows:
        return await fetch_async(
            self._cursor, call, self._settings, self.connection.prepare_threshold
        )


Part = TypeVar("Part", OnAppend, AsyncOnAppend)


def _takes_part(part: Part | None, call: Call) -> TypeGuard[Part]:
    """Whether something is to be done in the transaction of a statement."""
    return call.appends and part is not None and part.wants(call)
