"""Create and migrate a store, create its roles, and test what the database rejects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from indelible import (
    NO_STREAM,
    DocumentProjection,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    Snapshots,
    handles,
)
from indelible.consumer_groups import lent_batch
from indelible.consumer_groups.lent_batch import LentBatch
from indelible.errors import (
    DatabaseError,
    PermissionDenied,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)
from indelible.postgres.errors import target
from indelible.postgres.migrations import (
    FUNCTION_SET,
    function_set,
    migrate_store,
    migrations,
    newest_version,
    reset_store,
)
from indelible.postgres.settings import Settings
from tests.support.accounts import AccountEvent, Deposit, accounts


def event() -> NewEvent:
    return NewEvent("Happened", {"number": 1})


def test_making_a_store_twice_changes_nothing(server_url: str, schema: str) -> None:
    first = migrate_store(Settings(server_url, schema))
    second = migrate_store(Settings(server_url, schema))

    assert first == [
        *(f"{m.version:04} {m.name}" for m in migrations()),
        f"functions {FUNCTION_SET}",
    ]
    assert second == []


def test_making_a_store_from_many_places_at_once_makes_one(server_url: str, schema: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate_store(Settings(server_url, schema)), range(6)))

    assert sorted(map(len, applied)) == [0] * 5 + [len(migrations()) + 1]


def test_what_was_applied_is_recorded(connection: psycopg.Connection, schema: str) -> None:
    rows = connection.execute(f"SELECT version, name FROM {schema}.migrations").fetchall()
    sets = connection.execute(f"SELECT number, checksums FROM {schema}.function_sets").fetchall()

    assert rows == [(migration.version, migration.name) for migration in migrations()]
    assert sets == [(FUNCTION_SET, function_set().checksums)]


def test_a_database_without_a_store_says_which_command_to_run(server_url: str, schema: str) -> None:
    with pytest.raises(SchemaMissing, match=f"indelible store init --schema {schema}"):
        EventStore.connect(server_url, schema=schema)


def test_a_store_of_a_newer_library_is_refused(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        f"INSERT INTO {schema}.migrations VALUES (9999, 'from the future', now(), '')"
    )

    with pytest.raises(SchemaTooNew, match="pip install --upgrade indelible"):
        EventStore.connect(url, schema=schema)
    with pytest.raises(SchemaTooNew):
        migrate_store(Settings(url, schema))


@pytest.mark.parametrize(
    ("change", "found", "wanted"),
    [
        ("UPDATE {}.migrations SET version = version - 1", newest_version() - 1, newest_version()),
        ("UPDATE {}.function_sets SET number = number - 1", FUNCTION_SET - 1, FUNCTION_SET),
        ("DELETE FROM {}.function_sets", 0, FUNCTION_SET),
    ],
)
def test_a_store_of_an_older_library_says_which_command_to_run(
    url: str, schema: str, connection: psycopg.Connection, change: str, found: int, wanted: int
) -> None:
    connection.execute(change.format(schema))

    with pytest.raises(SchemaOutdated, match="indelible store migrate") as refusal:
        EventStore.connect(url, schema=schema)
    assert (refusal.value.found, refusal.value.wanted) == (found, wanted)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {}.migrations SET checksum = ''",
        "UPDATE {}.function_sets SET checksums = checksums - 'head'",
        "CREATE FUNCTION {}.schema_version() RETURNS integer LANGUAGE sql AS 'SELECT 10'",
    ],
)
def test_a_store_of_an_unreleased_library_is_not_migrated_further(
    server_url: str, schema: str, change: str
) -> None:
    migrate_store(Settings(server_url, schema))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(change.format(schema))

    with pytest.raises(
        SchemaError, match="created by a version of this library that was not"
    ) as refusal:
        migrate_store(Settings(server_url, schema))
    assert str(refusal.value).startswith(f"{target(server_url)}: the store in schema {schema!r} ")


def test_a_store_of_an_unreleased_library_is_not_opened(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    """Before the first release a store had ten migrations, and one function told the version."""
    connection.execute(f"DROP TABLE {schema}.function_sets")
    connection.execute(f"DROP FUNCTION {schema}.last_migration(), {schema}.last_function_set()")
    connection.execute(
        f"CREATE FUNCTION {schema}.schema_version() RETURNS integer LANGUAGE sql AS 'SELECT 10'"
    )

    with pytest.raises(SchemaError, match="indelible log --json") as refusal:
        EventStore.connect(url, schema=schema)
    assert type(refusal.value) is SchemaError
    assert str(refusal.value).startswith(f"{target(url)}: the store in schema {schema!r} ")


RELEASED: dict[str, tuple[int, str]] = {}
"""The functions of each release: the number of the set, and the checksum of all of it."""


def test_released_functions_are_changed_with_a_new_number_only() -> None:
    changelog = Path(__file__).parents[2] / "CHANGELOG.md"
    releases = re.findall(r"^## (\d\S*)", changelog.read_text("utf-8"), re.MULTILINE)
    own = sha256(repr(sorted(function_set().checksums.items())).encode()).hexdigest()

    assert sorted(RELEASED) == sorted(releases), f"a release notes its set: {(FUNCTION_SET, own)}"
    for number, checksum in RELEASED.values():
        assert number < FUNCTION_SET or (number, checksum) == (FUNCTION_SET, own)


def replace_head(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(
        f"CREATE OR REPLACE FUNCTION {schema}.head() RETURNS bigint LANGUAGE sql AS 'SELECT 7'"
    )


def test_functions_of_a_newer_library_stay(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    replace_head(connection, schema)
    connection.execute(f"INSERT INTO {schema}.function_sets VALUES (9999, now(), '{{}}')")

    assert migrate_store(Settings(url, schema)) == []
    with EventStore.connect(url, schema=schema, migrate=True) as store:
        assert store.head() == 7


def test_functions_of_an_older_library_are_replaced(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    replace_head(connection, schema)
    connection.execute(f"GRANT EXECUTE ON FUNCTION {schema}.head() TO PUBLIC")
    connection.execute(
        f"UPDATE {schema}.function_sets SET number = number - 1, checksums = checksums - 'head'"
    )

    with psycopg.connect(url) as reader:
        # Unchanged files are not applied again, and so need no locks.
        reader.execute(f"SELECT FROM {schema}.recorded_events")
        reader.execute(f"LOCK TABLE {schema}.events IN ROW EXCLUSIVE MODE")
        assert migrate_store(Settings(url, schema)) == [f"functions {FUNCTION_SET}"]
    with EventStore.connect(url, schema=schema) as store:
        assert store.head() == 0
    row = connection.execute(
        "SELECT has_function_privilege('pg_monitor', %s, 'EXECUTE')", [f"{schema}.head()"]
    ).fetchone()
    assert row == (False,)


@pytest.mark.parametrize("table", ["events (id int)", "migrations (id int)"])
def test_a_schema_with_something_else_in_it_is_left_alone(
    server_url: str, schema: str, table: str
) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.{table}")

    with pytest.raises(SchemaError, match="choose another name"):
        migrate_store(Settings(server_url, schema))


@pytest.mark.parametrize("name", ["", "Upper", "pg_x", "1x", "a-b", 'a"b', "a b", "x" * 49, "a.b"])
def test_a_schema_name_that_postgresql_would_take_otherwise_is_refused(
    server_url: str, name: str
) -> None:
    with pytest.raises(InvalidInput, match="name of a schema"):
        EventStore.connect(server_url, schema=name)


def test_a_reserved_word_may_be_a_schema_name(server_url: str) -> None:
    try:
        with EventStore.connect(server_url, schema="order", migrate=True) as store:
            store.append("a-1", event(), expected=NO_STREAM)
            migrate_store(Settings(server_url, "order"), roles=True)
            assert [e.stream for e in store.read_all()] == ["a-1"]
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute('DROP SCHEMA "order" CASCADE')
            connection.execute("DROP ROLE order_reader, order_writer, order_maintainer")


def test_everything_that_a_person_may_meet_in_psql_is_commented(
    connection: psycopg.Connection, schema: str
) -> None:
    without = connection.execute(
        """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'v', 'S')
            AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind = 'r' AND a.attnum > 0
            AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT p.proname::text FROM pg_proc p
        WHERE p.pronamespace = %(schema)s::regnamespace
            AND obj_description(p.oid, 'pg_proc') IS NULL
        """,
        {"schema": schema},
    ).fetchall()

    assert without == []


# Rejected by the database ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET type = 'Other'",
        "UPDATE events SET type = 'Other' WHERE false",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM streams",
        "TRUNCATE streams",
        "UPDATE streams SET channel = 'other'",
        "UPDATE streams SET name = 'other'",
    ],
)
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_the_database_refuses_to_change_what_is_written(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, change: str, role: str
) -> None:
    sync_store.append("a-1", event(), expected=NO_STREAM)
    before = list(sync_store.read_all())
    connection.execute(f"SET search_path = {schema}")
    connection.execute(f"SET session_replication_role = {role}")

    with pytest.raises(psycopg.Error, match="what is stored is immutable") as refusal:
        connection.execute(change)

    assert refusal.value.sqlstate == "IND01"
    assert refusal.value.diag.message_hint is not None
    assert list(sync_store.read_all()) == before


# Roles -----------------------------------------------------------------------------------------


@contextmanager
def as_member_of(url: str, schema: str, kind: str) -> Iterator[str]:
    """The URL of a login role that is a member of one of the store's roles."""
    login = f"login_{schema}"
    with psycopg.connect(url, autocommit=True) as owner:
        migrate_store(Settings(url, schema), roles=True)
        owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x'")
        if kind != "none":
            owner.execute(f"GRANT {schema}_{kind} TO {login}")
        try:
            yield psycopg.conninfo.make_conninfo(url, user=login, password="x")
        finally:
            roles = f"{login}, {schema}_reader, {schema}_writer, {schema}_maintainer"
            owner.execute(f"DROP OWNED BY {roles}")
            owner.execute(f"DROP ROLE {roles}")


