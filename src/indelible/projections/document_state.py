"""Documents in memory, and the folding of events into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from indelible.errors import IndelibleError
from indelible.events import RecordedEvent

from .definition import ProjectionDefinition, partition_of

_ENTRY_BYTES = 100
"""The memory that a document takes in addition to its JSON, in bytes."""

_encode = msgspec.json.Encoder().encode


class DocumentState:
    """Documents in memory, into which events are folded.

    Args:
        definition: the projection.
        partition: the partition; documents of other partitions are skipped.
        partitions: the number of partitions; 1 for all documents.
    """

    def __init__(
        self, definition: ProjectionDefinition, *, partition: int = 0, partitions: int = 1
    ) -> None:
        self._definition = definition
        self._partition = partition
        self._partitions = partitions
        self.documents: dict[str, Any] = {}
        """The documents by key; None if a document does not exist."""
        self.changed: dict[str, int] = {}
        """The keys of the changed documents, and the position of the last event of each."""

        self._seen = self._seen_bytes = 0

    def note_size(self, documents: int, size: int) -> None:
        """Record how many bytes some documents have in total."""
        self._seen += documents
        self._seen_bytes += size

    @property
    def size(self) -> int:
        """Estimate how many bytes the documents have as JSON, from the sizes seen so far."""
        each = self._seen_bytes // self._seen if self._seen else 0
        return len(self.documents) * (each + _ENTRY_BYTES)

    def route(self, events: Iterable[RecordedEvent]) -> list[tuple[RecordedEvent, str]]:
        """Return which event is to be folded into which document, in order.

        Args:
            events: events that the projection handles.

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
        """Fold events into documents, all of which must be in memory.

        Args:
            steps: the result of `route`.
            known: the result of the projection's `enrich`, as arguments for handlers.

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
    """Put documents into memory; None for those that do not exist.

    Args:
        definition: the projection.
        folding: the documents in memory.
        keys: the requested keys.
        rows: keys and documents from the database.

    Raises:
        ProjectionFailed: a document no longer fits its class.
    """
    folding.documents.update(dict.fromkeys(keys))
    for key, document in rows:
        try:
            folding.documents[key] = definition.read(document)
            folding.note_size(1, len(document))
        except IndelibleError as error:
            raise definition.failure(None, error) from error


def changes(definition: ProjectionDefinition, folding: DocumentState) -> tuple[str, list[str]]:
    """Return the changes to store: the changed documents as JSON, and the keys of removed ones.

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
