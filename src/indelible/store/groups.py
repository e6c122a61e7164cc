# Generated from groups_async.py; do not edit.
"""Store methods for consumer groups."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.consumer_groups.group import Group
from indelible.consumer_groups.types import GroupInfo
from indelible.postgres.transaction import BoundEngine

from .base import PooledStoreBase
from .transaction_store import TransactionStore


class GroupMethods(PooledStoreBase):
    """The methods of an `EventStore` for consumer groups."""

    def group(self, name: str) -> Group[TransactionStore]:
        """Return a handle to a consumer group.

        Args:
            name: the name of the group, 1 to 255 characters. The group need not exist yet.

        Returns:
            The handle.

        Example:
            ```python
            group = store.group("mails")
            group.create(Query(types=["OrderCreated"]))
            ```
        """
        return Group(
            name, self._engine, self._wakeup.watch, self._append_settings.codec, self._bound
        )

    def groups(self) -> list[GroupInfo]:
        """Return the status of all consumer groups, in order of name."""
        return self._engine.run(admin_operations.infos(self._append_settings.codec))

    def _bound(self, engine: BoundEngine) -> TransactionStore:
        return TransactionStore(engine, self._append_settings)