class Counts(DocumentProjection[dict]):
    name = "counts"

    @handles("Happened")
    def happened(self, count: dict | None, _: RecordedEvent) -> dict:
        return {"count": (count or {"count": 0})["count"] + 1}


class InlineCounts(Counts):
    name = "inline-counts"


def test_a_writer_keeps_projections_up_to_date_and_changes_no_documents_otherwise(
    url: str, schema: str
) -> None:
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema, inline=[InlineCounts]) as store:
            store.append("a-1", event(), expected=NO_STREAM)
            store.catch_up(Counts)
            for projection in (Counts, InlineCounts):
                assert store.documents(projection).read("a-1") == {"count": 1}
                assert store.verify(projection).holds
        with psycopg.connect(member, autocommit=True) as connection:
            for denied in (
                f"UPDATE {schema}.projection_documents SET document = '{{}}'",
                f"UPDATE {schema}.projection_partitions SET position = 0",
                f"SELECT {schema}.projection_store_documents(1, '[]', '{{a-1}}')",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(denied)
            with pytest.raises(psycopg.DatabaseError, match="is not inline"):
                connection.execute(
                    f"SELECT {schema}.projection_write_documents(2, '[]', '{{a-1}}')"
                )
    with EventStore.connect(url, schema=schema) as store:
        assert store.documents(Counts).read("a-1") == {"count": 1}


def test_a_writer_appends_and_reads_and_does_nothing_else(url: str, schema: str) -> None:
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema) as store:
            store.append("a-1", event(), expected=NO_STREAM)
            assert len(list(store.read("a-1"))) == len(list(store.read_all())) == 1
            assert len(list(store.streams())) == store.stats().streams == 1
        with psycopg.connect(member, autocommit=True) as connection:
            for table in ("events", "streams", "migrations"):
                for denied in (f"SELECT * FROM {schema}.{table}", f"DELETE FROM {schema}.{table}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(denied)
            for denied in (
                f"SELECT nextval('{schema}.events_position')",
                f"SELECT {schema}.insert_events(1, 9, '{{}}', '[]')",
                f"CREATE TABLE {schema}.mine ()",
                f"DELETE FROM {schema}.recorded_streams",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(denied)


def test_a_writer_works_for_groups_and_a_reader_looks_at_them(url: str, schema: str) -> None:
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema) as store:
            store.append("a-1", [event(), event(), event()], expected=NO_STREAM)
            group = store.group("mails")
            group.create(retry_after=0, deliver_when_valid=True)
            with group.consume() as consumer:
                for _ in range(2):
                    delivery = consumer.take(20)
                    assert delivery is not None
                    delivery.nack()
                delivery = consumer.take(20)
                assert delivery is not None
                with delivery.transaction() as transaction:
                    transaction.append("b-1", event(), expected=NO_STREAM)
                delivery = consumer.take(20)
                assert delivery is not None
                delivery.park()
                ahead = datetime.now(UTC) + timedelta(seconds=0.2)
                store.append("c-1", NewEvent("Due", 1, valid_at=ahead), expected=NO_STREAM)
                while (delivery := consumer.take(20)) and delivery.type != "Due":
                    delivery.ack()
                assert delivery is not None
                batch = LentBatch([delivery])
                run, worker = store._engine.run, consumer._worker
                run(lent_batch.lend(worker, batch, 30))
                run(lent_batch.extend("mails", batch.id, 60))
                run(
                    lent_batch.settle(
                        "mails", batch.id, "finished", positions=None, reason="", error=None
                    )
                )
                (news,) = run(lent_batch.look(worker, {batch.id: 0}, []))
                batch.note(news.finished, news.failed)
                assert run(lent_batch.look(worker, {}, [batch.id])) == []
            group.replay()
            group.discard()
            group.create(max_attempts=7, deliver_when_valid=True, exists="change")
            group.reset("head")
            assert store.head_info().holders == ()
        with psycopg.connect(member, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"UPDATE {schema}.group_slices SET position = 0")
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"REVOKE {schema}_writer FROM login_{schema}")
            owner.execute(f"GRANT {schema}_reader TO login_{schema}")
        with EventStore.connect(member, schema=schema) as store:
            assert [info.name for info in store.groups()] == ["mails"]
            assert store.group("mails").parked() == []
            with pytest.raises(PermissionDenied):
                store.group("mails").delete()
            store.subscribe().stop()


