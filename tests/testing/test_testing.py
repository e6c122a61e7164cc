"""The testing package: fixtures of the plugin, clock, fault injection, waiting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    AppendConditionFailed,
    AsyncEventStore,
    ConnectionLost,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
    WaitTimeout,
    WrongExpectedVersion,
)
from indelible.errors import GroupNotFound
from indelible.testing.clock import Clock
from indelible.testing.fault_injection import with_lost_connection, with_rival
from indelible.testing.temporary_stores import FreshStores, fresh_stores
from indelible.testing.waiting import wait_until_caught_up, wait_until_caught_up_async

pytest_plugins = ["pytester"]
on_one_server = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


# The plugin ------------------------------------------------------------------------------------


def test_each_test_gets_an_empty_store_in_either_variant(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from dataclasses import dataclass
        import pytest

        @dataclass(frozen=True)
        class Placed:
            order: int

        @pytest.fixture(scope="session")
        def indelible_events():
            return [Placed]
        """
    )
    pytester.makepyfile(
        """
        import asyncio, pytest
        from conftest import Placed
        from indelible import NO_STREAM

        @pytest.mark.parametrize("number", range(3))
        def test_it_is_empty(event_store, number):
            assert event_store.head() == 0
            result = event_store.append("order-1", Placed(number), expected=NO_STREAM)
            assert (result.version, result.position) == (0, 1)
            assert [event.data for event in event_store.read_all()] == [Placed(number)]

        def test_it_is_empty_for_async_code(async_event_store, fresh_store):
            async def body():
                async with async_event_store as store:
                    assert await store.head() == 0
                    await store.append("order-1", Placed(7), expected=NO_STREAM)
                    return [event.data async for event in store.read("order-1")]
            assert asyncio.run(body()) == [Placed(7)]
            with fresh_store.connect() as store:
                assert [event.data for event in store.read("order-1")] == [{"order": 7}]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)


@on_one_server
def test_the_database_is_chosen_and_left_as_it_was(
    pytester: pytest.Pytester, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        def test_it_is_that_one(event_store, fresh_store):
            assert fresh_store.url.startswith("postgresql")
            print("used", fresh_store.schema)
        """
    )

    def schemas() -> set:
        with psycopg.connect(server_url) as connection:
            found = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
        return {name for (name,) in found}

    for arguments, url in [(["--indelible-url", server_url], ""), ([], server_url)]:
        monkeypatch.setenv("INDELIBLE_URL", url or "postgresql://127.0.0.1:1/nowhere")
        done = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", *arguments)
        done.assert_outcomes(passed=1)
        (line,) = [line for line in done.outlines if "used test_" in line]
        assert line.split("used ")[1].split()[0].rstrip(".") not in schemas()


def test_importing_the_library_does_not_import_pytest(pytester: pytest.Pytester) -> None:
    script = pytester.makepyfile(
        script="import sys, indelible, indelible.testing; assert 'pytest' not in sys.modules"
    )
    assert pytester.runpython(script).ret == 0


# Fresh stores ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(server_url: str):
    with fresh_stores(server_url) as stores:
        yield stores


