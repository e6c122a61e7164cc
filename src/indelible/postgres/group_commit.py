"""Group commit: appends that come while others are under way share a statement and a commit.

An append that finds a worker free goes at once, alone. Where all are at work it waits for the first
to be free, which takes all that have come by then: nobody waits in order to be joined. In the
database each is stored or refused alone (`append_batch`). What could make neighbours wait, or fail,
steps aside and goes alone: a stream or a tag that another transaction holds, or an append that the
database cannot take.

`Line` decides who goes with whom, and does no I/O. Threads and tasks of the store's own run what
has to wait. docs/explanation/appends.md says why nothing is lost or turned round, and why nobody
waits for a thread that was interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

import msgspec

from indelible.errors import DatabaseError, InvalidInput, StoreClosed, TransactionConflict
from indelible.plan import Call, Rows

from .failures import outcome_not_known

_WORKERS, _BATCHES = 2, 1
"""How many statements are under way at once at most, and how many of them for several appends. More
make the batches smaller, each of which costs as much as ten appends before its first."""
_SMALLEST_SHARE = 32
_LARGEST_BATCH = 250
_LARGEST_BATCH_BYTES = 2 * 1024 * 1024
_PATIENCE = 0.05
"""Seconds that an append waits for a worker before there is one more: those that there are may be
waiting for streams that other transactions hold."""

_OF_ONE = (DatabaseError, InvalidInput, TransactionConflict)
"""Errors that a single append may have brought upon its batch."""

_json = msgspec.json.Encoder().encode


_log = logging.getLogger("indelible")


class Entry:
    """An append that waits for its outcome; `signal` wakes whoever waits.

    `alive` is a lock that the caller holds, by a `with` in a frame of its own, for as long as it is
    there. Such a block always ends: nobody holds the lock of a caller that is gone.
    """

    __slots__ = (
        "alive",
        "begun",
        "call",
        "has_left",
        "is_sent",
        "lane",
        "problem",
        "rows",
        "signal",
    )

    def __init__(self, call: Call, alive: Any = None) -> None:
        self.call = call
        assert call.lane is not None  # noqa: S101
        self.lane = call.lane
        self.alive = alive
        self.begun = 0.0
        self.signal: Any = None
        self.rows: Rows | None = None
        self.problem: BaseException | None = None
        self.has_left = False
        self.is_sent = False

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the outcome any more."""
        return self.has_left or (self.alive is not None and not self.alive.locked())

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self.rows is not None or self.problem is not None

    def outcome(self) -> Rows:
        """Give the rows, or raise the problem."""
        if self.rows is None:
            assert self.problem is not None  # noqa: S101
            raise self.problem
        return self.rows

    def text(self) -> str:
        """The append as `append_batch` takes it."""
        given = self.call.parameters
        stream, channel = _json(given["stream"]).decode(), _json(given["channel"]).decode()
        conditions = f',"conditions":{given["conditions"]}' if "conditions" in given else ""
        return (
            f'{{"stream":{stream},"channel":{channel},"expected":{given["expected"]},'
            f'"events":{given["events"]}{conditions}}}'
        )


@dataclass(slots=True, eq=False)
class Work:
    """What a worker is to run: one statement for all its entries.

    Attributes:
        entries: the appends, in order.
        takes_place: whether it takes the place of a worker; not what may have to wait for long.
        begun: when it began.
    """

    entries: list[Entry]
    takes_place: bool = True
    begun: float = field(default_factory=time.monotonic)

    @property
    def is_alone(self) -> bool:
        """Whether it is one append, which may have to wait for a stream."""
        return len(self.entries) == 1

    def call(self) -> Call:
        """The statement."""
        if self.is_alone:
            return self.entries[0].call
        appends = ",".join(entry.text() for entry in self.entries)
        return Call(
            "append_batch", {"appends": f"[{appends}]"}, appends=True, survives_conflicts=False
        )


