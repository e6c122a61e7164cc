"""Fault injection: version conflicts and lost connections in tests.

The faults are real: the events of the rival are appended to the store, and so are the events whose
result is lost. A hook of the store's engine sees each statement.
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
    """Return a store in which another writer appends first, once.

    Just before an append is sent, the events are appended to its stream. If the append expects a
    version, it fails with `WrongExpectedVersion`, as with a writer in another process.

    Args:
        store: the store, which is not changed. It must not be in a transaction.
        events: the events of the other writer: instances of registered classes, or `NewEvent`.
        at: the number of the append that meets the conflict, counted from 1. Failed appends and
            retries count. Appends in a `transaction()` do not count.

    Returns:
        A store of the same variant (sync or async), on the same connections. Do not close it.

    Raises:
        InvalidInput: no event was passed, or `at` is less than 1.

    Example:
        ```python
        store = with_rival(event_store, DeliveryPickedUp())
        handle(store, Cancel("late"))  # meets a conflict and must decide again
        ```
    """
    if not events:
        raise InvalidInput("with_rival needs an event for the other writer to append: pass one")

    def interfere(writing: AppendSettings, statement: Statement) -> Operation[Rows]:
        yield from append(
            writing, _stream_of(statement), list(events), expected=ANY, channel=None, metadata=None
        )
        return (yield statement)

    return _interfered(store, interfere, at)


def with_lost_connection(store: S, *, at: int = 1) -> S:
    """Return a store whose connection is lost once, after an append was committed.

    The append is stored, but the caller gets `ConnectionLost` with the event ids instead of the
    result. Use it to test that a retry of the caller stores nothing twice.

    Args:
        store: the store, which is not changed. It must not be in a transaction.
        at: the number of the append after which the connection is lost, counted as for
            `with_rival`.

    Returns:
        A store of the same variant (sync or async), on the same connections. Do not close it.

    Raises:
        InvalidInput: `at` is less than 1.

    Example:
        ```python
        store = with_lost_connection(event_store)
        place_order(store, "order-17")  # retries with the same event ids
        assert len(list(event_store.read("order-17"))) == 1
        ```
    """

    def interfere(writing: AppendSettings, statement: Statement) -> Operation[Rows]:
        yield statement
        raise ConnectionLost("the connection was lost after the commit, as this test requested")

    return _interfered(store, interfere, at)


def _interfered(store: S, interfere: Interference, at: int) -> S:
    if at < 1:
        raise InvalidInput(f"at must be at least 1, the number of an append, not {at!r}")
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