def content(url: str, schema: str) -> dict[str, object]:
    """All that a store's tables and sequences hold, and how its triggers stand."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT relname, relkind FROM pg_class WHERE relnamespace = %s::regnamespace"
            " AND relkind IN ('r', 'S') ORDER BY relname",
            [schema],
        ).fetchall()
        found: dict[str, object] = {}
        for name, kind in tables:
            columns = "last_value, is_called" if kind == "S" else "*"
            rows = connection.execute(f"SELECT {columns} FROM {schema}.{name}").fetchall()
            found[name] = rows
        found["triggers"] = connection.execute(
            "SELECT tgname, tgenabled FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE relnamespace = %s::regnamespace AND NOT tgisinternal ORDER BY 1",
            [schema],
        ).fetchall()
        return found


def test_a_store_that_was_used_is_as_a_new_one(stores: FreshStores) -> None:
    with stores.store() as first:
        before = content(first.url, first.schema)
        with first.connect() as store:
            store.append("a-1", NewEvent("A", {}, tags=["a:1"]), expected=NO_STREAM)
            store.close_stream("a-1", expected=0)
            store.archive_stream("a-1")
            store.erase_stream("a-1", reason="asked")
            group = store.group("mails")
            group.create()
            with group.consume():
                pass
    with stores.store() as again:
        assert again.schema == first.schema
        assert content(again.url, again.schema) == before


def test_a_store_in_which_a_transaction_was_left_open_is_not_lent_again(
    stores: FreshStores,
) -> None:
    with stores.store() as first:
        with first.connect() as store:
            store.append("a-1", event(), expected=NO_STREAM)
        left = psycopg.connect(first.url)
        left.execute(f"LOCK TABLE {first.schema}.events IN ROW EXCLUSIVE MODE")  # as an append
    with left, stores.store() as second:
        assert second.schema != first.schema


def test_a_store_that_a_test_has_changed_is_not_lent_again(stores: FreshStores) -> None:
    for change in (
        "CREATE TABLE {}.mine ()",
        "ALTER TABLE {}.events ADD CONSTRAINT mine CHECK (version < 7)",
        "ALTER TABLE {}.events DISABLE TRIGGER ALL",
        "CREATE OR REPLACE FUNCTION {}.last_migration() RETURNS integer LANGUAGE sql AS 'SELECT 7'",
        "INSERT INTO {}.migrations VALUES (9999, 'from the future', now(), '')",
        "DROP SCHEMA {} CASCADE",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    ):
        with stores.store() as first, psycopg.connect(first.url) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(change.format(first.schema))
        with stores.store() as second:
            assert second.schema != first.schema


# The clock -------------------------------------------------------------------------------------


@on_one_server
def test_a_clock_says_when_things_were_recorded(sync_store: EventStore) -> None:
    clock = Clock(datetime(2020, 1, 1, tzinfo=UTC))
    clock.append(sync_store, "menu-3", event(1))
    assert clock.advance(days=1) == clock.now() == datetime(2020, 1, 2, tzinfo=UTC)
    clock.append(sync_store, "menu-3", event(2), event(3))
    noon = clock.now() - timedelta(hours=12)
    assert [it.data["number"] for it in sync_store.read("menu-3", as_of=noon)] == [1]
    assert [it.recorded_at for it in sync_store.read("menu-3", from_version=1)] == [clock.now()] * 2
    with pytest.raises(InvalidInput, match="goes back"):
        clock.advance(days=-1)
    clock.set(datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(InvalidInput, match="future"):
        clock.append(sync_store, "menu-3", event(4))


@on_one_server
def test_a_clock_records_for_async_code(url: str, schema: str) -> None:
    async def body() -> list:
        async with AsyncEventStore.connect(url, schema=schema) as store:
            await Clock().append_async(store, "menu-3", event(1))
            return [it.recorded_at async for it in store.read("menu-3")]

    assert asyncio.run(body()) == [datetime(2020, 1, 1, tzinfo=UTC)]


# Failures --------------------------------------------------------------------------------------


@on_one_server
def test_a_rival_is_faster_at_the_append_that_was_said(sync_store: EventStore) -> None:
    store = with_rival(sync_store, event(99), at=2)
    store.append("a-1", event(1), expected=NO_STREAM)
    with pytest.raises(WrongExpectedVersion) as refused:
        store.append("a-1", event(2), expected=0)
    assert refused.value.actual == 1
    store.append("a-1", event(3), expected=1)
    assert [it.data["number"] for it in sync_store.read("a-1")] == [1, 99, 3]


@on_one_server
def test_a_rival_meets_conditions_and_appends_to_several_streams(sync_store: EventStore) -> None:
    rival = NewEvent("Taken", {}, tags=["name:ann"])
    condition = AppendCondition(Query(tags="name:ann"), after=0)
    with pytest.raises(AppendConditionFailed):
        with_rival(sync_store, rival).append(None, event(), condition=condition)
    with pytest.raises(WrongExpectedVersion):
        with_rival(sync_store, event()).append_many([StreamAppend("b-1", event(), NO_STREAM)])
    with pytest.raises(InvalidInput, match="needs an event"):
        with_rival(sync_store)
    with pytest.raises(InvalidInput, match="at least 1"):
        with_rival(sync_store, event(), at=0)


@on_one_server
def test_what_a_lost_connection_leaves_unknown_was_stored(sync_store: EventStore) -> None:
    store = with_lost_connection(sync_store)
    new = NewEvent("Happened", {"number": 1}, id=uuid4())
    with pytest.raises(ConnectionLost) as lost:
        store.append("a-1", new, expected=NO_STREAM)
    assert lost.value.event_ids == (new.id,)
    assert store.append("a-1", new, expected=NO_STREAM).idempotent
    assert len(list(sync_store.read("a-1"))) == 1


@on_one_server
def test_failures_come_in_the_other_variant_as_well(url: str, schema: str) -> None:
    async def body() -> None:
        async with AsyncEventStore.connect(url, schema=schema) as plain:
            with pytest.raises(WrongExpectedVersion):
                await with_rival(plain, event()).append("a-1", event(), expected=NO_STREAM)
            with pytest.raises(ConnectionLost):
                await with_lost_connection(plain).append("a-1", event(), expected=0)
            assert [it.version async for it in plain.read("a-1")] == [0, 1]

    asyncio.run(body())


# Waiting ---------------------------------------------------------------------------------------


@on_one_server
def test_it_is_waited_until_groups_have_handled_what_is_there(sync_store: EventStore) -> None:
    group = sync_store.group("mails")
    group.create()
    sync_store.append("a-1", event(), expected=ANY)
    with pytest.raises(WaitTimeout, match="mails"):
        wait_until_caught_up(sync_store, timeout=0.05)
    with pytest.raises(GroupNotFound):
        wait_until_caught_up(sync_store, "mials")
    with group.consume() as consumer:
        delivery = consumer.take(20)
        assert delivery is not None
        delivery.ack()
        wait_until_caught_up(sync_store, "mails")
        wait_until_caught_up(sync_store)


@on_one_server
def test_async_code_waits_as_well(url: str, schema: str) -> None:
    async def body() -> None:
        async with AsyncEventStore.connect(url, schema=schema) as store:
            await store.group("mails").create()
            await wait_until_caught_up_async(store)

    asyncio.run(body())
