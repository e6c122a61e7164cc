"""Values: the state of a worker in memory: its slices, their events and their progress.

The events handed out of a slice form a rectangle, as for a subscription: those up to a position
that are due up to a key. In a group without `deliver_when_valid` every event is due, and progress
is a position only. docs/explanation/consumer-groups.md explains why no event is lost or duplicated
between workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from indelible.core.operation import Rows
from indelible.events import RecordedEvent

DueKey = tuple[datetime, int]
"""A valid time, and a position that orders events with the same valid time."""

IMMEDIATE: DueKey = (datetime.min.replace(tzinfo=UTC), 0)
"""The key of an event that was due when it was recorded."""

Outcome = Literal["finished", "settled", "retry", "park", "given back", "recorded"]
"""What became of an event. Its worker records it, unless another transaction has done so: that has
finished the event ("settled"), or recorded its failure ("recorded")."""


class Progress(NamedTuple):
    """Progress: the events up to a position that are due up to a key."""

    position: int = 0
    due: DueKey = IMMEDIATE

    def merged_with(self, other: Progress) -> Progress:
        """Return the smallest progress that covers both."""
        if other.position <= self.position and (other.due is self.due or other.due <= self.due):
            return self
        return Progress(max(self.position, other.position), max(self.due, other.due))

    def covers(self, item: InFlightEvent) -> bool:
        """Return whether the progress includes an event."""
        return item.position <= self.position and item.due <= self.due

    @classmethod
    def at(cls, position: int, moment: datetime | None, place: int | None) -> Progress:
        """Return the progress that three columns of the database hold."""
        return cls(position, IMMEDIATE if moment is None or place is None else (moment, place))

    def named(self, name: str) -> dict[str, object]:
        """Return it as the three parameters of a statement."""
        due_at, position = (None, None) if self.due == IMMEDIATE else self.due
        return {name: self.position, f"{name}_due_at": due_at, f"{name}_due_position": position}


START = Progress()
"""Before the first event."""


@dataclass(slots=True, eq=False)
class InFlightEvent:
    """An event of one of the worker's slices.

    Attributes:
        event: the event; None if it does not fit the registered classes, or if upcasters leave
            nothing of it that the group reads.
        position, key, slice: its position, its partition key, and the slice of that key.
        due: when it becomes due.
        rest: the other events that upcasters made of it, handed out after it. The position is
            finished with the last of them.
        is_tracked: whether it has a row in group_events: it was tried before, or was queued.
        attempt: the number of this attempt.
        token: the token of the lease under which it was handed out.
        failure: why it cannot be decoded.
        before, after: the progress of its slice just before it and with it; None if it has a row
            in group_events.
        low_watermark: the progress of the worker before it.
        outcome: the outcome that its handler reported.
        reason, error: why it is to be retried, parked or given back.
    """

    event: RecordedEvent | None
    position: int
    key: str
    slice: int
    due: DueKey = IMMEDIATE
    rest: tuple[RecordedEvent, ...] = ()
    is_tracked: bool = False
    attempt: int = 1
    token: int = 0
    failure: str | None = None
    before: Progress | None = None
    after: Progress | None = None
    low_watermark: Progress = START
    outcome: Outcome | None = None
    reason: str = ""
    error: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no event is left to be handled."""
        return self.event is None and self.failure is None

    def set_bounds(self, before: Progress, after: Progress, taken: Progress) -> None:
        """Set the progress before and after the event.

        Args:
            before: the worker's progress before the event.
            after: the worker's progress with the event.
            taken: up to where the slice's events need not be read again; see `Slice.taken`.
        """
        self.low_watermark = before
        if taken.position <= before.position and taken.due is before.due:
            self.before, self.after = before, after
        else:
            self.before, self.after = before.merged_with(taken), after.merged_with(taken)


