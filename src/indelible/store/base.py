# Generated from base_async.py; do not edit.
"""What a store and a transaction have in common."""

from __future__ import annotations

from indelible.errors import InvalidInput
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine
from indelible.streams import append_input
from indelible.subscriptions.head_watcher import Wakeup

NOT_IN_A_TRANSACTION = (
    "a transaction ends, and what follows the log does not: call this on the store itself"
)


class StoreBase:
    """What the methods of an `EventStore` work with."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        writing: append_input.AppendSettings,
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
