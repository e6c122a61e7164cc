"""Plans: follow the log, first what is there, then what comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .codec import Codec
from .errors import InvalidInput
from .events import Checkpoint, RecordedEvent
from .moments import check_moment
from .plan import Call, Plan
from .query import Query
from .read import LogReading, current_query, head, head_info
from .spans import check_epoch, position_at

Start = int | Checkpoint | datetime | Literal["head"]
"""Where a subscription begins: after a position or checkpoint, with the first event recorded after
a moment, or with what comes after now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscription brought at once.

    Attributes:
        events: the events, in order of position; maybe none.
        position: up to here everything that matches was brought: the checkpoint once the events
            are handled.
        is_caught_up: whether nothing more was settled when it was read.
    """

    events: tuple[RecordedEvent, ...]
    position: int
    is_caught_up: bool


class Following:
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
                f"{after} is a checkpoint of a subscription to what is due: subscribe with due=True"
            )
        self._begins = check_moment("after", after) if isinstance(after, datetime) else after
        self._epoch = after.epoch if isinstance(after, Checkpoint) else None
        position = after.position if isinstance(after, Checkpoint) else after
        self._reading = LogReading(
            codec, query, after=0 if isinstance(position, str | datetime) else position
        )
        self._has_begun = False

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
        if self._epoch is None:
            raise InvalidInput("the subscription has not begun: take its events first, or await it")
        return Checkpoint(self.position_after(event, has_more=has_more), self._epoch)

    @property
    def wait_seconds(self) -> float | None:
        """After how many seconds to look again, though no head was found; None for never."""
        return None

    def look_again(self) -> None:
        """Look again at the next batch."""

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was settled at the last look was brought."""
        return self._has_begun and self._reading.position >= (self._reading.known_head or 0)

    def extend(self, known_head: int) -> None:
        """Go on up to a head that was found since."""
        self._reading.extend(known_head)

    def begin(self) -> Plan[None]:
        """Find the head for a start; the same at every further call.

        Raises:
            EpochChanged: the start is a checkpoint of another history.
            InvalidInput: the start is a position that was never handed out.
        """
        if self._has_begun:
            return
        if self._epoch is None:
            ((self._epoch,),) = yield Call("epoch")
        else:
            yield from check_epoch(self._epoch)
        if isinstance(self._begins, str | datetime):
            moment = self._begins
            begins = yield from (head() if isinstance(moment, str) else position_at(moment))
            self._reading = LogReading(self._codec, self._query, after=begins)
        known_head = yield from self._reading.start()
        if self.position > known_head:
            # Another reader may have seen a later head than we do; nobody saw more than this.
            last_position = (yield from head_info()).last_position
            if self.position > last_position:
                raise InvalidInput(
                    f"after={self.position} is beyond the last position, {last_position}: the"
                    " position is another store's, or this store was restored to an earlier time;"
                    " begin after a position that both have"
                )
            self._reading.extend(self.position)
        self._has_begun = True

    def next_batch(self) -> Plan[Batch]:
        """Look at the next positions up to the known head."""
        yield from self.begin()
        events = [] if self.is_caught_up else (yield from self._reading.next_window())
        return Batch(tuple(events), self.position, self.is_caught_up)
