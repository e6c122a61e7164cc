"""Stores damaged by copies or manual changes are rejected and repaired; migrations and locks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from indelible import ANY, DocumentProjection, EventStore, NewEvent, RecordedEvent, handles
from indelible.errors import SchemaError
from indelible.postgres import migrations as schema_
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from indelible.postgres.statements import in_schema, statements
from tests.support.servers import wheel_binaries
from tests.support.waiting import wait_until


def event() -> NewEvent:
    return NewEvent("Happened", {"number": 1})


def number_of(connection: psycopg.Connection, schema: str) -> int:
    row = connection.execute(f"SELECT {schema}.store_lock_key()").fetchone()
    assert row is not None
    return int(row[0])


# Copies in the same database --------------------------------------------------------------------


@pytest.fixture
def copy(url: str, schema: str, connection: psycopg.Connection) -> Iterator[str]:
    """The schema of a copy of the store that was restored beside it."""
    name = f"{schema}_copy"
    with EventStore.connect(url, schema=schema) as store:
        store.append("a-1", event(), expected=ANY)
    binaries = wheel_binaries()
    dump = subprocess.run(
        [str(binaries / "pg_dump"), f"--schema={schema}", url], check=True, capture_output=True
    )
    text = dump.stdout.decode().replace(schema, name)
    subprocess.run(
        [str(binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", url],
        # Written by the newest pg_dump; servers before 17 do not support it.
        input=re.sub("^SET transaction_timeout.*$", "", text, flags=re.MULTILINE).encode(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    yield name
    connection.execute(f"DROP SCHEMA {name} CASCADE")


def test_a_copy_in_the_same_database_is_refused_until_it_has_a_number_of_its_own(
    url: str, schema: str, copy: str, connection: psycopg.Connection
) -> None:
    assert number_of(connection, copy) == number_of(connection, schema)
    with pytest.raises(
        SchemaError, match=f"copy of the one in schema '{schema}'.*indelible store init"
    ):
        EventStore.connect(url, schema=copy)
    with EventStore.connect(url, schema=schema) as store:  # the first store is not affected
        store.append("a-1", event(), expected=0)

    assert migrate_store(Settings(url, copy)) == []

    assert number_of(connection, copy) != number_of(connection, schema)
    with (
        EventStore.connect(url, schema=schema) as store,
        EventStore.connect(url, schema=copy) as copied,
        psycopg.connect(url) as slow,
    ):
        copied.bind(slow).append("slow-1", event(), expected=ANY)
        result = store.append("a-1", event(), expected=1)
        assert store.head() == result.position
        assert copied.head() == 1


def test_a_number_changes_only_when_no_other_session_uses_the_store(
    url: str, copy: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = number_of(connection, copy)
    monkeypatch.setattr(schema_, "_PATIENCE", 0.5)
    monkeypatch.setattr(schema_, "_TRY", "0.1s")
    monkeypatch.setattr(schema_, "_PAUSE", 0.1)
    with psycopg.connect(url) as slow:
        slow.execute(
            f"SELECT {copy}.append('a-1', NULL, -2, %s)",
            ['[{"id":"018f0000-0000-7000-8000-000000000001","type":"A","data":1}]'],
        )
        with pytest.raises(SchemaError, match=f"process {slow.info.backend_pid} "):
            migrate_store(Settings(url, copy))
        assert number_of(connection, copy) == before
    migrate_store(Settings(url, copy))
    assert number_of(connection, copy) != before


def test_a_number_changes_only_when_nobody_has_locked_tags_with_it(
    url: str, copy: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who decides by a tag locks it with the number, before it looks at any event."""
    before = number_of(connection, copy)
    monkeypatch.setattr(schema_, "_PATIENCE", 0.5)
    monkeypatch.setattr(schema_, "_TRY", "0.1s")
    monkeypatch.setattr(schema_, "_PAUSE", 0.1)
    with psycopg.connect(url) as slow:
        slow.execute(f"SELECT {copy}.lock_for_append('{{}}', '{{seat:1}}')")
        with pytest.raises(SchemaError, match=f"process {slow.info.backend_pid} "):
            migrate_store(Settings(url, copy))
    assert number_of(connection, copy) == before


