"""Iterate over a stream and over the log, async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Sequence
from typing import Any, Protocol, TypeVar

from indelible.core.operation import Operation, documented_as
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from . import read_log, read_stream, valid_time
from .iterators import StreamEvents

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Reading(Protocol[T_co]):
    def next_page(self) -> Operation[Sequence[T_co]]: ...


@documented_as(StreamEvents)
class AsyncStreamEvents(AsyncIterator[RecordedEvent]):
    """The events of a reading of a stream, and the version that it has come to."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: read_stream.StreamReading | valid_time.ValidStreamReading,
    ) -> None:
        self._reading = reading
        self._events = async_pages(engine, reading)

    @property
    def version(self) -> int:
        return self._reading.version

    def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        return self._events

    async def __anext__(self) -> RecordedEvent:
        return await anext(self._events)


class AsyncLog(AsyncIterator[RecordedEvent]):
    """The events of a reading of the log, and the position that it is complete up to.

    `await` it to begin the reading before the first event is taken.
    """

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: read_log.LogReading | valid_time.ValidLogReading,
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = async_pages(engine, reading)

    @property
    def head(self) -> int:
        """The position that the reading is complete up to: the `after` of the next one.

        The settled position when it began, or a lower one that stands for the recorded time asked
        for.
        """
        if self._reading.known_head is None:
            raise InvalidInput(
                "the reading has not begun: take its events first, or await the result of read_all"
            )
        return self._reading.known_head

    def __await__(self) -> Generator[Any, None, AsyncLog]:
        yield from self._engine.run(self._reading.start()).__await__()
        return self

    async def __anext__(self) -> RecordedEvent:
        return await anext(self._events)


async def async_pages(
    engine: AsyncPoolEngine | AsyncBoundEngine, reading: _Reading[T]
) -> AsyncIterator[T]:
    """Give what a reading brings, page by page."""
    while page := await engine.run(reading.next_page()):
        for item in page:
            yield item
