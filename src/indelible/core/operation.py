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
        statement: the name of a file in `sql/`, without its ending.
        parameters: its named parameters.
        prepared: whether to keep its plan. Not for statements whose best plan depends on how many
            rows are asked for.
        appends: whether it appends events, so that readers are woken, and whoever called is told
            when its outcome is not known.
        lane: where it may be sent together with others, each with an outcome of its own: those of
            one lane go one after the other, in the order in which they came. None: it goes alone.
        survives_conflicts: whether it is repeated where the database undid its transaction.
        parts: what it appends, stream by stream, for inline projections.
    """

    statement: str
    parameters: Mapping[str, object] = {}
    prepared: bool = True
    appends: bool = False
    lane: str | None = None
    survives_conflicts: bool = True
    parts: Sequence[StreamWrite] = ()


Operation = Generator[Statement, Rows, T]


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
