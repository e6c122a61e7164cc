"""Send statements that a session has prepared, without the work that a driver's cursor repeats.

A cursor parses the text of a statement, looks for converters of its parameters and sets up its
attributes each time. That takes as much processor time as the rest of a short statement. Here, a
cursor runs a statement once in a session, and prepares it. Afterwards it is sent by its name.

A cursor runs all statements on a connection that is lent to the caller. The caller may have changed
the encoding of the session, or may use the connection for a store in another schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg._queries import PostgresQuery
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format

from indelible.core.gc import without_gc
from indelible.core.operation import Rows, Statement

from .adapters import AsyncConnection, Connection, adapt_parameters

Cursor = psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]

_TEXT_TYPES = frozenset({str, int, type(None)})
"""The types of parameters that are sent as text."""


class Call(NamedTuple):
    """A statement that a cursor has run.

    Attributes:
        key: the key of the statement among those that the driver has prepared.
        order: the names of its parameters, by their numbers.
    """

    key: tuple[bytes, tuple[int, ...]]
    order: list[str]


Calls = dict[tuple[object, ...], Call]
"""The statements that can be sent without a cursor, by name and types of parameters."""


def note_call(calls: Calls, statement: Statement, text: str, cursor: Cursor) -> None:
    """Note a statement that a cursor has just run, if it can be sent without one from now on.

    Args:
        calls: the notes of the session.
        statement: the statement.
        text: its text.
        cursor: the cursor that has run it.
    """
    types = _types(statement.parameters)
    if _TEXT_TYPES.issuperset(types):
        query = PostgresQuery(Transformer(cursor))
        query.convert(text, adapt_parameters(statement))
        calls[statement.name, *types] = Call((query.query, query.types), query._order or [])


def direct_call(calls: Calls, statement: Statement, cursor: Cursor) -> PQGen[Rows] | None:
    """Return a generator that runs a statement, for the connection to wait for.

    Args:
        calls: the notes of the session.
        statement: the statement.
        cursor: the cursor whose converters read the rows.

    Returns:
        The generator. None if a cursor must run the statement: it is not prepared (any more), the
        driver would begin a transaction before it, or a parameter is not valid.
    """
    connection: Connection | AsyncConnection = cursor.connection
    parameters: Mapping[str, Any] = statement.parameters
    call = calls.get((statement.name, *_types(parameters)))
    if call is None or not connection.autocommit or connection._pipeline is not None:
        return None
    name = connection._prepared._names.get(call.key)
    values = [
        value.encode() if type(value) is str else None if value is None else b"%d" % value
        for value in map(parameters.__getitem__, call.order)
    ]
    # A cursor refuses a NUL character. Here, the text would end at it.
    if name is None or any(b"\0" in value for value in values if value):
        return None
    return _run(connection, cursor, name, values)


def _run(
    connection: Connection | AsyncConnection,
    cursor: Cursor,
    name: bytes,
    values: Sequence[bytes | None],
) -> PQGen[Rows]:
    pgconn = connection.pgconn
    pgconn.send_query_prepared(name, values, result_format=Format.BINARY)
    results = yield from execute(pgconn)
    # The server sends the rows before it commits: an error of the commit is a second result.
    for result in results:
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    result = results[0]
    transformer = cursor._tx
    transformer.set_pgresult(result)
    return without_gc(partial(transformer.load_rows, 0, result.ntuples, tuple))


def _types(parameters: Mapping[str, object]) -> tuple[type, ...]:
    return tuple(map(type, parameters.values()))
