"""Plans: one worker's part of a consumer group: its slices, what it read for them, what it owes.

One thread or task runs the plans of a worker; nothing here is shared. What it holds in memory may
vanish at any moment: the rows say what is finished, and docs/explanation/consumer-groups.md why
that is enough.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from datetime import datetime
from math import inf
from uuid import UUID, uuid4

from indelible.core.operation import Operation, Statement
from indelible.core.retry import delay_after
from indelible.errors import (
    DecodingFailed,
    EpochMismatch,
    LeaseLost,
    LockTimeout,
    TransactionConflict,
    UnknownEventType,
    UpcastingFailed,
)
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState, reading_in
from indelible.streams.query_parameters import items_json
from indelible.streams.recorded_time import LAST_POSITION
from indelible.streams.rows import decode_rows

from . import admin, types
from .progress import IMMEDIATE, START, DueKey, InFlightEvent, Progress, Slice, in_columns

_log = logging.getLogger("indelible")

_ROOM = 1_000
"""How many events a worker holds that no handler has."""
_PAGE = 500
_SMALLEST_WINDOW = 1_000
_LARGEST_WINDOW = 200_000
_DELIVERED_AHEAD = 500
"""How many positions in advance a worker says that it hands out, so as to write that seldom."""
_LONGEST_BEAT = 1.0
_SAVE_PAUSE = 0.05
_AGAIN_PAUSE = 1.0
"""Seconds between two looks for what an operator replayed, and for what others left behind."""
_BLOCKED_PAUSE = 0.5
"""Seconds to the next attempt at what waited in vain for another transaction."""
_BLOCKED = (LockTimeout, TransactionConflict)
"""Errors if another transaction, of a handler say, holds what a statement needs."""
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 60.0
"""Seconds to the next look at what is due: a clock that was put forward is noticed."""


class Worker:
    """One worker of a group.

    Args:
        codec: reads the events.
        group: the group's name.
        name: the worker's name, for people.
    """

    def __init__(self, codec: Codec, group: str, name: str) -> None:
        self._codec = codec
        self.group = group
        self._name = name
        self._instance = uuid4()
        self.settings = types.GroupSettings()
        self._query: Query | None = None
        self.verdicts: deque[InFlightEvent] = deque()
        """What handlers said, to be carried out; any thread may append to it."""
        self._forget()

    def _forget(self) -> None:
        self.group_id = 0
        self.token = 0
        self._epoch: UUID | None = None
        self._seen: HeadState | None = None  # the head that it has read up to
        self._round = 0
        self._dealing: dict[str, object] | None = None  # a deal whose answer has not come
        self._deal_at = 0.0
        self._blocked: list[InFlightEvent] = []
        self._blocked_until = 0.0
        self._slices: dict[int, Slice] = {}
        self._finished: set[int] = set()
        self._ready: deque[int] = deque()
        self._handed: list[InFlightEvent] = []
        self._waiting = 0
        self._again: deque[InFlightEvent] = deque()
        self._held: set[str] = set()
        self._knows_held = True
        self._careful: InFlightEvent | None = None
        self._cursor = self._saved = self._delivered = START
        self._furthest = 0  # the furthest position at which a slice began
        self._look_at = 0.0  # when to look what is due
        self._window = _SMALLEST_WINDOW
        self._share, self._unowned = 0, 0
        self._beat_at = self._again_at = 0.0
        self.renewed_at = 0.0
        """When it renewed its lease last, on the clock of `turn`."""

    @property
    def slices(self) -> int:
        """How many slices it has."""
        return len(self._slices)

    def lose(self) -> None:
        """Forget everything: the lease is over. What handlers still say does not count."""
        self.verdicts.clear()
        self._forget()

    def check(self) -> Operation[None]:
        """Check that there is such a group.

        Raises:
            GroupNotFound: there is none.
        """
        yield from admin.settings_of(self.group)

    # What one turn does ----------------------------------------------------------------------

    def turn(
        self, now: float, head: int, wanted: int, wanted_noted: int
    ) -> Operation[list[InFlightEvent]]:
        """Carry out what handlers said, keep the lease, read on, and hand out what is ready.

        Args:
            now: the time on a clock that never goes back, in seconds.
            head: the settled position.
            wanted: how many events to hand out at most.
            wanted_noted: how many of them may be such as are counted before a handler has them.

        Returns:
            The events for handlers, each the only one of its slice.

        Raises:
            LeaseLost: others have taken over.
            GroupNotFound: the group was deleted.
        """
        if not self.token:
            yield from self._join(now)
        yield from self._end_deal()
        yield from self._carry_out(now)
        yield from self._keep_lease(now)
        yield from self._learn_held()
        yield from self._look_again(now)
        try:
            yield from self._read_on(now, head)
        except EpochMismatch as error:  # what is in memory may be of events that are gone
            raise LeaseLost from error
        return (yield from self._hand_out(wanted, wanted_noted))

    def head_of(self, state: HeadState | None) -> int:
        """Give the head up to which it may read: of a log of another epoch nothing is known."""
        if state is None or state.epoch != self._epoch:
            return 0
        # The head may go back for a moment; reads name the highest that the worker has seen.
        if self._seen is None or state.position >= self._seen.position:
            self._seen = state
        return state.position

    def _log(self) -> dict[str, object]:
        """Name the log that it reads."""
        seen = self._seen
        if seen is None or seen.event_id is None:
            return {"epoch": self._epoch, "anchor": None, "anchor_id": None}
        return reading_in(seen, (seen.position, seen.event_id))

    def pause(self, now: float, head: int) -> float:
        """Say for how many seconds there is nothing to do unless something happens."""
        may_read = self._slices and self._waiting < _ROOM
        if self.verdicts or (may_read and self._cursor.position < head):
            return 0
        # What is due already waits for somebody who takes it.
        soonest = self._beat_at if self._again else min(self._beat_at, self._again_at)
        if may_read and self.settings.due:
            soonest = min(soonest, self._look_at)
        if self._blocked:
            soonest = min(soonest, self._blocked_until)
        if self._has_progress():
            soonest = min(soonest, self._beat_at - self._beat_pause() + _SAVE_PAUSE)
        return max(soonest - now, 0)

    def leave(self) -> Operation[None]:
        """Carry out what handlers said, and give everything back for others to go on with."""
        if not self.token:
            return
        yield from self._carry_out(inf)
        for part in self._slices.values():
            if part.busy is not None and part.busy.is_noted:
                yield from self._note(part.busy, "retry", part.busy.attempt - 1, 0)
        yield Statement("consumer_groups.leave", {**self._lease(), **self._places()})
        self._forget()

    # The lease -------------------------------------------------------------------------------

    def _lease(self) -> dict[str, object]:
        return {"group_id": self.group_id, "token": self.token}

    def renewal(self) -> Statement | None:
        """Give the statement that only renews the lease; None where it has none."""
        return Statement("consumer_groups.renew_lease", self._lease()) if self.token else None

    def _join(self, now: float) -> Operation[None]:
        self.settings = yield from admin.settings_of(self.group)
        query = self.settings.query
        self._query = query and self._codec.upcasting.current(query)
        ((group_id, token, epoch),) = yield Statement(
            "consumer_groups.join",
            {"group": self.group, "worker": self._name, "instance": self._instance},
        )
        if token is None:
            yield from admin.not_found(self.group)
        self.group_id, self.token, self._epoch = group_id, token, epoch
        yield from self._beat(now)

    def _beat_pause(self) -> float:
        return min(_LONGEST_BEAT, self.settings.lease / 3)

    def _keep_lease(self, now: float) -> Operation[None]:
        since = now - (self._beat_at - self._beat_pause())
        if now >= self._beat_at or (since >= _SAVE_PAUSE and self._has_progress()):
            yield from self._beat(now)
        have = len(self._slices)
        if now < self._deal_at:
            return
        try:
            if have > self._share:
                yield from self._deal(self._surplus(have - self._share), 0)
            elif have < self._share and self._unowned:
                yield from self._deal([], self._share - have)
        except _BLOCKED:  # a handler's transaction holds the row of a slice
            self._dealing = None
            self._deal_at = now + _BLOCKED_PAUSE

    def _beat(self, now: float) -> Operation[None]:
        yield from self._tell(self._checkpoint(), self._delivered)
        self._beat_at, self.renewed_at = now + self._beat_pause(), now

    def _tell(self, checkpoint: Progress, delivered: Progress) -> Operation[None]:
        found = {number: self._slices[number] for number in self._finished & self._slices.keys()}
        above = {
            number: part.finished
            for number, part in found.items()
            if part.finished.joined(checkpoint) != checkpoint
        }
        ((self._share, self._unowned),) = yield Statement(
            "consumer_groups.heartbeat",
            {
                **self._lease(),
                "round": self._round,
                **checkpoint.named("checkpoint"),
                **delivered.named("delivered"),
                **in_columns(above),
            },
        )
        self._finished.clear()
        self._saved, self._delivered = checkpoint, delivered

    def _has_progress(self) -> bool:
        # That time has passed in which nothing became due need not be written.
        return bool(self._finished) or self._checkpoint().position > self._saved.position

    def _checkpoint(self) -> Progress:
        # The places that a worker comes to, one after the other, grow on both sides.
        found = self._cursor
        for part in self._slices.values():
            if (part.busy is not None or part.pending) and (item := part.first) is not None:
                found = min(found, item.floor)
        return found

    def _places(self) -> dict[str, object]:
        return in_columns(
            {number: part.place(self._cursor) for number, part in self._slices.items()}
        )

    def _surplus(self, count: int) -> list[int]:
        """Slices to give back: the idle ones first, none that a handler is at work for."""
        free = [number for number, part in self._slices.items() if part.busy is None]
        free.sort(key=lambda number: len(self._slices[number].pending))
        return free[:count]

    def _deal(self, given_back: list[int], wanted: int) -> Operation[None]:
        if not given_back and not wanted:
            return
        self._dealing = {
            **self._lease(),
            "round": self._round,
            **self._places(),
            "given_back": given_back,
            "wanted": wanted,
        }
        yield from self._end_deal()

    def _end_deal(self) -> Operation[None]:
        """Have slices dealt as was begun: where the answer was lost, once more in the same way."""
        if self._dealing is None:
            return
        rows = yield Statement("consumer_groups.rebalance", self._dealing)
        self._dealing = None
        self._round += 1
        self._unowned = 0
        before, self._slices = self._slices, {}
        for number, *finished, position, moment, place in rows:
            part = before.pop(number, None)
            after = Progress.at(*finished)
            if part is None:
                part = Slice(after, Progress.at(position, moment, place), taken=after)
            else:
                part.finished = after
                part.taken = part.taken.joined(self._cursor)
            self._slices[number] = part
        self._waiting -= sum(len(part.pending) for part in before.values())
        self._ready = deque(number for number in self._ready if number in self._slices)
        parts = self._slices.values()
        self._cursor = self._saved = Progress(
            min((part.finished.position for part in parts), default=0),
            min((part.finished.due for part in parts), default=IMMEDIATE),
        )
        self._furthest = max((part.taken.position for part in parts), default=0)
        self._look_at = 0.0
        # What is in memory already was come to on another way.
        for part in parts:
            for item in (part.busy, *part.pending):
                if item is not None:
                    item.floor = self._cursor
        self._knows_held = False
        self._again.clear()
        self._again_at = 0.0

    def _learn_held(self) -> Operation[None]:
        if not self._knows_held:
            rows = yield Statement(
                "consumer_groups.blocked_keys",
                {**self._lease(), "hold_back": self.settings.hold_back},
            )
            self._held = {key for (key,) in rows}
            self._knows_held = True

    # What handlers said ----------------------------------------------------------------------

    def _carry_out(self, now: float) -> Operation[None]:
        """Carry out what handlers said.

        Args:
            now: the time; infinity when the worker leaves, which gives back by itself.
        """
        if self._blocked and now >= self._blocked_until:
            self.verdicts.extend(self._blocked)
            self._blocked.clear()
        while self.verdicts:
            item = self.verdicts[0]
            part = self._slices.get(item.slice)
            # After a lost lease others are at work on it.
            if item.token == self.token and part is not None and part.busy is item:
                if item.rest and item.verdict in ("finished", "settled"):
                    self._hand_out_rest(item, part)
                elif item.verdict != "given back" or now < inf:
                    try:
                        yield from self._judge(item)
                    except _BLOCKED:
                        # Its handler's transaction, of which it only heard that the connection was
                        # lost, may still commit. What else there is goes on, the lease first.
                        self._blocked.append(self.verdicts.popleft())
                        self._blocked_until = now + _BLOCKED_PAUSE
                        if now < inf:
                            return
                        continue
                    self._release(item)
            self.verdicts.popleft()

    def _hand_out_rest(self, item: InFlightEvent, part: Slice) -> None:
        event, *rest = item.rest
        following = replace(item, event=event, rest=tuple(rest), verdict=None)
        part.busy = following
        self._handed.append(following)
        if item is self._careful:
            self._careful = following

    def _judge(self, item: InFlightEvent) -> Operation[None]:
        if item.verdict == "finished" and item.is_noted:
            yield from self._finish(item)
        elif item.verdict == "retry":
            if item.attempt < self.settings.max_attempts:
                delay = delay_after(item.attempt, self.settings.retry_after)
                yield from self._note(item, "retry", item.attempt, delay)
            else:
                item.reason = f"failed {item.attempt} times: {item.reason}"
                yield from self._note(item, "parked", item.attempt, 0)
        elif item.verdict == "park":
            yield from self._note(item, "parked", item.attempt, 0)
        elif item.verdict == "given back":
            _log.warning(
                "group %r: event %d is given back: %s", self.group, item.position, item.reason
            )
            # Not at once, so that what is given back each time keeps nobody busy.
            yield from self._note(item, "retry", item.attempt - 1, self.settings.retry_after)

    def _finish(self, item: InFlightEvent) -> Operation[None]:
        yield Statement("consumer_groups.ack", {**self._lease(), **_named(item)})

    def _note(
        self, item: InFlightEvent, state: types.State, attempts: int, delay: float
    ) -> Operation[None]:
        ((noted,),) = yield Statement(
            "consumer_groups.record_failure",
            {
                **self._lease(),
                **_named(item),
                "state": state,
                "attempts": attempts,
                "delay": delay,
                "reason": item.reason,
                "error": item.error,
            },
        )
        if noted and state == "parked":
            _log.error(
                "a group parks an event: %s",
                ": ".join(filter(None, (item.reason, item.error))),
                extra={"group": self.group, "position": item.position, "attempts": attempts},
            )
        if noted and (state != "parked" or self.settings.hold_back):
            self._held.add(item.key)

    def _release(self, item: InFlightEvent) -> None:
        part = self._slices[item.slice]
        part.busy = None
        if item.after is not None:
            part.finished = part.finished.joined(item.after)
            self._finished.add(item.slice)
        if item is self._careful:
            self._careful = None
        if part.pending:
            self._ready.append(item.slice)
        if item.is_noted or item.verdict in ("retry", "park", "given back"):
            self._again_at = 0.0  # the next of its key may be due, and this one will be

    # What comes ------------------------------------------------------------------------------

    def _look_again(self, now: float) -> Operation[None]:
        if now < self._again_at or self._again:
            return
        self._again_at = now + _AGAIN_PAUSE
        rows = yield Statement(
            "consumer_groups.fetch_retries", {**self._lease(), "hold_back": self.settings.hold_back}
        )
        for row in rows:
            state, attempts, seconds = row[13:]
            if seconds > 0:
                self._again_at = min(self._again_at, now + seconds)
                break  # in order of time
            item = self._item(row)
            item.is_noted, item.attempt = True, attempts + 1
            part = self._slices.get(item.slice)
            if part is None or part.busy is not None:
                continue
            if item.is_nothing:  # nobody can handle it, and others wait for it
                yield from self._attempt(item, item.attempt)
                yield from self._finish(item)
                self._again_at = 0.0
            elif state == "running" and attempts >= self.settings.max_attempts:
                item.reason = f"its worker died at attempt {attempts}"
                yield from self._note(item, "parked", attempts, 0)
            elif item.failure is not None:
                item.reason, item.error = "it cannot be read", item.failure
                yield from self._note(item, "parked", attempts, 0)
            elif item.event is not None and item.event.is_erased:
                # Since it was noted: nobody is to handle it any more.
                yield from self._attempt(item, item.attempt)
                yield from self._finish(item)
                self._again_at = 0.0
            else:
                self._held.add(item.key)
                self._again.append(item)

    def _read_on(self, now: float, head: int) -> Operation[None]:
        if not self._slices or self._waiting >= _ROOM:
            return
        has_more = self._cursor.position < head
        if self.settings.due and (has_more or now >= self._look_at):
            # First, so that what is late comes with the log, in its order.
            is_whole = yield from self._read_due(now)
            has_more = has_more and is_whole
        if has_more:
            yield from self._read_log(head)

    def _read_log(self, head: int) -> Operation[None]:
        """Read on in the log, without what is yet to become due."""
        cursor = self._cursor
        upto = min(head, cursor.position + self._window)
        rows = yield Statement(
            "consumer_groups.fetch",
            {**self._reading(), "after": cursor.position, "upto": upto, "limit": _PAGE},
            # The best plan depends on the filters.
            prepared=False,
        )
        is_full = len(rows) == _PAGE
        reached = rows[-1][0] if is_full else upto
        # So many positions as a page is likely to need: no statement looks at many in vain, and
        # none at all of a log in which little matches.
        self._window = 2 * (reached - cursor.position) if is_full else 2 * self._window
        self._window = max(_SMALLEST_WINDOW, min(self._window, _LARGEST_WINDOW))
        # Where nothing is found the lease may be over: that comes to light at the next beat, which
        # is what moves the checkpoint.
        found = []
        for row in rows:
            item = self._item(row, row[13])
            taken = self._slices[item.slice].taken
            if item.is_nothing or item.position <= taken.position:
                continue
            if item.due > max(cursor.due, taken.due):
                self._look_at = 0.0  # to learn when it is due
                continue
            before, after = item.position - 1, item.position
            item.stands_between(Progress(before, cursor.due), Progress(after, cursor.due), taken)
            found.append(item)
        yield from self._come_to(Progress(reached, cursor.due), found, _DELIVERED_AHEAD)

    def _read_due(self, now: float) -> Operation[bool]:
        """Read what has become due of what was passed in the log; say whether that was all."""
        cursor = self._cursor
        above = {"above_moment": cursor.due[0], "above_position": cursor.due[1]}
        upto = max(cursor.position, self._furthest)
        ((moment, next_due),) = yield Statement(
            "subscriptions.next_due", {**above, **self._log(), "upto": upto}
        )
        # Never back, where the server's clock was put back.
        reached = max(cursor.due, (moment, LAST_POSITION))
        if next_due is None or next_due > moment:
            seconds = _LONGEST_WAIT
            if next_due is not None:
                seconds = min((next_due - moment).total_seconds(), _LONGEST_WAIT)
            self._look_at = now + max(seconds, _SHORTEST_WAIT)
            self._cursor = Progress(cursor.position, reached)
            return True
        # So many at most, whoever they fall to: thousands may have become due since.
        window = yield Statement(
            "consumer_groups.due_window", {**above, "count": _PAGE}, prepared=False
        )
        is_whole = not window or window[0] > reached
        if not is_whole:
            reached = window[0][0], window[0][1]
        rows = yield Statement(
            "consumer_groups.fetch_due",
            {
                **self._reading(),
                **above,
                "until_moment": reached[0],
                "until_position": reached[1],
                "upto": upto,
            },
            prepared=False,
        )
        found = []
        for row in rows:
            item = self._item(row, row[13])
            taken = self._slices[item.slice].taken
            if (
                item.is_nothing
                or item.due <= taken.due
                or item.position > max(cursor.position, taken.position)
            ):
                continue
            item.stands_between(
                Progress(cursor.position, (item.due[0], item.position - 1)),
                Progress(cursor.position, item.due),
                taken,
            )
            found.append(item)
        self._look_at = 0.0
        yield from self._come_to(Progress(cursor.position, reached), found)
        return is_whole

    def _reading(self) -> dict[str, object]:
        return {
            **self._lease(),
            **self._log(),
            "items": items_json(self._query and self._codec.upcasting.stored(self._query)),
            "partition_by": _partition_by(self.settings),
        }

    def _come_to(
        self, place: Progress, found: list[InFlightEvent], ahead: int = 0
    ) -> Operation[None]:
        """Take what was found on the way to a place, having said that it will be handed out."""
        if found:
            last = Progress(max(item.position for item in found), max(item.due for item in found))
            if self._delivered.joined(last) != self._delivered:
                said = Progress(last.position + ahead, last.due)
                yield from self._tell(self._saved, self._delivered.joined(said))
        for item in found:
            part = self._slices[item.slice]
            part.pending.append(item)
            self._waiting += 1
            if part.busy is None and len(part.pending) == 1:
                self._ready.append(item.slice)
        self._cursor = place

    def _item(self, row: tuple[object, ...], due_at: object = None) -> InFlightEvent:
        events: list[RecordedEvent] = []
        failure = None
        try:
            if row[1] is not None:
                events, _ = decode_rows(self._codec, [row[:11]], query=self._query)
        except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
            failure = str(error)
        position, key, number = row[0], row[11], row[12]
        assert isinstance(position, int) and isinstance(key, str) and isinstance(number, int)  # noqa: S101, PT018
        due: DueKey = IMMEDIATE
        if self.settings.due and isinstance(due_at, datetime):
            due = due_at, position
        event = events[0] if events else None
        rest = tuple(events[1:])
        return InFlightEvent(
            event, position, key, number, due, rest, token=self.token, failure=failure
        )

    # What goes out ---------------------------------------------------------------------------

    def _hand_out(self, wanted: int, wanted_noted: int) -> Operation[list[InFlightEvent]]:
        # In memory step by step, so that a lost connection in between loses nothing.
        handed = self._handed
        while self._again and len(handed) < min(wanted, wanted_noted):
            item = self._again[0]
            part = self._slices[item.slice]
            # Where another is at work its row is found again.
            if part.busy is None and (yield from self._attempt(item, item.attempt)):
                part.busy = item
                handed.append(item)
            self._again.popleft()
        for _ in range(len(self._ready)):
            if len(handed) >= wanted:
                break
            part = self._slices[self._ready[0]]
            found = yield from self._next_of(part, len(handed) < wanted_noted)
            self._ready.popleft()
            if found is not None:
                handed.append(found)
        self._handed = []
        return handed

    def _next_of(self, part: Slice, may_count: bool) -> Operation[InFlightEvent | None]:
        """Take the next event of a slice that has any, unless it has to wait."""
        while part.busy is None and part.pending:
            item = part.pending[0]
            if item.key in self._held:
                ((queued,),) = yield Statement(
                    "consumer_groups.enqueue", {**self._lease(), **_named(item)}
                )
                if queued:
                    self._drop_first(part)
                    continue
                self._held.discard(item.key)
            if item.failure is not None:
                item.reason, item.error = "it cannot be read", item.failure
                yield from self._note(item, "parked", 0, 0)
                self._drop_first(part)
                continue
            if part.suspect.covers(item):
                # One at a time, so that the right one is found out.
                if self._careful is not None or not may_count:
                    self._ready.append(item.slice)
                    return None
                # The first attempt is the one that its worker may have died of.
                if not (yield from self._attempt(item, 2)):
                    self._drop_first(part)
                    continue
                item.is_noted, item.attempt = True, 2
                self._careful = item
            self._drop_first(part)
            part.busy = item
            return item
        return None

    def _drop_first(self, part: Slice) -> None:
        part.pending.popleft()
        self._waiting -= 1

    def _attempt(self, item: InFlightEvent, attempt: int) -> Operation[bool]:
        """Count an attempt; say whether there is anything left to be handled."""
        ((is_left,),) = yield Statement(
            "consumer_groups.record_attempt", {**self._lease(), **_named(item), "attempt": attempt}
        )
        return bool(is_left)


def finish(worker: Worker, item: InFlightEvent) -> Operation[None]:
    """Finish an event in the transaction that the plan runs in.

    Of several that upcasters made of a stored one, the last finishes them all.

    Raises:
        LeaseLost: the event belongs to another worker now, or was finished before.
    """
    if item.token != worker.token:
        raise LeaseLost
    if item.rest:
        return
    ((finished,),) = yield Statement(
        "consumer_groups.ack", {"group_id": worker.group_id, "token": item.token, **_named(item)}
    )
    if not finished:
        raise LeaseLost(
            f"event {item.position} is finished already: an earlier transaction of its handler was"
            " committed, and nothing of this one was stored"
        )


def _named(item: InFlightEvent) -> dict[str, object]:
    """What statements about one event are told of it."""
    # Nulls where its row says that it comes again: its slice has passed it.
    upto = {"upto": None, "upto_moment": None, "upto_place": None}
    return {
        "position": item.position,
        "slice": item.slice,
        "key": item.key,
        "is_noted": item.is_noted,
        "due_moment": None if item.due == IMMEDIATE else item.due[0],
        **(upto if item.after is None else item.after.named("upto")),
    }


def _partition_by(settings: types.GroupSettings) -> str | None:
    return None if settings.partition_by == "stream" else settings.partition_by
