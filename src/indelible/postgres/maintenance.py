"""Find out whether there is a store, and what its role does beside it."""

from __future__ import annotations

from .connection import open_connection
from .settings import Settings


def has_store(settings: Settings) -> bool:
    """Whether the schema holds a store, of whatever version.

    A table `migrations` alone is no sign of one: other applications have such a table, too.

    Raises:
        DatabaseUnreachable: no connection could be made.
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
