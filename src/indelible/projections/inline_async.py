"""Update inline projections in the transaction of the append."""

from __future__ import annotations

from collections.abc import Iterable

from indelible.core.concurrency_async import IS_ASYNC
from indelible.core.operation import AppendStatement, Rows
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.serialization.codec import Codec
from indelible.streams.append import appended_ids

from . import inline_batch
from .handlers_async import enrich_async, handle_async
from .inline_batch import InlineProjections


class AsyncInline(InlineProjections):
    """The projections that an `AsyncEventStore` updates with its appends.

    Args:
        codec: decodes the appended events.
        given: the projections.
    """

    def __init__(self, codec: Codec, given: Iterable[object]) -> None:
        super().__init__(codec, given, is_async=IS_ASYNC)

    async def __call__(
        self, engine: AsyncBoundEngine, statement: AppendStatement, rows: Rows
    ) -> None:
        """Update the projections in the transaction of an append that was just made."""
        ids = appended_ids(statement, rows)
        if not ids:
            return
        events = await engine.run(inline_batch.appended(self._codec, ids))
        for described in self.definition:
            taken = self._taken(described, events)
            if not taken:
                continue
            if described.kind == "documents":
                known = await enrich_async(described, taken, engine)
                await engine.run(inline_batch.fold_inline(described, taken, known))
            elif await engine.run(inline_batch.hold(described)) is not None:
                await handle_async(described, taken, engine)