def test_a_schema_that_was_renamed_is_refused(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    """Its functions would work on whatever has its old name."""
    renamed = f"{schema}_renamed"
    connection.execute(f"ALTER SCHEMA {schema} RENAME TO {renamed}")
    try:
        for _ in range(2):
            with pytest.raises(SchemaError, match="was renamed"):
                EventStore.connect(url, schema=renamed)
            with pytest.raises(SchemaError, match="was renamed"):
                migrate_store(Settings(url, renamed))
            migrate_store(Settings(url, schema))  # another store uses the old name now
    finally:
        connection.execute(f"DROP SCHEMA {renamed} CASCADE")


def test_a_number_that_others_have_is_not_taken(
    schema: str, connection: psycopg.Connection
) -> None:
    first = number_of(connection, schema)
    with connection.transaction(force_rollback=True):
        for place in range(100):
            connection.execute(f"CREATE SCHEMA {schema}_{place}")
            connection.execute(
                f"CREATE FUNCTION {schema}_{place}.store_lock_key() RETURNS bigint LANGUAGE sql"
                f" IMMUTABLE AS 'SELECT {(first + place - 1) % 32767 + 1}::bigint'"
            )
        connection.execute(f"SELECT {schema}.choose_store_lock_key()")
        assert number_of(connection, schema) == (first + 99) % 32767 + 1


def test_two_stores_that_are_made_at_once_do_not_take_one_number(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    first = number_of(connection, schema)
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('indelible lock numbers', 0))")
        other.execute(f"CREATE SCHEMA {schema}_other")
        other.execute(
            f"CREATE FUNCTION {schema}_other.store_lock_key() RETURNS bigint LANGUAGE sql"
            f" IMMUTABLE AS 'SELECT {first}::bigint'"
        )
        taken = threads.submit(connection.execute, f"SELECT {schema}.choose_store_lock_key()")
        with psycopg.connect(url, autocommit=True) as watching:
            wait_until(lambda: is_waiting(watching, connection))
        other.commit()
        taken.result(30)
    connection.execute(f"DROP SCHEMA {schema}_other CASCADE")
    assert number_of(connection, schema) != first


def is_waiting(watching: psycopg.Connection, waiting: psycopg.Connection) -> bool:
    row = watching.execute(
        "SELECT cardinality(pg_blocking_pids(%s)) > 0", [waiting.info.backend_pid]
    ).fetchone()
    return bool(row and row[0])


def somebody_waits_for(holding: psycopg.Connection, watching: psycopg.Connection) -> bool:
    row = watching.execute(
        "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))",
        [holding.info.backend_pid],
    ).fetchone()
    return row is not None


# Sequences --------------------------------------------------------------------------------------


def test_a_sequence_of_positions_that_stands_behind_is_refused_and_set_forward(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    """Logical replication, say, does not carry sequences."""
    with EventStore.connect(url, schema=schema) as store:
        for _ in range(3):
            store.append("a-1", event(), expected=ANY)
        connection.execute(f"SELECT setval('{schema}.events_position', 1)")
        with pytest.raises(SchemaError, match="indelible store init"):
            store.append("a-1", event(), expected=ANY)
        connection.execute(f"SELECT setval('{schema}.events_position', 1)")
        with pytest.raises(SchemaError, match=r"SELECT setval\('.*events_position', 3\)"):
            EventStore.connect(url, schema=schema)

        migrate_store(Settings(url, schema))

        assert store.append("a-1", event(), expected=ANY).position == 4
    EventStore.connect(url, schema=schema).close()


def test_a_sequence_that_would_hand_out_position_0_is_refused(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    """As in a copy of the schema without its data: every reader begins after 0."""
    connection.execute(f"ALTER SEQUENCE {schema}.events_position RESTART")
    with pytest.raises(SchemaError, match="is behind 0"):
        EventStore.connect(url, schema=schema)
    with EventStore.connect(url, schema=schema, migrate=True) as store:
        assert store.append("a-1", event(), expected=ANY).position == 1


class Counts(DocumentProjection[dict]):
    name = "counts"

    @handles("Happened")
    def happened(self, count: dict | None, _: RecordedEvent) -> dict:
        return {"count": (count or {"count": 0})["count"] + 1}


def test_no_sequence_of_a_store_may_stand_behind(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(url, schema=schema) as store:
        store.append("a-1", event(), expected=ANY)
        store.close_stream("a-1", expected=0)
        store.catch_up(Counts)
        store.group("mails").create()
        with store.group("mails").consume() as consumer:
            delivery = consumer.take(20)
            assert delivery is not None
            delivery.park()
        store.archive_stream("a-1")
    sequences = connection.execute(
        "SELECT format('%%I.%%I', schemaname, sequencename), min_value FROM pg_sequences"
        " WHERE schemaname = %s",
        [schema],
    ).fetchall()
    assert len(sequences) > 6
    for name, lowest in sequences:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT setval(%s::regclass, %s, false)", [name, lowest])
            found = connection.execute(
                f"SELECT problem, subject FROM {schema}.store_problem('{schema}.events')"
            ).fetchone()
            assert found is not None
            assert (found[0], found[1].replace('"', "")) == ("sequence behind", name)
            connection.execute(f"SELECT {schema}.repair_store()")
            found = connection.execute(
                f"SELECT problem FROM {schema}.store_problem('{schema}.events')"
            ).fetchone()
            assert found == (None,)


@pytest.mark.parametrize("setting", ["CACHE 10", "INCREMENT 2", "CYCLE"])
def test_a_sequence_of_positions_that_was_altered_is_refused_and_set_right(
    url: str, schema: str, connection: psycopg.Connection, setting: str
) -> None:
    """With CACHE sessions keep positions for later: then they are below what readers have read."""
    connection.execute(f"ALTER SEQUENCE {schema}.events_position {setting}")
    with pytest.raises(SchemaError, match="was altered"):
        EventStore.connect(url, schema=schema)
    with EventStore.connect(url, schema=schema, migrate=True) as store:
        assert store.append("a-1", event(), expected=ANY).position == 1


# Locks ------------------------------------------------------------------------------------------


def test_appends_go_on_while_a_migration_waits_for_a_long_reader(
    url: str, schema: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_, "_TRY", "0.2s")
    with (
        EventStore.connect(url, schema=schema) as store,
        psycopg.connect(url) as reader,
        ThreadPoolExecutor(1) as threads,
    ):
        reader.execute(f"SELECT * FROM {schema}.events")
        connection.execute(f"ALTER SEQUENCE {schema}.events_position CACHE 10")
        migration = threads.submit(migrate_store, Settings(url, schema))
        for _ in range(3):
            wait_until(lambda: waits_for_a_table(connection, schema))
            store.append("a-1", event(), expected=ANY)
        assert not migration.done()
        reader.rollback()
        migration.result(60)


def waits_for_a_table(connection: psycopg.Connection, schema: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
        " WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        " AND relnamespace = %s::regnamespace",
        [schema],
    ).fetchone()
    return bool(row and row[0])


def test_a_migration_that_has_waited_for_another_sees_what_that_one_did(
    url: str, schema: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever isolation level the sessions of the role begin with."""
    monkeypatch.setattr(schema_, "_TRY", "60s")
    strict = make_conninfo(url, options="-c default_transaction_isolation=repeatable\\ read")
    name = f"{schema}_twice"
    with psycopg.connect(url) as first, ThreadPoolExecutor(1) as threads:
        first.execute(
            statements(name)["postgres.migration_lock"], {"schema": name, "timeout": "1s"}
        )
        second = threads.submit(migrate_store, Settings(strict, name))
        wait_until(lambda: somebody_waits_for(first, connection))
        schema_._migrate(first.cursor(), name)
        first.commit()
        assert second.result(60) == []
    connection.execute(f"DROP SCHEMA {name} CASCADE")


def test_a_migration_that_is_in_a_deadlock_is_tried_again(
    url: str, schema: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the append lock and waits for the events; another one has read them and appends."""
    monkeypatch.setattr(schema_, "_TRY", "60s")
    connection.execute(f"ALTER SEQUENCE {schema}.events_position CACHE 10")
    with (
        psycopg.connect(url, options="-c deadlock_timeout=1h") as other,
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute(f"SELECT * FROM {schema}.events")
        quick = make_conninfo(url, options="-c deadlock_timeout=3s")
        migration = threads.submit(migrate_store, Settings(quick, schema))
        wait_until(lambda: waits_for_a_table(connection, schema))
        other.execute(f"LOCK TABLE {schema}.append_lock IN ROW EXCLUSIVE MODE")
        other.commit()
        migration.result(60)


def test_who_migrates_for_very_long_is_named(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_, "_PATIENCE", 0.5)
    monkeypatch.setattr(schema_, "_TRY", "0.1s")
    monkeypatch.setattr(schema_, "_PAUSE", 0.1)
    with psycopg.connect(url, application_name="the slow one") as other:
        other.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('indelible migrations ' || %s, 0))",
            [schema],
        )
        began = datetime.now(UTC)
        with pytest.raises(
            SchemaError, match=rf"process {other.info.backend_pid} \(the slow one, idle in trans"
        ):
            migrate_store(Settings(url, schema))
        assert (datetime.now(UTC) - began).total_seconds() < 30


@pytest.mark.parametrize(
    ("before", "while_it_waits"),
    [
        ("{roles}", ""),
        # CREATE ROLE locks the table of roles after its check whether the role exists.
        ("LOCK TABLE pg_authid IN SHARE MODE", "{roles}"),
        ("GRANT USAGE ON SCHEMA {schema} TO pg_monitor", ""),
    ],
    ids=["made before", "made meanwhile", "other rights"],
)
def test_roles_that_are_made_elsewhere_at_the_same_moment_are_no_error(
    url: str,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    while_it_waits: str,
) -> None:
    """Roles are of all databases, and so nothing but the attempt tells."""
    monkeypatch.setattr(schema_, "_TRY", "60s")
    made = f"{schema}_reader, {schema}_writer, {schema}_maintainer"
    roles = (files("indelible") / "postgres" / "schema" / "roles.sql").read_text("utf-8")
    texts = {"roles": in_schema(roles, schema), "schema": schema}
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as threads:
        other.execute(f"SET search_path = {schema}")
        other.execute(before.format(**texts))
        making = threads.submit(migrate_store, Settings(url, schema), roles=True)
        with psycopg.connect(url, autocommit=True) as watching:
            wait_until(lambda: somebody_waits_for(other, watching))
        other.execute(while_it_waits.format(**texts))
        other.commit()
        making.result(60)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM pg_monitor")
        owner.execute(f"DROP OWNED BY {made}")
        owner.execute(f"DROP ROLE {made}")
