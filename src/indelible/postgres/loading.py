"""Waits that are used: other work is done while the server does its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any, TypeVar

from psycopg.abc import PQGen

from .connections import PooledConnection

T = TypeVar("T")


class LoadingConnection(PooledConnection):
    """A connection of the pool whose waits can be used."""

    _step: Callable[[], bool] | None = None

    @contextmanager
    def using_waits(self, step: Callable[[], bool]) -> Iterator[None]:
        """Take steps of other work wherever the server is waited for.

        Args:
            step: does some of it, in less than a millisecond; tells whether there is more.
        """
        self._step = step
        try:
            yield
        finally:
            self._step = None

    def wait(self, gen: PQGen[T], *arguments: Any, **named: Any) -> T:
        """Wait for the server, as psycopg does for each exchange with it."""
        if self._step is not None:
            gen = _with_steps(gen, self.fileno(), self._step)
        return super().wait(gen, *arguments, **named)


def _with_steps(gen: PQGen[T], socket: int, step: Callable[[], bool]) -> PQGen[T]:
    with DefaultSelector() as selector:
        selector.register(socket, EVENT_READ | EVENT_WRITE)
        try:
            wanted = next(gen)
            while True:
                while not any(ready & wanted for _, ready in selector.select(0)) and step():
                    pass
                wanted = gen.send((yield wanted))
        except StopIteration as end:
            result: T = end.value
            return result
