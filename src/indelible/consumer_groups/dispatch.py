"""Operations: hand out the events of a worker's slices, and record their outcomes."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from math import inf
from typing import NamedTuple

from indelible.core.operation import Operation, Statement
from indelible.core.retry import LONGEST_DELAY, Backoff

from .lease import CONTENTION, CONTENTION_PAUSE, Lease
from .progress import IMMEDIATE, InFlightEvent, Outcome, OwnedSlices, Slice
from .types import GroupSettings, State

_log = logging.getLogger("indelible")


class Dispatcher:
    """Hands out events, at most one per slice at a time, and records their outcomes.

    Args:
        group: the group's name.
        settings: the settings of the group.
        lease: the worker's lease.
        slices: the worker's slices.
        outcomes: events whose outcomes are to be recorded; any thread may append to it.

    Attributes:
        waiting: the number of events in memory that are not handed out yet.
        retries: the events that are due for a retry, in order.
        late_slices: the slices with such an event. They hand it out before any other.
        retries_at: when to look for more of them.
    """

    retries_at: float

    waiting: int

    def __init__(
        self,
        group: str,
        settings: GroupSettings,
        lease: Lease,
        slices: OwnedSlices,
        outcomes: deque[InFlightEvent],
    ) -> None:
        self.settings = settings
        self.waiting = 0
        self.retries: deque[InFlightEvent] = deque()
        self.late_slices: set[int] = set()
        self.retries_at = 0.0
        self._group = group
        self._lease = lease
        self._slices = slices
        self._outcomes = outcomes
        self._contended: list[InFlightEvent] = []  # outcomes that wait for another transaction
        self._contended_until = 0.0
        self._ready: deque[int] = deque()
        self._handed_out: list[InFlightEvent] = []
        self._blocked_keys: set[str] = set()
        self._knows_blocked_keys = True
        self._probe: InFlightEvent | None = None

    def slices_changed(self) -> None:
        """Adapt to the slices that the worker owns after a rebalance."""
        slices = self._slices.by_number
        self.waiting = sum(len(part.pending) for part in slices.values())
        self.retries.clear()
        self.late_slices.clear()
        self.retries_at = 0.0
        self._ready = deque(number for number in self._ready if number in slices)
        self._knows_blocked_keys = False

    def next_at(self) -> float:
        """Return when to look for retries or record an outcome next."""
        # Retries that are due wait until a handler takes them.
        soonest = inf if self.retries else self.retries_at
        return min(soonest, self._contended_until) if self._contended else soonest

    def learn_blocked_keys(self) -> Operation[None]:
        """Read the keys that failed events block, once after each rebalance."""
        if not self._knows_blocked_keys:
            rows = yield Statement(
                "consumer_groups.blocked_keys",
                {
                    **self._lease.parameters(),
                    "park_blocks_stream": self.settings.park_blocks_stream,
                },
            )
            self._blocked_keys = {key for (key,) in rows}
            self._knows_blocked_keys = True

    # Outcomes --------------------------------------------------------------------------------

    def apply_outcomes(self, now: float) -> Operation[None]:
        """Record the outcomes that handlers reported.

        Args:
            now: the time; infinity when the worker leaves: `give_back` then handles the rest.
        """
        outcomes = self._outcomes
        if self._contended and now >= self._contended_until:
            outcomes.extend(self._contended)
            self._contended.clear()
        while outcomes:
            item = outcomes[0]
            part = self._slices.by_number.get(item.slice)
            # After the lease was lost, another worker handles the event.
            if item.token == self._lease.token and part is not None and part.busy is item:
                if item.rest and item.outcome in ("finished", "settled"):
                    self._hand_out_rest(item, part)
                elif item.outcome != "given back" or now < inf:
                    try:
                        if item.is_tracked or item.outcome not in ("finished", "settled"):
                            yield from self._apply(item)
                    except CONTENTION:
                        # The handler lost its connection, but its transaction may still commit.
                        # Set the outcome aside and continue, with the lease first.
                        self._contended.append(outcomes.popleft())
                        self._contended_until = now + CONTENTION_PAUSE
                        if now < inf:
                            return
                        continue
                    self._release(item, part)
            outcomes.popleft()

    def give_back(self) -> Operation[None]:
        """Record a retry for the tracked events that handlers still have, without an attempt."""
        for part in self._slices.by_number.values():
            if part.busy is not None and part.busy.is_tracked:
                yield from self.record_failure(part.busy, "retry", part.busy.attempt - 1, 0)

    def _hand_out_rest(self, item: InFlightEvent, part: Slice) -> None:
        event, *rest = item.rest
        following = replace(item, event=event, rest=tuple(rest), outcome=None)
        part.busy = following
        self._handed_out.append(following)
        if item is self._probe:
            self._probe = following

    def _apply(self, item: InFlightEvent) -> Operation[None]:
        if item.outcome == "finished" and item.is_tracked:
            yield from self.finish(item)
        elif item.outcome in ("retry", "park", "given back"):
            if item.outcome == "given back":
                _log.warning(
                    "group %r: event %d is given back: %s", self._group, item.position, item.reason
                )
            failure = failure_of(item.outcome, item.attempt, item.reason, self.settings)
            yield from self.record_failure(
                item, failure.state, failure.attempts, failure.delay, failure.reason
            )

    def _release(self, item: InFlightEvent, part: Slice) -> None:
        part.busy = None
        if item.after is not None:
            part.finished = item.after.merged_with(part.finished)
            self._slices.finished.add(item.slice)
        if item is self._probe:
            self._probe = None
        if part.pending:
            self._ready.append(item.slice)
        if item.outcome == "recorded":
            self._blocked_keys.add(item.key)
        if (
            item.is_tracked
            or item.outcome in ("retry", "park", "given back", "recorded")
            or item.slice in self.late_slices
        ):
            self.retries_at = 0.0  # the next event of its key may be due, and this one will be

    # One event -------------------------------------------------------------------------------

    def finish(self, item: InFlightEvent) -> Operation[None]:
        """Finish a tracked event."""
        yield Statement(
            "consumer_groups.ack", {**self._lease.parameters(), **event_parameters(item)}
        )

    def park_unreadable(self, item: InFlightEvent, attempts: int = 0) -> Operation[None]:
        """Park an event that cannot be decoded."""
        item.reason, item.error = "the event cannot be decoded", item.failure
        yield from self.record_failure(item, "parked", attempts)

    def record_failure(
        self,
        item: InFlightEvent,
        state: State,
        attempts: int,
        delay: float = 0,
        reason: str | None = None,
    ) -> Operation[None]:
        """Record that an event is to be retried, or is parked; by default for its own reason."""
        reason = item.reason if reason is None else reason
        ((recorded,),) = yield Statement(
            "consumer_groups.record_failure",
            {
                **self._lease.parameters(),
                **event_parameters(item),
                "state": state,
                "attempts": attempts,
                "delay": delay,
                "reason": reason,
                "error": item.error,
            },
        )
        if recorded and state == "parked":
            log_parked(self._group, item.position, attempts, reason, item.error)
        if recorded and (state != "parked" or self.settings.park_blocks_stream):
            self._blocked_keys.add(item.key)

    def record_attempt(self, item: InFlightEvent, attempt: int) -> Operation[bool]:
        """Count an attempt; return whether the event still has to be handled."""
        ((is_left,),) = yield Statement(
            "consumer_groups.record_attempt",
            {**self._lease.parameters(), **event_parameters(item), "attempt": attempt},
        )
        return bool(is_left)

    # Handing out -----------------------------------------------------------------------------

    def add(self, item: InFlightEvent) -> None:
        """Add the next event of a slice."""
        part = self._slices.by_number[item.slice]
        part.pending.append(item)
        self.waiting += 1
        if part.busy is None and len(part.pending) == 1:
            self._ready.append(item.slice)

    def add_retry(self, item: InFlightEvent) -> None:
        """Add a tracked event that is due for a retry."""
        self._blocked_keys.add(item.key)
        self.retries.append(item)
        self.late_slices.add(item.slice)

    def hand_out(self, limit: int, tracked_limit: int) -> Operation[list[InFlightEvent]]:
        """Choose the events that handlers get.

        Args:
            limit: how many at most.
            tracked_limit: how many of them may have an attempt counted before a handler gets them.
        """
        # Memory changes step by step, so that a connection lost in between loses no event.
        handed_out = self._handed_out
        while self.retries and len(handed_out) < min(limit, tracked_limit):
            item = self.retries[0]
            part = self._slices.by_number[item.slice]
            # If another event of the slice is in progress, the next look finds the row again.
            if part.busy is None:
                if (yield from self.record_attempt(item, item.attempt)):
                    part.busy = item
                    handed_out.append(item)
                self.late_slices.discard(item.slice)
            self.retries.popleft()
        for _ in range(len(self._ready)):
            if len(handed_out) >= limit:
                break
            if self._ready[0] in self.late_slices:
                self._ready.rotate(-1)
                continue
            part = self._slices.by_number[self._ready[0]]
            event: InFlightEvent | None
            if part.busy is None and part.pending and self._is_ready(part.pending[0], part):
                event = part.busy = part.pending[0]
                self._drop_first(part)
            else:
                event = yield from self._next_of(part, len(handed_out) < tracked_limit)
            self._ready.popleft()
            if event is not None:
                handed_out.append(event)
        self._handed_out = []
        return handed_out

    def _is_ready(self, item: InFlightEvent, part: Slice) -> bool:
        """Return whether a handler may get an event without a statement before."""
        return (
            item.failure is None
            and item.key not in self._blocked_keys
            and (item.position > part.suspect.position or not part.suspect.covers(item))
        )

    def _next_of(self, part: Slice, may_track: bool) -> Operation[InFlightEvent | None]:
        """Take the next event of a slice, unless it has to wait."""
        while part.busy is None and part.pending:
            item = part.pending[0]
            if item.key in self._blocked_keys:
                if (yield from self._enqueue(item)):
                    self._drop_first(part)
                    continue
                self._blocked_keys.discard(item.key)
            if item.failure is not None:
                yield from self.park_unreadable(item)
                self._drop_first(part)
                continue
            if part.suspect.covers(item):
                # One at a time, so that an event that kills its worker is identified.
                if self._probe is not None or not may_track:
                    self._ready.append(item.slice)
                    return None
                # The first attempt may have killed the worker that made it.
                if not (yield from self.record_attempt(item, 2)):
                    self._drop_first(part)
                    continue
                item.is_tracked, item.attempt = True, 2
                self._probe = item
            self._drop_first(part)
            part.busy = item
            return item
        return None

    def _enqueue(self, item: InFlightEvent) -> Operation[bool]:
        """Record that an event waits behind earlier ones of its key; return whether it waits."""
        ((queued,),) = yield Statement(
            "consumer_groups.enqueue", {**self._lease.parameters(), **event_parameters(item)}
        )
        return bool(queued)

    def _drop_first(self, part: Slice) -> None:
        part.pending.popleft()
        self.waiting -= 1


class Failure(NamedTuple):
    """How a failed event is recorded.

    Attributes:
        state: whether it is to be retried, or is parked.
        attempts: how many of its attempts count.
        delay: seconds before the retry.
        reason: why.
    """

    state: State
    attempts: int
    delay: float
    reason: str


def failure_of(outcome: Outcome, attempt: int, reason: str, settings: GroupSettings) -> Failure:
    """Return how to record that an event failed, is to be parked, or was given back."""
    if outcome == "given back":
        # Wait first: an event that is given back every time must not keep the workers busy.
        return Failure("retry", attempt - 1, settings.retry_after, reason)
    if outcome == "park":
        return Failure("parked", attempt, 0, reason)
    if attempt < settings.max_attempts:
        delay = Backoff(settings.retry_after, LONGEST_DELAY).delay(attempt)
        return Failure("retry", attempt, delay, reason)
    return Failure("parked", attempt, 0, f"failed {attempt} times: {reason}")


def log_parked(group: str, position: int, attempts: int, reason: str, error: str | None) -> None:
    """Log that a group has parked an event."""
    _log.error(
        "a group parked an event: %s",
        ": ".join(filter(None, (reason, error))),
        extra={"group": group, "position": position, "attempts": attempts},
    )


def event_parameters(item: InFlightEvent) -> dict[str, object]:
    """Return the parameters of an event for statements about it."""
    # Null if the event has a row of its own: its slice has already passed it.
    upto = {"upto": None, "upto_due_at": None, "upto_due_position": None}
    return {
        "position": item.position,
        "slice": item.slice,
        "key": item.key,
        "is_tracked": item.is_tracked,
        "due_at": None if item.due == IMMEDIATE else item.due[0],
        **(upto if item.after is None else item.after.named("upto")),
    }
