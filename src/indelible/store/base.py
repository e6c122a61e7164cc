# Generated from base_async.py; do not edit.
"""Base classes of the store's methods."""

from __future__ import annotations

from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine
from indelible.streams.append_input import AppendSettings
from indelible.subscriptions.head_watcher import Wakeup


class StoreBase:
    """The base of methods that stores and transaction stores share: engine, append settings."""

    def __init__(self, engine: PoolEngine | BoundEngine, writing: AppendSettings) -> None:
        self._engine = engine
        self._append_settings = writing


class PooledStoreBase(StoreBase):
    """The base of methods that only stores have: a pooled engine and the wakeup of readers."""

    _engine: PoolEngine

    def __init__(self, engine: PoolEngine, writing: AppendSettings, wakeup: Wakeup) -> None:
        super().__init__(engine, writing)
        self._wakeup = wakeup
