"""Operations: follow the log, first what is there, then what comes."""

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
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions
from indelible.streams.recorded_time import beyond_last, check_checkpoint, position_at

Start = int | Checkpoint | datetime | Literal["head"]
"""Where a subscription begins: after a position or checkpoint, with the first event recorded after
a moment, or with what comes after now."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Data_co]):
    """What a subscription brought at once.

    Attributes:
        events: the events, in order of position; maybe none.
        position: up to here everything that matches was brought: the checkpoint once the events
            are handled.
        is_caught_up: whether nothing more was settled when it was read.
    """

    events: tuple[RecordedEvent[Data_co], ...]
    position: int
    is_caught_up: bool


class LogFollower:
    """A reading of the log that goes on; see `EventStore.subscribe`."""

    _is_by_valid_time = False

    def __init__(self, codec: Codec, query: Query | None, *, after: Start) -> None:
        self._codec = codec
        self._query = current_query(codec, query)
        if isinstance(after, str) and after != "head":
            raise InvalidInput(
                f'after must be a position, a checkpoint, a moment or "head", not {after!r}'
            )
        if isinstance(after, Checkpoint) and after.due is not None and not self._is_by_valid_time:
            raise InvalidInput(
                f"{after} is a checkpoint of a subscription to what is due: subscribe with"
                " deliver_when_valid=True"
            )
        self._begins = validate_timestamp("after", after) if isinstance(after, datetime) else after
        position = after.position if isinstance(after, Checkpoint) else after
        self._reading = self._reading_after(0 if isinstance(position, str | datetime) else position)
        self._has_begun = False

    def _reading_after(self, position: int) -> LogReading:
        return LogReading(self._codec, self._query, LogReadOptions(after=position), follows=True)

    @property
    def position(self) -> int:
        """Up to here everything that matches was brought."""
        return self._reading.position

    def position_after(self, event: RecordedEvent | None, *, has_more: bool) -> int:
        """Where it is once an event of the last batch, or (None) the whole of it is handled.

        Args:
            event: the event.
            has_more: whether what is stored at its position became several events, and more of
                them come: then a later reader has to begin before it.
        """
        return self.position if event is None else event.position - has_more

    def checkpoint_after(self, event: RecordedEvent | None, *, has_more: bool) -> Checkpoint:
        """The checkpoint once an event of the last batch, or (None) the whole of it is handled."""
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
        """After how many seconds to look again, though no head was found; None for never."""
        return None

    def look_again(self) -> None:
        """Look again at the next batch."""

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was settled at the last look was brought."""
        return self._has_begun and self._reading.is_caught_up

    def has_more(self, state: HeadState | None) -> bool:
        """Whether a head that was found is beyond what was brought, or of another epoch."""
        return self._reading.has_more(state)

    def extend(self, state: HeadState) -> None:
        """Go on up to a head that was found since."""
        self._reading.extend(state)

    def begin(self) -> Operation[None]:
        """Find the head for a start; the same at every further call.

        Raises:
            EpochMismatch: the log has lost events below the checkpoint.
            InvalidInput: the start is a position that was never handed out.
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
            # Another reader may have seen a later head than we do; nobody saw more than this.
            last_position = (yield from head_info()).last_position
            if self.position > last_position:
                raise beyond_last(self.position, last_position)
            state = self._reading.state
            assert state is not None  # noqa: S101
            self._reading.extend(state._replace(position=self.position, event_id=None))
        self._has_begun = True

    def next_batch(self) -> Operation[Batch]:
        """Look at the next positions up to the known head."""
        yield from self.begin()
        events = [] if self.is_caught_up else (yield from self._reading.next_window())
        return Batch(tuple(events), self.position, self.is_caught_up)
