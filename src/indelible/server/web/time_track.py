"""The time track: where events stand on an axis of 1,000 steps, by recorded and by valid time.

Everything here is pure: no store, no clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal

WIDTH = 1_000
_SILENCE = 10
"""A pause this many times the usual one is marked as a silence."""
Scale = Literal["even", "time"]


@dataclass(frozen=True, slots=True)
class Moments:
    """The times of an event.

    Attributes:
        version: its version.
        position: its position.
        recorded_at: when it was recorded.
        valid_at: when its fact holds.
        type: its type.
    """

    version: int
    position: int
    recorded_at: datetime
    valid_at: datetime
    type: str

    @property
    def lean(self) -> str:
        """Whether its fact is `late`, `ahead`, or as old as its record (``)."""
        if self.valid_at < self.recorded_at:
            return "late"
        return "ahead" if self.valid_at > self.recorded_at else ""


@dataclass(frozen=True, slots=True)
class Tick:
    """An event on the track: where it stands in each lane."""

    version: int
    recorded: int
    valid: int
    lean: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A place where a thumb snaps to.

    Attributes:
        x: where it is.
        value: what the address gets: a position, or a moment.
        moment: the moment.
        count: how many of the events are known, or hold, at it.
    """

    x: int
    value: str
    moment: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Silence:
    """A long pause, between two places."""

    x: int
    width: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Track:
    """What the track shows.

    Attributes:
        ticks: the events.
        recorded: the stops of the lane of recorded time.
        valid: the stops of the lane of valid time.
        silences: long pauses; only on the even scale.
        now: where now is.
    """

    ticks: Sequence[Tick]
    recorded: Sequence[Stop]
    valid: Sequence[Stop]
    silences: Sequence[Silence]
    now: int


class Axis:
    """Maps moments to places from 0 to 1,000, in order.

    Args:
        moments: the moments of interest, at least one.
        scale: `even`: they stand at equal distances; `time`: by the time between them.
    """

    def __init__(self, moments: Sequence[datetime], scale: Scale) -> None:
        self._marks = sorted(set(moments))
        self._scale = scale

    def x(self, moment: datetime) -> int:
        """Return the place of a moment. What lies between two marks stands between them."""
        marks = self._marks
        if len(marks) == 1:
            return 0 if moment < marks[0] else WIDTH if moment > marks[0] else WIDTH // 2
        if self._scale == "time":
            return _part(moment - marks[0], marks[-1] - marks[0], WIDTH)
        after = bisect_right(marks, moment)
        if after == 0:
            return 0
        if after == len(marks):
            return WIDTH
        before, following = marks[after - 1], marks[after]
        begin = (after - 1) * WIDTH // (len(marks) - 1)
        end = after * WIDTH // (len(marks) - 1)
        return begin + _part(moment - before, following - before, end - begin)

    def silences(self) -> list[Silence]:
        """Return the pauses that are much longer than usual."""
        if self._scale == "time" or len(self._marks) < 4:
            return []
        pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(self._marks)]
        usual = median(pauses)
        return [
            Silence(self.x(earlier), self.x(later) - self.x(earlier), pause)
            for (earlier, later), pause in zip(pairwise(self._marks), pauses, strict=True)
            if pause > _SILENCE * usual and pause >= 60
        ]


def track(events: Sequence[Moments], now: datetime, scale: Scale) -> Track:
    """Return where events stand.

    Args:
        events: the events, in order of version, at least one.
        now: the present.
        scale: see `Axis`.
    """
    axis = Axis(
        [now, *(each.recorded_at for each in events), *(each.valid_at for each in events)], scale
    )
    ticks = [
        Tick(each.version, axis.x(each.recorded_at), axis.x(each.valid_at), each.lean)
        for each in events
    ]
    return Track(
        ticks,
        _recorded_stops(events, axis),
        _valid_stops(events, axis),
        axis.silences(),
        axis.x(now),
    )


def is_known(event: Moments, as_of: int | None) -> bool:
    """Return whether an event was recorded up to a position; None for any."""
    return as_of is None or event.position <= as_of


def holds(event: Moments, valid_at: datetime | None) -> bool:
    """Return whether the fact of an event holds at a moment; None for any."""
    return valid_at is None or event.valid_at <= valid_at


def _recorded_stops(events: Sequence[Moments], axis: Axis) -> list[Stop]:
    """Return a stop per recorded moment: of two events of one moment, both are known or neither."""
    stops: dict[datetime, Stop] = {}
    for count, each in enumerate(sorted(events, key=lambda event: event.position), 1):
        at = each.recorded_at
        stops[at] = Stop(axis.x(at), str(each.position), at, count)
    return list(stops.values())


def _valid_stops(events: Sequence[Moments], axis: Axis) -> list[Stop]:
    stops: dict[datetime, Stop] = {}
    for count, each in enumerate(sorted(events, key=lambda event: event.valid_at), 1):
        at = each.valid_at
        stops[at] = Stop(axis.x(at), at.isoformat().replace("+00:00", "Z"), at, count)
    return list(stops.values())


def _part(part: timedelta, whole: timedelta, width: int) -> int:
    return min(max(int(part / whole * width), 0), width)
