"""Fold a state to look at it: as of any version, bounded, and without keeping a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from indelible.core.operation import Operation, Rows, Statement
from indelible.core.timestamps import AsOf
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec
from indelible.streams.rows import json_of

from .adapter import adapter_of
from .snapshots import SnapshotSerializer
from .state_loader import LoadedState, StateLoader, _apart


@dataclass(frozen=True, slots=True)
class NotFolded:
    """A state that has more events than may be folded.

    Attributes:
        events: how many events it has behind its snapshot. By valid time, those of the stream: they
            would all be sorted.
    """

    events: int


class FoldFailed(Exception):
    """The code of a decider raised an error.

    Attributes:
        version: the version of the event; None for the initial state.
        error: the error.
    """

    def __init__(self, version: int | None, error: Exception) -> None:
        super().__init__(f"the decider failed: {type(error).__name__}")
        self.version = version
        self.error = error


class _TooMany(Exception):
    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.events = events


class _Facts(msgspec.Struct):
    version: int


class InspectingLoader(StateLoader[Any]):
    """Loads a state of at most a number of events, and tells at which event a decider fails."""

    def __init__(
        self,
        codec: Codec,
        stream: str,
        decider: object,
        *,
        as_of: AsOf | None,
        valid_at: datetime | None,
        to_version: int | None,
        at_most: int | None,
    ) -> None:
        self._at_most = at_most
        self._versions: list[int] = []
        super().__init__(
            codec,
            stream,
            adapter_of(decider),
            as_of=as_of,
            valid_at=valid_at,
            to_version=to_version,
        )

    def _begin(self) -> None:
        try:
            super()._begin()
        except Exception as error:
            raise FoldFailed(None, error) from error

    def _page(
        self,
        after: tuple[int, datetime | None, int],
        to_version: int,
        serializer: SnapshotSerializer | None,
    ) -> Operation[Rows]:
        rows = yield from super()._page(after, to_version, serializer)
        if rows and self._at_most is not None:
            stream_row, events = _apart(rows)
            facts = msgspec.json.decode(json_of(stream_row[6]), type=_Facts)
            highest = min(facts.version, to_version)
            if self._moment is None:
                expected = highest - events[0][2] + 1 if events else 0
            elif serializer is None or stream_row[5] is None:
                # Each page sorts the stream, so that it is not read to find how many hold.
                expected = highest + 1
            else:
                expected = len(events)
            if expected > self._at_most:
                raise _TooMany(expected)
        return rows

    def _data(self, event: RecordedEvent) -> Any:
        data = super()._data(event)
        self._versions.append(event.version)
        return data

    def _fold(self, history: list[Any]) -> None:
        versions, self._versions = self._versions, []
        for version, data in zip(versions, history, strict=True):
            try:
                self.state = self._subject.evolve(self.state, data)
            except Exception as error:
                raise FoldFailed(version, error) from error


def fold(
    codec: Codec,
    stream: str,
    decider: object,
    *,
    as_of: AsOf | None = None,
    valid_at: datetime | None = None,
    to_version: int | None = None,
    at_most: int | None = None,
) -> Operation[LoadedState[Any] | NotFolded]:
    """Fold the state of a decider, or an aggregate, to look at it. No snapshot of it is stored.

    Args:
        codec: reads the events.
        stream: the stream.
        decider: a `Decider`, or a subclass of `Aggregate`.
        as_of: use only events recorded by this time or position.
        valid_at: use only facts that hold at this time, in order of valid time.
        to_version: use only events up to this version; -1 for the initial state.
        at_most: fold no more than this number of events behind the snapshot; None for any number.

    Returns:
        The state, or how many events it has if these are too many.

    Raises:
        FoldFailed: the code of the decider raised an error.
        StreamErased, UnknownEventType, DecodingFailed, InvalidInput: as for `EventStore.load`.
    """
    if to_version is not None and to_version < 0:
        return LoadedState(_initial(decider), -1)
    try:
        loader = InspectingLoader(
            codec,
            stream,
            decider,
            as_of=as_of,
            valid_at=valid_at,
            to_version=to_version,
            at_most=at_most,
        )
        yield from loader.load()
    except _TooMany as error:
        return NotFolded(error.events)
    return LoadedState(loader.state, loader.version)


def _initial(decider: object) -> Any:
    adapter = adapter_of(decider)
    try:
        return adapter.initial_state()
    except Exception as error:
        raise FoldFailed(None, error) from error


def types_of_stream(stream: str) -> Operation[frozenset[str]]:
    """Return the types of the first 100 events of a stream, by which its decider is known."""
    rows = yield Statement("aggregates.first_types", {"stream": stream})
    return frozenset(name for (name,) in rows)
