"""Group commit: appends that come while others are under way share a statement and a commit.

An append that finds a worker free goes at once, alone. Where all are at work it waits for the first
to be free, which takes all that have come by then: nobody waits in order to be joined. In the
database each is stored or refused alone (`append_batch`). What could make neighbours wait, or fail,
steps aside and goes alone: a stream or a tag that another transaction holds, or an append that the
database cannot take.

`Line` decides who goes with whom, and does no I/O. What goes alone is run by whoever waits for it,
the rest by a thread or a task of its own. docs/explanation/appends.md says why nothing is lost or
turned round.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec

from indelible.errors import DatabaseError, InvalidInput, StoreClosed, TransactionConflict
from indelible.plan import Call, Rows

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


class Entry:
    """An append that waits for its outcome; `signal` wakes whoever waits.

    `work` is what it is alone in, once it is to be run.
    """

    __slots__ = ("call", "is_abandoned", "lane", "problem", "rows", "signal", "work")

    def __init__(self, call: Call, signal: Any = None) -> None:
        self.call = call
        assert call.lane is not None  # noqa: S101
        self.lane = call.lane
        self.signal = signal
        self.rows: Rows | None = None
        self.problem: BaseException | None = None
        self.is_abandoned = False
        self.work: Work | None = None

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
        self._free = workers
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
            if not isinstance(outcome, Exception):  # the first is told to end; not its neighbours
                entries[0].problem = outcome
                return entries[1:]
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
        if work.is_alone:
            entries[0].work = work
        self._running.add(work)
        if takes_place:
            self._free -= 1
            self._free_for_batches -= not work.is_alone
        self._at_work.update(entry.lane for entry in entries)
        return work


class GroupCommit:
    """Group commit for threads: each runs what goes alone, and a thread of its own the batches.

    That one goes on with what has come meanwhile, and sends it before it tells outcomes: threads
    that are told want the interpreter's lock, which would keep the database waiting.

    Args:
        execute: runs one statement, on a connection of its own; calls its second argument, where
            there is one, while it waits for the database, until that tells that all is done.
        connections: how many of these there are at most.
    """

    def __init__(
        self, execute: Callable[[Call, Callable[[], bool] | None], Rows], connections: int
    ) -> None:
        self._execute = execute
        self._guard = threading.Lock()
        self._line = Line(min(_WORKERS, connections), _BATCHES)
        self._threads = ThreadPoolExecutor(connections, "indelible-append")

    def append(self, call: Call) -> Rows:
        """Append, with others where they are many."""
        entry = Entry(call, threading.Lock())
        entry.signal.acquire()
        with self._guard:
            work = self._line.enter(entry)
        if work is None:
            work = self._wait(entry)
        if work is not None:
            self._start(self._run(work))
        return entry.outcome()

    def close(self) -> None:
        """Let the threads end when they have nothing more to do."""
        self._threads.shutdown(wait=False)

    def _wait(self, entry: Entry) -> Work | None:
        """Wait until the outcome is known, or until this thread is to run its append itself."""
        try:
            while not entry.signal.acquire(timeout=_PATIENCE):
                with self._guard:
                    following = self._line.relieve()
                self._start(self._hand_on(following))
        except BaseException as interrupt:
            with self._guard:
                entry.is_abandoned = True
                work = entry.work
            if work is not None:
                self._start(self._settle(work, interrupt))
            raise
        return entry.work

    def _start(self, batches: list[Work]) -> None:
        for batch in batches:
            try:
                self._threads.submit(self._serve, batch)
            except RuntimeError:  # the store was closed, or the interpreter ends
                self._serve(batch)

    def _serve(self, batch: Work) -> None:
        """Run a batch, and what has come meanwhile, until nothing waits."""
        known: deque[Entry] = deque()

        def tell() -> bool:
            while known:
                known.popleft().signal.release()
            return False

        batches = [batch]
        while batches:
            batch, *others = batches
            self._start(others)
            batches = self._run(batch, tell)
            tell()
            known.extend(entry for entry in batch.entries if entry.is_settled)
        tell()

    def _run(self, work: Work, meanwhile: Callable[[], bool] | None = None) -> list[Work]:
        """Run a statement; return the batches that are to be run next."""
        outcome: Rows | BaseException
        try:
            outcome = self._execute(work.call(), meanwhile)
        except BaseException as error:
            outcome = error
        return self._settle(work, outcome)

    def _settle(self, work: Work, outcome: Rows | BaseException) -> list[Work]:
        with self._guard:
            following = self._line.settle(work, outcome)
        return self._hand_on(following)

    def _hand_on(self, following: list[Work]) -> list[Work]:
        """Wake the threads whose appends go alone; return the batches."""
        for work in following:
            if work.is_alone:
                work.entries[0].signal.release()
        return [work for work in following if not work.is_alone]


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
            entry.is_abandoned = True
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
