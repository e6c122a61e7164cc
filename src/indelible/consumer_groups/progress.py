"""Values: what a worker of a group has in memory: its slices, their events and their progress.

What was handed out of a slice is a rectangle, as for a subscription: the events up to a position
that are due up to a key. For a group that does not wait for valid times every event is due, and a
place is its position. Why nothing is lost or doubled between workers is told in
docs/explanation/consumer-groups.md.
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
"""A valid time, and a position for events of the same."""

IMMEDIATE: DueKey = (datetime.min.replace(tzinfo=UTC), 0)
"""The key of an event that was due when it came."""

Outcome = Literal["finished", "settled", "retry", "park", "given back"]


class Progress(NamedTuple):
    """Up to where events were handed out: those up to a position, that are due up to a key."""

    position: int = 0
    due: DueKey = IMMEDIATE

    def merged_with(self, other: Progress) -> Progress:
        """Return the progress that is as far as both."""
        return Progress(max(self.position, other.position), max(self.due, other.due))

    def covers(self, item: InFlightEvent) -> bool:
        """Whether an event is not beyond."""
        return item.position <= self.position and item.due <= self.due

    @classmethod
    def at(cls, position: int, moment: datetime | None, place: int | None) -> Progress:
        """Give the place that columns of the database tell."""
        return cls(position, IMMEDIATE if moment is None or place is None else (moment, place))

    def named(self, name: str) -> dict[str, object]:
        """Give it as the three parameters of a statement."""
        due_at, position = (None, None) if self.due == IMMEDIATE else self.due
        return {name: self.position, f"{name}_due_at": due_at, f"{name}_due_position": position}


START = Progress()
"""Before the first event."""


@dataclass(slots=True, eq=False)
class InFlightEvent:
    """An event that falls to this worker.

    Attributes:
        event: the event; None where it does not fit the registered classes, and where upcasters
            leave nothing of it that the group reads.
        position, key, slice: where it stands, and what it is kept in order with.
        due: when it becomes due.
        rest: what else upcasters made of it, to be handed out after it. The place is finished with
            the last of them.
        is_tracked: whether it has a row of its own: it was tried before, or waited for another.
        attempt: which attempt this is.
        token: the lease under which it was handed out.
        failure: why it cannot be decoded.
        before, after: up to where its slice came just before it and with it; None where its row
            says that it comes again.
        low_watermark: up to where the worker had read before it.
        outcome: what its handler said.
        reason, error: why, where it is to be tried again, parked or given back.
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
        """Whether there is nothing of it to be handled."""
        return self.event is None and self.failure is None

    def set_bounds(self, before: Progress, after: Progress, taken: Progress) -> None:
        """Set up to where the worker comes before it and with it, and its slice had come before."""
        self.low_watermark = before
        self.before, self.after = before.merged_with(taken), after.merged_with(taken)


@dataclass(slots=True)
class Slice:
    """One of the slices of a worker.

    Attributes:
        finished: up to here its events are finished, or have rows of their own.
        suspect: up to here an event may have been under way when a worker died.
        taken: up to here its events came into memory before the worker's place of today counted.
        busy: the event that a handler has.
        pending: those that come after it, in order.
    """

    finished: Progress
    suspect: Progress
    taken: Progress
    busy: InFlightEvent | None = None
    pending: deque[InFlightEvent] = field(default_factory=deque)

    @property
    def first(self) -> InFlightEvent | None:
        """The first event that neither is finished nor has a row of its own."""
        if self.busy is not None and not self.busy.is_tracked:
            return self.busy
        return self.pending[0] if self.pending else None

    def place(self, cursor: Progress) -> Progress:
        """Up to here its events are finished, or have rows of their own.

        Args:
            cursor: up to where its worker came.
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
        cursor: up to where it has read the log, and what was due.
        furthest: the furthest position at which one of the slices began.
        finished: the slices that have progress which is not written yet.
    """

    cursor: Progress

    furthest: int

    def __init__(self) -> None:
        self.by_number: dict[int, Slice] = {}
        self.cursor = START
        self.furthest = 0
        self.finished: set[int] = set()

    def checkpoint(self) -> Progress:
        """Return up to where the events of all of them are finished, or have rows of their own."""
        # One after the other, low watermarks grow on both sides.
        checkpoint = self.cursor
        for part in self.by_number.values():
            if (part.busy is not None or part.pending) and (item := part.first) is not None:
                checkpoint = min(checkpoint, item.low_watermark)
        return checkpoint

    def finished_above(self, checkpoint: Progress) -> dict[int, Progress]:
        """Return the unwritten progress of slices that is not covered by a checkpoint."""
        slices = self.by_number
        return {
            number: slices[number].finished
            for number in self.finished & slices.keys()
            if slices[number].finished.merged_with(checkpoint) != checkpoint
        }

    def progress(self) -> dict[int, Progress]:
        """Return the progress of each of them."""
        return {number: part.place(self.cursor) for number, part in self.by_number.items()}

    def surplus(self, count: int) -> list[int]:
        """Choose slices to give back: idle ones first, none that a handler has an event of."""
        free = [number for number, part in self.by_number.items() if part.busy is None]
        free.sort(key=lambda number: len(self.by_number[number].pending))
        return free[:count]

    def replace(self, rows: Rows) -> None:
        """Take over the slices of a rebalance, and keep what is in memory of those owned before."""
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
        # The cursor went back: what is in memory was read before it.
        for part in parts:
            for item in (part.busy, *part.pending):
                if item is not None:
                    item.low_watermark = self.cursor


def in_columns(places: Mapping[int, Progress]) -> dict[str, object]:
    """Give the places of slices as the four parameters of a statement."""
    dues = [(None, None) if place.due == IMMEDIATE else place.due for place in places.values()]
    return {
        "slices": list(places),
        "positions": [place.position for place in places.values()],
        "due_times": [due_at for due_at, _ in dues],
        "due_positions": [position for _, position in dues],
    }
