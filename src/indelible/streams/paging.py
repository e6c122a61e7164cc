"""Read page by page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from indelible.core.operation import Declined, EventStatement, Operation, Rows
from indelible.errors import IndelibleError
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .read_options import ReadOptions
from .rows import RowDecoding, decode_rows

_FIRST_PAGE = 100
_LARGEST_PAGE = 5_000
_PAGE_BYTES = 4 * 1024 * 1024
_AHEAD_FROM = 1_000
"""The size of a page from which on the next one is fetched before it is needed."""


class Pages:
    """Computes the page size: few events at first, then as many as the bytes of a page hold."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.size = _FIRST_PAGE
        self._has_holes = False

    def next_limit(self, pending: int = 0) -> int:
        """Return how many events to request.

        Args:
            pending: how many stored events were received and are not added yet.
        """
        # If upcasters drop some events, request more than wanted, so as not to read one by one.
        if self.left is None or self._has_holes:
            return self.size
        return min(self.size, max(0, self.left - pending))

    def resize(self, page: Page) -> None:
        """Choose the size of the next page from the bytes of a page."""
        if page.rows:
            received = sum([len(row[5] or b"") for row in page.rows])
            fitting = _PAGE_BYTES * len(page.rows) // max(received, 1)
            self.size = max(1, min(_LARGEST_PAGE, page.limit * 10, fitting))

    def add(self, received: int, events: list[RecordedEvent]) -> None:
        """Count events that are returned.

        Args:
            received: how many stored events they were made from.
            events: the list, which is cut at the limit. A stored event that became several counts
                once, and one that became none does not count.
        """
        if self.left is not None:
            kept = list(dict.fromkeys(event.position for event in events))
            self._has_holes = self._has_holes or len(kept) < received
            positions = set(kept[: self.left])
            self.left -= len(positions)
            if len(positions) < len(kept):
                events[:] = [event for event in events if event.position in positions]


@dataclass(frozen=True, slots=True)
class Page:
    """The stored events that one statement returned.

    Attributes:
        rows: the stored events.
        limit: how many were wanted.
        is_full: whether more of them may be within the bounds.
        bounds: the lowest and the highest position or version that the statement was asked for.
    """

    rows: Rows
    limit: int
    is_full: bool
    bounds: tuple[int, int] = (0, 0)


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
        self._ahead: Page | IndelibleError | None = None

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

    def _decode(self, rows: Rows) -> list[RecordedEvent]:
        return decode_rows(
            self._codec, rows, self._stream, query=self._query, backwards=self._backwards
        )

    def _take(self, page: Page) -> list[RecordedEvent]:
        """Decode a page, and count its events."""
        events = self._decode(page.rows)
        self._pages.resize(page)
        self._pages.add(len(page.rows), events)
        return events


class PagedAhead(PagedReading):
    """A reading that asks for the page after next while it decodes the next one.

    So the database and the caller's processor work at the same time. Between two pages it holds no
    connection, only the rows of one page. Nothing of the reading changes until the events are
    decoded: a reading that was interrupted continues with the same page.
    """

    @abstractmethod
    def _bounds_after(self, page: Page) -> tuple[int, int] | None:
        """Return the bounds of the page after a page; None at the end."""

    @abstractmethod
    def _statement(
        self,
        bounds: tuple[int, int],
        limit: int,
        after: Page | None = None,
        meanwhile: Callable[[], bool] | None = None,
    ) -> EventStatement:
        """Return the statement that reads a page, maybe after a page that is not decoded yet."""

    def _next(self, bounds: tuple[int, int]) -> Operation[tuple[Page, list[RecordedEvent]]]:
        """Return the next page and its events, and fetch the page after it.

        Args:
            bounds: the lowest and the highest position or version of the next page, unless it was
                fetched already.
        """
        page, self._ahead = self._ahead, None
        if isinstance(page, IndelibleError):
            raise page
        if page is None:
            page = yield from self._fetch(bounds, self._pages.next_limit())
        self._ahead = page
        self._pages.resize(page)
        decoding = RowDecoding(self._decode, page.rows)
        ahead = yield from self._fetch_after(page, decoding)
        events = decoding.finish()
        self._pages.add(len(page.rows), events)
        self._ahead = ahead
        return page, events

    def _fetch(
        self,
        bounds: tuple[int, int],
        limit: int,
        after: Page | None = None,
        meanwhile: Callable[[], bool] | None = None,
    ) -> Operation[Page]:
        # One event more shows whether another page follows: a stream whose events fill a page needs
        # one statement. The caller's own limit is not exceeded.
        asked = limit if limit == self._pages.left else limit + 1
        rows = yield self._statement(bounds, asked, after, meanwhile)
        is_full = len(rows) == asked
        del rows[limit:]
        return Page(rows, limit, is_full, bounds)

    def _fetch_after(
        self, page: Page, decoding: RowDecoding
    ) -> Operation[Page | IndelibleError | None]:
        """Fetch the page after a large page. A failure is one of that page, and raised later."""
        limit = self._pages.next_limit(len(page.rows))
        if len(page.rows) < _AHEAD_FROM or limit == 0:
            return None
        if (bounds := self._bounds_after(page)) is None:
            return None
        try:
            return (yield from self._fetch(bounds, limit, page, decoding.step))
        except Declined:
            return None
        except IndelibleError as error:
            return error
