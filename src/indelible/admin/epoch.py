"""Begin a new epoch of the log."""

from __future__ import annotations

from uuid import UUID

from indelible.core.operation import Operation, Statement


def renew_epoch() -> Operation[UUID]:
    """Begin a new epoch."""
    ((found,),) = yield Statement("admin.renew_epoch")
    return UUID(str(found))
