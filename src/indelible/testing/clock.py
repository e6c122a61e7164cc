"""A clock that tests set: the time at which their history was recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from indelible.bulk_import import ImportEvent
from indelible.core.timestamps import validate_timestamp
from indelible.core.uuid7 import uuid7
from indelible.errors import InvalidInput
from indelible.events import NewEvent
from indelible.store import AsyncEventStore, EventStore


class Clock:
    """The time of a test, which stands still until it is moved.

    It is what code that asks for the time is given (`now=clock.now`), and what `append` records:
    events of a past that never was, each recorded when the clock said so. The database's own clock
    cannot be set: what is appended in any other way is recorded at the real time, and what waits
    for a time (due events, retries, leases) waits for the real one. So begin in the past, and let
    what is to be due have come to be so.

    Args:
        start: when it begins, a moment with a time zone; by default the first of January 2020.

    Example:
        ```python
        clock = Clock()
        clock.append(event_store, "menu-3", PriceSet(9))
        clock.advance(days=1)
        clock.append(event_store, "menu-3", PriceSet(12))
        yesterday = event_store.read("menu-3", as_of=clock.now() - timedelta(hours=1))
        ```
    """

    def __init__(self, start: datetime = datetime(2020, 1, 1, tzinfo=UTC)) -> None:
        self._now = validate_timestamp("start", start)

    def now(self) -> datetime:
        """Tell the time."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Move the clock to a moment, also an earlier one."""
        self._now = validate_timestamp("moment", moment)

    def advance(self, **by: float) -> datetime:
        """Move the clock on.

        Args:
            by: by how much, as the arguments of `timedelta`: `days=1`, `seconds=0.5`.

        Returns:
            The new time.

        Raises:
            InvalidInput: it would go back; `set` does that.
        """
        step = timedelta(**by)
        if step < timedelta(0):
            raise InvalidInput(f"a clock advances, and {step} goes back: use set for that")
        self._now += step
        return self._now

    def append(self, store: EventStore, stream: str, *events: Any) -> None:
        """Append events as recorded now, by this clock; they are imported, whatever was expected.

        Args:
            store: the store, of which the connection's role must be the owner.
            stream: the stream.
            events: instances of registered classes, or `NewEvent`.

        Raises:
            InvalidInput: the clock is ahead of the real time, or an event cannot be stored.
        """
        store.import_events(self._imports(stream, events), keep_recorded_at=True)

    async def append_async(self, store: AsyncEventStore, stream: str, *events: Any) -> None:
        """Append events as `append` does."""
        await store.import_events(self._imports(stream, events), keep_recorded_at=True)

    def _imports(self, stream: str, events: tuple[Any, ...]) -> list[ImportEvent]:
        return [self._import(stream, event) for event in events]

    def _import(self, stream: str, event: Any) -> ImportEvent:
        if not isinstance(event, NewEvent):
            return ImportEvent(stream, event, id=uuid7(), recorded_at=self._now)
        return ImportEvent(
            stream,
            event.data,
            type=event.type,
            id=event.id,
            metadata=event.metadata,
            tags=event.tags,
            valid_at=event.valid_at,
            recorded_at=self._now,
        )
