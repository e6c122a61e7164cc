"""Plans: load a state from the events of its stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from indelible.codec import Codec
from indelible.errors import StreamErased
from indelible.events import ERASED, RecordedEvent
from indelible.moments import AsOf
from indelible.names import check_name
from indelible.plan import Call, Plan
from indelible.read import StreamReading, Versions, decode_rows
from indelible.spans import LAST, Span
from indelible.valid import ValidStreamReading, ValidTime, key_of

from .aggregate import Aggregate
from .subject import Subject, subject_of

State = TypeVar("State")

_FIRST_PAGE = 1_000
"""How many events come with the first statement: all of them are needed, so not few at first."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[State]):
    """A state, and the version that it is at.

    Attributes:
        state: what the events make of the decider's initial state.
        version: the version of the last event that it knows of: the `expected` of an append that
            is decided on it; -1 where there is none.
    """

    state: State
    version: int


class _Facts(msgspec.Struct):
    """What the first row of a load tells of the stream as a whole."""

    version: int
    handled_at: int | None


class Loading(Generic[State]):
    """A state as it is loaded, and as it goes on with what comes after.

    Attributes:
        state: what the events make of it.
        version: the last version that it knows of.
        handled_at: the version of the first event of the command asked for, if it was handled.
    """

    def __init__(
        self,
        codec: Codec,
        stream: str,
        subject: Subject[State],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
        to_version: int | None = None,
        command_event: UUID | None = None,
    ) -> None:
        self._codec = codec
        self._stream = check_name("stream", stream)
        self._subject = subject
        self._versions = Versions(stream, 0, to_version, Span(as_of, None))
        self._valid = ValidTime(valid_at, None)
        self._command_event = command_event
        self._history: list[Any] = []
        self._begin()
        self.version = -1
        self.handled_at: int | None = None

    def load(self) -> Plan[None]:
        """Fold the events that there are: the first page in one round trip, most often all."""
        _, to_version = yield from self._versions.find()
        parameters = {
            "stream": self._stream,
            "to_version": to_version,
            "command_event": self._command_event,
            "limit": _FIRST_PAGE,
        }
        if self._valid.is_everything:
            rows = yield Call("load", parameters)
        else:
            rows = yield Call("load_valid", {**parameters, "moment": self._valid.below[0]})
        if rows:
            # The row without a position; the others are in order.
            told = next(row for row in rows if row[0] is None)
            facts = msgspec.json.decode(told[6], type=_Facts)
            self.handled_at = facts.handled_at
            self.version = min(facts.version, to_version)
            stored = [row for row in rows if row is not told]
            self._fold(decode_rows(self._codec, stored)[0])
            if len(stored) == _FIRST_PAGE:
                yield from self._load_rest(stored[-1])
        self._subject.at_version(self.state, self.version)

    def catch_up(self) -> Plan[None]:
        """Fold what has come since, and no event again that was read."""
        if self._subject.changes_in_place:
            history, self._history = self._history, []
            self._begin()
            self._fold_data(history)
        reading = self._reading(self.version + 1, LAST)
        while events := (yield from reading.next_page()):
            self._fold(events)
        self.version = max(self.version, reading.version)
        self._subject.at_version(self.state, self.version)

    def _load_rest(self, last: tuple[Any, ...]) -> Plan[None]:
        """Fold the further pages, up to the version that the first was about."""
        reading: StreamReading | ValidStreamReading
        if self._valid.is_everything:
            reading = self._reading(last[2] + 1, self.version)
        else:
            self._valid.above = key_of(last)
            reading = ValidStreamReading(
                self._codec,
                self._stream,
                from_version=0,
                to_version=self.version,
                backwards=False,
                limit=None,
                must_exist=False,
                span=Span(None, None),
                valid=self._valid,
            )
        while events := (yield from reading.next_page()):
            self._fold(events)

    def _reading(self, from_version: int, to_version: int) -> StreamReading:
        return StreamReading(
            self._codec,
            self._stream,
            from_version=from_version,
            to_version=to_version,
            backwards=False,
            limit=None,
            must_exist=False,
            span=Span(None, None),
        )

    def _begin(self) -> None:
        self.state = self._subject.initial_state()

    def _fold(self, events: Iterable[RecordedEvent]) -> None:
        for event in events:
            if event.data is ERASED:
                raise StreamErased(self._stream, event.version)
        self._fold_data([event.data for event in events])

    def _fold_data(self, history: list[Any]) -> None:
        evolve, state = self._subject.evolve, self.state
        for data in history:
            state = evolve(state, data)
        self.state = state
        if self._subject.changes_in_place:
            self._history += history


def loading(
    codec: Codec, stream: str, given: object, *, as_of: AsOf | None, valid_at: datetime | None
) -> Loading[Any]:
    """A load of a decider's state, or of an aggregate; see `EventStore.load`."""
    return Loading(codec, stream, subject_of(given), as_of=as_of, valid_at=valid_at)


def load(loading: Loading[Any]) -> Plan[Any]:
    """Load; see `EventStore.load`."""
    yield from loading.load()
    if isinstance(loading.state, Aggregate):
        return loading.state
    return Loaded(loading.state, loading.version)
