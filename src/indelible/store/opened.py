"""What an open store holds, in both colours."""

from __future__ import annotations

from indelible import append
from indelible.errors import InvalidInput
from indelible.postgres import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, PoolEngine
from indelible.wakeup import Wakeup

NOT_IN_A_TRANSACTION = (
    "a transaction ends, and what follows the log does not: call this on the store itself"
)


class Opened:
    """What the methods of an `EventStore` work with."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        writing: append.Writing,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._wakeup = wakeup

    @property
    def _pool(self) -> PoolEngine:
        if not isinstance(self._engine, PoolEngine):
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        return self._engine


class AsyncOpened:
    """What the methods of an `AsyncEventStore` work with."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        writing: append.Writing,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._wakeup = wakeup

    @property
    def _pool(self) -> AsyncPoolEngine:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        return self._engine
