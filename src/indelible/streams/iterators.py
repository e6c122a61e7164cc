# Generated from iterators_async.py; do not edit.
"""Iterate over the pages of a reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from indelible.core.operation import Operation
from indelible.events import Data_co, RecordedEvent
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine

from .read_stream import StreamReading

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Reading(Protocol[T_co]):
    def next_page(self) -> Operation[Sequence[T_co]]: ...


class StreamEvents(Iterator[RecordedEvent[Data_co]], Generic[Data_co]):
    """The events of a reading of a stream, and the version that it has reached."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        reading: StreamReading,
    ) -> None:
        self._reading = reading
        self._events = pages(engine, reading)

    @property
    def version(self) -> int:
        """The highest version read after all events are taken; -1 before.

        Pass it as `expected` to an append. It counts events that upcasters drop, so it may be
        higher than the version of the last event. A reading of some event classes counts only
        events of these classes.
        """
        return self._reading.version

    def __iter__(self) -> Iterator[RecordedEvent[Data_co]]:
        return self._events

    def __next__(self) -> RecordedEvent[Data_co]:
        return next(self._events)


def pages(engine: PoolEngine | BoundEngine, reading: _Reading[T]) -> Iterator[T]:
    """Iterate over the results of a reading, page by page."""
    while page := engine.run(reading.next_page()):
        yield from page
