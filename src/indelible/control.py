"""The two faces of a projection for operators."""

from __future__ import annotations

from . import operating
from .names import check_name
from .operating import LeftOut, ProjectionStatus
from .plan import documented_as
from .postgres import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, PoolEngine


class ProjectionControl:
    """A projection as an operator sees it, by its name: its code is not needed.

    Get one with `EventStore.projection`.

    Example:
        ```python
        for event in store.projection("orders").parked():
            print(event.position, event.error)
        ```
    """

    def __init__(self, name: str, engine: PoolEngine | BoundEngine) -> None:
        self.name = check_name("projection", name)
        """Its name."""
        self._engine = engine

    def status(self) -> list[ProjectionStatus]:
        """Ask how it stands: one for each of its builds that is not retired.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return self._engine.run(operating.statuses(self.name))

    def parked(self) -> list[LeftOut]:
        """Ask which events it leaves out, in order of position.

        A rebuild tries them again, in their order; nothing else could, since what came after them
        is in the state already.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return self._engine.run(operating.left_out(self.name))

    def discard(self, position: int | None = None) -> int:
        """Take events that it left out off the list: they stay out.

        Args:
            position: only this event; None for all.

        Returns:
            How many.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return self._engine.run(operating.discard(self.name, position))

    def restart(self) -> int:
        """Have what is stopped tried again, from where it stands.

        Returns:
            How many partitions were stopped.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return self._engine.run(operating.restart(self.name))

    def drop(self, version: int) -> None:
        """End a version, once nothing uses it any more, and drop its documents.

        Args:
            version: which one. Code of that version cannot read it any more; where it is run
                again, it begins anew.

        Raises:
            ProjectionNotFound: there is none of the name, or no such version.
        """
        self._engine.run(operating.drop(self.name, version))


@documented_as(ProjectionControl)
class AsyncProjectionControl:
    """A projection as an operator sees it: `ProjectionControl` with `await`.

    Get one with `AsyncEventStore.projection`.
    """

    def __init__(self, name: str, engine: AsyncPoolEngine | AsyncBoundEngine) -> None:
        self.name = check_name("projection", name)
        self._engine = engine

    async def status(self) -> list[ProjectionStatus]:
        return await self._engine.run(operating.statuses(self.name))

    async def parked(self) -> list[LeftOut]:
        return await self._engine.run(operating.left_out(self.name))

    async def discard(self, position: int | None = None) -> int:
        return await self._engine.run(operating.discard(self.name, position))

    async def restart(self) -> int:
        return await self._engine.run(operating.restart(self.name))

    async def drop(self, version: int) -> None:
        await self._engine.run(operating.drop(self.name, version))
