"""A clock for tests: it sets the recorded time of their events."""

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
    """A test clock that changes only when you move it.

    Pass `clock.now` to code that takes the time as a function. Append events with `clock.append`
    to record them at the time of the clock. The clock of the database does not change. Events
    appended in any other way get the real time. Due events, retries and leases also use the real
    time. Therefore start the clock in the past, so that the events are already due.

    Args:
        start: the initial time, with a time zone; by default January 1, 2020.

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
        """Return the time of the clock."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Set the clock to a time, which may be earlier.

        Args:
            moment: the new time, with a time zone.
        """
        self._now = validate_timestamp("moment", moment)

    def advance(self, **by: float) -> datetime:
        """Move the clock forward.

        Args:
            by: the arguments of `timedelta`, such as `days=1` or `seconds=0.5`.

        Returns:
            The new time.

        Raises:
            InvalidInput: the step is negative. Use `set` to go back.
        """
        step = timedelta(**by)
        if step < timedelta(0):
            raise InvalidInput(f"a clock cannot advance by {step}, which goes back: use set()")
        self._now += step
        return self._now

    def append(self, store: EventStore, stream: str, *events: Any) -> None:
        """Append events with the time of this clock as their recorded time.

        The events are imported, without a check of the stream's version.

        Args:
            store: the store. The database role must be the owner of the store.
            stream: the stream.
            events: instances of registered classes, or `NewEvent`.

        Raises:
            InvalidInput: the clock is ahead of the real time, or an event cannot be stored.
        """
        store.import_events(self._imports(stream, events), keep_recorded_at=True)

    async def append_async(self, store: AsyncEventStore, stream: str, *events: Any) -> None:
        """Append events to an async store; see `append`."""
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
