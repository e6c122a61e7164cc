"""Cancelled tasks: the pool has all its connections afterwards, wherever a task was cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from indelible import ANY, AsyncEventStore, NewEvent, Query

SIZE = 3


def event() -> NewEvent:
    return NewEvent("Happened", {}, tags=("course:c1",))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def all_connections_are_there(store: AsyncEventStore) -> None:
    async with asyncio.timeout(30), AsyncExitStack() as held:
        for _ in range(SIZE):
            transaction = await held.enter_async_context(store.transaction())
            await transaction.head()


async def read(store: AsyncEventStore) -> None:
    async for _ in store.read("a-1"):
        pass


async def decide(store: AsyncEventStore) -> None:
    found = await store.read_matching(Query(tags=("course:c1",)))
    await store.append("b-1", event(), expected=ANY)
    assert found is not None


async def transact(store: AsyncEventStore) -> None:
    async with store.transaction() as transaction:
        await transaction.append("c-1", event(), expected=ANY)
        await transaction.connection.execute("SELECT 1")


@pytest.mark.parametrize("work", [read, decide, transact])
def test_many_cancelled_tasks_leave_all_connections_in_the_pool(
    url: str, schema: str, work: Callable[[AsyncEventStore], Awaitable[None]]
) -> None:
    chance = random.Random(1)

    async def cancelled(store: AsyncEventStore) -> None:
        for _ in range(15):
            task = asyncio.ensure_future(work(store))
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(0)
                task.cancel()  # and cancel it again while it cleans up
            await asyncio.wait([task])

    async def main() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=SIZE) as store:
            await store.append("a-1", event(), expected=ANY)
            await asyncio.gather(*(cancelled(store) for _ in range(4 * SIZE)))
            await all_connections_are_there(store)

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_gives_its_connection_back_gives_it_back(
    url: str, schema: str
) -> None:
    async def main() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=1) as store:
            pool: Any = store._engine._pool  # type: ignore[union-attr]
            is_held, may_leave = asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with store.transaction():
                    is_held.set()
                    await may_leave.wait()

            holder = asyncio.create_task(hold())
            await is_held.wait()
            waiting = asyncio.create_task(store.head())
            await until(lambda: pool._waiting)
            async with pool._lock:  # the pool is busy when the connection comes back
                may_leave.set()
                await until(lambda: pool._lock._waiters)
                holder.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await holder
            assert await asyncio.wait_for(waiting, 20) == 0

    asyncio.run(main())


def test_a_cancellation_that_comes_together_with_the_connection_is_not_lost(
    url: str, schema: str
) -> None:
    async def main() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=1) as store:
            pool: Any = store._engine._pool  # type: ignore[union-attr]
            real, is_got = pool.getconn, asyncio.Event()

            async def getconn(**options: Any) -> Any:
                connection = await real(**options)
                is_got.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    return connection  # as asyncio.wait_for of Python 3.11 does
                raise AssertionError

            pool.getconn = getconn
            task = asyncio.create_task(store.head())
            await is_got.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            pool.getconn = real
            assert await asyncio.wait_for(store.head(), 20) == 0

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_the_pool_is_looked_through_loses_no_connection(
    url: str, schema: str
) -> None:
    async def main() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=SIZE) as store:
            await all_connections_are_there(store)
            pool: Any = store._engine._pool  # type: ignore[union-attr]
            real, is_checking, may_go_on = pool.check_connection, asyncio.Event(), asyncio.Event()

            async def check(connection: Any) -> None:
                is_checking.set()
                await may_go_on.wait()
                await real(connection)

            pool.check_connection = check
            async with store.transaction() as transaction:
                dead = transaction._engine.connection
            await dead.close()
            pool._pool.remove(dead)
            pool._pool.append(dead)
            task = asyncio.create_task(store.head())
            await is_checking.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            may_go_on.set()
            await until(lambda: len(pool._pool) == SIZE)
            await all_connections_are_there(store)

    asyncio.run(main())
