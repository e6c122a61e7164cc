"""Check whether a store exists, and where its role creates objects; make optional indexes."""

from __future__ import annotations

from .connection import PooledConnection, open_connection
from .migrations import changing
from .settings import Settings
from .statements import statements


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


_CORRELATION_INDEXES = ("events_correlation_index", "archived_events_correlation_index")


def index_correlation(settings: Settings) -> list[str]:
    """Make the indexes on the correlation of events, while others read and append.

    What an earlier attempt left incomplete is made again.

    Returns:
        The names of the indexes that were made.

    Raises:
        PermissionDenied: the role does not own the store's tables.
    """
    with changing(settings, _AS_OWNER_OF_TABLES), open_connection(settings) as connection:
        found = _correlation_indexes(connection, settings.schema)
        made = [name for name in _CORRELATION_INDEXES if not found.get(name)]
        for name in made:
            if name in found:
                connection.execute(statements(settings.schema)[f"postgres.drop_{name}"])
            connection.execute(statements(settings.schema)[f"postgres.index_{name}"])
        return made


def drop_correlation_index(settings: Settings) -> list[str]:
    """Drop the indexes on the correlation of events, while others read and append.

    Returns:
        The names of the indexes that were dropped.

    Raises:
        PermissionDenied: the role does not own the store's tables.
    """
    with changing(settings, _AS_OWNER_OF_TABLES), open_connection(settings) as connection:
        found = _correlation_indexes(connection, settings.schema)
        for name in found:
            connection.execute(statements(settings.schema)[f"postgres.drop_{name}"])
        return list(found)


_AS_OWNER_OF_TABLES = "run this command as the role that owns the tables of the store"


def _correlation_indexes(connection: PooledConnection, schema: str) -> dict[str, bool]:
    """The indexes that exist, and whether each is complete."""
    # Their statements wait for all transactions that have begun earlier, however long.
    connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
    rows = connection.execute(
        statements(schema)["postgres.correlation_indexes"], {"schema": schema}
    ).fetchall()
    return {str(name): bool(is_valid) for name, is_valid in rows}
