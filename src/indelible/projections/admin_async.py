"""Operate a projection: status, skipped events, restart, drop."""

from __future__ import annotations

from indelible.core.validation import validate_name
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from . import admin_operations
from .types import ProjectionStatus, SkippedEvent


class AsyncProjectionAdmin:
    """A projection as an operator sees it, by its name: its code is not needed.

    Get one with `AsyncEventStore.projection`.

    Example:
        ```python
        for event in await store.projection("orders").parked():
            print(event.position, event.error)
        ```
    """

    def __init__(self, name: str, engine: AsyncPoolEngine | AsyncBoundEngine) -> None:
        self.name: str = validate_name("projection", name)
        """Its name."""
        self._engine = engine

    async def status(self) -> list[ProjectionStatus]:
        """Ask how it stands: one for each of its builds that is not retired.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return await self._engine.run(admin_operations.statuses(self.name))

    async def parked(self) -> list[SkippedEvent]:
        """Ask which events it leaves out, in order of position.

        A rebuild tries them again, in their order; nothing else could, since what came after them
        is in the state already.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return await self._engine.run(admin_operations.left_out(self.name))

    async def discard(self, position: int | None = None) -> int:
        """Take events that it left out off the list: they stay out.

        Args:
            position: only this event; None for all.

        Returns:
            How many.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return await self._engine.run(admin_operations.discard(self.name, position))

    async def restart(self) -> int:
        """Have what is stopped tried again, from where it stands.

        Returns:
            How many partitions were stopped.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return await self._engine.run(admin_operations.restart(self.name))

    async def drop(self, version: int) -> None:
        """End a version, once nothing uses it any more, and drop its documents.

        Args:
            version: which one. Code of that version cannot read it any more; where it is run
                again, it begins anew.

        Raises:
            ProjectionNotFound: there is none of the name, or no such version.
        """
        await self._engine.run(admin_operations.drop(self.name, version))
