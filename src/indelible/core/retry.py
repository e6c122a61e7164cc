"""Which errors are transient, and how long to wait before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass
from logging import Logger
from random import uniform

from indelible.core.validation import validate_integer
from indelible.errors import (
    AppendRejected,
    ConnectionLost,
    DatabaseUnreachable,
    ServerBusy,
    TransactionConflict,
)

LONGEST_DELAY = 3_600
"""Seconds between two attempts at an event, at most."""

TRANSIENT_ERRORS = (ConnectionLost, DatabaseUnreachable, ServerBusy, TransactionConflict)
"""Errors that pass by themselves: a reader goes on as soon as the database can work again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each new attempt: twice as long each time.

    Attributes:
        first: seconds to wait after the first failure.
        longest: seconds to wait at most.
    """

    first: float = 0.05
    longest: float = 5.0

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after so many failures, 1 or more."""
        # A microsecond is over an hour after 32 times; after 1,024 times there is no such float.
        return min(self.first * 2.0 ** min(failures - 1, 32), self.longest)


class StepSupervisor:
    """Supervises the steps of a loop that continues when the database is back.

    Enter it for each step. It logs a transient error and suppresses it; other errors pass.

    Args:
        message: how the log message begins, such as "a reader waits".
        log: where transient errors are logged.
        backoff: how long to wait after a failed step.

    Example:
        ```python
        while not stop.is_set():
            with supervisor:
                step()
            stop.wait(supervisor.pause)
        ```
    """

    def __init__(self, message: str, log: Logger, backoff: Backoff = Backoff()) -> None:
        self._message = message
        self._log = log
        self._backoff = backoff
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next step: 0 if the last one did not fail."""
        return self._backoff.delay(self._failures) if self._failures else 0.0

    def __enter__(self) -> None:
        """Begin a step."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._failures = 0 if error is None else self._failures + 1
        if not isinstance(error, TRANSIENT_ERRORS):
            return False
        self._log.warning("%s %.2f s for the database: %s", self._message, self.pause, error)
        return True


_BETWEEN_DECISIONS = Backoff(0.005, 0.5)


class RetryBudget:
    """The attempts that one decision has left.

    Args:
        attempts: how often it is made at most.

    Raises:
        InvalidInput: that is no whole number from 1 on.
    """

    def __init__(self, attempts: object) -> None:
        self._most = validate_integer("attempts", attempts, 1)
        self._made = 0

    def pause_after(self, refusal: AppendRejected) -> float:
        """Say how many seconds to wait before the next attempt, or raise the refusal."""
        self._made += 1
        if self._made == self._most:
            if self._most > 1:
                refusal.add_note(
                    f"Somebody was faster at each of {self._most} attempts: allow more attempts, or"
                    " let fewer decide on the same thing at once"
                )
            raise refusal
        # Anywhere in a span that doubles, so that those who met once do not meet again.
        return uniform(0, _BETWEEN_DECISIONS.delay(self._made))  # noqa: S311 - no secret
