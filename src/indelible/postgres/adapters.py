"""Convert parameters and rows between Python and PostgreSQL."""

from __future__ import annotations

from typing import Any, Final, cast

import psycopg
from psycopg import abc
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8

from indelible.core.operation import Statement
from indelible.errors import InvalidInput

from .binary import Column

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]


# Statements ------------------------------------------------------------------------------------


class _JsonLoader(Loader):
    """JSON as the bytes that it is: the codec reads it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data[1:])  # the first byte is the version of the jsonb format


_MOMENTS: Final = psycopg.adapters.types["timestamptz"].oid


class _ColumnDumper(Dumper):
    """A column as it is; the statement casts it to its type."""

    format = Format.BINARY

    def dump(self, column: Column) -> bytes:
        return column.binary


class _MomentLoaders:
    """Makes psycopg's own loaders of moments, in C, without a session that they would ask its zone.

    So moments are in UTC, whatever the time zone of the session. Used in place of a class.
    """

    format = Format.BINARY

    def __call__(self, oid: int, context: AdaptContext | None = None) -> abc.Loader:
        made = psycopg.adapters.get_loader(_MOMENTS, Format.BINARY)
        assert made is not None  # noqa: S101
        return made(oid, None)


_moment_loaders = cast("type[Loader]", _MomentLoaders())


def check_connection(connection: object) -> None:
    """Check what the caller gives to `EventStore.bind`."""
    if not isinstance(connection, psycopg.Connection):
        raise InvalidInput(
            f"bind takes a psycopg.Connection, not {type(connection).__name__}: Django's is"
            " connection.connection, SQLAlchemy's is"
            " session.connection().connection.driver_connection"
        )


def check_connection_async(connection: object) -> None:
    """Check what the caller gives to `AsyncEventStore.bind`."""
    if not isinstance(connection, psycopg.AsyncConnection):
        raise InvalidInput(
            f"bind takes a psycopg.AsyncConnection, not {type(connection).__name__}:"
            " SQLAlchemy's is (await session.connection()).get_raw_connection().driver_connection"
        )


def event_cursor(connection: Connection) -> psycopg.Cursor[Any]:
    """A cursor that reads events: JSON as bytes, moments in UTC."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    adapt(cursor)
    return cursor


def event_cursor_async(connection: AsyncConnection) -> psycopg.AsyncCursor[Any]:
    """A cursor that reads events, as `event_cursor` makes one."""
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    adapt(cursor)
    return cursor


def adapt(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    """Have a cursor read and write the types of the store."""
    cursor.format = Format.BINARY
    # On the cursor and not on the connection, which its owner uses for other things.
    cursor.adapters.register_loader("jsonb", _JsonLoader)
    cursor.adapters.register_loader("timestamptz", _moment_loaders)
    cursor.adapters.register_dumper(Column, _ColumnDumper)


def prepare(statement: Statement, prepares: object) -> bool:
    """Whether a statement is prepared in a session that prepares or does not."""
    # At the first call already: a process runs few statements, and each of them often.
    return statement.prepared and prepares not in (False, None)


def adapt_parameters(statement: Statement) -> dict[str, object]:
    """Give the parameters of a statement, each number with the same type."""
    # By itself psycopg sends the smallest type that holds a number, and each type would have a
    # prepared statement of its own.
    return {
        name: Int8(value) if type(value) is int else value
        for name, value in statement.parameters.items()
    }
