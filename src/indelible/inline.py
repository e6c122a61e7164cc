"""Inline projections: what an append brings up to date in its own transaction, in both colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import project
from .append import appended_ids
from .codec import Codec
from .errors import InvalidInput
from .events import RecordedEvent
from .plan import Call, Rows
from .postgres import AsyncBoundEngine, BoundEngine
from .projection import Described
from .projector import enrich, enrich_async, handle, handle_async
from .query import Query


class _Inline:
    """The projections that a store keeps up to date with its appends."""

    def __init__(self, codec: Codec, given: Iterable[object], *, is_async: bool) -> None:
        self._codec = codec
        self.described = [Described(projection, codec) for projection in given]
        names = [described.name for described in self.described]
        for described in self.described:
            described.check_colour(is_async=is_async)
            if described.kind == "external":
                raise InvalidInput(
                    f"projection {described.name!r} cannot be inline: its state is elsewhere, and"
                    " no transaction here holds it"
                )
            if names.count(described.name) > 1:
                raise InvalidInput(f"projection {described.name!r} is given twice")
        handled = [name for described in self.described for name in described.handlers]
        stored = codec.upcasting.stored(Query(types=handled))
        self._types = {name for item in stored.items for name in item.types}

    def wants(self, call: Call) -> bool:
        """Whether an append has an event that one of them takes."""
        return any(event.type in self._types for part in call.parts for event in part.events)

    def _taken(self, described: Described, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        return [event for event in events if described.takes(event)]


class Inline(_Inline):
    """The projections that an `EventStore` keeps up to date with its appends.

    Args:
        codec: reads what was appended.
        given: the projections.
    """

    def __init__(self, codec: Codec, given: Iterable[object]) -> None:
        super().__init__(codec, given, is_async=False)

    def __call__(self, engine: BoundEngine, call: Call, rows: Rows) -> None:
        """Bring them up to date, in the transaction of an append that has just been made."""
        ids = appended_ids(call, rows)
        if not ids:
            return
        events = engine.run(project.appended(self._codec, ids))
        for described in self.described:
            taken = self._taken(described, events)
            if not taken:
                continue
            if described.kind == "documents":
                known = enrich(described, taken, engine)
                engine.run(project.fold_inline(described, taken, known))
            elif engine.run(project.hold(described)) is not None:
                handle(described, taken, engine)


class AsyncInline(_Inline):
    """The projections that an `AsyncEventStore` keeps up to date with its appends.

    Args:
        codec: reads what was appended.
        given: the projections.
    """

    def __init__(self, codec: Codec, given: Iterable[object]) -> None:
        super().__init__(codec, given, is_async=True)

    async def __call__(self, engine: AsyncBoundEngine, call: Call, rows: Rows) -> None:
        """Bring them up to date, in the transaction of an append that has just been made."""
        ids = appended_ids(call, rows)
        if not ids:
            return
        events = await engine.run(project.appended(self._codec, ids))
        for described in self.described:
            taken = self._taken(described, events)
            if not taken:
                continue
            if described.kind == "documents":
                known = await enrich_async(described, taken, engine)
                await engine.run(project.fold_inline(described, taken, known))
            elif await engine.run(project.hold(described)) is not None:
                await handle_async(described, taken, engine)
