"""How many events, and how wide a window, to read at once."""

from __future__ import annotations

from indelible.events import RecordedEvent

_FIRST_PAGE = 100
_LARGEST_PAGE = 5_000
_PAGE_BYTES = 4 * 1024 * 1024


class Pages:
    """How many events to ask for next: few at first, then as many as a page's bytes hold."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.size = _FIRST_PAGE
        self.asked = 0
        self._has_holes = False

    def ask(self) -> int:
        """Say how many events to ask for."""
        # Where upcasters leave nothing of some, more than are wanted: else it is one by one.
        is_bounded = self.left is not None and not self._has_holes
        self.asked = min(self.size, self.left or 0) if is_bounded else self.size
        return self.asked

    def take(self, received: int, received_bytes: int, events: list[RecordedEvent]) -> bool:
        """Note a page; return whether it was full, so that more may stand behind it.

        Args:
            received: how many stored events it had.
            received_bytes: how many bytes of data.
            events: what they were read as, which are cut at the limit. What became several counts
                once, and what became none not at all.
        """
        if self.left is not None:
            kept = list(dict.fromkeys(event.position for event in events))
            self._has_holes = self._has_holes or len(kept) < received
            positions = set(kept[: self.left])
            self.left -= len(positions)
            if len(positions) < len(kept):
                events[:] = [event for event in events if event.position in positions]
        if received:
            fitting = _PAGE_BYTES * received // max(received_bytes, 1)
            self.size = max(1, min(_LARGEST_PAGE, self.asked * 10, fitting))
        return received == self.asked
