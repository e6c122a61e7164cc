"""PostgreSQL: the only package, beside `schema`, that knows the driver.

settings      how to reach a store
connections   how a connection is made, and how a statement is run on it
forks         what was opened before a fork is refused in the child
failures      what the driver's errors mean, and when a statement is worth repeating
group_commit  how appends that come at once share a commit
pooled        engines that give each statement a connection of its own, and repeat it where that is
              right
bound         engines that run all statements on one connection, and so inside the transaction of
              the caller
"""

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
