"""Tasks and threads that use a transaction after its block has ended."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from psycopg.pq import TransactionStatus

from indelible import ANY, AsyncEventStore, EventStore, NewEvent
from indelible.errors import TransactionEnded
from indelible.postgres import engine as engine_module
from indelible.postgres import transaction as transaction_module
from indelible.postgres.connection import PooledConnection, fetch
from tests.conftest import Connect
from tests.support.waiting import wait_until

_SOON = 20


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def test_the_object_of_a_transaction_is_of_no_use_after_its_block(connect: Connect) -> None:
    store = connect(pool_size=1)
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=ANY)
        unread = iter(transaction.read("a-1"))

    with pytest.raises(TransactionEnded, match="inside of its"):
        transaction.append("a-1", event(), expected=ANY)
    with pytest.raises(TransactionEnded):
        next(unread)
    with pytest.raises(TransactionEnded), transaction.transaction() as nested:
        nested.append("a-1", event(), expected=ANY)
    assert len(list(store.read("a-1"))) == 1


@pytest.mark.parametrize("lends", [False, True])
def test_a_task_that_outlives_its_transaction_stores_nothing_and_harms_nobody(
    url: str, schema: str, lends: bool
) -> None:
    outcome: list[BaseException] = []

    async def go_on(store: AsyncEventStore) -> None:
        async def several() -> None:
            try:
                for number in range(100):
                    await transaction.append("a-1", event(number), expected=ANY)
            except BaseException as error:
                outcome.append(error)

        async def fail() -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as transaction:
                if lends:
                    await transaction.connection.execute("SELECT 1")
                await asyncio.gather(several(), fail())
        for _ in range(5):  # on the same connection, or on one that replaces it
            await store.append("b-1", event(), expected=ANY)
        assert [found async for found in store.read("a-1")] == []
        assert len([found async for found in store.read("b-1")]) == 5

    async def main() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=1) as store:
            await store.append("z-1", event(), expected=ANY)
            await asyncio.wait_for(go_on(store), _SOON)

    asyncio.run(main())
    assert [type(error) for error in outcome] == [TransactionEnded]


@pytest.mark.parametrize("lends", [False, True])
def test_a_thread_that_outlives_its_transaction_stores_nothing_and_harms_nobody(
    url: str, schema: str, lends: bool
) -> None:
    outcome: list[BaseException] = []
    with EventStore.connect(url, schema=schema, pool_size=1, timeout=_SOON) as store:
        store.append("z-1", event(), expected=ANY)
        for _ in range(20):
            begun = threading.Event()

            def several(begun: threading.Event) -> None:
                try:
                    for number in range(10_000):
                        transaction.append("a-1", event(number), expected=ANY)
                        begun.set()
                except BaseException as error:
                    outcome.append(error)

            thread = threading.Thread(target=several, args=[begun])
            with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
                if lends:
                    transaction.connection.execute("SELECT 1")
                thread.start()
                begun.wait(_SOON)
                raise ZeroDivisionError
            store.append("b-1", event(), expected=ANY)
            thread.join(_SOON)
            assert not thread.is_alive()
        assert list(store.read("a-1")) == []
        assert len(list(store.read("b-1"))) == 20
    assert {type(error) for error in outcome} == {TransactionEnded}


def test_the_end_of_a_block_waits_for_the_statement_of_another_thread(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_go_on = threading.Event(), threading.Event()

    def fetch_late(*args: Any) -> Any:
        entered.set()
        assert may_go_on.wait(_SOON)
        return fetch(*args)

    with sync_store.transaction() as transaction:
        monkeypatch.setattr(transaction_module, "fetch", fetch_late)
        thread = threading.Thread(target=lambda: transaction.append("a-1", event(), expected=ANY))
        thread.start()
        assert entered.wait(_SOON)
        threading.Timer(0.3, may_go_on.set).start()
    assert may_go_on.is_set()
    thread.join(_SOON)
    monkeypatch.undo()
    assert len(list(sync_store.read("a-1"))) == 1


def test_a_lent_connection_is_not_closed_under_a_task_that_still_uses_it(
    url: str, schema: str
) -> None:
    async def main() -> None:
        async def several() -> int:
            for _ in range(2):
                await connection.execute("SELECT pg_sleep(0.2)")
            return 2

        async with AsyncEventStore.connect(url, schema=schema, pool_size=1) as store:
            async with store.transaction() as transaction:
                connection = transaction.connection
                task = asyncio.create_task(several())
                await asyncio.sleep(0)
            async with asyncio.timeout(_SOON):
                assert await task == 2
                await store.append("b-1", event(), expected=ANY)

    asyncio.run(main())


def test_a_lent_connection_is_not_closed_under_a_thread_that_still_uses_it(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = engine_module._restore
    with ThreadPoolExecutor(1) as threads:
        late: list[Future[Any]] = []

        def restore_meanwhile(connection: PooledConnection, *args: Any) -> None:
            late.append(threads.submit(connection.execute, "SELECT pg_sleep(0.3)"))
            state = connection.pgconn
            wait_until(lambda: state.transaction_status == TransactionStatus.ACTIVE)
            restore(connection, *args)

        monkeypatch.setattr(engine_module, "_restore", restore_meanwhile)
        with sync_store.transaction() as transaction:
            transaction.connection.execute("SELECT 1")
        assert late[0].result(_SOON) is not None
    sync_store.append("b-1", event(), expected=ANY)
