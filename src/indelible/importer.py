"""Imports in both colours: a chunk is made while the database takes the one before.

Nothing is open while the next events are waited for: what they come from may be slow, and readers
of the log wait for an open transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from functools import partial
from itertools import islice
from typing import Any

from .chunk import STEP, Chunk
from .errors import ConnectionLost, InvalidInput, TransactionConflict
from .importing import (
    AsyncImportable,
    Importable,
    Importing,
    is_full,
    size_of,
    take,
)
from .postgres import AsyncPoolEngine, PoolEngine


class _Making:
    """A chunk in the making: step by step, while the database is waited for."""

    def __init__(self, importing: Importing, events: list[Any]) -> None:
        self._importing = importing
        self._remaining = iter(events)
        self._made: Chunk | None = None
        self._error: Exception | None = None

    def step(self) -> bool:
        """Make some of it, or note what is wrong: that does not concern the chunk before.

        Returns:
            Whether there is more to be made.
        """
        if self._made is None and self._error is None:
            try:
                if some := list(islice(self._remaining, STEP)):
                    self._importing.add(some)
                else:
                    self._made = self._importing.finish()
            except Exception as error:
                self._error = error
        return self._made is None and self._error is None

    async def steps(self) -> None:
        """Make all of it, with time for others between the steps."""
        for _ in iter(self.step, False):
            await asyncio.sleep(0)

    def chunk(self) -> Chunk:
        """Give all of it, or say what is wrong with it."""
        while self.step():
            pass
        if self._error is not None:
            raise self._error
        assert self._made is not None  # noqa: S101
        return self._made


def import_events(engine: PoolEngine, importing: Importing, events: Importable) -> None:
    """Import all events."""
    remaining = iter(_checked(events))
    taken = take(remaining)
    making = _Making(importing, taken)
    while taken:
        chunk = making.chunk()
        taken = take(remaining)
        making = _Making(importing, taken)
        while chunk:
            try:
                secured = engine.load(
                    importing.begin(chunk),
                    "import_copy",
                    partial(importing.rows, chunk),
                    partial(importing.check, chunk),
                    making.step,
                )
            except TransactionConflict as conflict:
                chunk = importing.again(chunk, conflict)
                continue
            except ConnectionLost as loss:
                raise importing.lost(chunk, loss) from loss
            chunk = engine.run(importing.go_on(chunk, secured))


async def import_events_async(
    engine: AsyncPoolEngine, importing: Importing, events: AsyncImportable
) -> None:
    """Import all events, awaiting."""
    remaining = _batches(events)
    taken: list[Any] = await anext(remaining, [])
    making = _Making(importing, taken)
    while taken:
        chunk = await asyncio.to_thread(making.chunk)
        taken = await anext(remaining, [])
        making = _Making(importing, taken)
        while chunk:
            meanwhile = asyncio.create_task(making.steps())
            try:
                secured = await engine.load(
                    importing.begin(chunk),
                    "import_copy",
                    partial(importing.rows, chunk),
                    partial(importing.check, chunk),
                )
            except TransactionConflict as conflict:
                chunk = importing.again(chunk, conflict)
                continue
            except ConnectionLost as loss:
                raise importing.lost(chunk, loss) from loss
            finally:
                meanwhile.cancel()
            chunk = await engine.run(importing.go_on(chunk, secured))


async def _batches(events: AsyncImportable) -> AsyncIterator[list[Any]]:
    """Take the events of a chunk at a time. To take them may wait, as for a file."""
    if isinstance(events, AsyncIterable):
        taken: list[Any] = []
        size = 0
        async for event in events:
            taken.append(event)
            size += size_of((event,))
            if is_full(len(taken), size):
                yield taken
                taken, size = [], 0
        yield taken
        return
    remaining = iter(_checked(events))
    while batch := await asyncio.to_thread(take, remaining):
        yield batch


def _checked(events: Any) -> Iterable[Any]:
    if isinstance(events, str | bytes) or not isinstance(events, Iterable):
        raise InvalidInput(
            "import_events takes an iterable of lines or events, such as an open file, not"
            f" {type(events).__name__}"
        )
    return events