def test_a_writer_takes_snapshots_and_a_reader_uses_them(
    url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = replace(accounts, snapshots=Snapshots(every=1))
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema, events=AccountEvent) as store:
            store.handle("account-1", kept, Deposit(1))
            store.handle("account-1", kept, Deposit(1))
        with psycopg.connect(url, autocommit=True) as owner:
            rows = owner.execute(f"SELECT version FROM {schema}.snapshots").fetchall()
            assert rows == [(0,)]
        with psycopg.connect(member, autocommit=True) as connection:
            for denied in (
                f"SELECT * FROM {schema}.snapshots",
                f"UPDATE {schema}.snapshots SET version = 9",
                f"DELETE FROM {schema}.snapshots",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(denied)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"REVOKE {schema}_writer FROM login_{schema}")
            owner.execute(f"GRANT {schema}_reader TO login_{schema}")
        with EventStore.connect(member, schema=schema, events=AccountEvent) as store:
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            for moment in (None, tomorrow):  # may store neither snapshot; logs nothing
                assert store.load("account-1", kept, valid_at=moment).state.balance == 2
    assert caplog.records == []


def test_a_reader_reads_and_does_not_append(url: str, schema: str) -> None:
    with as_member_of(url, schema, "reader") as member:
        with EventStore.connect(member, schema=schema) as store:
            assert list(store.read_all()) == []
            with pytest.raises(PermissionDenied, match=f"{schema}_writer"):
                store.append("a-1", event(), expected=NO_STREAM)


