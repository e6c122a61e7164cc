"""Match names by the regular expressions of clients, which may be of any quality.

They are evaluated by Python's `re`. Clients write them for .NET, whose dialect is the same in what
filters use: classes, groups, alternatives, anchors, look-ahead. Some patterns take longer than the
universe lasts. A timer ends these, in the main thread, where a signal can interrupt a match.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .failures import Failure, bad_argument

_LONGEST_PATTERN = 10_000
_SECONDS = 0.25
"""How long a pattern may take for a name. A good one takes microseconds."""
_KNOWN_NAMES = 100_000
_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
"""The start of a named group, as .NET writes it."""


class _TooSlow(BaseException):
    """The timer has ended a match."""


class Pattern:
    """A regular expression that is searched in names.

    Args:
        text: the expression.

    Raises:
        Failure: it is none, or is too long.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST_PATTERN:
            raise bad_argument(
                f"the regular expression has {len(text):,} characters; the limit is"
                f" {_LONGEST_PATTERN:,}"
            )
        try:
            with _limited(text):
                self._search = re.compile(_GROUP.sub("(?P<", text)).search
        except (re.error, RecursionError, OverflowError) as error:
            raise bad_argument(f"the regular expression {text!r} is wrong: {error}") from error
        self._text = text
        self._known: dict[str, bool] = {}

    def matches(self, name: str) -> bool:
        """Return whether the pattern is found in a name.

        Raises:
            Failure: it takes too long.
        """
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _KNOWN_NAMES:
                self._known.clear()
            with _limited(self._text):
                found = self._search(name) is not None
            self._known[name] = found
        return found


@contextmanager
def _limited(text: str) -> Iterator[None]:
    """End what takes too long; only in the main thread, and where there is such a timer."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return
    before = signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    except _TooSlow:
        raise _too_slow(text) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_slow(text: str) -> Failure:
    return bad_argument(f"the regular expression {text!r} takes too long: write a simpler one")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise _TooSlow
