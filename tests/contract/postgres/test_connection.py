"""Connections that cannot be opened, connections that break, and connections of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from indelible import (
    ANY,
    NO_STREAM,
    AppendResult,
    AsyncEventStore,
    ConnectionLost,
    EventStore,
    InvalidInput,
    NewEvent,
    WrongExpectedVersion,
)
from indelible.core.operation import Operation
from indelible.errors import DatabaseUnreachable, StoreClosed, WrongEventLoop
from indelible.postgres.engine import ShortTimeoutEngine
from indelible.postgres.engine_async import AsyncShortTimeoutEngine
from indelible.streams.append import append
from tests.conftest import Connect

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def test_an_unreachable_database_says_where_it_was_tried_and_no_password(connect: Connect) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1/shop") as error:
        connect("postgresql://me:secret@127.0.0.1:1/shop", timeout=2)

    assert "secret" not in str(error.value)


def test_a_url_that_is_none_is_refused_without_repeating_it(connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="must be a PostgreSQL URL") as error:
        connect("postgres//me:secret@host")

    assert "secret" not in str(error.value)


def test_a_closed_store_says_so(connect: Connect) -> None:
    store = connect()
    store.close()
    store.close()

    for use in (
        lambda: store.append("a-1", event(), expected=NO_STREAM),
        lambda: list(store.read("a-1")),
        store.head,
    ):
        with pytest.raises(StoreClosed, match="closed"):
            use()


def test_a_lost_connection_is_made_again_and_the_append_stored_once(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    name = f"lost_{schema}"
    store = connect(psycopg.conninfo.make_conninfo(connection.info.dsn, application_name=name))
    for number in range(6):
        connection.execute(KILL, [name])
        assert store.append("a-1", event(number), expected=number - 1).version == number

    assert [e.data["number"] for e in store.read("a-1")] == list(range(6))


def test_a_connection_lost_in_a_transaction_stores_nothing_and_says_so(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    name = f"lost_{schema}"
    store = connect(psycopg.conninfo.make_conninfo(connection.info.dsn, application_name=name))
    with pytest.raises(ConnectionLost, match="nothing was stored") as error:
        with store.transaction() as transaction:
            transaction.append("a-1", event(), expected=NO_STREAM)
            connection.execute(KILL, [name])
            transaction.append("a-1", event(), expected=0)

    assert len(error.value.event_ids) == 1
    assert store.stream("a-1") is None


def test_a_connection_lost_at_the_commit_says_that_the_outcome_is_unknown(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    name = f"lost_{schema}"
    store = connect(psycopg.conninfo.make_conninfo(connection.info.dsn, application_name=name))
    with pytest.raises(ConnectionLost, match="is not known"):
        with store.transaction() as transaction:
            transaction.append("a-1", event(), expected=NO_STREAM)
            connection.execute(KILL, [name])


def test_errors_of_the_caller_s_own_sql_stay_as_they_are(sync_store: EventStore) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), sync_store.transaction() as transaction:
        transaction.append("a-1", event(), expected=NO_STREAM)
        transaction.connection.execute("SELECT 1 / 0")

    assert sync_store.stream("a-1") is None


def test_all_connections_in_use_says_so(connect: Connect) -> None:
    store = connect(pool_size=1, timeout=0.2)
    with store.transaction(), pytest.raises(DatabaseUnreachable, match="larger pool_size"):
        store.head()


def test_the_connection_that_came_back_last_is_used_again(connect: Connect) -> None:
    # Each server process has its own caches and plans, which stay warm if one is used.
    store = connect(pool_size=3)
    with store.transaction(), store.transaction(), store.transaction():
        pass
    used = []
    for _ in range(6):
        with store.transaction() as transaction:
            used.append(transaction.connection.info.backend_pid)
    assert len(set(used)) == 1


def test_a_refusal_leaves_the_caller_s_transaction_usable(sync_store: EventStore, url: str) -> None:
    with psycopg.connect(url) as own:
        bound = sync_store.bind(own)
        bound.append("a-1", event(0), expected=NO_STREAM)
        with pytest.raises(WrongExpectedVersion) as refusal:
            bound.append("a-1", event(1), expected=NO_STREAM)
        bound.append("a-1", event(1), expected=refusal.value.actual)
        assert sync_store.stream("a-1") is None  # not committed yet

    assert len(list(sync_store.read("a-1"))) == 2


def test_a_connection_with_settings_of_its_own_serves_as_well(
    sync_store: EventStore, url: str
) -> None:
    with psycopg.connect(url, row_factory=dict_row, prepare_threshold=None) as own:
        own.execute("SET TIME ZONE 'Asia/Kathmandu'")
        own.execute("SET search_path = pg_temp")
        bound = sync_store.bind(own)
        result = bound.append("a-1", event(7), expected=NO_STREAM)
        (stored,) = bound.read("a-1")
        assert (stored.data, stored.recorded_at) == ({"number": 7}, result.recorded_at)
        assert str(stored.recorded_at.tzinfo) == "UTC"
        # Queries of the caller return the same types as before.
        assert own.execute("""SELECT '{"a": 1}'::jsonb AS j""").fetchone() == {"j": {"a": 1}}


def test_threads_that_share_a_transaction_get_the_rows_of_their_own_statements(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = psycopg.Cursor.execute
    others: list[Future[AppendResult]] = []

    def execute_and_let_another_go_first(self: Any, *args: Any, **options: Any) -> Any:
        cursor = execute(self, *args, **options)
        if not others:
            others.append(threads.submit(transaction.append, "a-2", event(0), expected=NO_STREAM))
            wait(others, timeout=0.5)  # it has to wait for this thread
        return cursor

    with ThreadPoolExecutor(1) as threads, sync_store.transaction() as transaction:
        monkeypatch.setattr(psycopg.Cursor, "execute", execute_and_let_another_go_first)
        own = transaction.append("a-1", [event(0), event(1)], expected=NO_STREAM)
        (other,) = [future.result() for future in others]

    assert (own.version, other.version) == (1, 0)
    last_positions = {event.stream: event.position for event in sync_store.read_all()}
    assert last_positions == {"a-1": own.position, "a-2": other.position}


def test_a_connection_of_the_other_variant_is_refused(sync_store: EventStore) -> None:
    with pytest.raises(InvalidInput, match=r"psycopg\.Connection"):
        sync_store.bind(object())


def test_a_subclass_of_a_store_opens_itself(url: str, schema: str) -> None:
    class Own(EventStore):
        pass

    class AsyncOwn(AsyncEventStore):
        pass

    async def opened() -> list[type]:
        async with AsyncOwn.connect(url, schema=schema) as store:
            own = await AsyncOwn.connect(url, schema=schema)
            await own.close()
            return [type(store), type(own)]

    with Own.connect(url, schema=schema) as store:
        assert type(store) is Own
    assert asyncio.run(opened()) == [AsyncOwn, AsyncOwn]


def test_a_short_timeout_bounds_appends_as_well(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch has the timeout of the store, so such an append shares none."""
    for variant in ("", "_async"):
        monkeypatch.setattr(f"indelible.postgres.engine{variant}._IMPATIENCE", 0.25)

    def append_one(store: EventStore | AsyncEventStore) -> Operation[object]:
        return append(
            store._append_settings, "a-1", event(), expected=ANY, channel=None, metadata=None
        )

    async def append_async() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=1, timeout=1) as store:
            async with store.transaction():
                await AsyncShortTimeoutEngine(store._engine).run(append_one(store))

    with pytest.raises(DatabaseUnreachable, match=r"in use for 0\.25 s"):
        asyncio.run(append_async())
    with EventStore.connect(url, schema=schema, pool_size=1, timeout=1) as store:
        with store.transaction(), pytest.raises(DatabaseUnreachable, match=r"in use for 0\.25 s"):
            ShortTimeoutEngine(store._engine).run(append_one(store))
        with pytest.raises(DatabaseUnreachable, match="in use for 1 s"), store.transaction():
            store.append("a-1", event(), expected=ANY)


def test_a_store_of_another_event_loop_is_refused(url: str, schema: str) -> None:
    stores = []

    async def begin() -> None:
        store = await AsyncEventStore.connect(url, schema=schema)
        await store.append("a-1", event(0), expected=ANY)
        stores.append(store)

    async def use() -> None:
        (store,) = stores
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append("a-1", event(1), expected=ANY),
            lambda: store.stream("a-1"),
            lambda: store.transaction().__aenter__(),
            lambda: store.read("a-1").__anext__(),
            lambda: store.import_events([]),
            store.head,
            store.close,
        ]
        for each in uses:
            with pytest.raises(WrongEventLoop, match="open a store in each"):
                await each()

    with asyncio.Runner() as first:
        first.run(begin())
        asyncio.run(use())
        first.run(stores[0].close())
