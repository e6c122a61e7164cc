"""Sessions have the settings that the store needs, whatever the defaults or the caller set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    WrongExpectedVersion,
)
from indelible.errors import DatabaseUnreachable, LockTimeout, ServerBusy, UnsupportedIsolationLevel
from tests.conftest import Connect
from tests.support.interleavings import Proxy
from tests.support.servers import PgBouncer
from tests.support.sync_adapter import SyncAdapter
from tests.support.waiting import wait_until

UNUSUAL = {
    "default_transaction_isolation": "serializable",
    "client_encoding": "SQL_ASCII",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "exit_on_error": "on",
    "client_min_messages": "error",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "search_path": "pg_temp",
}


def event(number: int = 0, **given: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **given)


@pytest.fixture
def role(connection: psycopg.Connection) -> Iterator[str]:
    """A superuser of its own, who may have settings."""
    name = f"role_{uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {name} SUPERUSER LOGIN")
    yield name
    connection.execute(f"DROP OWNED BY {name}")
    connection.execute(f"DROP ROLE {name}")


def use(store: EventStore) -> None:
    """Do a little of everything."""
    text = "Ünïcödé \\ '{NULL}' 東京 😀"
    told = NewEvent("Told", {"text": text}, tags=("who:ä",), metadata={"by": None})
    store.append("a-1", [told, event(1)], expected=NO_STREAM)
    with pytest.raises(WrongExpectedVersion):
        store.append("a-1", event(), expected=NO_STREAM)
    assert [e.data for e in store.read("a-1")] == [{"text": text}, {"number": 1}]
    log = store.read_all(Query(tags=("who:ä",)))
    assert [e.data["text"] for e in log] == [text]
    condition = AppendCondition(Query(tags=("who:b",)), after=log.head)
    store.append("b-1", event(2, tags=("who:b",)), expected=ANY, condition=condition)
    with store.transaction() as transaction:
        transaction.append("b-1", event(3), expected=0)
    with store.subscribe() as subscription:
        assert [next(subscription).version for _ in range(4)] == [0, 1, 0, 1]
    group = store.group("readers")
    group.create()
    with group.consume() as consumer:
        for _ in range(4):
            delivery = consumer.take(20)
            assert delivery is not None
            delivery.ack()


def test_what_the_role_sets_does_not_matter(
    connect: Connect, connection: psycopg.Connection, url: str, role: str
) -> None:
    for name, value in UNUSUAL.items():
        connection.execute(f"ALTER ROLE {role} SET {name} = {value!r}")

    use(connect(make_conninfo(url, user=role)))


def test_what_the_url_sets_does_not_matter(connect: Connect, url: str) -> None:
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}"
        for name, value in UNUSUAL.items()
        if name != "client_encoding"
    )

    use(connect(make_conninfo(url, options=options, client_encoding="LATIN1")))


def test_what_the_environment_sets_does_not_matter(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=serializable")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    use(connect())


def shown(store: EventStore, name: str) -> str:
    with store.transaction() as transaction:
        (value,) = first(transaction, f"SHOW {name}")
        return str(value)


def unlend(transaction: Any) -> None:
    """Have what was done to its session stay."""
    transaction._engine.connection.is_lent = False


def first(transaction: Any, query: str) -> Any:
    """Run a statement on the connection of a transaction, sync and async; give the first row."""
    if isinstance(transaction, SyncAdapter):

        async def run() -> Any:
            cursor = await transaction.connection.execute(query)
            return await cursor.fetchone() if cursor.description else None

        return transaction._runner.run(run())
    cursor = transaction.connection.execute(query)
    return cursor.fetchone() if cursor.description else None


@pytest.fixture
def bouncer(url: str, server_folder: Any) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before the test's server."""
    if not PgBouncer.is_installed():
        pytest.skip("pgbouncer is not installed on this machine (Debian: apt install pgbouncer)")
    with PgBouncer(server_folder / f"bouncer-{uuid4().hex}", url) as bouncer:
        yield bouncer


