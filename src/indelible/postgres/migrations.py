"""Create, check and migrate the schema of a store.

Tables change by numbered migrations, each applied once and in order. Functions, views and triggers
form one numbered set. If the set of the library is newer than that of the store, its changed files
are applied again. A library also works with a store whose set is newer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from random import random
from typing import TypeVar

import psycopg
from psycopg import sql

from indelible.core.operation import Operation, Statement
from indelible.errors import (
    PermissionDenied,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)
from indelible.events import HeadHolder

from .connection import open_connection
from .errors import place, translate
from .settings import Settings
from .statements import in_schema, statements


def migrate_store(settings: Settings, *, roles: bool = False) -> list[str]:
    """Create a store, or bring an existing one up to date.

    Args:
        settings: the settings of the store.
        roles: whether to create its roles too.

    Returns:
        The applied migrations and functions, with their numbers.
    """
    with open_connection(settings) as connection:
        with changing(settings, _AS_OWNER):
            applied = migrate(connection, settings.schema)
        if roles:
            with changing(settings, _AS_CREATOR_OF_ROLES):
                create_roles(connection, settings.schema)
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

    with changing(settings, _AS_OWNER), open_connection(settings) as connection:
        _check_server(connection, schema)
        return _retry_change(connection, schema, reset)


@contextmanager
def changing(settings: Settings, advice: str) -> Iterator[None]:
    """Translate the errors of a change; a role that may not make it gets the advice."""
    try:
        with _located(settings):
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermissionDenied(f"{error.diag.message_primary}: {advice}") from error
    except psycopg.Error as error:
        raise translate(error, settings) from error


@contextmanager
def _located(settings: Settings) -> Iterator[None]:
    """Begin the text of schema errors with the database, so that nobody deletes another store."""
    try:
        yield
    except SchemaError as error:
        error.add_location(place(settings))
        raise


_AS_OWNER = (
    "connect as the owner of the store; to create a store, as a role that may create schemas in the"
    " database"
)
_AS_CREATOR_OF_ROLES = "connect as the owner of the store, with the attribute CREATEROLE"


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
"""The number of the function set in `schema/functions`: a release that changes it raises it."""

OLDEST_SERVER = 150000
"""The oldest supported PostgreSQL version, as in `server_version_num`."""

_PATIENCE = 30.0
"""Seconds that a schema change waits for locks in total."""
_TRY = "3s"
"""The timeout for one lock: meanwhile appends queue up behind the waiting change."""
_FUNCTIONS_TRY = "200ms"
"""The timeout for one lock while functions are applied. Readers and appends lock views and tables
in another order than these files. After a second (`deadlock_timeout`) a reader or an append would
fail instead of the change."""
_PAUSE = 1.0
"""The longest pause between two attempts, in seconds, in which queued appends run first."""

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
        """The checksum that distinguishes the file from others of the same number."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FunctionSet:
    """The files of `schema/functions`.

    Attributes:
        number: the number of the set.
        texts: the files by name, in the order in which they are applied.
    """

    number: int
    texts: Mapping[str, str]

    @property
    def checksums(self) -> dict[str, str]:
        """The checksums of the files, by name."""
        return {name: sha256(text.encode()).hexdigest() for name, text in self.texts.items()}


@cache
def migrations() -> tuple[Migration, ...]:
    """Return all migrations in order."""
    return tuple(
        Migration(int(name[:4]), name[5:], text) for name, text in sorted(_texts("migrations"))
    )


@cache
def function_set() -> FunctionSet:
    """Return the function set of this library."""
    # Views first: functions use their row types.
    texts = sorted(_texts("functions"), key=lambda item: (item[0] != "views", item[0]))
    return FunctionSet(FUNCTION_SET, dict(texts))


def _texts(folder: str) -> list[tuple[str, str]]:
    return [
        (file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in (_SCHEMA / folder).iterdir()
        if file.name.endswith(".sql")
    ]


def newest_version() -> int:
    """Return the schema version that this library needs."""
    return migrations()[-1].version


def check(settings: Settings) -> Operation[None]:
    """Check that the database has a store that this library can use.

    Raises:
        SchemaMissing, SchemaOutdated, SchemaTooNew: there is no store, or an older or newer one.
        SchemaError: the store was damaged by copying or by manual changes.
    """
    with _located(settings):
        yield from _check(settings.schema)


def _check(schema: str) -> Operation[None]:
    try:
        ((version, functions, problem, subject, number),) = yield Statement(
            "postgres.store_version"
        )
        if problem == "sequence behind":
            # A new epoch repairs it; a copy made by logical replication needs one anyway.
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
        "renamed": f"the functions of the store in schema {schema!r} use {subject}: the schema"
        " was renamed, or copied and renamed. Restore its old name. For a copy, put the new name"
        " into the text of a dump (pg_dump --schema) before you restore it",
        "shared number": f"the store in schema {schema!r} is a copy of the one in schema"
        f" {subject!r} and still uses the same lock number {number}: {init} to give it its own",
        "sequence settings": f"the sequence {subject} was altered, so readers would miss events:"
        f" {init}, or ALTER SEQUENCE {subject} INCREMENT 1 CACHE 1 NO CYCLE",
        "sequence behind": f"the sequence {subject} is behind {number}, which is already in use"
        " (for example, logical replication does not copy sequences):"
        f" {init}, or SELECT setval('{subject}', {number})",
    }[problem]
    return SchemaError(schema, message)


