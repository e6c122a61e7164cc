"""What the methods of a store work with."""

from __future__ import annotations

from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.streams.append_input import AppendSettings
from indelible.subscriptions.head_watcher import Wakeup


class AsyncStoreBase:
    """What the methods work with that a store and a transaction have in common."""

    def __init__(self, engine: AsyncPoolEngine | AsyncBoundEngine, writing: AppendSettings) -> None:
        self._engine = engine
        self._append_settings = writing


class AsyncPooledStoreBase(AsyncStoreBase):
    """What the methods of a store alone work with: connections of its own, its watch on the log."""

    _engine: AsyncPoolEngine

    def __init__(self, engine: AsyncPoolEngine, writing: AppendSettings, wakeup: Wakeup) -> None:
        super().__init__(engine, writing)
        self._wakeup = wakeup
