"""Run an import chunk by chunk."""

from __future__ import annotations

from functools import partial

from indelible.errors import ConnectionLost, TransactionConflict
from indelible.postgres.engine import PoolEngine

from .chunk_maker import ChunkMaker, check_events
from .operations import Importable, Importing, take_chunk


def import_events(engine: PoolEngine, importing: Importing, events: Importable) -> None:
    """Import all events."""
    remaining = iter(check_events(events))
    batch = take_chunk(remaining)
    maker = ChunkMaker(importing, batch)
    while batch:
        chunk = maker.chunk()
        batch = take_chunk(remaining)
        maker = ChunkMaker(importing, batch)
        while chunk:
            try:
                reserved = engine.load(
                    importing.begin(chunk),
                    "bulk_import.copy",
                    partial(importing.rows, chunk),
                    partial(importing.check, chunk),
                    maker.step,
                )
            except TransactionConflict as conflict:
                chunk = importing.retry(chunk, conflict)
                continue
            except ConnectionLost as loss:
                raise importing.connection_lost(chunk, loss) from loss
            chunk = engine.run(importing.finish_chunk(chunk, reserved))