class Line:
    """Who goes with whom. Appends of one lane, a stream say, go in the order in which they came."""

    def __init__(self, workers: int, batches: int) -> None:
        self._workers = self._free = workers
        self._free_for_batches = batches
        self._running: set[Work] = set()
        self._settled = 0
        """How many appends were settled last: their callers may well come again."""
        self._at_work: set[str] = set()
        """The lanes of what is under way."""
        self._waiting: dict[str, deque[Entry]] = {}
        """What waits, by its lane."""
        self._ready: deque[str] = deque()
        """The lanes of what waits that are not at work."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    @property
    def is_free(self) -> bool:
        """Whether all workers are."""
        return self._free == self._workers

    def may_pass(self, lane: str, others: Collection[str]) -> bool:
        """Whether an append may go without taking a place, beside others that did so."""
        return (
            self._free > len(others)
            and self._free_for_batches > 0
            and not self._ready
            and lane not in others
            and lane not in self._at_work
        )

    @property
    def has_room(self) -> bool:
        """Whether a worker is free. While a batch is under way the next one is gathered."""
        return self._free > 0 and self._free_for_batches > 0

    @property
    def is_waited_for(self) -> bool:
        """Whether something waits for a worker."""
        return bool(self._ready)

    def enter(self, entry: Entry) -> Work | None:
        """Take a place; return what is to be run at once, if a worker is free."""
        if self.has_room and entry.lane not in self._at_work:
            return self._begin([entry])
        self.queue(entry)
        return None

    def queue(self, entry: Entry) -> bool:
        """Take a place; return whether there is a worker for what waits."""
        waiting = self._waiting.get(entry.lane)
        if waiting is not None:
            waiting.append(entry)
        else:
            self._waiting[entry.lane] = deque((entry,))
            if entry.lane not in self._at_work:
                self._ready.append(entry.lane)
        return self.has_room and bool(self._ready)

    def admit(self, entry: Entry) -> Work:
        """Note what is under way already."""
        work = self._begin([entry])
        work.begun = entry.begun
        return work

    def settle(self, work: Work, outcome: Rows | BaseException) -> list[Work]:
        """Note the outcome of what was run; return what is to be run next."""
        self._running.discard(work)
        self._leave(work)
        self._settled = len(work.entries)
        aside: dict[str, list[Entry]] = {}
        for entry in self._note(work, outcome):
            if not entry.is_abandoned:
                aside.setdefault(entry.lane, []).append(entry)
        following = []
        for lane in {entry.lane: None for entry in work.entries}:
            self._at_work.discard(lane)
            if lane in aside:
                first, *rest = aside[lane]
                following.append(self._begin([first], takes_place=False))
                if rest:
                    self._waiting[lane] = deque((*rest, *self._waiting.get(lane, ())))
            elif lane in self._waiting:
                self._ready.append(lane)
        return following + self.go_on()

    def _note(self, work: Work, outcome: Rows | BaseException) -> list[Entry]:
        """Note outcomes; return the appends that are to go alone."""
        entries = work.entries
        if isinstance(outcome, BaseException):
            if len(entries) > 1 and isinstance(outcome, _OF_ONE):
                return entries
            entries[0].problem = outcome
            for entry in entries[1:]:
                entry.problem = copy(outcome)
                entry.problem.__cause__ = outcome
            return []
        if len(entries) == 1:
            entries[0].rows = outcome
            return []
        aside = []
        for place, *row in outcome:
            entry = entries[place - 1]
            if row[0] == "busy":
                aside.append(entry)
            else:
                entry.rows = [tuple(row)]
        return aside

    def relieve(self) -> list[Work]:
        """Return what more workers are to run, where those that there are take long."""
        if self._ready:
            latest = time.monotonic() - _PATIENCE
            for work in self._running:
                if work.begun < latest:
                    self._leave(work)
        return self.go_on()

    def go_on(self) -> list[Work]:
        """Return what is to be run now, as far as there are workers."""
        following = []
        while self.has_room and (entries := self._gather()):
            following.append(self._begin(entries))
        return following

    def _gather(self) -> list[Entry]:
        """Take what waits for a worker, up to the size of a batch."""
        entries: list[Entry] = []
        # Half of all callers: the database is at work on these while outcomes are told to the rest,
        # and what they bring next is gathered.
        room = (len(self._ready) + self._settled + 1) // 2
        room = min(max(room, _SMALLEST_SHARE), _LARGEST_BATCH)
        size = 0
        while self._ready and room > 0 and size < _LARGEST_BATCH_BYTES:
            lane = self._ready.popleft()
            waiting = self._waiting.pop(lane)
            while waiting and room > 0 and size < _LARGEST_BATCH_BYTES:
                entry = waiting.popleft()
                if not entry.is_abandoned:
                    entries.append(entry)
                    room -= 1
                    size += len(entry.call.parameters["events"])  # type: ignore[arg-type]
            if waiting:  # until these are done
                self._waiting[lane] = waiting
        return entries

    def _leave(self, work: Work) -> None:
        if work.takes_place:
            work.takes_place = False
            self._free += 1
            self._free_for_batches += not work.is_alone

    def _begin(self, entries: list[Entry], *, takes_place: bool = True) -> Work:
        work = Work(entries, takes_place)
        for entry in entries:
            entry.is_sent = True
        self._running.add(work)
        if takes_place:
            self._free -= 1
            self._free_for_batches -= not work.is_alone
        self._at_work.update(entry.lane for entry in entries)
        return work


class GroupCommit:
    """Group commit for threads: a few of its own run what cannot go at once.

    They go on with what has come meanwhile, and send it before they tell outcomes: threads that are
    told want the interpreter's lock, which would keep the database waiting.

    The handler of a signal may raise in the thread of a caller between any two steps of the
    interpreter. So callers keep no books. They put something into a container, or take it out, in a
    single call of C; only threads of the store touch the line and its lock. An append whose
    `alive` nobody holds has lost its caller.

    Args:
        execute: runs one statement, on a connection of its own; calls its second argument, where
            there is one, while it waits for the database, until that tells that all is done.
        connections: how many of these there are at most.
        timeout: seconds that an append waits to be sent.
    """

    def __init__(
        self,
        execute: Callable[[Call, Callable[[], bool] | None], Rows],
        connections: int,
        timeout: float,
    ) -> None:
        self._execute = execute
        self._timeout = timeout
        self._passing: dict[str, Entry] = {}
        """What callers have under way by themselves, by its lane."""
        self._arrived: deque[Entry] = deque()
        """What is to be taken into the line."""
        self._bell: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """What the threads are to do."""
        self._is_closed = False
        # Callers only read what comes from here on.
        self._guard = threading.Lock()
        self._line = Line(min(_WORKERS, connections), _BATCHES)
        self._admitted: dict[Entry, Work] = {}
        """What was taken over from `_passing`."""
        self._most_threads = connections
        self._threads = self._busy_threads = 0
        weakref.finalize(self, self._bell.put, None).atexit = False

    def open(self) -> None:
        """Start the first thread; it starts the others."""
        with self._guard:
            self._have_threads(1)

    def append(self, call: Call) -> Rows:
        """Append, with others where they are many."""
        entry = Entry(call, threading.Lock())
        entry.begun = time.monotonic()
        lane = entry.lane
        if self._arrived or not self._line.may_pass(lane, self._passing):
            return self._wait(entry)
        try:
            with entry.alive:
                self._passing[lane] = entry
                return self._execute(call, None)
        finally:
            if self._passing.pop(lane, None) is None or self._arrived or self._line.is_waited_for:
                self._bell.put(self._look)

    def close(self) -> None:
        """Let the threads end when they have nothing more to do."""
        self._is_closed = True
        self._bell.put(self._look)

    def _wait(self, entry: Entry) -> Rows:
        """Wait for the outcome of an append that the store's threads make."""
        entry.signal = threading.Lock()
        entry.signal.acquire()
        with entry.alive:
            self._arrived.append(entry)
            if not self._passing and self._line.is_free:  # else whoever is done rings
                self._bell.put(self._look)
            while not (entry.signal.acquire(timeout=_PATIENCE) or entry.is_settled):
                # Those that are under way take long, or were interrupted.
                self._bell.put(self._look)
                self._check_wait(entry)
        return entry.outcome()

    def _check_wait(self, entry: Entry) -> None:
        if self._is_closed and self._threads == 0:
            raise StoreClosed
        # What was sent has the time limits of the engine, which tells more: they come first.
        if time.monotonic() > entry.begun + self._timeout * (3 if entry.is_sent else 1):
            raise outcome_not_known(
                f"the append to stream {entry.call.parameters['stream']} has waited"
                f" {time.monotonic() - entry.begun:.0f} s for other appends of this process"
            )

    # In threads of the store's own, which no signal interrupts -----------------------------------

    def _look(self) -> None:
        """Bring the line up to date with what callers did, and run what is to be run."""
        with self._guard:
            following = self._take_in() + self._line.relieve()
        self._run(following)
        with self._guard:
            has_ended = self._is_closed and self._line.is_idle
            if has_ended and not self._arrived and not self._passing:
                self._threads = 0
                self._bell.put(None)

    def _take_in(self) -> list[Work]:
        following = []
        with suppress(KeyError):  # there is nothing more
            while True:
                _, entry = self._passing.popitem()
                self._admitted[entry] = self._line.admit(entry)
        for entry in list(self._admitted):
            if entry.is_abandoned:  # its caller is done, or was interrupted
                following += self._line.settle(self._admitted.pop(entry), [])
        while self._arrived:
            self._line.queue(self._arrived.popleft())
        return following

    def _run(self, following: list[Work]) -> None:
        """Run what is to be run, and what has come meanwhile, until nothing waits."""
        known: deque[Entry] = deque()

        def tell() -> bool:
            while known:
                known.popleft().signal.release()
            return False

        while following:
            # What may have to wait for long is for other threads.
            following.sort(key=lambda work: not work.takes_place)
            work, *others = following
            with self._guard:
                self._busy_threads += 1
                self._have_threads(self._busy_threads + len(others) + 1)
            for other in others:
                self._bell.put(partial(self._run, [other]))
            outcome: Rows | BaseException
            try:
                outcome = self._execute(work.call(), tell)
            except BaseException as error:
                outcome = error
            with self._guard:
                self._busy_threads -= 1
                following = self._take_in()
                following += self._line.settle(work, outcome)
                # Once more: who came until nothing was under way did not ring.
                following += self._take_in() + self._line.go_on()
            tell()
            known.extend(entry for entry in work.entries if entry.is_settled)
        tell()

    def _have_threads(self, number: int) -> None:
        while self._threads < min(number, self._most_threads):
            self._threads += 1
            # It knows the queue alone, so that a store that nobody uses any more can go.
            threading.Thread(
                target=_obey, args=[self._bell], name="indelible-append", daemon=True
            ).start()


