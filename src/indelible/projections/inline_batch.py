"""Apply the events of one append to inline projections: operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from indelible.core.operation import AppendStatement, EventStatement, Operation, Statement
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.rows import decode_rows

from .definition import ProjectionDefinition
from .document_state import DocumentState, bring, changes


class InlineProjections:
    """The projections that a store updates with its appends."""

    def __init__(self, codec: Codec, given: Iterable[object], *, is_async: bool) -> None:
        self._codec = codec
        self.definition: list[ProjectionDefinition] = [
            ProjectionDefinition(projection, codec) for projection in given
        ]
        names = [definition.name for definition in self.definition]
        for definition in self.definition:
            definition.check_variant(is_async=is_async)
            if definition.kind == "external":
                raise InvalidInput(
                    f"projection {definition.name!r} cannot be inline: its state is outside this"
                    " database, so an append cannot update it in its transaction"
                )
            if names.count(definition.name) > 1:
                raise InvalidInput(f"projection {definition.name!r} is given twice")
        handled = [name for definition in self.definition for name in definition.handlers]
        stored = codec.upcasting.stored(Query(types=handled))
        self._types = {name for item in stored.items for name in item.types}

    def wants(self, statement: AppendStatement) -> bool:
        """Return whether an append has an event that one of the projections handles."""
        return any(event.type in self._types for part in statement.writes for event in part.events)

    def _taken(
        self, definition: ProjectionDefinition, events: Sequence[RecordedEvent]
    ) -> list[RecordedEvent]:
        return [event for event in events if definition.takes(event)]


# Inline ----------------------------------------------------------------------------------------


def hold(definition: ProjectionDefinition) -> Operation[int | None]:
    """Lock the serving build of an inline projection until the transaction ends.

    Returns:
        The id of the build; None if the projection is not built yet.
    """
    rows = yield Statement(
        "projections.lock_inline_build", {"name": definition.name, "version": definition.version}
    )
    return int(rows[0][0]) if rows else None


def appended(codec: Codec, ids: Sequence[str]) -> Operation[list[RecordedEvent]]:
    """Read the events that this transaction appended, in order of position."""
    rows = yield EventStatement("streams.appended_events", {"ids": list(ids)})
    return decode_rows(codec, rows)


def fold_inline(
    definition: ProjectionDefinition, events: Sequence[RecordedEvent], known: Sequence[Any] = ()
) -> Operation[None]:
    """Fold events into the documents of an inline projection, in the transaction of their append.

    If the projection is not built yet, nothing happens.

    Args:
        definition: the projection.
        events: the events of the append that it handles.
        known: the result of its `enrich`, as arguments for handlers.

    Raises:
        ProjectionFailed: the projection failed.
    """
    folding = DocumentState(definition)
    steps = folding.route(events)
    keys = list({key for _, key in steps})
    if not keys:
        return
    rows = yield Statement(
        "projections.lock_documents",
        {"name": definition.name, "version": definition.version, "keys": keys},
    )
    if not rows:
        return
    bring(definition, folding, keys, [row[1:] for row in rows if row[1] is not None])
    folding.fold(steps, known)
    changed, removed = changes(definition, folding)
    yield Statement(
        "projections.write_documents",
        {"projection_id": rows[0][0], "changed": changed, "removed": removed},
    )
