"""Which errors are transient, and how long to wait before the next attempt."""

from __future__ import annotations

from random import uniform

from indelible.core.validation import validate_integer
from indelible.errors import (
    AppendRejected,
    ConnectionLost,
    DatabaseUnreachable,
    ServerBusy,
    TransactionConflict,
)

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5


class RetryBudget:
    """The attempts that one decision has left.

    Args:
        attempts: how often it is made at most.

    Raises:
        InvalidInput: that is no whole number from 1 on.
    """

    def __init__(self, attempts: object) -> None:
        self._most = self._left = validate_integer("attempts", attempts, 1)
        self._longest = _FIRST_PAUSE

    def pause_after(self, refusal: AppendRejected) -> float:
        """Say how many seconds to wait before the next attempt, or raise the refusal."""
        self._left -= 1
        if self._left == 0:
            if self._most > 1:
                refusal.add_note(
                    f"Somebody was faster at each of {self._most} attempts: allow more attempts, or"
                    " let fewer decide on the same thing at once"
                )
            raise refusal
        # Anywhere in a span that doubles, so that those who met once do not meet again.
        pause = uniform(0, self._longest)  # noqa: S311 - no secret
        self._longest = min(self._longest * 2, _LONGEST_PAUSE)
        return pause


_SHORTEST_BACKOFF = 0.05
_LONGEST_BACKOFF = 5.0

LONGEST_DELAY = 3_600
"""Seconds between two attempts at an event, at most."""

TRANSIENT_ERRORS = (ConnectionLost, DatabaseUnreachable, ServerBusy, TransactionConflict)
"""Errors that pass by themselves: a reader goes on as soon as the database can work again."""


def delay_after(attempts: int, first: float) -> float:
    """Seconds to wait after so many attempts: twice as long each time, an hour at most.

    Args:
        attempts: how many have failed, 1 or more.
        first: seconds after the first.
    """
    # A microsecond is over an hour after 32 times; after 1,024 times there is no such float.
    return min(first * 2.0 ** min(attempts - 1, 32), LONGEST_DELAY)


class Backoff:
    """How long to wait before each new attempt to reach the database: longer each time."""

    def __init__(self) -> None:
        self._pause = _SHORTEST_BACKOFF

    def next_pause(self) -> float:
        """Seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_BACKOFF)
        return pause

    def succeed(self) -> None:
        """Begin again with the shortest."""
        self._pause = _SHORTEST_BACKOFF
