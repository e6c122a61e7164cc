"""The store's schema in the database: make it, bring it up to date, check it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import LiteralString

import psycopg
from psycopg import sql

from .errors import (
    InvalidInput,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)
from .plan import Call, Plan

OLDEST_SERVER = 150000
"""The oldest PostgreSQL that a store runs on, as `server_version_num` has it."""

_ALREADY_THERE = (
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateFunction,
)

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of `sql/migrations`."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What tells it from another file of the same number."""
        return sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in order."""
    found = []
    for file in (files(__package__) / "sql" / "migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


def newest_version() -> int:
    """The schema version that this library works with."""
    return migrations()[-1].version


def check_schema_name(name: object) -> str:
    """Check the name of a schema.

    Raises:
        InvalidInput: PostgreSQL would not take it, or would take it for something else.
    """
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or name.startswith("pg_")
        or name == "information_schema"
    ):
        raise InvalidInput(
            "the name of a schema must have 1 to 48 characters of a-z, 0-9 and _, start with no"
            f" digit and not with pg_; {name!r} does not"
        )
    return name


def in_schema(text: str, schema: str) -> LiteralString:
    """Put the name of a schema where the text of a statement says `indelible.`.

    Args:
        text: the text of a file of `sql/`.
        schema: a name that `check_schema_name` has passed.
    """
    quoted = sql.Identifier(schema).as_string(None)
    text = re.sub(r"\bSCHEMA (IF NOT EXISTS )?indelible\b", rf"SCHEMA \1{quoted}", text)
    # As good as literal: it comes from the package's own files, and the name has been checked.
    return re.sub(r"\bindelible\.", f"{quoted}.", text)


@cache
def statements(schema: str) -> Mapping[str, LiteralString]:
    """The statements of `sql/` by their names, for one schema."""
    return {
        file.name.removesuffix(".sql"): in_schema(file.read_text("utf-8"), schema)
        for file in (files(__package__) / "sql").iterdir()
        if file.name.endswith(".sql")
    }


def check(schema: str) -> Plan[None]:
    """Check that the database has a store that this library works with.

    Raises:
        SchemaMissing, SchemaOutdated, SchemaTooNew: it has none, or an older or newer one.
    """
    ((found,),) = yield Call("schema_version")
    wanted = newest_version()
    if found is None:
        raise SchemaMissing(schema)
    if found < wanted:
        raise SchemaOutdated(schema, found, wanted)
    if found > wanted:
        raise SchemaTooNew(schema, found, wanted)


def migrate(connection: psycopg.Connection, schema: str) -> list[Migration]:
    """Bring the store up to date, making it where there is none.

    All of it happens in one transaction under an advisory lock: a second process that does the
    same waits, and then finds nothing left to do.

    Args:
        connection: a connection as the role that is to own the store, outside a transaction.
        schema: where the store lives or is to live.

    Returns:
        The migrations that were applied.

    Raises:
        SchemaTooNew: the store was made by a newer library.
        SchemaError: the server is too old, the database is not in UTF-8, the schema holds
            something else, or a store that was made in another way.
    """
    _check_server(connection, schema)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('indelible migrations ' || %s, 0))",
            [schema],
        )
        applied = _applied(cursor, schema)
        found = max(applied, default=0)
        if found > newest_version():
            raise SchemaTooNew(schema, found, newest_version())
        _check_applied(applied, schema)
        pending = [migration for migration in migrations() if migration.version > found]
        for migration in pending:
            try:
                cursor.execute(in_schema(migration.text, schema))
            except _ALREADY_THERE as error:
                raise _occupied(schema, error) from error
            cursor.execute(
                in_schema(
                    "INSERT INTO indelible.migrations (version, name, checksum)"
                    " VALUES (%s, %s, %s)",
                    schema,
                ),
                [migration.version, migration.name, migration.checksum],
            )
    return pending


def create_roles(connection: psycopg.Connection, schema: str) -> None:
    """Make the roles SCHEMA_reader, _writer and _maintainer, or bring their rights up to date.

    Args:
        connection: a connection as a role that may make roles, outside a transaction.
        schema: where the store lives.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
        cursor.execute(statements(schema)["roles"])


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


def _applied(cursor: psycopg.Cursor, schema: str) -> dict[int, str | None]:
    """The checksums of the migrations that were applied, by version."""
    cursor.execute(
        "SELECT to_regclass(%s)", [sql.Identifier(schema, "migrations").as_string(cursor)]
    )
    if cursor.fetchone() == (None,):
        return {}
    try:
        cursor.execute(
            in_schema(
                # Stores that were made before checksums were noted have no such column.
                "SELECT version, to_jsonb(applied) ->> 'checksum'"
                " FROM indelible.migrations AS applied",
                schema,
            )
        )
    except psycopg.errors.UndefinedColumn as error:
        raise _occupied(schema, error) from error
    return dict(cursor.fetchall())


def _check_applied(applied: Mapping[int, str | None], schema: str) -> None:
    for migration in migrations():
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaError(
                schema,
                f"the store in schema {schema!r} was made by a version of this library that was not"
                f" released, whose migration {migration.version} ({migration.name}) was another"
                " one: make a new store in another schema (--schema), and move the events with"
                " `indelible log --json` of that version and `indelible import` of this one",
            )


def _occupied(schema: str, error: psycopg.Error) -> SchemaError:
    return SchemaError(
        schema,
        f"schema {schema!r} holds something that is no store ({error.diag.message_primary}):"
        " choose another name with --schema",
    )