def test_a_store_works_behind_a_pooler_and_leaves_its_sessions_as_they_are(
    bouncer: PgBouncer, connect: Connect
) -> None:
    use(connect(bouncer.url))

    with psycopg.connect(bouncer.url, autocommit=True) as other:
        assert other.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_a_store_is_made_and_imported_into_through_a_pooler(
    bouncer: PgBouncer, connection: psycopg.Connection
) -> None:
    schema = f"behind_{uuid4().hex[:8]}"
    lines = [f'{{"stream": "a-{number % 7}", "type": "A", "data": {{}}}}' for number in range(100)]
    try:
        with EventStore.connect(bouncer.url, schema=schema, migrate=True) as store:
            assert store.import_events(lines, source="a file").imported == 100
            assert len(list(store.read_all())) == 100
    finally:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def test_a_setting_of_the_url_that_a_pooler_refuses_is_named_as_such(
    bouncer: PgBouncer, connect: Connect
) -> None:
    refused = make_conninfo(bouncer.url, options="-c work_mem=8MB")
    with pytest.raises(DatabaseUnreachable, match="a pooler refuses a setting of the URL") as error:
        connect(refused)
    assert "check the URL" not in str(error.value)


def test_an_isolation_that_a_pooler_s_sessions_begin_with_is_refused_at_the_start(
    bouncer: PgBouncer, connect: Connect, connection: psycopg.Connection
) -> None:
    connection.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'")
    try:
        with pytest.raises(UnsupportedIsolationLevel, match="ALTER ROLE"):
            connect(bouncer.url)
    finally:
        connection.execute("ALTER ROLE postgres RESET default_transaction_isolation")


def test_a_connection_of_the_caller_s_in_another_encoding_is_refused(
    sync_store: EventStore, url: str
) -> None:
    with psycopg.connect(url, client_encoding="LATIN1") as own:
        with pytest.raises(InvalidInput, match="client_encoding is LATIN1"):
            sync_store.bind(own)


# Changes by the caller ----------------------------------------------------------------------------


SyncOnly = pytest.mark.parametrize("connect", ["sync"], indirect=True)


@SyncOnly
@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("SET synchronous_commit = off", "SHOW synchronous_commit"),
        ("SELECT set_config('search_path', 'pg_temp', false)", "SHOW search_path"),
        ("SET lock_timeout = '1ms'", "SHOW lock_timeout"),
        ("SET ROLE pg_monitor", "SELECT current_user"),
        ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user"),
        ("LISTEN somebody", "SELECT count(*) FROM pg_listening_channels()"),
        ("CREATE TEMP TABLE left_over ()", "SELECT to_regclass('pg_temp.left_over')"),
        ("SELECT pg_advisory_lock(51)", "SELECT count(*) FROM pg_locks WHERE objid = 51"),
        ("PREPARE left_over AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"
         " WHERE from_sql"),
        ("DECLARE left_over CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors"
         " WHERE is_holdable"),
    ],
)  # fmt: skip
def test_what_the_caller_changes_in_a_session_is_undone(
    connect: Connect, change: str, look: str
) -> None:
    store = connect(pool_size=1)
    with store.transaction() as transaction:
        before = first(transaction, look)
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=ANY)
        first(transaction, change)
        if "pg_monitor" not in change and "LISTEN" not in change:
            assert first(transaction, look) != before

    with store.transaction() as transaction:
        assert first(transaction, look) == before
    store.append("a-1", event(), expected=0)


@SyncOnly
def test_what_the_caller_changes_in_a_connection_object_is_undone(connect: Connect) -> None:
    store = connect(pool_size=1)
    with store.transaction() as transaction:
        transaction.connection.row_factory = dict_row
    with store.transaction() as transaction:
        assert first(transaction, "SELECT 1") == (1,)
        transaction.connection.adapters.register_dumper(str, psycopg.types.string.StrDumperVarchar)
    with store.transaction() as transaction:
        found = transaction.connection.adapters.get_dumper(str, psycopg.adapt.PyFormat.AUTO)
        assert found is psycopg.adapters.get_dumper(str, psycopg.adapt.PyFormat.AUTO)


