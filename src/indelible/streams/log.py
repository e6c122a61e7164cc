"""Iterate over the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

from indelible.events import Data_co, RecordedEvent
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine

from .iterators import pages
from .read_log import BoundedLogReading


class Log(Iterator[RecordedEvent[Data_co]], Generic[Data_co]):
    """The events of a reading of the log, and the position up to which it is complete."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        reading: BoundedLogReading,
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = pages(engine, reading)

    @property
    def head(self) -> int:
        """The position up to which the reading is complete. Pass it as `after` to the next one.

        It is the settled position when the reading began, or the lower position of the requested
        recorded time.
        """
        return self._engine.run(self._reading.start())

    def __iter__(self) -> Iterator[RecordedEvent[Data_co]]:
        return self._events

    def __next__(self) -> RecordedEvent[Data_co]:
        return next(self._events)