@dataclass(slots=True)
class Slice:
    """One of the slices of a worker.

    Attributes:
        finished: up to here its events are finished, or have rows in group_events.
        suspect: up to here an event may have been in progress when a worker died.
        taken: up to here its events need not be read again, although the worker's cursor is lower.
        busy: the event that a handler has.
        pending: the events after it, in order.
    """

    finished: Progress
    suspect: Progress
    taken: Progress
    busy: InFlightEvent | None = None
    pending: deque[InFlightEvent] = field(default_factory=deque)

    @property
    def first(self) -> InFlightEvent | None:
        """The first event that is not finished and has no row in group_events."""
        if self.busy is not None and not self.busy.is_tracked:
            return self.busy
        return self.pending[0] if self.pending else None

    def place(self, cursor: Progress) -> Progress:
        """Return up to where its events are finished, or have rows in group_events.

        Args:
            cursor: the progress of its worker.
        """
        first = self.first
        if first is None:
            return self.taken.merged_with(cursor)
        assert first.before is not None  # noqa: S101
        return self.finished.merged_with(first.before)


class OwnedSlices:
    """The slices that a worker owns, and up to where it has read for them.

    Attributes:
        by_number: the slices.
        cursor: up to where the worker has read the log and the due events.
        furthest: the furthest position at which one of the slices began.
        finished: the slices with an event that was finished since the last heartbeat.
    """

    cursor: Progress

    furthest: int

    def __init__(self) -> None:
        self.by_number: dict[int, Slice] = {}
        self.cursor = START
        self.furthest = 0
        self.finished: set[int] = set()
        self._overdue: set[int] = set()

    @property
    def has_unwritten(self) -> bool:
        """Whether a slice has progress that is not written yet."""
        return bool(self.finished or self._overdue)

    def checkpoint(self) -> Progress:
        """Return up to where the events of all slices are finished or have rows in group_events."""
        # Low watermarks grow in both parts over time, so `min` is the lowest in both.
        checkpoint = self.cursor
        for part in self.by_number.values():
            if (part.busy is not None or part.pending) and (item := part.first) is not None:
                checkpoint = min(checkpoint, item.low_watermark)
        return checkpoint

    def overdue_above(self, checkpoint: Progress) -> dict[int, Progress]:
        """Return the progress to write besides a checkpoint that does not cover it.

        It is that of the slices that the last checkpoint did not cover either. A worker that
        catches up is often ahead of its checkpoint, but the next checkpoint covers most slices.
        """
        return {
            number: self.by_number[number].finished
            for number in self._above(checkpoint, self._overdue)
        }

    def note_written(self, checkpoint: Progress) -> None:
        """Record that a checkpoint, and the overdue progress above it, are written."""
        self._overdue = self._above(checkpoint, self.finished)
        self.finished = set()

    def _above(self, checkpoint: Progress, numbers: set[int]) -> set[int]:
        slices = self.by_number
        return {
            number
            for number in numbers & slices.keys()
            if slices[number].finished.merged_with(checkpoint) != checkpoint
        }

    def progress(self) -> dict[int, Progress]:
        """Return the progress of each of them."""
        return {number: part.place(self.cursor) for number, part in self.by_number.items()}

    def surplus(self, count: int) -> list[int]:
        """Choose slices to release: idle ones first, and none with an event in progress."""
        free = [number for number, part in self.by_number.items() if part.busy is None]
        free.sort(key=lambda number: len(self.by_number[number].pending))
        return free[:count]

    def replace(self, rows: Rows) -> None:
        """Replace the slices after a rebalance; those owned before keep their events in memory."""
        before, self.by_number = self.by_number, {}
        for number, *finished, position, moment, place in rows:
            part = before.get(number)
            after = Progress.at(*finished)
            if part is None:
                part = Slice(after, Progress.at(position, moment, place), taken=after)
            else:
                part.finished = after
                part.taken = part.taken.merged_with(self.cursor)
            self.by_number[number] = part
        parts = self.by_number.values()
        self.cursor = Progress(
            min((part.finished.position for part in parts), default=0),
            min((part.finished.due for part in parts), default=IMMEDIATE),
        )
        self.furthest = max((part.taken.position for part in parts), default=0)
        # The cursor went back, so the low watermarks of events in memory go back with it.
        for part in parts:
            for item in (part.busy, *part.pending):
                if item is not None:
                    item.low_watermark = self.cursor


def in_columns(places: Mapping[int, Progress]) -> dict[str, object]:
    """Return the progress of slices as the four parameters of a statement."""
    dues = [(None, None) if place.due == IMMEDIATE else place.due for place in places.values()]
    return {
        "slices": list(places),
        "positions": [place.position for place in places.values()],
        "due_times": [due_at for due_at, _ in dues],
        "due_positions": [position for _, position in dues],
    }
