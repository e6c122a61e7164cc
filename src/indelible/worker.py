"""Plans: one worker's part of a consumer group: its slices, what it read for them, what it owes.

One thread or task runs the plans of a worker; nothing here is shared. What it holds in memory may
vanish at any moment: the rows say what is finished, and docs/explanation/groups.md why that is
enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from . import groups
from .codec import Codec
from .errors import DecodingFailed, LeaseLost, UnknownEventType, UpcastingFailed
from .events import RecordedEvent
from .plan import Call, Plan
from .query import Query
from .read import current_query, decode_rows, items_json

_ROOM = 1_000
"""How many events a worker holds that no handler has."""
_PAGE = 500
_SMALLEST_WINDOW = 1_000
_LARGEST_WINDOW = 200_000
_DELIVERED_AHEAD = 500
"""How many positions in advance a worker says that it hands out, so as to write that seldom."""
_LONGEST_BEAT = 1.0
_SAVE_PAUSE = 0.05
_DUE_PAUSE = 1.0
"""Seconds between two looks for what an operator replayed, and for what others left behind."""
_LONGEST_RETRY = 3600.0

Verdict = Literal["finished", "settled", "retry", "park"]


@dataclass(slots=True, eq=False)
class Item:
    """An event that falls to this worker.

    Attributes:
        event: the event; None where it does not fit the registered classes, and where upcasters
            leave nothing of it that the group reads.
        rest: what else upcasters made of it, to be handed out after it. The place is finished with
            the last of them.
        position, key, slice: where it stands, and what it is kept in order with.
        is_noted: whether it has a row of its own: it was tried before, or waited for another.
        attempt: which attempt this is.
        token: the lease under which it was handed out.
        failure: why it cannot be read.
        verdict: what its handler said.
        reason, error: why, where it is to be tried again or parked.
    """

    event: RecordedEvent | None
    position: int
    key: str
    slice: int
    rest: tuple[RecordedEvent, ...] = ()
    is_noted: bool = False
    attempt: int = 1
    token: int = 0
    failure: str | None = None
    verdict: Verdict | None = None
    reason: str = ""
    error: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing of it to be handled."""
        return self.event is None and self.failure is None


