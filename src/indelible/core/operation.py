"""Operations, and how an engine runs them.

An operation is a generator. It yields statements, receives their rows, and returns its result. It
contains the rules but does no I/O (sans-IO, as in h11 and httpx). So the sync and the async API run
the same operation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from .stream_write import StreamWrite

T = TypeVar("T")

Rows = list[tuple[Any, ...]]


class Statement(msgspec.Struct, frozen=True):
    """One statement to run.

    Attributes:
        name: `PACKAGE.NAME`: a block of the package's `statements.sql`.
        parameters: its named parameters.
        prepared: whether to prepare it. False if the best query plan depends on the limit of rows.
    """

    name: str
    parameters: Mapping[str, object] = {}
    prepared: bool = True


class EventStatement(Statement, frozen=True):
    """A statement that returns stored events, for `indelible.streams.rows.decode_rows`."""


class AppendStatement(Statement, frozen=True):
    """A statement that appends: the engine wakes readers, and reports an unknown outcome as such.

    Attributes:
        writes: the appended events, stream by stream, for inline projections.
        ordering_key: appends with the same key are sent in order. An append with a key may share a
            batch with others, and still gets its own outcome. None sends it on its own.
        survives_conflicts: whether the engine retries it if the database rolls its transaction
            back.
    """

    writes: Sequence[StreamWrite] = ()
    ordering_key: str | None = None
    survives_conflicts: bool = True


Operation = Generator[Statement, Rows, T]

StatementHook = Callable[[Statement], Operation[Rows]]
"""A function that takes a statement, and returns the operation to run instead of it. That operation
returns the rows of the statement."""


def run(operation: Operation[T], execute: Callable[[Statement], Rows]) -> T:
    """Run an operation to its end.

    Args:
        operation: the operation.
        execute: runs one statement. If it raises an error, the error is thrown into the operation.

    Returns:
        The result of the operation.
    """
    try:
        statement = next(operation)
        while True:
            try:
                rows = execute(statement)
            except Exception as error:
                statement = operation.throw(error)
            else:
                statement = operation.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def run_async(operation: Operation[T], execute: Callable[[Statement], Awaitable[Rows]]) -> T:
    """Run an operation to its end, as `run` does, and await each statement."""
    try:
        statement = next(operation)
        while True:
            try:
                rows = await execute(statement)
            except Exception as error:
                statement = operation.throw(error)
            else:
                statement = operation.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result