def migrate(connection: psycopg.Connection, schema: str) -> list[str]:
    """Create the store, or bring it up to date.

    All changes run in one transaction under an advisory lock. A second process that migrates waits,
    and then finds nothing to do. A change waits at most three seconds for a lock, since appends
    queue up behind it. Then the transaction is rolled back and tried again, for up to half a
    minute.

    A function set that is newer than that of the library is kept.

    Args:
        connection: a connection outside a transaction, as the role that owns or will own the store.
        schema: the schema of the store.

    Returns:
        The applied migrations and functions, with their numbers.

    Raises:
        SchemaTooNew: the tables belong to a newer library.
        SchemaError: the server is too old, the database is not in UTF-8, or other sessions held the
            locks that are needed. Or the schema contains other tables, or a store of an unreleased
            version.
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
    # The functions call each other, so bodies cannot be checked in any order.
    cursor.execute(
        f"SET LOCAL check_function_bodies = off; SET LOCAL lock_timeout = '{_FUNCTIONS_TRY}'"
    )
    for name, checksum in library_set.checksums.items():
        # Replacing a view or a trigger locks out its users, so unchanged files are skipped.
        if checksum != checksums.get(name):
            cursor.execute(in_schema(library_set.texts[name], schema))
    # By default only the owner has rights; create_roles() grants the roles theirs.
    cursor.execute(in_schema("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC", schema))
    cursor.execute(
        statements(schema)["postgres.insert_function_set"],
        {"number": library_set.number, "checksums": json.dumps(library_set.checksums)},
    )
    return True


def create_roles(connection: psycopg.Connection, schema: str) -> None:
    """Create the roles SCHEMA_reader, _writer and _maintainer, or bring their rights up to date.

    Args:
        connection: a connection outside a transaction, as a role that may create roles.
        schema: the schema of the store.

    Raises:
        SchemaError: other sessions held the locks that are needed.
    """

    def create(cursor: psycopg.Cursor) -> None:
        cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
        cursor.execute(in_schema((_SCHEMA / "roles.sql").read_text("utf-8"), schema))

    _retry_change(connection, schema, create)


_PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    # All databases share the roles, but each has its own advisory locks: a migration of another
    # database may create the same roles now. (The server has no error code for "tuple concurrently
    # updated".)
    psycopg.errors.InternalError_,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)


def _retry_change(
    connection: psycopg.Connection, schema: str, change: Callable[[psycopg.Cursor], T]
) -> T:
    """Change the schema in one transaction under the migration lock; retry transient errors."""
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
        f"cannot change schema {schema!r}: other sessions held its locks for {_PATIENCE:g} s"
        f" ({holders or 'all have ended now'}), and nothing was changed. Run it again when they"
        " have ended",
    )


def _check_server(connection: psycopg.Connection, schema: str) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise SchemaError(
            schema,
            f"the server is PostgreSQL {connection.info.parameter_status('server_version')}, but"
            " Indelible needs 15 or newer: use a newer server",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            schema,
            f"the encoding of the database {connection.info.dbname!r} is {encoding}, but events"
            " are UTF-8: use a database that was created with ENCODING 'UTF8'",
        )


def _applied(cursor: psycopg.Cursor, schema: str) -> dict[int, str]:
    """Return the checksums of the applied migrations, by version."""
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
        f"the store in schema {schema!r} was created by a version of this library that was not"
        " released, with other tables or functions. Create a new store in another schema"
        " (--schema), and move the events with `indelible log --json` of that version and"
        " `indelible store import` of this one. If you do not need its events, delete it with"
        f" `indelible store reset --schema {schema}`",
    )


def _occupied(schema: str, error: psycopg.Error) -> SchemaError:
    return SchemaError(
        schema,
        f"schema {schema!r} contains objects that are not a store ({error.diag.message_primary}):"
        " choose another name with --schema",
    )
