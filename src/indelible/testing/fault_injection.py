"""What goes wrong between an application and its store, brought about on purpose.

Nothing is made up: the rival's events are really appended, and so is what a lost connection leaves
unknown. The engine of the store sends each statement through a hook.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from indelible.core.operation import AppendStatement, Operation, Rows, Statement
from indelible.errors import ConnectionLost, InvalidInput
from indelible.events import ANY
from indelible.store import AsyncEventStore, EventStore
from indelible.streams.append import append
from indelible.streams.append_input import AppendSettings

S = TypeVar("S", EventStore, AsyncEventStore)

Interference = Callable[[AppendSettings, Statement], Operation[Rows]]


def with_rival(store: S, *events: Any, at: int = 1) -> S:
    """Give the same store with somebody who is faster once: an append meets a conflict.

    Just before an append is sent, these events are appended to its stream. If a version was
    expected, the append is refused with `WrongExpectedVersion`, as by a writer of another process.

    Args:
        store: the store; it stays as it is. It must not be in a transaction.
        events: what the other writer appends, instances of registered classes or `NewEvent`.
        at: before which append, counted from 1; whether it succeeds or not, and repetitions too.
            Those in a `transaction()` are not counted.

    Returns:
        A store of the same variant (sync or async), on the same connections. Do not close it.

    Raises:
        InvalidInput: no event, or `at` is no number from 1 on.

    Example:
        ```python
        store = with_rival(event_store, DeliveryPickedUp())
        handle(store, Cancel("late"))              # has to decide anew
        ```
    """
    if not events:
        raise InvalidInput("with_rival needs an event that the rival appends")

    def interfere(writing: AppendSettings, statement: Statement) -> Operation[Rows]:
        yield from append(
            writing, _stream_of(statement), list(events), expected=ANY, channel=None, metadata=None
        )
        return (yield statement)

    return _interfered(store, interfere, at)


def with_lost_connection(store: S, *, at: int = 1) -> S:
    """Give the same store with a connection that is lost once, after an append was committed.

    The append is stored, and `ConnectionLost` is raised in place of its result, with the ids of its
    events: so that it can be seen whether the caller's repetition stores them twice.

    Args:
        store: the store; it stays as it is. It must not be in a transaction.
        at: after which append, counted as for `with_rival`.

    Returns:
        A store of the same variant (sync or async), on the same connections. Do not close it.

    Raises:
        InvalidInput: `at` is no number from 1 on.
    """

    def interfere(writing: AppendSettings, statement: Statement) -> Operation[Rows]:
        yield statement
        raise ConnectionLost("the connection was lost after the commit, as the test wanted")

    return _interfered(store, interfere, at)


def _interfered(store: S, interfere: Interference, at: int) -> S:
    if at < 1:
        raise InvalidInput(f"at counts appends from 1 on, and is {at!r}")
    left = at

    def hook(statement: Statement) -> Operation[Rows]:
        nonlocal left
        if isinstance(statement, AppendStatement):
            left -= 1
            if left == 0:
                return (yield from interfere(store._append_settings, statement))
        return (yield statement)

    return type(store)(store._engine.with_hook(hook), store._append_settings, store._wakeup)


def _stream_of(statement: Statement) -> str:
    stream = statement.parameters.get("stream")
    if stream is None:
        stream = json.loads(str(statement.parameters["appends"]))[0]["stream"]
    return str(stream)