@dataclass(slots=True)
class _Slice:
    after: int
    suspect: int
    taken: int  # the last position that came into memory
    finished: int = 0  # the last position that a handler finished
    busy: Item | None = None
    pending: deque[Item] = field(default_factory=deque)

    def position(self, cursor: int) -> int:
        """Up to here its events are finished, or have rows of their own."""
        if self.busy is not None and not self.busy.is_noted:
            return self.busy.position - 1
        if self.pending:
            return self.pending[0].position - 1
        return max(self.after, cursor)


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
        self.settings = groups.GroupSettings()
        self._query: Query | None = None
        self.verdicts: deque[Item] = deque()
        """What handlers said, to be carried out; any thread may append to it."""
        self._forget()

    def _forget(self) -> None:
        self.group_id = 0
        self.token = 0
        self._round = 0
        self._slices: dict[int, _Slice] = {}
        self._finished: set[int] = set()
        self._ready: deque[int] = deque()
        self._handed: list[Item] = []
        self._waiting = 0
        self._due: deque[Item] = deque()
        self._held: set[str] = set()
        self._knows_held = True
        self._careful: Item | None = None
        self._cursor = 0
        self._window = _SMALLEST_WINDOW
        self._saved = self._delivered = 0
        self._share, self._unowned = 0, 0
        self._beat_at = self._due_at = 0.0

    @property
    def slices(self) -> int:
        """How many slices it has."""
        return len(self._slices)

    @property
    def in_flight(self) -> int:
        """How many events are with handlers."""
        return sum(part.busy is not None for part in self._slices.values())

    def lose(self) -> None:
        """Forget everything: the lease is over. What handlers still say does not count."""
        self.verdicts.clear()
        self._forget()

    def check(self) -> Plan[None]:
        """Check that there is such a group.

        Raises:
            GroupNotFound: there is none.
        """
        yield from groups.settings_of(self.group)

    # What one turn does ----------------------------------------------------------------------

    def turn(self, now: float, head: int, wanted: int, wanted_noted: int) -> Plan[list[Item]]:
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
        yield from self._carry_out()
        yield from self._keep_lease(now)
        yield from self._learn_held()
        yield from self._look_for_due(now)
        yield from self._read_on(head)
        return (yield from self._hand_out(wanted, wanted_noted))

    def pause(self, now: float, head: int) -> float:
        """Say for how many seconds there is nothing to do unless something happens."""
        if self.verdicts or (self._slices and self._cursor < head and self._waiting < _ROOM):
            return 0
        # What is due already waits for somebody who takes it.
        soonest = self._beat_at if self._due else min(self._beat_at, self._due_at)
        if self._has_progress():
            soonest = min(soonest, self._beat_at - self._beat_pause() + _SAVE_PAUSE)
        return max(soonest - now, 0)

    def leave(self) -> Plan[None]:
        """Carry out what handlers said, and give everything back for others to go on with."""
        if not self.token:
            return
        yield from self._carry_out()
        for part in self._slices.values():
            if part.busy is not None and part.busy.is_noted:
                yield from self._note(part.busy, "retry", part.busy.attempt - 1, 0)
        numbers, positions = self._places()
        yield Call(
            "group_leave",
            {**self._lease(), "round": self._round, "slices": numbers, "positions": positions},
        )
        self._forget()

    # The lease -------------------------------------------------------------------------------

    def _lease(self) -> dict[str, object]:
        return {"group_id": self.group_id, "token": self.token}

    def _join(self, now: float) -> Plan[None]:
        self.settings = yield from groups.settings_of(self.group)
        self._query = current_query(self._codec, self.settings.query)
        ((group_id, token),) = yield Call("group_join", {"group": self.group, "worker": self._name})
        if token is None:
            yield from groups.not_found(self.group)
        self.group_id, self.token = group_id, token
        yield from self._beat(now)

    def _beat_pause(self) -> float:
        return min(_LONGEST_BEAT, self.settings.lease / 3)

    def _keep_lease(self, now: float) -> Plan[None]:
        since = now - (self._beat_at - self._beat_pause())
        if now >= self._beat_at or (since >= _SAVE_PAUSE and self._has_progress()):
            yield from self._beat(now)
        have = len(self._slices)
        if have > self._share:
            yield from self._deal(self._surplus(have - self._share), 0)
        elif have < self._share and self._unowned:
            yield from self._deal([], self._share - have)

    def _beat(self, now: float) -> Plan[None]:
        yield from self._tell(self._checkpoint(), self._delivered)
        self._beat_at = now + self._beat_pause()

    def _tell(self, checkpoint: int, delivered: int) -> Plan[None]:
        above = {
            number: self._slices[number].finished
            for number in self._finished
            if number in self._slices and self._slices[number].finished > checkpoint
        }
        ((self._share, self._unowned),) = yield Call(
            "group_beat",
            {
                **self._lease(),
                "round": self._round,
                "checkpoint": checkpoint,
                "delivered": delivered,
                "slices": list(above),
                "positions": list(above.values()),
            },
        )
        self._finished.clear()
        self._saved, self._delivered = checkpoint, delivered

    def _has_progress(self) -> bool:
        return bool(self._finished) or self._checkpoint() > self._saved

    def _checkpoint(self) -> int:
        found = self._cursor
        for part in self._slices.values():
            if part.busy is not None or part.pending:
                found = min(found, part.position(self._cursor))
        return found

    def _places(self) -> tuple[list[int], list[int]]:
        places = {number: part.position(self._cursor) for number, part in self._slices.items()}
        return list(places), list(places.values())

    def _surplus(self, count: int) -> list[int]:
        """Slices to give back: the idle ones first, none that a handler is at work for."""
        free = [number for number, part in self._slices.items() if part.busy is None]
        free.sort(key=lambda number: len(self._slices[number].pending))
        return free[:count]

    def _deal(self, given_back: list[int], wanted: int) -> Plan[None]:
        if not given_back and not wanted:
            return
        numbers, positions = self._places()
        rows = yield Call(
            "group_deal",
            {
                **self._lease(),
                "round": self._round,
                "slices": numbers,
                "positions": positions,
                "given_back": given_back,
                "wanted": wanted,
            },
        )
        self._round += 1
        self._unowned = 0
        before, self._slices = self._slices, {}
        for number, after, suspect in rows:
            part = before.pop(number, None)
            if part is None:
                part = _Slice(after, suspect, taken=after)
            part.after = after
            self._slices[number] = part
        self._waiting -= sum(len(part.pending) for part in before.values())
        self._ready = deque(number for number in self._ready if number in self._slices)
        self._cursor = min((part.after for part in self._slices.values()), default=0)
        self._saved = self._cursor
        self._knows_held = False
        self._due.clear()
        self._due_at = 0.0

    def _learn_held(self) -> Plan[None]:
        if not self._knows_held:
            rows = yield Call("group_held", {**self._lease(), "hold_back": self.settings.hold_back})
            self._held = {key for (key,) in rows}
            self._knows_held = True

    # What handlers said ----------------------------------------------------------------------

    def _carry_out(self) -> Plan[None]:
        while self.verdicts:
            item = self.verdicts[0]
            part = self._slices.get(item.slice)
            # After a lost lease others are at work on it.
            if item.token == self.token and part is not None and part.busy is item:
                if item.rest and item.verdict in ("finished", "settled"):
                    self._hand_out_rest(item, part)
                else:
                    yield from self._judge(item)
                    self._release(item)
            self.verdicts.popleft()

    def _hand_out_rest(self, item: Item, part: _Slice) -> None:
        event, *rest = item.rest
        following = replace(item, event=event, rest=tuple(rest), verdict=None)
        part.busy = following
        self._handed.append(following)
        if item is self._careful:
            self._careful = following

    def _judge(self, item: Item) -> Plan[None]:
        if item.verdict == "finished" and item.is_noted:
            yield from self._finish(item)
        elif item.verdict == "retry":
            if item.attempt < self.settings.max_attempts:
                delay = min(self.settings.retry_after * 2 ** (item.attempt - 1), _LONGEST_RETRY)
                yield from self._note(item, "retry", item.attempt, delay)
            else:
                item.reason = f"failed {item.attempt} times: {item.reason}"
                yield from self._note(item, "parked", item.attempt, 0)
        elif item.verdict == "park":
            yield from self._note(item, "parked", item.attempt, 0)

    def _finish(self, item: Item) -> Plan[None]:
        yield Call(
            "group_finish",
            {**self._lease(), "position": item.position, "slice": item.slice, "is_noted": True},
        )

    def _note(self, item: Item, state: groups.State, attempts: int, delay: float) -> Plan[None]:
        ((noted,),) = yield Call(
            "group_note",
            {
                **self._lease(),
                "position": item.position,
                "slice": item.slice,
                "key": item.key,
                "is_noted": item.is_noted,
                "state": state,
                "attempts": attempts,
                "delay": delay,
                "reason": item.reason,
                "error": item.error,
            },
        )
        if noted and (state != "parked" or self.settings.hold_back):
            self._held.add(item.key)

    def _release(self, item: Item) -> None:
        part = self._slices[item.slice]
        part.busy = None
        part.finished = item.position
        self._finished.add(item.slice)
        if item is self._careful:
            self._careful = None
        if part.pending:
            self._ready.append(item.slice)
        if item.is_noted or item.verdict in ("retry", "park"):
            self._due_at = 0.0  # the next of its key may be due, and this one will be

    # What comes ------------------------------------------------------------------------------

    def _look_for_due(self, now: float) -> Plan[None]:
        if now < self._due_at or self._due:
            return
        self._due_at = now + _DUE_PAUSE
        rows = yield Call("group_due", {**self._lease(), "hold_back": self.settings.hold_back})
        for row in rows:
            state, attempts, seconds = row[13:]
            if seconds > 0:
                self._due_at = min(self._due_at, now + seconds)
                break  # in order of time
            item = self._item(row)
            item.is_noted = True
            part = self._slices.get(item.slice)
            if part is None or part.busy is not None:
                continue
            if item.is_nothing:  # nobody can handle it, and others wait for it
                yield from self._attempt(item)
                yield from self._finish(item)
                self._due_at = 0.0
            elif state == "running" and attempts >= self.settings.max_attempts:
                item.reason = f"its worker died at attempt {attempts}"
                yield from self._note(item, "parked", attempts, 0)
            elif item.failure is not None:
                item.reason, item.error = "it cannot be read", item.failure
                yield from self._note(item, "parked", attempts, 0)
            elif item.event is not None and item.event.is_erased:
                # Since it was noted: nobody is to handle it any more.
                yield from self._attempt(item)
                yield from self._finish(item)
                self._due_at = 0.0
            else:
                self._held.add(item.key)
                self._due.append(item)

    def _read_on(self, head: int) -> Plan[None]:
        if not self._slices or self._waiting >= _ROOM or self._cursor >= head:
            return
        upto = min(head, self._cursor + self._window)
        rows = yield Call(
            "group_next",
            {
                **self._lease(),
                "items": items_json(self._query and self._codec.upcasting.stored(self._query)),
                "partition_by": _partition_by(self.settings),
                "after": self._cursor,
                "upto": upto,
                "limit": _PAGE,
            },
            # The best plan depends on the filters.
            prepared=False,
        )
        is_full = len(rows) == _PAGE
        reached = rows[-1][0] if is_full else upto
        # So many positions as a page is likely to need: no statement looks at many in vain, and
        # none at all of a log in which little matches.
        self._window = 2 * (reached - self._cursor) if is_full else 2 * self._window
        self._window = max(_SMALLEST_WINDOW, min(self._window, _LARGEST_WINDOW))
        if not rows:
            # Where the lease is over nothing is found either: that comes to light at the next
            # beat, which is what moves the checkpoint.
            self._cursor = upto
            return
        last = rows[-1][0]
        if last > self._delivered:
            yield from self._tell(self._saved, last + _DELIVERED_AHEAD)
        for row in rows:
            item = self._item(row)
            part = self._slices[item.slice]
            if item.position <= part.taken:
                continue
            part.taken = item.position
            if item.is_nothing:
                continue
            part.pending.append(item)
            self._waiting += 1
            if part.busy is None and len(part.pending) == 1:
                self._ready.append(item.slice)
        self._cursor = reached

    def _item(self, row: tuple[object, ...]) -> Item:
        events: list[RecordedEvent] = []
        failure = None
        try:
            if row[1] is not None:
                events, _ = decode_rows(self._codec, [row[:11]], query=self._query)
        except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
            failure = str(error)
        position, key, number = row[0], row[11], row[12]
        assert isinstance(position, int) and isinstance(key, str) and isinstance(number, int)  # noqa: S101, PT018
        event = events[0] if events else None
        rest = tuple(events[1:])
        return Item(event, position, key, number, rest, token=self.token, failure=failure)

    # What goes out ---------------------------------------------------------------------------

    def _hand_out(self, wanted: int, wanted_noted: int) -> Plan[list[Item]]:
        # In memory step by step, so that a lost connection in between loses nothing.
        handed = self._handed
        while self._due and len(handed) < min(wanted, wanted_noted):
            item = self._due[0]
            part = self._slices[item.slice]
            if part.busy is None:  # otherwise its row is found again
                item.attempt = yield from self._attempt(item)
                part.busy = item
                handed.append(item)
            self._due.popleft()
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

    def _next_of(self, part: _Slice, may_count: bool) -> Plan[Item | None]:
        """Take the next event of a slice that has any, unless it has to wait."""
        while part.busy is None and part.pending:
            item = part.pending[0]
            if item.key in self._held:
                ((queued,),) = yield Call(
                    "group_queue",
                    {
                        **self._lease(),
                        "position": item.position,
                        "slice": item.slice,
                        "key": item.key,
                    },
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
            if item.position <= part.suspect:
                # One at a time, so that the right one is found out.
                if self._careful is not None or not may_count:
                    self._ready.append(item.slice)
                    return None
                item.attempt = yield from self._attempt(item)
                item.is_noted = True
                self._careful = item
            self._drop_first(part)
            part.busy = item
            return item
        return None

    def _drop_first(self, part: _Slice) -> None:
        part.pending.popleft()
        self._waiting -= 1

    def _attempt(self, item: Item) -> Plan[int]:
        ((attempt,),) = yield Call(
            "group_attempt",
            {**self._lease(), "position": item.position, "slice": item.slice, "key": item.key},
        )
        return int(attempt)


def finish(worker: Worker, item: Item) -> Plan[None]:
    """Finish an event in the transaction that the plan runs in.

    Of several that upcasters made of a stored one, the last finishes them all.

    Raises:
        LeaseLost: the event belongs to another worker now.
    """
    if item.token != worker.token:
        raise LeaseLost
    if item.rest:
        return
    yield Call(
        "group_finish",
        {
            "group_id": worker.group_id,
            "token": item.token,
            "position": item.position,
            "slice": item.slice,
            "is_noted": item.is_noted,
        },
    )


def _partition_by(settings: groups.GroupSettings) -> str | None:
    return None if settings.partition_by == "stream" else settings.partition_by
