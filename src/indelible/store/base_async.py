"""What a store and a transaction have in common."""

from __future__ import annotations

from indelible.errors import InvalidInput
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.streams import append_input
from indelible.subscriptions.head_watcher import Wakeup

NOT_IN_A_TRANSACTION = (
    "a transaction ends, and what follows the log does not: call this on the store itself"
)


class AsyncStoreBase:
    """What the methods of an `AsyncEventStore` work with."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        writing: append_input.AppendSettings,
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
