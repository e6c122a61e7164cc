"""Plans: a projection folded as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from . import valid
from .codec import Codec
from .errors import InvalidInput
from .events import RecordedEvent
from .folding import Folding
from .moments import AsOf
from .names import check_name
from .plan import Plan
from .projection import Described
from .read import LogReading, StreamReading

D = TypeVar("D")


class Live(Generic[D]):
    """A projection folded as it is read; see `EventStore.project`.

    Args:
        codec: reads the events.
        described: the projection.
        key: only this document; None for all.
        as_of, valid_at: as for `EventStore.read_all`.

    Raises:
        InvalidInput: it has no documents, or an argument is wrong.
    """

    def __init__(
        self,
        codec: Codec,
        described: Described,
        key: str | None,
        *,
        as_of: AsOf | None,
        valid_at: datetime | None,
    ) -> None:
        if described.kind != "documents":
            raise InvalidInput(
                f"projection {described.name!r} cannot be live: what its handlers make is not in"
                " memory; write it as a DocumentProjection"
            )
        self.described = described
        self._key = None if key is None else check_name("key", key)
        self._folding = Folding(described)
        self._reading: valid.ValidStreamReading | valid.ValidLogReading | StreamReading | LogReading
        if key is not None and described.is_by_stream:
            self._reading = valid.stream_reading(
                codec,
                key,
                from_version=0,
                to_version=None,
                backwards=False,
                limit=None,
                must_exist=False,
                as_of=as_of,
                recorded_between=None,
                valid_at=valid_at,
                valid_between=None,
            )
        else:
            self._reading = valid.log_reading(
                codec,
                described.query,
                after=0,
                backwards=False,
                limit=None,
                as_of=as_of,
                recorded_between=None,
                valid_at=valid_at,
                valid_between=None,
            )

    @property
    def documents(self) -> dict[str, D]:
        """The documents by key, once everything was taken."""
        return {
            key: document
            for key, document in self._folding.documents.items()
            if document is not None
        }

    @property
    def document(self) -> D | None:
        """The document of the key; None where there is none."""
        return self._folding.documents.get(self._key or "")

    def next_page(self) -> Plan[list[RecordedEvent]]:
        """Bring the next events; none at the end."""
        page = yield from self._reading.next_page()
        return list(page)

    def take(self, events: Sequence[RecordedEvent], known: Sequence[Any] = ()) -> None:
        """Fold a page.

        Raises:
            ProjectionFailed: the projection failed at an event.
        """
        steps = self._folding.plan(events)
        if self._key is not None:
            steps = [step for step in steps if step[1] == self._key]
        self._folding.fold(steps, known)
