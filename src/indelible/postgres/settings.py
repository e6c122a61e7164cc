"""The settings of a store."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a store: where it is, and its limits.

    Attributes:
        url: a PostgreSQL URL or connection string.
        schema: the schema of the store.
        pool_size: the largest number of connections in the pool.
        timeout: seconds that a call may wait for a connection, may wait for a lock, and may retry
            after a lost connection.
        embedded_url: the URL of the embedded database, for messages; empty for another database.
    """

    url: str
    schema: str = "indelible"
    pool_size: int = 10
    timeout: float = 30.0
    embedded_url: str = ""

    def with_timeout(self, seconds: float) -> Settings:
        """Return the same settings with this timeout, if it is shorter."""
        return replace(self, timeout=min(self.timeout, seconds))
