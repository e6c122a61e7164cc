"""Bound engines: they run plans on one connection, inside the transaction of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Protocol, TypeGuard, TypeVar

import psycopg

from indelible.errors import InvalidInput, LockTimeout
from indelible.plan import Call, Plan, Rows, drive, drive_async

from .connections import (
    AsyncConnection,
    AsyncPooledConnection,
    Connection,
    PooledConnection,
    async_event_cursor,
    begins_silently,
    check_encoding,
    commits_by_itself,
    event_cursor,
    fetch,
    fetch_async,
    standby_heard,
    with_holders,
)
from .failures import causes_that_pass, commit_errors, in_transaction, unimportant
from .forks import Origin
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


Part = TypeVar("Part", OnAppend, AsyncOnAppend)


def takes_part(part: Part | None, call: Call) -> TypeGuard[Part]:
    """Whether something is to be done in the transaction of a statement."""
    return call.appends and part is not None and part.wants(call)


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
        check_encoding(connection)
        self.connection = connection
        self.has_appended = False
        self._origin = Origin()
        self._settings = settings
        self._on_append = on_append
        self._cursor = event_cursor(connection)

    def lend(self) -> Connection:
        """Give the connection to the caller, for SQL of their own."""
        if isinstance(self.connection, PooledConnection):
            self.connection.is_lent = True
        return self.connection

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
        """Open a transaction where each statement is one of its own, and else a savepoint."""
        if begins_silently(self.connection):
            # psycopg would commit a transaction that this block begins, and it is the caller's.
            self.connection.execute("SELECT")
        with self.connection.transaction():
            yield

    def impatient(self) -> BoundEngine:
        """Give itself: nothing is repeated here."""
        return self

    def bind(self, connection: Connection) -> BoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return BoundEngine(connection, self._settings, self._on_append)

    def close(self) -> None:
        """Leave the connection to its owner."""

    def _execute(self, call: Call) -> Rows:
        self._origin.check()
        self.has_appended = self.has_appended or call.appends
        is_own = call.appends and commits_by_itself(self.connection)
        try:
            with standby_heard(self.connection) if is_own else nullcontext():
                if not takes_part(self._on_append, call):
                    return self._fetch(call)
                with self._block():  # what takes part is undone with the append
                    rows = self._fetch(call)
                    with causes_that_pass(self._settings):
                        self._on_append(BoundEngine(self.connection, self._settings), call, rows)
                return rows
        except psycopg.Error as error:
            problem = in_transaction(error, self._settings, is_own=is_own)
            if isinstance(problem, LockTimeout):
                problem = with_holders(problem, self._settings)
            raise problem from error

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
        check_encoding(connection)
        self.connection = connection
        self.has_appended = False
        self._origin = Origin()
        self._settings = settings
        self._on_append = on_append
        self._cursor = async_event_cursor(connection)

    def lend(self) -> AsyncConnection:
        """Give the connection to the caller, for SQL of their own."""
        if isinstance(self.connection, AsyncPooledConnection):
            self.connection.is_lent = True
        return self.connection

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
        self._origin.check()
        with commit_errors(self._settings) as body, standby_heard(self.connection):
            async with self._block():
                with body:
                    yield self

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        """Open a transaction where each statement is one of its own, and else a savepoint."""
        if begins_silently(self.connection):
            await self.connection.execute("SELECT")
        async with self.connection.transaction():
            yield

    def impatient(self) -> AsyncBoundEngine:
        """Give itself: nothing is repeated here."""
        return self

    def bind(self, connection: AsyncConnection) -> AsyncBoundEngine:
        """Give an engine that runs plans on another connection of the caller's."""
        return AsyncBoundEngine(connection, self._settings, self._on_append)

    async def close(self) -> None:
        """Leave the connection to its owner."""

    async def _execute(self, call: Call) -> Rows:
        self._origin.check()
        self.has_appended = self.has_appended or call.appends
        is_own = call.appends and commits_by_itself(self.connection)
        try:
            with standby_heard(self.connection) if is_own else nullcontext():
                if not takes_part(self._on_append, call):
                    return await self._fetch(call)
                async with self._block():
                    rows = await self._fetch(call)
                    with causes_that_pass(self._settings):
                        await self._on_append(
                            AsyncBoundEngine(self.connection, self._settings), call, rows
                        )
                return rows
        except psycopg.Error as error:
            problem = in_transaction(error, self._settings, is_own=is_own)
            if isinstance(problem, LockTimeout):
                problem = await asyncio.to_thread(with_holders, problem, self._settings)
            raise problem from error

    async def _fetch(self, call: Call) -> Rows:
        return await fetch_async(
            self._cursor, call, self._settings, self.connection.prepare_threshold
        )
