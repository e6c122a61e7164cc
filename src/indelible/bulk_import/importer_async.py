"""Run an import chunk by chunk, async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

from indelible.errors import ConnectionLost, TransactionConflict
from indelible.postgres.engine_async import AsyncPoolEngine

from .chunk_maker import ChunkMaker, check_events
from .operations import AsyncImportable, Importing, is_full, size_of, take


async def import_events_async(
    engine: AsyncPoolEngine, importing: Importing, events: AsyncImportable
) -> None:
    """Import all events, awaiting."""
    remaining = _batches(events)
    taken: list[Any] = await anext(remaining, [])
    making = ChunkMaker(importing, taken)
    while taken:
        chunk = await asyncio.to_thread(making.chunk)
        taken = await anext(remaining, [])
        making = ChunkMaker(importing, taken)
        while chunk:
            meanwhile = asyncio.create_task(_make(making))
            try:
                secured = await engine.load(
                    importing.begin(chunk),
                    "bulk_import.copy",
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
    remaining = iter(check_events(events))
    while batch := await asyncio.to_thread(take, remaining):
        yield batch


async def _make(making: ChunkMaker) -> None:
    """Make a chunk, with time for other tasks between the steps."""
    for _ in iter(making.step, False):
        await asyncio.sleep(0)
