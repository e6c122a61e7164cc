"""Check whether a store exists, and where its role creates objects."""

from __future__ import annotations

from .connection import open_connection
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


def role_that_creates_in_store(settings: Settings) -> str | None:
    """The role of the settings if what it creates without a schema goes to the store's schema."""
    with open_connection(settings) as connection:
        row = connection.execute(
            "SELECT current_user WHERE current_schema() = %(schema)s", {"schema": settings.schema}
        ).fetchone()
        return row and row[0]
