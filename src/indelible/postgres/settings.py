"""How to reach a store."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a store.

    Attributes:
        url: a PostgreSQL URL or connection string.
        schema: where the store lives.
        pool_size: how many connections a store opens at most.
        timeout: seconds that a call may wait for a connection, may wait for a lock, and may try
            again after a lost connection.
    """

    url: str
    schema: str = "indelible"
    pool_size: int = 10
    timeout: float = 30.0

    def with_timeout(self, seconds: float) -> Settings:
        """Return the same with a timeout of so many seconds, if that is shorter."""
        return replace(self, timeout=min(self.timeout, seconds))
