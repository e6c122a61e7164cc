# Generated from admin_async.py; do not edit.
"""Operate a projection: status, skipped events, restart, drop."""

from __future__ import annotations

from indelible.core.validation import validate_name
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine

from . import admin_operations
from .types import ProjectionStatus, SkippedEvent


class ProjectionAdmin:
    """Administer a projection by its name. Its code is not needed.

    Get one with `EventStore.projection`.

    Example:
        ```python
        for event in store.projection("orders").parked():
            print(event.position, event.error)
        ```
    """

    def __init__(self, name: str, engine: PoolEngine | BoundEngine) -> None:
        self.name: str = validate_name("projection", name)
        """Its name."""
        self._engine = engine

    def status(self) -> list[ProjectionStatus]:
        """Return the status of the projection: one for each build that is not retired.

        Raises:
            ProjectionNotFound: no projection has this name.
        """
        return self._engine.run(admin_operations.statuses(self.name))

    def parked(self) -> list[SkippedEvent]:
        """List the parked events that the projection skips, in order of position.

        Only a rebuild retries them, in their order: the current state already contains later
        events.

        Raises:
            ProjectionNotFound: no projection has this name.
        """
        return self._engine.run(admin_operations.left_out(self.name))

    def discard(self, position: int | None = None) -> int:
        """Remove parked events from the list. They stay missing from the current state.

        Args:
            position: only this event; None for all.

        Returns:
            The number of events discarded.

        Raises:
            ProjectionNotFound: no projection has this name.
        """
        return self._engine.run(admin_operations.discard(self.name, position))

    def restart(self) -> int:
        """Restart the stopped partitions from their checkpoints.

        Returns:
            How many partitions were stopped.

        Raises:
            ProjectionNotFound: no projection has this name.
        """
        return self._engine.run(admin_operations.restart(self.name))

    def drop(self, version: int) -> None:
        """Drop a version that is no longer in use, with its documents.

        Args:
            version: the version to drop. Code of this version can no longer read it. If that code
                runs again, it starts from the beginning.

        Raises:
            ProjectionNotFound: no projection has this name, or it has no such version.
        """
        self._engine.run(admin_operations.drop(self.name, version))
