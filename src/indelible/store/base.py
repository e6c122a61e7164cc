# Generated from base_async.py; do not edit.
"""What the methods of a store work with."""

from __future__ import annotations

from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine
from indelible.streams.append_input import AppendSettings
from indelible.subscriptions.head_watcher import Wakeup


class StoreBase:
    """What the methods work with that a store and a transaction have in common."""

    def __init__(self, engine: PoolEngine | BoundEngine, writing: AppendSettings) -> None:
        self._engine = engine
        self._append_settings = writing


class PooledStoreBase(StoreBase):
    """What the methods of a store alone work with: connections of its own, its watch on the log."""

    _engine: PoolEngine

    def __init__(self, engine: PoolEngine, writing: AppendSettings, wakeup: Wakeup) -> None:
        super().__init__(engine, writing)
        self._wakeup = wakeup