def test_settings_of_the_caller_do_not_stay_in_either_variant(connect: Connect) -> None:
    store = connect(pool_size=1)
    sessions = set()
    for _ in range(3):
        with store.transaction() as transaction:
            sessions.add(transaction.connection.info.backend_pid)
            transaction.append("a-1", event(), expected=ANY)
            assert first(transaction, "SHOW synchronous_commit") == ("on",)
            first(transaction, "SET synchronous_commit = off")

    assert len(sessions) == 1  # the session is reset, and not replaced


# Bounds -------------------------------------------------------------------------------------------


@SyncOnly
def test_the_server_looks_for_dead_clients_and_waits_for_no_lock_for_ever(
    connect: Connect, url: str, server_url: str
) -> None:
    with Proxy(server_url) as proxy:  # over TCP, also to a server with a Unix socket
        store = connect(proxy.url, timeout=7)
        assert shown(store, "lock_timeout") == "7s"
        assert shown(store, "client_connection_check_interval") == "10s"

    store = connect(make_conninfo(url, options="-c lock_timeout=3s"), timeout=7)
    assert shown(store, "lock_timeout") == "3s"


def test_an_append_that_waits_for_the_transaction_around_it_ends_and_says_who_holds_it(
    connect: Connect, url: str
) -> None:
    store = connect(make_conninfo(url, application_name="shop"), timeout=0.3)
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=NO_STREAM)
        pid = transaction.connection.info.backend_pid
        with pytest.raises(LockTimeout, match="append with the object that it returns") as error:
            store.append("a-1", event(), expected=ANY)
    assert isinstance(error.value, ServerBusy)
    (holder,) = error.value.holders
    assert f"process {pid} (shop, idle in transaction) in a transaction of" in holder
    assert holder in str(error.value)
    assert len(list(store.read("a-1"))) == 1

    store.append("a-1", event(), expected=0)


def test_an_append_in_a_transaction_that_waits_for_another_says_who_holds_it(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    store = connect(timeout=0.3)
    store.append("a-1", event(), expected=NO_STREAM)
    with connection.transaction():
        connection.execute(f"SELECT FROM {schema}.streams FOR UPDATE")
        with pytest.raises(LockTimeout) as error:
            with store.transaction() as transaction:
                transaction.append("a-1", event(), expected=0)
    assert f"process {connection.info.backend_pid}" in error.value.holders[0]


# Read-only servers --------------------------------------------------------------------------------


def test_a_session_that_takes_no_writes_is_closed_and_the_append_made_on_another(
    connect: Connect,
) -> None:
    store = connect(pool_size=1)
    with store.transaction() as transaction:
        stale = transaction.connection
        # Like a server that has become a standby: it rejects all writes.
        first(transaction, "SET default_transaction_read_only = on")
        unlend(transaction)

    store.append("a-1", event(), expected=NO_STREAM)

    assert stale.closed
    assert len(list(store.read("a-1"))) == 1


def test_a_transaction_that_meets_such_a_session_closes_it(connect: Connect) -> None:
    store = connect(pool_size=1)
    with store.transaction() as transaction:
        first(transaction, "SET default_transaction_read_only = on")
        unlend(transaction)

    with pytest.raises(DatabaseUnreachable, match="does not accept writes"):
        with store.transaction() as transaction:
            transaction.append("a-1", event(), expected=NO_STREAM)
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=NO_STREAM)


def test_a_role_that_may_only_read_is_told_which_setting_it_is(
    connect: Connect, connection: psycopg.Connection, url: str, role: str
) -> None:
    connection.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    store = connect(make_conninfo(url, user=role), timeout=0.5)

    with pytest.raises(DatabaseUnreachable, match="default_transaction_read_only is on"):
        store.append("a-1", event(), expected=NO_STREAM)


# Transactions on a dead connection ----------------------------------------------------------------


def test_a_transaction_whose_connection_is_dead_begins_on_another(
    connect: Connect, connection: psycopg.Connection, url: str
) -> None:
    name = f"dead_{uuid4().hex[:8]}"
    store = connect(make_conninfo(url, application_name=name))
    store.append("a-1", event(), expected=NO_STREAM)
    alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
        [name],
    )
    wait_until(lambda: connection.execute(alive, [name]).fetchone() == (0,))

    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=0)

    assert len(list(store.read("a-1"))) == 2
