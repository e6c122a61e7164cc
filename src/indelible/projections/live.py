"""Operations: a live projection, folded when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from indelible.core.operation import Operation
from indelible.core.timestamps import AsOf
from indelible.core.validation import validate_name
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec
from indelible.streams.paging import PagedReading
from indelible.streams.read_log import log_reading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import stream_reading
from indelible.streams.recorded_time import RecordedTimeRange
from indelible.streams.valid_time import ValidTimeRange

from .definition import ProjectionDefinition
from .document_state import DocumentState

D = TypeVar("D")


class Live(Generic[D]):
    """A live projection, folded when it is read; see `EventStore.project`.

    Args:
        codec: decodes the events.
        definition: the projection.
        key: only this document; None for all.
        as_of, valid_at: as for `EventStore.read_all`.

    Raises:
        InvalidInput: it has no documents, or an argument is invalid.
    """

    def __init__(
        self,
        codec: Codec,
        definition: ProjectionDefinition,
        key: str | None,
        *,
        as_of: AsOf | None,
        valid_at: datetime | None,
    ) -> None:
        if definition.kind != "documents":
            raise InvalidInput(
                f"projection {definition.name!r} cannot be live: its handlers write outside memory;"
                " write it as a DocumentProjection"
            )
        self.definition = definition
        self._key = None if key is None else validate_name("key", key)
        self._takes = definition.takes
        self._folding = DocumentState(definition)
        recorded_time, valid_time = RecordedTimeRange(as_of), ValidTimeRange(valid_at)
        self._reading: PagedReading
        if key is not None and definition.is_by_stream:
            self._reading = stream_reading(
                codec, key, StreamReadOptions(recorded_time=recorded_time, valid_time=valid_time)
            )
        else:
            self._reading = log_reading(
                codec,
                definition.query,
                LogReadOptions(recorded_time=recorded_time, valid_time=valid_time),
            )

    @property
    def documents(self) -> dict[str, D]:
        """Return the documents by key, after all pages were folded."""
        return {
            key: document
            for key, document in self._folding.documents.items()
            if document is not None
        }

    @property
    def document(self) -> D | None:
        """Return the document of the key; None if it does not exist."""
        return self._folding.documents.get(self._key or "")

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Read the next events; an empty list at the end."""
        return (yield from self._reading.next_page())

    def take(self, events: Sequence[RecordedEvent], known: Sequence[Any] = ()) -> None:
        """Fold a page.

        Raises:
            ProjectionFailed: the projection failed at an event.
        """
        steps = self._folding.route(filter(self._takes, events))
        if self._key is not None:
            steps = [step for step in steps if step[1] == self._key]
        self._folding.fold(steps, known)
