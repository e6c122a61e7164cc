# Generated from groups_async.py; do not edit.
"""Consumer groups: methods of the store."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.consumer_groups.group import Group
from indelible.consumer_groups.types import GroupInfo
from indelible.postgres.transaction import BoundEngine

from .base import PooledStoreBase
from .transaction_store import TransactionStore


class GroupMethods(PooledStoreBase):
    """The part of an `EventStore` that has consumer groups."""

    def group(self, name: str) -> Group[TransactionStore]:
        """Return a handle to a consumer group.

        Args:
            name: its name, 1 to 255 characters; the group need not exist yet.

        Returns:
            The group.
        """
        return Group(
            name, self._engine, self._wakeup.watch, self._append_settings.codec, self._bound
        )

    def groups(self) -> list[GroupInfo]:
        """Ask how all consumer groups stand, in order of name."""
        return self._engine.run(admin_operations.infos(self._append_settings.codec))

    def _bound(self, engine: BoundEngine) -> TransactionStore:
        return TransactionStore(engine, self._append_settings)
