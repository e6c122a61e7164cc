"""Convert parameters and rows between Python and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import psycopg
from psycopg import abc
from psycopg._cursor_base import BaseCursor
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Dumper, Loader, Transformer
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8

from indelible.core.operation import EventStatement, Statement
from indelible.errors import InvalidInput

from .binary import Column

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]


# Statements ------------------------------------------------------------------------------------


class _JsonLoader(Loader):
    """Loads jsonb as bytes: the codec decodes them."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data[1:])  # the first byte is the version of the jsonb format


_MOMENTS: Final = psycopg.adapters.types["timestamptz"].oid


class _ColumnDumper(Dumper):
    """Sends a column as it is; the statement casts it to its type."""

    format = Format.BINARY

    def dump(self, column: Column) -> bytes:
        return column.binary


class _MomentLoaders:
    """Makes psycopg's own timestamp loaders, written in C, without a connection.

    They cannot look up the time zone of the session, so timestamps are always in UTC. An instance
    is used in place of a loader class.
    """

    format = Format.BINARY

    def __call__(self, oid: int, context: AdaptContext | None = None) -> abc.Loader:
        made = psycopg.adapters.get_loader(_MOMENTS, Format.BINARY)
        assert made is not None  # noqa: S101
        return made(oid, None)


_moment_loaders = cast("type[Loader]", _MomentLoaders())

moment_of: Callable[[bytes], datetime] = _MomentLoaders()(_MOMENTS).load
"""Convert a timestamp in the binary format of the database."""


def check_connection(connection: object) -> None:
    """Check the connection that the caller passes to `EventStore.bind`.

    Raises:
        InvalidInput: it is not a psycopg connection.
    """
    if not isinstance(connection, psycopg.Connection):
        raise InvalidInput(
            f"bind needs a psycopg.Connection, not {type(connection).__name__}: in Django pass"
            " connection.connection, in SQLAlchemy"
            " session.connection().connection.driver_connection"
        )


def check_connection_async(connection: object) -> None:
    """Check the connection that the caller passes to `AsyncEventStore.bind`.

    Raises:
        InvalidInput: it is not an async psycopg connection.
    """
    if not isinstance(connection, psycopg.AsyncConnection):
        raise InvalidInput(
            f"bind needs a psycopg.AsyncConnection, not {type(connection).__name__}: in SQLAlchemy"
            " pass (await session.connection()).get_raw_connection().driver_connection"
        )


def _of_store(loaders: Mapping[str, type[abc.Loader]]) -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(Column, _ColumnDumper)
    for kind, loader in loaders.items():
        adapters.register_loader(kind, loader)
    return adapters


_as_bytes = psycopg.adapters.get_loader(psycopg.adapters.types["bytea"].oid, Format.BINARY)
assert _as_bytes is not None  # noqa: S101
_VALUES = _of_store({"jsonb": _JsonLoader, "timestamptz": _moment_loaders})
_EVENTS = _of_store(dict.fromkeys(("jsonb", "timestamptz", "uuid"), _as_bytes))


def _adapt(cursor: BaseCursor[Any, Any], adapters: AdaptersMap) -> None:
    cursor.format = Format.BINARY
    # Not those of the connection: its owner may have registered others for their own statements.
    cursor._adapters = adapters
    cursor._tx = Transformer(cursor)


class Cursors:
    """The cursors of one connection. Making one takes longer than a statement, so they are kept.

    Attributes:
        values: the cursor for most statements: JSON as bytes, timestamps in UTC.
        events: the cursor for an `EventStatement`. It leaves ids, timestamps and JSON in the binary
            format of the database. `decode_rows` converts them together, in half the time.
    """

    def __init__(self, connection: Connection) -> None:
        self.values = psycopg.Cursor(connection, row_factory=tuple_row)
        self.events = psycopg.Cursor(connection, row_factory=tuple_row)
        _adapt(self.values, _VALUES)
        _adapt(self.events, _EVENTS)

    def of(self, statement: Statement) -> psycopg.Cursor[Any]:
        """Return the cursor for a statement."""
        return self.events if isinstance(statement, EventStatement) else self.values


class AsyncCursors:
    """The cursors of one async connection, as `Cursors`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.values = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        self.events = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        _adapt(self.values, _VALUES)
        _adapt(self.events, _EVENTS)

    def of(self, statement: Statement) -> psycopg.AsyncCursor[Any]:
        """Return the cursor for a statement."""
        return self.events if isinstance(statement, EventStatement) else self.values


def prepare(statement: Statement, prepares: object) -> bool:
    """Return whether to prepare a statement in this session."""
    # From the first call on: a process runs few different statements, and each of them often.
    return statement.prepared and prepares not in (False, None)


def adapt_parameters(statement: Statement) -> dict[str, object]:
    """Return the parameters of a statement, with all integers as bigint."""
    # By default psycopg sends the smallest type that holds an integer. Each combination of types
    # would need its own prepared statement.
    return {
        name: Int8(value) if type(value) is int else value
        for name, value in statement.parameters.items()
    }
