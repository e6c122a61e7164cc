"""Look at a store as its operator does, in statements whose cost does not grow with the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from indelible.core.operation import Operation, Statement
from indelible.events import HeadHolder
from indelible.streams.head import head


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """The state of a store and of its database server.

    Attributes:
        server_version: the version of PostgreSQL.
        clock: what the clock of the server says.
        schema_version: the number of the last migration.
        function_set: the number of the set of functions.
        head: the settled position.
        last_position: the last assigned position, settled or not.
        bytes: the size of tables and indexes on disk.
        holders: the open transactions that hold the head back, the oldest first.
    """

    server_version: str
    clock: datetime
    schema_version: int
    function_set: int
    head: int
    last_position: int
    bytes: int
    holders: Sequence[HeadHolder]


def store_health() -> Operation[StoreHealth]:
    """Return the state of a store."""
    settled = yield from head()
    ((version, clock, schema, functions, last, size),) = yield Statement("admin.server")
    holders = [HeadHolder(*row) for row in (yield Statement("streams.head_holders"))]
    return StoreHealth(
        version, clock, schema, functions, settled, last, size, holders if last > settled else []
    )
