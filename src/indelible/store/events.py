"""What reads return: events as they are read, page by page, in both colours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from indelible import read, valid
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.plan import Plan, documented_as
from indelible.postgres import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, PoolEngine

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StreamEvents(Iterator[RecordedEvent]):
    """The events of a reading of a stream, and the version that it has come to."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        reading: read.StreamReading | valid.ValidStreamReading,
    ) -> None:
        self._reading = reading
        self._events = pages(engine, reading)

    @property
    def version(self) -> int:
        """Once the events are taken, the highest version read: what an append may expect; else -1.

        It counts what upcasters leave nothing of, and so may be higher than that of the last event.
        """
        return self._reading.version

    def __iter__(self) -> Iterator[RecordedEvent]:
        return self._events

    def __next__(self) -> RecordedEvent:
        return next(self._events)


class Log(Iterator[RecordedEvent]):
    """The events of a reading of the log, and the position that it is complete up to."""

    def __init__(
        self, engine: PoolEngine | BoundEngine, reading: read.LogReading | valid.ValidLogReading
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = pages(engine, reading)

    @property
    def head(self) -> int:
        """The position that the reading is complete up to: the `after` of the next one.

        The settled position when it began, or a lower one that stands for the recorded time asked
        for.
        """
        return self._engine.run(self._reading.start())

    def __next__(self) -> RecordedEvent:
        return next(self._events)


class _Reading(Protocol[T_co]):
    def next_page(self) -> Plan[Sequence[T_co]]: ...


def pages(engine: PoolEngine | BoundEngine, reading: _Reading[T]) -> Iterator[T]:
    """Give what a reading brings, page by page."""
    while page := engine.run(reading.next_page()):
        yield from page


@documented_as(StreamEvents)
class AsyncStreamEvents(AsyncIterator[RecordedEvent]):
    """The events of a reading of a stream, and the version that it has come to."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: read.StreamReading | valid.ValidStreamReading,
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
        reading: read.LogReading | valid.ValidLogReading,
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
