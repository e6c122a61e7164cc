"""Errors that pass by themselves, and how long to wait before each new attempt."""

from __future__ import annotations

from .errors import ConnectionLost, DatabaseUnreachable, ServerBusy, TransactionConflict

_SHORTEST_RETRY = 0.05
_LONGEST_RETRY = 5.0

_LONGEST_DELAY = 3_600.0

PASSING = (ConnectionLost, DatabaseUnreachable, ServerBusy, TransactionConflict)
"""Errors that pass by themselves: a reader goes on as soon as the database can work again."""


def delay_after(attempts: int, first: float) -> float:
    """Seconds to wait after so many attempts: twice as long each time, an hour at most.

    Args:
        attempts: how many have failed, 1 or more.
        first: seconds after the first.
    """
    # A microsecond is over an hour after 32 times; after 1,024 times there is no such float.
    return min(first * 2.0 ** min(attempts - 1, 32), _LONGEST_DELAY)


class Retries:
    """How long to wait before each new attempt to reach the database: longer each time."""

    def __init__(self) -> None:
        self._pause = _SHORTEST_RETRY

    def next_pause(self) -> float:
        """Seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_RETRY)
        return pause

    def succeed(self) -> None:
        """Begin again with the shortest."""
        self._pause = _SHORTEST_RETRY
