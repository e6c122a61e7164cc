"""Run operations on PostgreSQL, and migrate the schema. Only this package imports the driver."""

from .adapters import AsyncConnection, Connection
from .connection import open_connection
from .engine import PoolEngine
from .engine_async import AsyncPoolEngine
from .errors import target, translate
from .forks import Origin
from .migrations import migrate_store
from .session import is_direct_connection
from .settings import Settings
from .transaction import BoundEngine
from .transaction_async import AsyncBoundEngine

__all__ = [
    "AsyncBoundEngine",
    "AsyncConnection",
    "AsyncPoolEngine",
    "BoundEngine",
    "Connection",
    "Origin",
    "PoolEngine",
    "Settings",
    "is_direct_connection",
    "migrate_store",
    "open_connection",
    "target",
    "translate",
]
