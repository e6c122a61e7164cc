"""How operations run.

An operation is a generator that yields statements and receives their rows; it holds the rules and
does no I/O, so that the sync and the async API run the same one (sans-IO, as in h11 and httpx). It
returns its result.
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
        name: `PACKAGE.NAME`, the block of a package's `statements.sql`.
        parameters: its named parameters.
        prepared: whether to prepare it. Not for statements whose best query plan depends on how
            many rows are asked for.
    """

    name: str
    parameters: Mapping[str, object] = {}
    prepared: bool = True


class AppendStatement(Statement, frozen=True):
    """A statement that appends: readers are woken, and an unknown outcome is reported as such.

    Attributes:
        writes: what it appends, stream by stream, for inline projections.
        ordering_key: appends with one key are sent in the order in which they came, and may share
            a batch with others, each with an outcome of its own. None: it is sent on its own.
        survives_conflicts: whether it is repeated if the database undid its transaction.
    """

    writes: Sequence[StreamWrite] = ()
    ordering_key: str | None = None
    survives_conflicts: bool = True


Operation = Generator[Statement, Rows, T]

StatementHook = Callable[[Statement], Operation[Rows]]
"""Called with a statement; gives the operation to run in its place, which returns its rows."""


def run(operation: Operation[T], execute: Callable[[Statement], Rows]) -> T:
    """Run an operation to its end.

    Args:
        operation: the operation.
        execute: runs one statement; an error that it raises is thrown into the operation.

    Returns:
        What the operation returns.
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
    """Run an operation to its end, as `run` does, awaiting each statement."""
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
