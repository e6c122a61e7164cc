"""Iterate over the pages of a reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Generic, Protocol, TypeVar

from indelible.core.operation import Operation
from indelible.events import Data_co, RecordedEvent
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from .read_stream import StreamReading

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Reading(Protocol[T_co]):
    def next_page(self) -> Operation[Sequence[T_co]]: ...


class AsyncStreamEvents(AsyncIterator[RecordedEvent[Data_co]], Generic[Data_co]):
    """The events of a reading of a stream, and the version that it has reached."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: StreamReading,
    ) -> None:
        self._reading = reading
        self._events = pages_async(engine, reading)

    @property
    def version(self) -> int:
        """The highest version read after all events are taken; -1 before.

        Pass it as `expected` to an append. It counts events that upcasters drop, so it may be
        higher than the version of the last event. A reading of some event classes counts only
        events of these classes.
        """
        return self._reading.version

    def __aiter__(self) -> AsyncIterator[RecordedEvent[Data_co]]:
        return self._events

    async def __anext__(self) -> RecordedEvent[Data_co]:
        return await anext(self._events)


async def pages_async(
    engine: AsyncPoolEngine | AsyncBoundEngine, reading: _Reading[T]
) -> AsyncIterator[T]:
    """Iterate over the results of a reading, page by page."""
    while page := await engine.run(reading.next_page()):
        for item in page:
            yield item
