"""Base classes of the store's methods."""

from __future__ import annotations

from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.streams.append_input import AppendSettings
from indelible.subscriptions.head_watcher import Wakeup


class AsyncStoreBase:
    """The base of methods that stores and transaction stores share: engine, append settings."""

    def __init__(self, engine: AsyncPoolEngine | AsyncBoundEngine, writing: AppendSettings) -> None:
        self._engine = engine
        self._append_settings = writing


class AsyncPooledStoreBase(AsyncStoreBase):
    """The base of methods that only stores have: a pooled engine and the wakeup of readers."""

    _engine: AsyncPoolEngine

    def __init__(self, engine: AsyncPoolEngine, writing: AppendSettings, wakeup: Wakeup) -> None:
        super().__init__(engine, writing)
        self._wakeup = wakeup
