"""Consumer groups: methods of the store."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.consumer_groups.group_async import AsyncGroup
from indelible.consumer_groups.types import GroupInfo
from indelible.postgres.transaction_async import AsyncBoundEngine

from .base_async import AsyncPooledStoreBase
from .transaction_store_async import AsyncTransactionStore


class AsyncGroupMethods(AsyncPooledStoreBase):
    """The part of an `AsyncEventStore` that has consumer groups."""

    def group(self, name: str) -> AsyncGroup[AsyncTransactionStore]:
        """Return a handle to a consumer group.

        Args:
            name: its name, 1 to 255 characters; the group need not exist yet.

        Returns:
            The group.
        """
        return AsyncGroup(
            name, self._engine, self._wakeup.watch, self._append_settings.codec, self._bound
        )

    async def groups(self) -> list[GroupInfo]:
        """Ask how all consumer groups stand, in order of name."""
        return await self._engine.run(admin_operations.infos(self._append_settings.codec))

    def _bound(self, engine: AsyncBoundEngine) -> AsyncTransactionStore:
        return AsyncTransactionStore(engine, self._append_settings)