def _obey(bell: SimpleQueue[Callable[[], None] | None]) -> None:
    """Do what is asked for, until the end is."""
    while errand := bell.get():
        try:
            errand()
        except Exception:
            _log.exception("a thread that appends goes on after an error")
        del errand
    bell.put(None)  # for the next thread


class AsyncGroupCommit:
    """Group commit for tasks; a batch is a task of its own, so that cancelling one harms nobody.

    Args:
        execute: runs one statement, on a connection of its own.
        connections: how many of these there are at most.
    """

    def __init__(self, execute: Callable[[Call], Awaitable[Rows]], connections: int) -> None:
        self._execute = execute
        self._line = Line(min(_WORKERS, connections), _BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._goes_on = False
        self._relief: asyncio.TimerHandle | None = None

    async def append(self, call: Call) -> Rows:
        """Append, with others where they are many."""
        entry = Entry(call)
        if self._line.is_idle and (work := self._line.enter(entry)):
            return await self._alone(work)
        loop = asyncio.get_running_loop()
        entry.signal = loop.create_future()
        if self._line.queue(entry):
            if not self._goes_on:
                self._goes_on = True  # when all that is ready to run has run
                loop.call_soon(self._go_on)
        elif self._relief is None:
            self._relief = loop.call_later(_PATIENCE, self._relieve)
        try:
            await entry.signal
        except asyncio.CancelledError:
            entry.has_left = True
            raise
        return entry.outcome()

    async def _alone(self, work: Work) -> Rows:
        try:
            rows = await self._execute(work.call())
        except BaseException as error:
            self._begin(self._line.settle(work, error))
            raise
        self._begin(self._line.settle(work, rows))
        return rows

    def _go_on(self) -> None:
        self._goes_on = False
        self._begin(self._line.go_on())

    def _relieve(self) -> None:
        self._relief = None
        self._begin(self._line.relieve())
        if self._line.is_waited_for:
            self._relief = asyncio.get_running_loop().call_later(_PATIENCE, self._relieve)

    def _begin(self, following: list[Work]) -> None:
        for work in following:
            task = asyncio.create_task(self._run(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work) -> None:
        outcome: Rows | BaseException
        try:
            outcome = await self._execute(work.call())
        except Exception as error:
            outcome = error
        except BaseException:  # the loop ends
            self._settle(work, StoreClosed())
            raise
        self._settle(work, outcome)

    def _settle(self, work: Work, outcome: Rows | BaseException) -> None:
        self._begin(self._line.settle(work, outcome))
        for entry in work.entries:
            if entry.is_settled and not entry.signal.done():
                entry.signal.set_result(None)
