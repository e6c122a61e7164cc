"""The async variant of the operation of a projection."""

from __future__ import annotations

from indelible.core.operation import documented_as
from indelible.core.validation import validate_name
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from . import admin_operations
from .admin import ProjectionAdmin
from .types import ProjectionStatus, SkippedEvent


@documented_as(ProjectionAdmin)
class AsyncProjectionAdmin:
    """A projection as an operator sees it: `ProjectionAdmin` with `await`.

    Get one with `AsyncEventStore.projection`.
    """

    def __init__(self, name: str, engine: AsyncPoolEngine | AsyncBoundEngine) -> None:
        self.name = validate_name("projection", name)
        self._engine = engine

    async def status(self) -> list[ProjectionStatus]:
        return await self._engine.run(admin_operations.statuses(self.name))

    async def parked(self) -> list[SkippedEvent]:
        return await self._engine.run(admin_operations.left_out(self.name))

    async def discard(self, position: int | None = None) -> int:
        return await self._engine.run(admin_operations.discard(self.name, position))

    async def restart(self) -> int:
        return await self._engine.run(admin_operations.restart(self.name))

    async def drop(self, version: int) -> None:
        await self._engine.run(admin_operations.drop(self.name, version))
