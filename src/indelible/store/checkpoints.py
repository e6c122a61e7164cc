"""Look up the checkpoint of a named reader: a consumer group or a projection."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.core.operation import Operation
from indelible.errors import GroupNotFound, IndelibleError, ProjectionNotFound
from indelible.projections.registry import checkpoint


def reader_checkpoint(name: str, position: int) -> Operation[int]:
    """Return the checkpoint of a consumer group or a projection.

    If a group and a projection have the name, return the lower of their checkpoints.

    Raises:
        GroupNotFound: no group and no projection has the name.
        ProjectionNotReady: the projection is not built yet.
    """
    found = []
    missing: IndelibleError | None = None
    try:
        found.append((yield from admin_operations.checkpoint(name)))
    except GroupNotFound as error:
        missing = error
    try:
        found.append((yield from checkpoint(name, position)))
    except ProjectionNotFound as why:
        if missing is not None:
            missing.add_note(str(why))
            raise missing from None
    return min(found)
