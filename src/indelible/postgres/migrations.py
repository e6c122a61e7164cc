"""Create, check and migrate the schema of a store.

Its tables change by numbered migrations, each applied once, in order. Its functions, views and
triggers are one set with a number: all of it is applied again, where a file of it has changed, when
the library's set is newer than the store's. A library works beside a set newer than its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from random import random
from typing import TypeVar

import psycopg
from psycopg import sql

from indelible.core.operation import Operation, Statement
from indelible.errors import SchemaError, SchemaMissing, SchemaOutdated, SchemaTooNew
from indelible.events import HeadHolder

from .connection import open_connection
from .errors import translate
from .settings import Settings
from .statements import in_schema, statements


def migrate_store(settings: Settings, *, roles: bool = False) -> list[str]:
    """Bring a store up to date, making it where there is none.

    Args:
        settings: how to reach it.
        roles: whether to make its roles, too.

    Returns:
        What was applied: migrations and functions, with their numbers.
    """
    with open_connection(settings) as connection:
        try:
            applied = migrate(connection, settings.schema)
            if roles:
                create_roles(connection, settings.schema)
        except psycopg.Error as error:
            raise translate(error, settings) from error
        return applied


def reset_store(settings: Settings) -> list[str]:
    """Replace a store with an empty one, in one transaction; nothing else may be lost.

    Args:
        settings: how to reach it.

    Returns:
        What was applied: migrations and functions, with their numbers.

    Raises:
        SchemaError: tables, views, sequences or foreign keys of the caller would be lost.
        PermissionDenied: the role does not own the schema.
    """
    schema = settings.schema

    def reset(cursor: psycopg.Cursor) -> list[str]:
        before = set(cursor.execute(_DROPPABLE))
        cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        applied = _migrate(cursor, schema)
        if lost := sorted(name for (name,) in before - set(cursor.execute(_DROPPABLE))):
            raise SchemaError(
                schema,
                f"nothing was deleted: this is not part of the store in schema {schema!r}, and"
                f" would be dropped with it: {', '.join(lost)}. Drop it, or move it to another"
                " schema (ALTER TABLE … SET SCHEMA)",
            )
        return applied

    with open_connection(settings) as connection:
        try:
            _check_server(connection, schema)
            return _retry_change(connection, schema, reset)
        except psycopg.Error as error:
            raise translate(error, settings) from error


_DROPPABLE = """
SELECT format('%s.%I', relnamespace::regnamespace, relname)
FROM pg_catalog.pg_class
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relispartition
    AND relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
UNION ALL
SELECT format('%s of %s', conname, conrelid::regclass)
FROM pg_catalog.pg_constraint JOIN pg_catalog.pg_class ON pg_class.oid = conrelid
WHERE contype = 'f' AND conparentid = 0 AND NOT relispartition
"""
"""The tables, views, sequences and foreign keys of a database. A partition goes with its table."""

FUNCTION_SET = 1
"""The number of the functions in `schema/functions`: a release that changes them raises it."""

OLDEST_SERVER = 150000
"""The oldest PostgreSQL that a store runs on, as `server_version_num` has it."""

_PATIENCE = 30.0
"""Seconds that work on the schema waits for others, in all."""
_TRY = "3s"
"""How long it waits for one lock: for that long appends queue up behind it."""
_FUNCTIONS_TRY = "200ms"
"""How long functions wait for one lock. Readers and appends lock views and tables in another order
than these files: after a second (`deadlock_timeout`) one of them would fail, and not the files."""
_PAUSE = 1.0
"""Seconds between two tries at most, in which the appends that have queued up go first."""

_SCHEMA = files("indelible") / "postgres" / "schema"

T = TypeVar("T")

_ALREADY_THERE = (
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of `schema/migrations`."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What tells it from another file of the same number."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FunctionSet:
    """The files of `schema/functions`.

    Attributes:
        number: which set it is.
        texts: the files by their names, in the order in which they are applied.
    """

    number: int
    texts: Mapping[str, str]

    @property
    def checksums(self) -> dict[str, str]:
        """What tells its files from others."""
        return {name: sha256(text.encode()).hexdigest() for name, text in self.texts.items()}


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in order."""
    return tuple(
        Migration(int(name[:4]), name[5:], text) for name, text in sorted(_texts("migrations"))
    )


@cache
def function_set() -> FunctionSet:
    """The functions of this library."""
    # Functions are of the rows of views.
    texts = sorted(_texts("functions"), key=lambda item: (item[0] != "views", item[0]))
    return FunctionSet(FUNCTION_SET, dict(texts))


