"""Operations that load a state from the events of its stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.core.timestamps import AsOf, validate_timestamp
from indelible.core.validation import validate_name
from indelible.errors import IndelibleError, StreamErased
from indelible.events import ERASED, RecordedEvent
from indelible.serialization.codec import Codec, succeeds
from indelible.streams.read_options import StreamReadOptions
from indelible.streams.read_stream import check_exists, version_bounds
from indelible.streams.recorded_time import LAST_POSITION, RecordedTimeRange
from indelible.streams.rows import decode_rows, json_of, recorded_at_of, valid_at_of

from .adapter import DeciderAdapter, adapter_of
from .aggregate import Aggregate
from .fingerprint import with_events
from .snapshots import SnapshotSerializer

State = TypeVar("State")

_PAGE = 1_000
"""The number of events per statement. All events are needed, so the first page is not smaller."""


@dataclass(frozen=True, slots=True)
class LoadedState(Generic[State]):
    """A state and its version.

    Attributes:
        state: the state of the decider after the events of the stream.
        version: the version of the last event; -1 if there is none. Pass it as `expected` to an
            append that is based on the state.
    """

    state: State
    version: int


class _Facts(msgspec.Struct):
    """The facts about the stream in the first row of a load."""

    version: int
    handled_at: int | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """The data of a snapshot to store."""

    version: int
    valid_at: datetime | None
    state: bytes


class StateLoader(Generic[State]):
    """Loads a state, and catches up with later events.

    Attributes:
        stream: the stream.
        state: the state after the events read so far.
        version: the version of the last event read.
        handled_at: the version of the first event of the command, if it was handled before; else
            None.
    """

    state: State

    def __init__(
        self,
        codec: Codec,
        stream: str,
        subject: DeciderAdapter[State],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
        to_version: int | None = None,
        command_event: UUID | None = None,
    ) -> None:
        self._codec = codec
        self.stream: str = validate_name("stream", stream)
        self._subject = subject
        self._options = StreamReadOptions(
            to_version=to_version, recorded_time=RecordedTimeRange(as_of)
        )
        self._is_of_today = as_of is None and to_version is None
        self._moment = None if valid_at is None else validate_timestamp("valid_at", valid_at)
        self._command_event = command_event
        self._snapshot: bytes | None = None
        self._history: list[Any] = []
        self._erased_at: datetime | None = None
        self._kept: _Kept | IndelibleError | None = None
        self._begin()
        self.version: int = -1
        self.handled_at: int | None = None

    def load(self) -> Operation[None]:
        """Load the state from the snapshot and the events after it, usually in one round trip."""
        _, to_version = yield from version_bounds(self.stream, self._options)
        serializer = self._subject.serializer
        count, last_valid_at = yield from self._take_in(to_version, serializer)
        if serializer is not None and self._is_of_today and count >= serializer.every:
            self._keep(serializer, None if self._moment is None else last_valid_at)

    def catch_up(self) -> Operation[None]:
        """Apply the events appended since the load. No event is read twice."""
        if self._subject.changes_in_place:
            history, self._history = self._history, []
            self._begin()
            self._fold(history)
        yield from self._take_in(LAST_POSITION, None)

    @property
    def has_snapshot_to_take(self) -> bool:
        """Whether enough events were read to store a snapshot."""
        return self._kept is not None

    def take_snapshot(self) -> Operation[None]:
        """Store the loaded state as a snapshot.

        Raises:
            InvalidInput: the state cannot be serialized.
        """
        serializer, kept = self._subject.serializer, self._kept
        if isinstance(kept, IndelibleError):
            raise kept
        if serializer is not None and kept is not None:
            yield Statement(
                "aggregates.save_snapshot",
                {
                    "stream": self.stream,
                    "state": serializer.name,
                    "fingerprint": with_events(
                        serializer.fingerprint, serializer.event_classes, self._codec
                    ),
                    "version": kept.version,
                    "valid_at": kept.valid_at,
                    "erased_at": self._erased_at,
                    # Stored as a JSON string, because jsonb would reorder the keys of a dict.
                    "data": msgspec.json.encode(kept.state.decode()).decode(),
                },
            )

    def _keep(self, serializer: SnapshotSerializer, valid_at: datetime | None) -> None:
        # Serialized now, because an aggregate will change. An error is raised later, when the
        # snapshot is stored and no other work depends on it.
        try:
            self._kept = _Kept(self.version, valid_at, serializer.write(self.state))
        except IndelibleError as error:
            self._kept = error

    def _take_in(
        self, to_version: int, serializer: SnapshotSerializer | None
    ) -> Operation[tuple[int, datetime | None]]:
        """Apply the snapshot, if there is one, and the events after the current version.

        Returns:
            The number of events read, and the valid time of the last one.
        """
        after: tuple[int, datetime | None, int] = (self.version, None, LAST_POSITION)
        count = 0
        is_first = is_full = True
        while is_full:
            rows = yield from self._page(after, to_version, serializer)
            if not rows:
                break
            stream_row, rows = _apart(rows)
            if is_first:
                facts = msgspec.json.decode(json_of(stream_row[6]), type=_Facts)
                if self.version == -1:  # the value when the first event was read
                    self._erased_at = stream_row[9] and recorded_at_of(stream_row)
                if not self._go_on_from(stream_row[5], serializer):
                    return (yield from self._take_in(to_version, None))
                self.handled_at = facts.handled_at
                self.version = to_version = min(facts.version, to_version)
                is_first, serializer = False, None
            self._fold([self._data(event) for event in decode_rows(self._codec, rows, self.stream)])
            count += len(rows)
            is_full = len(rows) == _PAGE
            if rows:
                after = (rows[-1][2], valid_at_of(rows[-1]), rows[-1][0])
        self._subject.at_version(self.state, self.version)
        return count, after[1]

    def _page(
        self,
        after: tuple[int, datetime | None, int],
        to_version: int,
        serializer: SnapshotSerializer | None,
    ) -> Operation[Rows]:
        statement = "aggregates.load" if self._moment is None else "aggregates.load_by_valid_time"
        common = {
            "stream": self.stream,
            "state": None if serializer is None else serializer.name,
            "fingerprint": None
            if serializer is None
            else with_events(serializer.fingerprint, serializer.event_classes, self._codec),
            "to_version": to_version,
            "limit": _PAGE,
        }
        own: dict[str, object]
        if self._moment is None:
            own = {"after_version": after[0], "command_event": self._command_event}
        else:
            own = {"moment": self._moment, "above_valid_at": after[1], "above_position": after[2]}
        return (yield EventStatement(statement, {**common, **own}))

    def _go_on_from(self, snapshot: bytes | None, serializer: SnapshotSerializer | None) -> bool:
        """Start from a snapshot, if there is one; return whether it could be decoded."""
        if snapshot is not None and serializer is not None:

            def read() -> tuple[bytes, State]:
                written = msgspec.json.decode(json_of(snapshot), type=str).encode()
                return written, serializer.read(written)

            try:
                self._snapshot, self.state = read()
            except Exception:  # the data does not fit, or the class of the state raised an error
                if succeeds(read):
                    raise
                return False
        return True

    def _begin(self) -> None:
        serializer = self._subject.serializer
        if self._snapshot is None or serializer is None:
            self.state = self._subject.initial_state()
        else:
            self.state = serializer.read(self._snapshot)

    def _data(self, event: RecordedEvent) -> Any:
        if event.data is ERASED:
            raise StreamErased(self.stream, event.version)
        return event.data

    def _fold(self, history: list[Any]) -> None:
        evolve, state = self._subject.evolve, self.state
        for data in history:
            state = evolve(state, data)
        self.state = state
        if self._subject.changes_in_place:
            self._history += history


def events_after(stream: str, version: int) -> Operation[Rows]:
    """Return one page of a stream's events after a version; empty at the end."""
    rows = yield EventStatement(
        "aggregates.load",
        {
            "stream": stream,
            "state": None,
            "fingerprint": None,
            "after_version": version,
            "to_version": LAST_POSITION,
            "command_event": None,
            "limit": _PAGE,
        },
    )
    return _apart(rows)[1] if rows else []


def _apart(rows: Rows) -> tuple[tuple[Any, ...], Rows]:
    """Return the row about the stream, which has no position, and the rows of events, in order."""
    stream_row = next(row for row in rows if row[0] is None)
    return stream_row, [row for row in rows if row is not stream_row]


def loading(
    codec: Codec, stream: str, given: object, *, as_of: AsOf | None, valid_at: datetime | None
) -> StateLoader[Any]:
    """Return the loader of a decider's state or an aggregate; see `EventStore.load`."""
    return StateLoader(codec, stream, adapter_of(given), as_of=as_of, valid_at=valid_at)


def load(loading: StateLoader[Any], *, must_exist: bool) -> Operation[Any]:
    """Load a state or an aggregate; see `EventStore.load`."""
    yield from loading.load()
    if must_exist and loading.version == -1:
        yield from check_exists(loading.stream)
    if isinstance(loading.state, Aggregate):
        return loading.state
    return LoadedState(loading.state, loading.version)
