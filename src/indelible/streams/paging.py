"""Read page by page."""

from __future__ import annotations

from abc import ABC, abstractmethod

from indelible.core.operation import Operation
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec

from .read_options import ReadOptions

_FIRST_PAGE = 100
_LARGEST_PAGE = 5_000
_PAGE_BYTES = 4 * 1024 * 1024


class Pages:
    """Computes the page size: few events at first, then as many as the bytes of a page hold."""

    asked: int

    size: int

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.size = _FIRST_PAGE
        self.asked = 0
        self._has_holes = False

    def next_limit(self) -> int:
        """Return how many events to request."""
        # If upcasters drop some events, request more than wanted, so as not to read one by one.
        is_bounded = self.left is not None and not self._has_holes
        self.asked = min(self.size, self.left or 0) if is_bounded else self.size
        return self.asked

    def add(self, received: int, received_bytes: int, events: list[RecordedEvent]) -> bool:
        """Record a page; return whether it was full, so that more events may follow.

        Args:
            received: how many stored events it had.
            received_bytes: how many bytes of data they had.
            events: the events made from them; the list is cut at the limit. A stored event that
                became several counts once, and one that became none does not count.
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


class PagedReading(ABC):
    """A reading of a stream or of the log, in any order.

    Args:
        codec: decodes the events.
        options: the read options.
    """

    def __init__(self, codec: Codec, options: ReadOptions) -> None:
        self._codec = codec
        self._backwards = options.backwards
        self._pages = Pages(options.limit)
        self._has_begun = False
        self._is_done = options.valid_time.is_nothing

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Read the next events; an empty list at the end."""
        if not self._has_begun:
            yield from self._begin()
            self._has_begun = True
        while not self._is_at_end():
            if events := (yield from self.next_window()):
                return events
        return []

    def _is_at_end(self) -> bool:
        return self._is_done or self._pages.left == 0

    @abstractmethod
    def _begin(self) -> Operation[None]:
        """Find the bounds of the reading."""

    @abstractmethod
    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Read the next window; return the matching events, maybe none."""

    def _ordered(self, statement: str) -> str:
        """Return the name of a statement for the order of the reading."""
        return f"{statement}.descending" if self._backwards else statement