def test_a_reader_with_a_filter_writes_windows_by_the_function_only(url: str, schema: str) -> None:
    with EventStore.connect(url, schema=schema) as store:
        store.append("a-1", event(), expected=NO_STREAM)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"SELECT setval('{schema}.events_position', 50000)")
        store.append("a-1", event(), expected=0)
    with as_member_of(url, schema, "reader") as member:
        with EventStore.connect(member, schema=schema) as store:
            assert len(list(store.read_all(Query(types="Happened")))) == 2
            assert [one.events for one in store.types()] == [2]
        with psycopg.connect(member, autocommit=True) as connection:
            for table in ("log_windows", "log_window_contents"):
                assert connection.execute(
                    f"SELECT sum(events) FROM {schema}.{table}"
                ).fetchone() == (1,)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"DELETE FROM {schema}.{table}")


def test_a_role_without_rights_is_told_what_it_needs(url: str, schema: str) -> None:
    with as_member_of(url, schema, "none") as stranger:
        with pytest.raises(PermissionDenied, match="indelible store init --roles"):
            EventStore.connect(stranger, schema=schema)


def test_a_writer_that_migrates_is_told_to_connect_as_the_owner(url: str, schema: str) -> None:
    with as_member_of(url, schema, "writer") as member:
        for change in (migrate_store, reset_store):
            with pytest.raises(PermissionDenied) as refusal:
                change(Settings(member, schema))
            assert f"{schema}_" not in str(refusal.value)  # no role helps
            assert "connect as the owner of the store" in str(refusal.value)


