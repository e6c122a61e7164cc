"""Operations: follow the log: catch up first, then live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal
from uuid import UUID

from indelible.core.operation import Operation
from indelible.core.timestamps import validate_timestamp
from indelible.errors import InvalidInput
from indelible.events import Checkpoint, Data_co, RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState, head_info, head_state
from indelible.streams.query_parameters import current_query
from indelible.streams.read_options import LogReadOptions
from indelible.streams.recorded_time import beyond_last, check_checkpoint, position_at

from .tail import FollowingReading, Tail

Start = int | Checkpoint | datetime | Literal["head"]
"""Where a subscription begins: after a position or checkpoint, with the first event recorded after
a moment, or after the current head."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Data_co]):
    """A batch of events of a subscription.

    Attributes:
        events: the events, in order of position; maybe none.
        position: all matching events up to here were returned. It is the checkpoint when the events
            are handled.
        is_caught_up: whether no more events were settled when the batch was read.
    """

    events: tuple[RecordedEvent[Data_co], ...]
    position: int
    is_caught_up: bool


class LogFollower:
    """A reading of the log that continues with new events; see `EventStore.subscribe`."""

    _is_by_valid_time = False

    def __init__(self, codec: Codec, query: Query | None, *, after: Start) -> None:
        self._codec = codec
        self._query = current_query(codec, query)
        if isinstance(after, str) and after != "head":
            raise InvalidInput(
                f'after must be a position, a checkpoint, a datetime or "head", not {after!r}'
            )
        if isinstance(after, Checkpoint) and after.due is not None and not self._is_by_valid_time:
            raise InvalidInput(
                f"{after} is a checkpoint of a subscription with deliver_when_valid=True: pass"
                " deliver_when_valid=True here, too"
            )
        self._begins = validate_timestamp("after", after) if isinstance(after, datetime) else after
        position = after.position if isinstance(after, Checkpoint) else after
        self._reading = self._reading_after(0 if isinstance(position, str | datetime) else position)
        self._has_begun = False

    def _reading_after(self, position: int) -> FollowingReading:
        options = LogReadOptions(after=position)
        return FollowingReading(self._codec, self._query, options, follows=True)

    @property
    def position(self) -> int:
        """All matching events up to here were returned."""
        return self._reading.position

    def position_after(self, event: RecordedEvent | None, *, has_more: bool) -> int:
        """Return the position of the subscription after an event of the last batch is handled.

        Args:
            event: the event; None for the whole batch.
            has_more: whether upcasters made several events of the stored one, and more of them
                follow. A later reader must then begin before it.
        """
        return self.position if event is None else event.position - has_more

    def checkpoint_after(self, event: RecordedEvent | None, *, has_more: bool) -> Checkpoint:
        """Return the checkpoint after an event of the last batch is handled, or all (None)."""
        return self._checkpoint(self.position_after(event, has_more=has_more), event)

    def _checkpoint(self, position: int, event: RecordedEvent | None) -> Checkpoint:
        epoch = self._epoch
        if epoch is None:
            raise InvalidInput("the subscription has not begun: take its events first, or await it")
        anchor = self._reading.anchor(position)
        if event is not None and event.position >= position:
            anchor = event.position, event.id
        return Checkpoint(position, epoch, anchor=anchor)

    @property
    def _epoch(self) -> UUID | None:
        return None if self._reading.state is None else self._reading.state.epoch

    @property
    def wait_seconds(self) -> float | None:
        """Seconds after which to look again even if the head has not moved; None for never."""
        return None

    def look_again(self) -> None:
        """Look for due events again in the next batch."""

    @property
    def is_caught_up(self) -> bool:
        """Whether all matching events up to the last known head were returned."""
        return self._has_begun and self._reading.is_caught_up

    def has_more(self, state: HeadState | None) -> bool:
        """Return whether a head is beyond the events read so far, or of another epoch."""
        return self._reading.has_more(state)

    def extend(self, state: HeadState, tail: Tail | None) -> None:
        """Read up to a newer head.

        Args:
            state: the head.
            tail: the last events before it, if they are known.
        """
        self._reading.extend(state, tail)

    def begin(self) -> Operation[None]:
        """Find the head when the subscription starts; further calls keep it.

        Raises:
            EpochMismatch: the log has lost events below the checkpoint.
            InvalidInput: the start is a position that was never assigned.
        """
        if self._has_begun:
            return
        if isinstance(self._begins, Checkpoint):
            yield from check_checkpoint(self._begins)
        elif isinstance(self._begins, datetime):
            self._reading = self._reading_after((yield from position_at(self._begins)))
        elif self._begins == "head":
            self._reading = self._reading_after((yield from head_state()).position)
        known_head = yield from self._reading.start()
        if self.position > known_head:
            # Another reader may have seen a later head, but never one beyond the last position.
            last_position = (yield from head_info()).last_position
            if self.position > last_position:
                raise beyond_last(self.position, last_position)
            state = self._reading.state
            assert state is not None  # noqa: S101
            self._reading.extend(state._replace(position=self.position, event_id=None))
        self._has_begun = True

    def next_batch(self) -> Operation[Batch]:
        """Read the next positions, up to the known head."""
        yield from self.begin()
        events = [] if self.is_caught_up else (yield from self._reading.next_window())
        return Batch(tuple(events), self.position, self.is_caught_up)