def _texts(folder: str) -> list[tuple[str, str]]:
    return [
        (file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in (_SCHEMA / folder).iterdir()
        if file.name.endswith(".sql")
    ]


def newest_version() -> int:
    """The schema version that this library works with."""
    return migrations()[-1].version


def check(schema: str) -> Operation[None]:
    """Check that the database has a store that this library works with.

    Raises:
        SchemaMissing, SchemaOutdated, SchemaTooNew: it has none, or an older or newer one.
        SchemaError: a copy, or somebody's hand, has broken it.
    """
    try:
        ((version, functions, problem, subject, number),) = yield Statement(
            "postgres.store_version"
        )
        if problem == "sequence behind":
            # A new epoch, which a copy made by logical replication needs, mends it.
            yield Statement("streams.epoch")
            ((version, functions, problem, subject, number),) = yield Statement(
                "postgres.store_version"
            )
    except SchemaMissing:
        ((is_unreleased,),) = yield Statement("postgres.unreleased_store")
        if is_unreleased:
            raise _unreleased(schema) from None
        raise
    newest = newest_version()
    if version is None:
        raise _broken(schema, problem, subject, number) if problem else SchemaMissing(schema)
    if version < newest:
        raise SchemaOutdated(schema, version, newest)
    if version > newest:
        raise SchemaTooNew(schema, version, newest)
    if functions is None or functions < FUNCTION_SET:
        raise SchemaOutdated(schema, functions or 0, FUNCTION_SET, "function set")
    if problem is not None:
        raise _broken(schema, problem, subject, number)


def _broken(schema: str, problem: str, subject: str, number: int) -> SchemaError:
    init = f"run `indelible store init --schema {schema}`"
    message = {
        "renamed": f"the functions of the store in schema {schema!r} work on {subject}: a schema"
        " was renamed, or copied and renamed. Give it its name again; for a copy, put the new name"
        " into the text of a dump (pg_dump --schema) before you restore it",
        "shared number": f"the store in schema {schema!r} is a copy of the one in schema"
        f" {subject!r}, and still shares the number {number} of its locks: {init}, which gives it"
        " another",
        "sequence settings": f"the sequence {subject} was altered, and readers would miss events:"
        f" {init}, or ALTER SEQUENCE {subject} INCREMENT 1 CACHE 1 NO CYCLE",
        "sequence behind": f"the sequence {subject} stands before {number}, which is in use already"
        " (logical replication, for one, does not carry sequences):"
        f" {init}, or SELECT setval('{subject}', {number})",
    }[problem]
    return SchemaError(schema, message)


def migrate(connection: psycopg.Connection, schema: str) -> list[str]:
    """Bring the store up to date, making it where there is none.

    All of it happens in one transaction under an advisory lock: a second process that does the
    same waits, and then finds nothing left to do. No lock is waited for longer than three seconds,
    since appends would queue up behind it: all is undone, and tried again for half a minute.

    A set of functions newer than the library's own stays.

    Args:
        connection: a connection as the role that is to own the store, outside a transaction.
        schema: where the store lives or is to live.

    Returns:
        What was applied: migrations and functions, with their numbers.

    Raises:
        SchemaTooNew: the tables are those of a newer library.
        SchemaError: the server is too old, the database is not in UTF-8, the schema holds
            something else, or a store that was made in another way; or others held the locks that
            it needs.
    """
    _check_server(connection, schema)
    return _retry_change(connection, schema, lambda cursor: _migrate(cursor, schema))


def _migrate(cursor: psycopg.Cursor, schema: str) -> list[str]:
    applied = _applied(cursor, schema)
    version = max(applied, default=0)
    if version > newest_version():
        raise SchemaTooNew(schema, version, newest_version())
    changes = []
    for migration in migrations():
        checksum = applied.get(migration.version)
        if checksum is None:
            _apply_migration(cursor, migration, schema)
            changes.append(f"{migration.version:04} {migration.name}")
        elif checksum != migration.checksum:
            raise _unreleased(schema)
    if _apply_functions(cursor, schema):
        changes.append(f"functions {FUNCTION_SET}")
    ((_, _, problem, subject, number),) = cursor.execute(
        statements(schema)["postgres.store_version"]
    )
    if problem == "renamed":
        raise _broken(schema, problem, subject, number)
    if problem is not None:
        cursor.execute(statements(schema)["postgres.repair_store"])
    return changes


def _apply_migration(cursor: psycopg.Cursor, migration: Migration, schema: str) -> None:
    try:
        cursor.execute(in_schema(migration.text, schema))
    except _ALREADY_THERE as error:
        raise _occupied(schema, error) from error
    cursor.execute(
        in_schema(
            "INSERT INTO indelible.migrations (version, name, checksum) VALUES (%s, %s, %s)",
            schema,
        ),
        [migration.version, migration.name, migration.checksum],
    )


def _apply_functions(cursor: psycopg.Cursor, schema: str) -> bool:
    """Apply the library's functions if they are newer than the store's."""
    library_set = function_set()
    cursor.execute(statements(schema)["postgres.function_set"])
    stored_number, checksums = cursor.fetchone() or (0, {})
    if stored_number > library_set.number:
        return False
    if stored_number == library_set.number:
        if checksums != library_set.checksums:
            raise _unreleased(schema)
        return False
    # The functions name each other: not each can be the first.
    cursor.execute(
        f"SET LOCAL check_function_bodies = off; SET LOCAL lock_timeout = '{_FUNCTIONS_TRY}'"
    )
    for name, checksum in library_set.checksums.items():
        # A view or a trigger that is replaced locks out those who use it: not without need.
        if checksum != checksums.get(name):
            cursor.execute(in_schema(library_set.texts[name], schema))
    # By default nobody but the owner may do anything; create_roles() grants what is needed.
    cursor.execute(in_schema("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC", schema))
    cursor.execute(
        statements(schema)["postgres.insert_function_set"],
        {"number": library_set.number, "checksums": json.dumps(library_set.checksums)},
    )
    return True


def create_roles(connection: psycopg.Connection, schema: str) -> None:
    """Make the roles SCHEMA_reader, _writer and _maintainer, or bring their rights up to date.

    Args:
        connection: a connection as a role that may make roles, outside a transaction.
        schema: where the store lives.

    Raises:
        SchemaError: others held the locks that it needs.
    """

    def create(cursor: psycopg.Cursor) -> None:
        cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
        cursor.execute(in_schema((_SCHEMA / "roles.sql").read_text("utf-8"), schema))

    _retry_change(connection, schema, create)


_PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    # Roles are of all databases, and advisory locks of one: the same may be done in another at this
    # moment. (The server has no code of its own for "tuple concurrently updated".)
    psycopg.errors.InternalError_,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)