def test_an_owner_that_may_not_create_roles_is_told_so(url: str, schema: str) -> None:
    with as_member_of(url, schema, "none") as stranger, psycopg.connect(url) as owner:
        login = f"login_{schema}"
        owner.execute(f"GRANT CREATE ON DATABASE {owner.info.dbname} TO {login}")
        owner.commit()
        with pytest.raises(PermissionDenied, match="CREATEROLE"):
            migrate_store(Settings(stranger, f"{schema}_own"), roles=True)


def test_a_writer_cannot_make_the_store_s_functions_run_its_own(url: str, schema: str) -> None:
    """The functions run as their owner: what they call must not be found in the caller's path."""
    with as_member_of(url, schema, "writer") as member:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"CREATE SCHEMA trap_{schema} AUTHORIZATION login_{schema}")
        try:
            with psycopg.connect(member, autocommit=True) as connection:
                trap = f"trap_{schema}"
                connection.execute(
                    f"CREATE FUNCTION {trap}.jsonb_array_length(jsonb) RETURNS integer"
                    " LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$"
                )
                connection.execute("CREATE TEMPORARY TABLE streams (id int)")
                connection.execute(f"SET search_path = {trap}, pg_temp, pg_catalog")
                row = connection.execute(
                    f"SELECT outcome FROM {schema}.append('a-1', NULL, -1, %s)",
                    ['[{"id":"018f0000-0000-7000-8000-000000000001","type":"A","data":1}]'],
                ).fetchone()
                assert row == ("appended",)
        finally:
            with psycopg.connect(url, autocommit=True) as owner:
                owner.execute(f"DROP SCHEMA trap_{schema} CASCADE")


def test_what_a_constraint_refuses_is_an_error_of_the_library(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        f"ALTER TABLE {schema}.events ADD CONSTRAINT ours CHECK (type <> 'Happened')"
    )
    with (
        EventStore.connect(url, schema=schema) as store,
        pytest.raises(DatabaseError, match="ours"),
    ):
        store.append("a-1", event(), expected=NO_STREAM)
