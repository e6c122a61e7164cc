"""Operations: skip the windows of the log that have no matching events.

A window is 10,000 positions. Two tables hold how many events of each type and channel each settled
window has (docs/explanation/log-windows.md).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from indelible.core.operation import Operation, Statement
from indelible.query import Query

from .query_parameters import items_json

WINDOW = 10_000
_WRITTEN_AT_ONCE = 50_000
"""How many positions one statement adds to the windows. It is more than a reader reads before it
writes windows, so that they get ahead of it."""
_LOOKED_UP_AT_ONCE = 10_000_000
"""How many positions one statement looks up in the windows."""
_READ_AT_ONCE = 200_000
"""How many positions of adjacent windows are read at once."""


def write_log_windows() -> Operation[int]:
    """Write the next windows, a bounded number; return up to where windows are written."""
    ((written,),) = yield Statement(
        "streams.write_log_windows", {"max_positions": _WRITTEN_AT_ONCE}
    )
    return int(written)


def write_all_log_windows() -> Operation[None]:
    """Write all windows up to the head, unless another session is writing some."""
    written = -1
    while written < (written := (yield from write_log_windows())):
        pass


class MatchingWindows:
    """The windows that may have matching events, for one reader with a query.

    Args:
        query: the query, with the stored names of its types.
        backwards: whether the reader goes from the end of the log to its beginning.
    """

    def __init__(self, query: Query, *, backwards: bool = False) -> None:
        self._items = items_json(query)
        self._backwards = backwards
        self.forget()

    @staticmethod
    def of(query: Query | None, *, backwards: bool = False) -> MatchingWindows | None:
        """Return the windows for a query; None if each window may have events that match it."""
        if query is None or not all(item.types or item.channel for item in query.items):
            return None
        return MatchingWindows(query, backwards=backwards)

    def forget(self) -> None:
        """Forget what was looked up, because the log may be another one."""
        self._after = self._upto = 0
        self._positions: list[int] = []

    def next_bounds(
        self, after: int, upto: int, log: Mapping[str, object]
    ) -> Operation[tuple[int, int] | None]:
        """Return the positions to read next, after the first and up to the second.

        All positions before them have no matching event. So have those up to the returned ones, if
        the two are equal.

        Args:
            after: the position after which the reader has to read.
            upto: the position up to which it has to read.
            log: the parameters that identify the log that it reads.

        Returns:
            The positions; None if no windows are written there.

        Raises:
            EpochMismatch: the log has another epoch.
        """
        if upto // WINDOW == after // WINDOW:
            return None
        if not self._cover(after, upto):
            yield from self._look_up(after, upto, log)
        if not self._cover(after, upto) and (yield from write_log_windows()) > self._upto:
            yield from self._look_up(after, upto, log)
        return self._bounds(after, upto) if self._cover(after, upto) else None

    def _cover(self, after: int, upto: int) -> bool:
        if self._backwards:
            return self._after < upto <= self._upto
        return self._after <= after < self._upto

    def _look_up(self, after: int, upto: int, log: Mapping[str, object]) -> Operation[None]:
        if self._backwards:
            after = max(after, upto - _LOOKED_UP_AT_ONCE)
        else:
            upto = min(upto, after + _LOOKED_UP_AT_ONCE)
        ((written, self._positions),) = yield Statement(
            "streams.matching_windows",
            {"items": self._items, "after": after, "upto": upto, **log},
            prepared=False,
        )
        self._after, self._upto = after, min(upto, written)

    def _bounds(self, after: int, upto: int) -> tuple[int, int]:
        positions, step = self._positions, -1 if self._backwards else 1
        if self._backwards:
            first = bisect_left(positions, upto + WINDOW) - 1
        else:
            first = bisect_right(positions, after)
        if not 0 <= first < len(positions):
            end = self._after if self._backwards else self._upto
            return end, end
        last = first
        while (
            0 <= last + step < len(positions)
            and abs(positions[last + step] - positions[last]) == WINDOW
            and abs(positions[last + step] - positions[first]) < _READ_AT_ONCE
        ):
            last += step
        low, high = sorted((positions[first], positions[last]))
        return max(after, low - WINDOW), min(upto, high)