def _retry_change(
    connection: psycopg.Connection, schema: str, change: Callable[[psycopg.Cursor], T]
) -> T:
    """Do work on the schema, in one transaction and with nobody else at it; again if need be."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(
                    statements(schema)["postgres.migration_lock"],
                    {"schema": schema, "timeout": _TRY},
                )
                return change(cursor)
        except _PASSING as error:
            if time.monotonic() + _PAUSE > deadline:
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    raise _locked_out(connection, schema) from error
                raise
        time.sleep(_PAUSE * random())  # noqa: S311 - no secret


def _locked_out(connection: psycopg.Connection, schema: str) -> SchemaError:
    holders = "; ".join(
        str(HeadHolder(pid, application, state, seconds, None))
        for pid, application, state, seconds in connection.execute(
            statements(schema)["postgres.migration_holders"], {"schema": schema}
        )
    )
    return SchemaError(
        schema,
        f"nothing was changed in schema {schema!r}, since others held its locks for"
        f" {_PATIENCE:g} s: {holders or 'nobody any more'}. Run it again when they have ended",
    )


def _check_server(connection: psycopg.Connection, schema: str) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise SchemaError(
            schema,
            f"the server is PostgreSQL {connection.info.parameter_status('server_version')}, and"
            " Indelible needs 15 or newer: use a newer server",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            schema,
            f"the database {connection.info.dbname!r} is in {encoding}, and events are UTF-8:"
            " use a database made with ENCODING 'UTF8'",
        )


def _applied(cursor: psycopg.Cursor, schema: str) -> dict[int, str]:
    """The checksums of the migrations that were applied, by version."""
    if cursor.execute(statements(schema)["postgres.unreleased_store"]).fetchone() == (True,):
        raise _unreleased(schema)
    cursor.execute(
        "SELECT to_regclass(%s)", [sql.Identifier(schema, "migrations").as_string(cursor)]
    )
    if cursor.fetchone() == (None,):
        return {}
    try:
        cursor.execute(in_schema("SELECT version, checksum FROM indelible.migrations", schema))
    except psycopg.errors.UndefinedColumn as error:
        raise _occupied(schema, error) from error
    return dict(cursor.fetchall())


def _unreleased(schema: str) -> SchemaError:
    return SchemaError(
        schema,
        f"the store in schema {schema!r} was made by a version of this library that was not"
        " released, with other tables or functions: make a new store in another schema (--schema),"
        " and move the events with `indelible log --json` of that version and"
        " `indelible store import` of this one; if you do not need its events, delete it with"
        f" `indelible store reset --schema {schema}`",
    )


def _occupied(schema: str, error: psycopg.Error) -> SchemaError:
    return SchemaError(
        schema,
        f"schema {schema!r} holds something that is no store ({error.diag.message_primary}):"
        " choose another name with --schema",
    )
