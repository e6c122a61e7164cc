"""Store methods for consumer groups."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.consumer_groups.group_async import AsyncGroup
from indelible.consumer_groups.types import GroupInfo
from indelible.postgres.transaction_async import AsyncBoundEngine

from .base_async import AsyncPooledStoreBase
from .transaction_store_async import AsyncTransactionStore


class AsyncGroupMethods(AsyncPooledStoreBase):
    """The methods of an `AsyncEventStore` for consumer groups."""

    def group(self, name: str) -> AsyncGroup[AsyncTransactionStore]:
        """Return a handle to a consumer group.

        Args:
            name: the name of the group, 1 to 255 characters. The group need not exist yet.

        Returns:
            The handle.

        Example:
            ```python
            group = store.group("mails")
            await group.create(Query(types=["OrderCreated"]))
            ```
        """
        return AsyncGroup(
            name, self._engine, self._wakeup.watch, self._append_settings.codec, self._bound
        )

    async def groups(self) -> list[GroupInfo]:
        """Return the status of all consumer groups, in order of name."""
        return await self._engine.run(admin_operations.infos(self._append_settings.codec))

    def _bound(self, engine: AsyncBoundEngine) -> AsyncTransactionStore:
        return AsyncTransactionStore(engine, self._append_settings)
