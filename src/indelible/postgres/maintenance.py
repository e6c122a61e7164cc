"""Check whether a store exists, and delete a store."""

from __future__ import annotations

import psycopg
from psycopg import sql

from .connection import open_connection
from .errors import translate
from .settings import Settings


def has_store(settings: Settings) -> bool:
    """Return whether the schema contains a store of any version.

    A table `migrations` alone is not enough: other applications have such a table too.

    Raises:
        DatabaseUnreachable: no connection could be opened.
    """
    with open_connection(settings) as connection:
        row = connection.execute(
            "SELECT to_regclass(format('%%I.migrations', %(schema)s::text)) IS NOT NULL"
            " AND to_regclass(format('%%I.events_position', %(schema)s::text)) IS NOT NULL",
            {"schema": settings.schema},
        ).fetchone()
        return bool(row and row[0])


def drop_store(settings: Settings) -> None:
    """Delete the schema of a store with all events and all other objects in it.

    Raises:
        PermissionDenied: the role does not own the schema.
        LockTimeout: another session uses the store.
    """
    with open_connection(settings) as connection:
        try:
            connection.execute(
                sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(settings.schema))
            )
        except psycopg.Error as error:
            raise translate(error, settings) from error
