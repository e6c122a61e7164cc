"""PostgreSQL: the only package, beside `schema`, that knows the driver.

settings      how to reach a store
connections   how a connection is made, and how a statement is run on it
failures      what the driver's errors mean, and when a statement is worth repeating
group_commit  how appends that come at once share a commit
engines       what runs plans: a pooled engine gives each statement a connection of its own, and
              repeats it where that is right; a bound engine runs all of them on one connection,
              and so inside the caller's transaction
"""

from .connections import (
    AsyncConnection,
    Connection,
    migrate_store,
    open_connection,
    speaks_to_the_server,
)
from .engines import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, PoolEngine
from .failures import target, translate
from .settings import Settings

__all__ = [
    "AsyncBoundEngine",
    "AsyncConnection",
    "AsyncPoolEngine",
    "BoundEngine",
    "Connection",
    "PoolEngine",
    "Settings",
    "migrate_store",
    "open_connection",
    "speaks_to_the_server",
    "target",
    "translate",
]
