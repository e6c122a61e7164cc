"""Run an import chunk by chunk."""

from __future__ import annotations

from functools import partial

from indelible.errors import ConnectionLost, TransactionConflict
from indelible.postgres.engine import PoolEngine

from .chunk_maker import ChunkMaker, check_events
from .operations import Importable, Importing, take


def import_events(engine: PoolEngine, importing: Importing, events: Importable) -> None:
    """Import all events."""
    remaining = iter(check_events(events))
    taken = take(remaining)
    making = ChunkMaker(importing, taken)
    while taken:
        chunk = making.chunk()
        taken = take(remaining)
        making = ChunkMaker(importing, taken)
        while chunk:
            try:
                secured = engine.load(
                    importing.begin(chunk),
                    "bulk_import.copy",
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
