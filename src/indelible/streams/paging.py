"""Read page by page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from indelible.core.operation import EventStatement, Operation, Rows
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .read_options import ReadOptions
from .rows import decode_rows

_FIRST_PAGE = 100
_LARGEST_PAGE = 5_000
_PAGE_BYTES = 4 * 1024 * 1024


class Pages:
    """Computes the page size: few events at first, then as many as the bytes of a page hold."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.size = _FIRST_PAGE
        self._has_holes = False

    def next_limit(self) -> int:
        """Return how many events are wanted next."""
        # If upcasters drop some events, request more than wanted, so as not to read one by one.
        is_bounded = self.left is not None and not self._has_holes
        return min(self.size, self.left or 0) if is_bounded else self.size

    def add(self, page: Page, events: list[RecordedEvent]) -> None:
        """Record a page.

        Args:
            page: the stored events.
            events: the events made from them; the list is cut at the limit. A stored event that
                became several counts once, and one that became none does not count.
        """
        if self.left is not None:
            kept = list(dict.fromkeys(event.position for event in events))
            self._has_holes = self._has_holes or len(kept) < len(page.rows)
            positions = set(kept[: self.left])
            self.left -= len(positions)
            if len(positions) < len(kept):
                events[:] = [event for event in events if event.position in positions]
        if page.rows:
            received = sum([len(row[5] or b"") for row in page.rows])
            fitting = _PAGE_BYTES * len(page.rows) // max(received, 1)
            self.size = max(1, min(_LARGEST_PAGE, page.limit * 10, fitting))


@dataclass(frozen=True, slots=True)
class Page:
    """The stored events that one statement returned.

    Attributes:
        rows: the stored events.
        limit: how many were wanted.
        is_full: whether more of them may follow.
    """

    rows: Rows
    limit: int
    is_full: bool


class PagedReading(ABC):
    """A reading of a stream or of the log, in any order.

    Args:
        codec: decodes the events.
        options: the read options.
    """

    _stream: str | None = None
    _query: Query | None = None

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

    def _fetch(self, statement: Callable[[int], EventStatement]) -> Operation[Page]:
        """Fetch a page.

        Args:
            statement: makes the statement that reads up to a number of events.
        """
        limit = self._pages.next_limit()
        # One event more shows whether another page follows: a stream whose events fill a page needs
        # one statement. The caller's own limit is not exceeded.
        asked = limit if limit == self._pages.left else limit + 1
        rows = yield statement(asked)
        is_full = len(rows) == asked
        del rows[limit:]
        return Page(rows, limit, is_full)

    def _take(self, page: Page) -> list[RecordedEvent]:
        """Decode a page, and count its events."""
        events = decode_rows(
            self._codec, page.rows, self._stream, query=self._query, backwards=self._backwards
        )
        self._pages.add(page, events)
        return events
