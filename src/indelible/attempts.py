"""How often a decision is made anew where somebody was faster, and after how long."""

from __future__ import annotations

from random import uniform

from .errors import AppendRefused, InvalidInput

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5


class Attempts:
    """The attempts that one decision has left.

    Args:
        attempts: how often it is made at most.

    Raises:
        InvalidInput: that is no whole number from 1 on.
    """

    def __init__(self, attempts: object) -> None:
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise InvalidInput(f"attempts must be a whole number from 1 on, not {attempts!r}")
        self._most = self._left = attempts
        self._longest = _FIRST_PAUSE

    def pause_after(self, refusal: AppendRefused) -> float:
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
