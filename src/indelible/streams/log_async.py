"""Iterate over the log, async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any, Generic

from indelible.errors import InvalidInput
from indelible.events import Data_co, RecordedEvent
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from .iterators_async import pages_async
from .read_log import BoundedLogReading


class AsyncLog(AsyncIterator[RecordedEvent[Data_co]], Generic[Data_co]):
    """The events of a reading of the log, and the position up to which it is complete.

    `await` it to begin the reading before the first event is taken.
    """

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: BoundedLogReading,
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = pages_async(engine, reading)

    @property
    def head(self) -> int:
        """The position up to which the reading is complete. Pass it as `after` to the next one.

        It is the settled position when the reading began, or the lower position of the requested
        recorded time.
        """
        if self._reading.known_head is None:
            raise InvalidInput(
                "the reading has not begun: take its events first, or await the result of read_all"
            )
        return self._reading.known_head

    def __await__(self) -> Generator[Any, None, AsyncLog[Data_co]]:
        yield from self._engine.run(self._reading.start()).__await__()
        return self

    def __aiter__(self) -> AsyncIterator[RecordedEvent[Data_co]]:
        return self._events

    async def __anext__(self) -> RecordedEvent[Data_co]:
        return await anext(self._events)
