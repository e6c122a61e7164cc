"""Run other work while a connection waits for the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from selectors import DefaultSelector
from typing import TypeVar

from psycopg import pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from indelible.core.gc import gc_paused

T = TypeVar("T")

_NO_WORK = nullcontext()


class WaitSteps:
    """The part of a connection that runs steps of other work while it waits."""

    pgconn: pq.abc.PGconn
    _step: Callable[[], bool] | None = None

    def using_waits(self, step: Callable[[], bool] | None) -> AbstractContextManager[None]:
        """Run steps of other work in the block while the connection waits for the server.

        Args:
            step: does a part of the work in less than a millisecond, and returns whether there is
                more. None for no other work.
        """
        return _NO_WORK if step is None else self._using_waits(step)

    @contextmanager
    def _using_waits(self, step: Callable[[], bool]) -> Iterator[None]:
        self._step = step
        try:
            with gc_paused():
                yield
        finally:
            self._step = None

    def with_steps(self, gen: PQGen[T]) -> PQGen[T]:
        """Return psycopg's exchange with the server, with the steps of the block in its waits."""
        return gen if self._step is None else _with_steps(gen, self.pgconn.socket, self._step)


def _with_steps(gen: PQGen[T], socket: int, step: Callable[[], bool]) -> PQGen[T]:
    try:
        readiness = next(gen)
        while True:
            while step() and not _is_ready(socket, readiness):
                pass
            readiness = gen.send((yield readiness))
    except StopIteration as end:
        result: T = end.value
        return result


def _is_ready(socket: int, readiness: Wait) -> bool:
    with DefaultSelector() as selector:
        selector.register(socket, readiness)
        return bool(selector.select(0))
