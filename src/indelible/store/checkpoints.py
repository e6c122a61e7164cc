"""Look up the checkpoint of a named reader: a consumer group or a projection."""

from __future__ import annotations

from indelible.consumer_groups import admin_operations
from indelible.core.operation import Operation
from indelible.errors import GroupNotFound, IndelibleError, ProjectionNotFound
from indelible.projections.registry import checkpoint


def reader_checkpoint(name: str, position: int) -> Operation[int]:
    """How far a consumer group or a projection is; of both where both have the name.

    Raises:
        GroupNotFound: there is neither.
        ProjectionNotReady: it is a projection that does not serve yet.
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
