# Generated from inline_async.py; do not edit.
"""Update inline projections in the transaction of the append."""

from __future__ import annotations

from collections.abc import Iterable

from indelible.core.concurrency import IS_ASYNC
from indelible.core.operation import AppendStatement, Rows
from indelible.postgres.transaction import BoundEngine
from indelible.serialization.codec import Codec
from indelible.streams.append import appended_ids

from . import inline_batch
from .handlers import enrich, handle
from .inline_batch import InlineProjections


class Inline(InlineProjections):
    """The projections that an `EventStore` updates with its appends.

    Args:
        codec: decodes the appended events.
        given: the projections.
    """

    def __init__(self, codec: Codec, given: Iterable[object]) -> None:
        super().__init__(codec, given, is_async=IS_ASYNC)

    def __call__(self, engine: BoundEngine, statement: AppendStatement, rows: Rows) -> None:
        """Update the projections in the transaction of an append that was just made."""
        ids = appended_ids(statement, rows)
        if not ids:
            return
        events = engine.run(inline_batch.appended(self._codec, ids))
        for described in self.definition:
            taken = self._taken(described, events)
            if not taken:
                continue
            if described.kind == "documents":
                known = enrich(described, taken, engine)
                engine.run(inline_batch.fold_inline(described, taken, known))
            elif engine.run(inline_batch.hold(described)) is not None:
                handle(described, taken, engine)
