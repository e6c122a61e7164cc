"""Run an import chunk by chunk, async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

from indelible.errors import ConnectionLost, TransactionConflict
from indelible.postgres.engine_async import AsyncPoolEngine

from .chunk_maker import ChunkMaker, check_events
from .operations import AsyncImportable, Importing, is_full, size_of, take_chunk


async def import_events_async(
    engine: AsyncPoolEngine, importing: Importing, events: AsyncImportable
) -> None:
    """Import all events."""
    remaining = _batches(events)
    batch: list[Any] = await anext(remaining, [])
    maker = ChunkMaker(importing, batch)
    while batch:
        chunk = await asyncio.to_thread(maker.chunk)
        batch = await anext(remaining, [])
        maker = ChunkMaker(importing, batch)
        while chunk:
            making = asyncio.create_task(_make(maker))
            try:
                reserved = await engine.load(
                    importing.begin(chunk),
                    "bulk_import.copy",
                    partial(importing.rows, chunk),
                    partial(importing.check, chunk),
                )
            except TransactionConflict as conflict:
                chunk = importing.retry(chunk, conflict)
                continue
            except ConnectionLost as loss:
                raise importing.connection_lost(chunk, loss) from loss
            finally:
                making.cancel()
            chunk = await engine.run(importing.finish_chunk(chunk, reserved))


async def _batches(events: AsyncImportable) -> AsyncIterator[list[Any]]:
    """Take the events of one chunk at a time. This may block, for example on a file."""
    if isinstance(events, AsyncIterable):
        pending: list[Any] = []
        size = 0
        async for event in events:
            pending.append(event)
            size += size_of((event,))
            if is_full(len(pending), size):
                yield pending
                pending, size = [], 0
        yield pending
        return
    remaining = iter(check_events(events))
    while chunk_events := await asyncio.to_thread(take_chunk, remaining):
        yield chunk_events


async def _make(maker: ChunkMaker) -> None:
    """Prepare a chunk, and let other tasks run between the steps."""
    for _ in iter(maker.step, False):
        await asyncio.sleep(0)
