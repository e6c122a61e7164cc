"""Documents in memory, and what events make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from indelible.errors import IndelibleError
from indelible.events import RecordedEvent

from .definition import ProjectionDefinition, partition_of

_ENTRY_BYTES = 100
"""What a document takes beside itself."""

_encode = msgspec.json.Encoder().encode


class DocumentState:
    """Documents in memory, and what events make of them.

    Args:
        definition: whose documents they are.
        partition: which of the projection's partitions; documents of others are passed over.
        partitions: how many there are here; 1 for all documents.
    """

    def __init__(
        self, definition: ProjectionDefinition, *, partition: int = 0, partitions: int = 1
    ) -> None:
        self._definition = definition
        self._partition = partition
        self._partitions = partitions
        self.documents: dict[str, Any] = {}
        """The documents by key; None for one that is not there."""
        self.changed: dict[str, int] = {}
        """The keys of what has changed, and the positions of the last events that did it."""

        self._seen = self._seen_bytes = 0

    def note_size(self, documents: int, size: int) -> None:
        """Note how many bytes some documents have together."""
        self._seen += documents
        self._seen_bytes += size

    @property
    def size(self) -> int:
        """About how many bytes the documents here have as JSON: as many as those seen so far."""
        each = self._seen_bytes // self._seen if self._seen else 0
        return len(self.documents) * (each + _ENTRY_BYTES)

    def route(self, events: Iterable[RecordedEvent]) -> list[tuple[RecordedEvent, str]]:
        """Return which event is to be folded into which document, in order.

        Args:
            events: events that the projection takes.

        Raises:
            ProjectionFailed: the projection failed at an event.
        """
        definition = self._definition
        if definition.is_by_stream and self._partitions == 1:
            return [(event, event.stream) for event in events]
        steps: list[tuple[RecordedEvent, str]] = []
        for event in events:
            try:
                keys = definition.keys(event)
            except Exception as error:
                raise definition.failure(event, error) from error
            steps.extend((event, key) for key in keys if self._falls_here(key))
        return steps

    def _falls_here(self, key: str) -> bool:
        return self._partitions == 1 or partition_of(key, self._partitions) == self._partition

    def fold(self, steps: Iterable[tuple[RecordedEvent, str]], known: Sequence[Any] = ()) -> None:
        """Fold events into documents, all of which are here.

        Args:
            steps: what `route` returned.
            known: what the projection's `enrich` has found, as handlers take it.

        Raises:
            ProjectionFailed: the projection failed at an event.
        """
        documents, changed, handlers = self.documents, self.changed, self._definition.handlers
        for event, key in steps:
            try:
                documents[key] = handlers[event.type](documents.get(key), event, *known)
            except Exception as error:
                raise self._definition.failure(event, error) from error
            changed[key] = event.position


def bring(
    definition: ProjectionDefinition,
    folding: DocumentState,
    keys: Iterable[str],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    """Bring documents into memory; None for those that are not there.

    Args:
        definition: whose documents they are.
        folding: where to.
        keys: which were asked for.
        rows: keys and documents, as the database has them.

    Raises:
        ProjectionFailed: a document does not fit its class any more.
    """
    folding.documents.update(dict.fromkeys(keys))
    for key, document in rows:
        try:
            folding.documents[key] = definition.read(document)
            folding.note_size(1, len(document))
        except IndelibleError as error:
            raise definition.failure(None, error) from error


def changes(definition: ProjectionDefinition, folding: DocumentState) -> tuple[str, list[str]]:
    """What is to be stored: the changed documents as JSON, and the keys of the removed ones.

    Raises:
        ProjectionFailed: a document cannot be written as JSON.
    """
    changed, removed = [], []
    for key, position in folding.changed.items():
        document = folding.documents[key]
        if document is None:
            removed.append(key)
            continue
        try:
            written = definition.write(document)
        except IndelibleError as error:
            raise definition.failure(None, error) from error
        changed.append({"key": key, "document": msgspec.Raw(written), "position": position})
    encoded = _encode(changed)
    folding.note_size(len(changed), len(encoded))
    return encoded.decode(), removed
