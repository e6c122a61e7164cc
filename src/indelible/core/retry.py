"""Transient errors, and the backoff before the next attempt."""

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
"""The longest delay between two attempts at an event, in seconds."""

TRANSIENT_ERRORS = (ConnectionLost, DatabaseUnreachable, ServerBusy, TransactionConflict)
"""Transient errors: a reader continues as soon as the database is available again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """An exponential backoff: each delay is twice as long as the one before.

    Attributes:
        first: the delay after the first failure, in seconds.
        longest: the longest delay, in seconds.
    """

    first: float = 0.05
    longest: float = 5.0

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after a number of failures, 1 or more."""
        # After 32 doublings a microsecond exceeds an hour; after 1,024 the float would overflow.
        return min(self.first * 2.0 ** min(failures - 1, 32), self.longest)


class StepSupervisor:
    """Supervises the steps of a loop that continues after transient errors.

    Enter it for each step. It logs and suppresses transient errors; other errors are raised.

    Args:
        message: the beginning of the log message, such as "a reader waits".
        log: the logger for transient errors.
        backoff: the delays after failed steps.

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
        """The seconds to wait before the next step: 0 if the last one did not fail."""
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
    """The remaining attempts at one decision.

    Args:
        attempts: the largest number of attempts.

    Raises:
        InvalidInput: the number is not an integer of at least 1.
    """

    def __init__(self, attempts: object) -> None:
        self._most = validate_integer("attempts", attempts, 1)
        self._made = 0

    def pause_after(self, refusal: AppendRejected) -> float:
        """Return the seconds before the next attempt; if no attempt is left, raise the refusal."""
        self._made += 1
        if self._made == self._most:
            if self._most > 1:
                refusal.add_note(
                    f"Each of {self._most} attempts conflicted with a concurrent append: allow more"
                    " attempts, or reduce the number of concurrent decisions on the same events"
                )
            raise refusal
        # A random part of the backoff (full jitter), so that concurrent decisions spread out.
        return uniform(0, _BETWEEN_DECISIONS.delay(self._made))  # noqa: S311 - no secret
