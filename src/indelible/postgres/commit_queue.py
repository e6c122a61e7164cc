"""Group commit: which appends share a batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec

from indelible.core.operation import AppendStatement, Rows
from indelible.errors import DatabaseError, InvalidInput, TransactionConflict

_SMALLEST_SHARE = 32
_LARGEST_BATCH = 250
_LARGEST_BATCH_BYTES = 2 * 1024 * 1024
WORKERS, BATCHES = 2, 1
"""How many statements are under way at once at most, and how many of them for several appends. More
make the batches smaller, each of which costs as much as ten appends before its first."""
PATIENCE = 0.05
"""Seconds that an append waits for a worker before there is one more: those that there are may be
waiting for streams that other transactions hold."""

_OF_ONE = (DatabaseError, InvalidInput, TransactionConflict)
"""Errors that a single append may have brought upon its batch."""

_json = msgspec.json.Encoder().encode


class PendingAppend:
    """An append that waits for its outcome; `signal` wakes whoever waits.

    `alive` is a lock that the caller holds, by a `with` in a frame of its own, for as long as it is
    there. Such a block always ends: nobody holds the lock of a caller that is gone.
    """

    __slots__ = (
        "alive",
        "has_left",
        "is_sent",
        "ordering_key",
        "problem",
        "rows",
        "signal",
        "started_at",
        "statement",
    )

    def __init__(self, statement: AppendStatement, alive: Any = None) -> None:
        self.statement: AppendStatement = statement
        assert statement.ordering_key is not None  # noqa: S101
        self.ordering_key: str = statement.ordering_key
        self.alive: Any = alive
        self.started_at: float = 0.0
        self.signal: Any = None
        self.rows: Rows | None = None
        self.problem: BaseException | None = None
        self.has_left: bool = False
        self.is_sent: bool = False

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
        parameters = self.statement.parameters
        stream, channel = (
            _json(parameters["stream"]).decode(),
            _json(parameters["channel"]).decode(),
        )
        conditions = (
            f',"conditions":{parameters["conditions"]}' if "conditions" in parameters else ""
        )
        return (
            f'{{"stream":{stream},"channel":{channel},"expected":{parameters["expected"]},'
            f'"events":{parameters["events"]}{conditions}}}'
        )


@dataclass(slots=True, eq=False)
class Batch:
    """What a worker is to run: one statement for all its entries.

    Attributes:
        entries: the appends, in order.
        takes_place: whether it takes the place of a worker; not what may have to wait for long.
        started_at: when it began.
    """

    entries: list[PendingAppend]
    takes_place: bool = True
    started_at: float = field(default_factory=time.monotonic)

    @property
    def is_alone(self) -> bool:
        """Whether it is one append, which may have to wait for a stream."""
        return len(self.entries) == 1

    def statement(self) -> AppendStatement:
        """The statement."""
        if self.is_alone:
            return self.entries[0].statement
        appends = ",".join(entry.text() for entry in self.entries)
        return AppendStatement(
            "streams.append_batch", {"appends": f"[{appends}]"}, survives_conflicts=False
        )


class CommitQueue:
    """Decides which appends share a batch. Those with one ordering key keep their order."""

    def __init__(self, workers: int, batches: int) -> None:
        self._workers = self._free = workers
        self._free_for_batches = batches
        self._running: set[Batch] = set()
        self._settled = 0
        """How many appends were settled last: their callers may well come again."""
        self._in_progress: set[str] = set()
        """The keys of what is under way."""
        self._waiting: dict[str, deque[PendingAppend]] = {}
        """What waits, by its key."""
        self._ready: deque[str] = deque()
        """The keys of what waits that are not in progress."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    @property
    def is_free(self) -> bool:
        """Whether all workers are."""
        return self._free == self._workers

    def may_pass(self, key: str, others: Collection[str]) -> bool:
        """Whether an append may go without taking a place, beside others that did so."""
        return (
            self._free > len(others)
            and self._free_for_batches > 0
            and not self._ready
            and key not in others
            and key not in self._in_progress
        )

    @property
    def has_room(self) -> bool:
        """Whether a worker is free. While a batch is under way the next one is gathered."""
        return self._free > 0 and self._free_for_batches > 0

    @property
    def is_waited_for(self) -> bool:
        """Whether something waits for a worker."""
        return bool(self._ready)

    def enter(self, entry: PendingAppend) -> Batch | None:
        """Take a place; return what is to be run at once, if a worker is free."""
        if self.has_room and entry.ordering_key not in self._in_progress:
            return self._begin([entry])
        self.add(entry)
        return None

    def add(self, entry: PendingAppend) -> bool:
        """Take a place; return whether there is a worker for what waits."""
        waiting = self._waiting.get(entry.ordering_key)
        if waiting is not None:
            waiting.append(entry)
        else:
            self._waiting[entry.ordering_key] = deque((entry,))
            if entry.ordering_key not in self._in_progress:
                self._ready.append(entry.ordering_key)
        return self.has_room and bool(self._ready)

    def add_running(self, entry: PendingAppend) -> Batch:
        """Note what is under way already."""
        batch = self._begin([entry])
        batch.started_at = entry.started_at
        return batch

    def settle(self, batch: Batch, outcome: Rows | BaseException) -> list[Batch]:
        """Note the outcome of what was run; return what is to be run next."""
        self._running.discard(batch)
        self._free_place(batch)
        self._settled = len(batch.entries)
        busy: dict[str, list[PendingAppend]] = {}
        for entry in self._record(batch, outcome):
            if not entry.is_abandoned:
                busy.setdefault(entry.ordering_key, []).append(entry)
        batches = []
        for key in {entry.ordering_key: None for entry in batch.entries}:
            self._in_progress.discard(key)
            if key in busy:
                first, *rest = busy[key]
                batches.append(self._begin([first], takes_place=False))
                if rest:
                    self._waiting[key] = deque((*rest, *self._waiting.get(key, ())))
            elif key in self._waiting:
                self._ready.append(key)
        return batches + self.next_batches()

    def _record(self, batch: Batch, outcome: Rows | BaseException) -> list[PendingAppend]:
        """Note outcomes; return the appends that are to go alone."""
        entries = batch.entries
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
        busy = []
        for number, *row in outcome:
            entry = entries[number - 1]
            if row[0] == "contended":
                busy.append(entry)
            else:
                entry.rows = [tuple(row)]
        return busy

    def add_workers(self) -> list[Batch]:
        """Return what more workers are to run, where those that there are take long."""
        if self._ready:
            latest = time.monotonic() - PATIENCE
            for batch in self._running:
                if batch.started_at < latest:
                    self._free_place(batch)
        return self.next_batches()

    def next_batches(self) -> list[Batch]:
        """Return what is to be run now, as far as there are workers."""
        batches = []
        while self.has_room and (entries := self._gather()):
            batches.append(self._begin(entries))
        return batches

    def _gather(self) -> list[PendingAppend]:
        """Take what waits for a worker, up to the size of a batch."""
        entries: list[PendingAppend] = []
        # Half of all callers: the database processes these while the rest get their outcomes,
        # and their next appends are gathered.
        room = (len(self._ready) + self._settled + 1) // 2
        room = min(max(room, _SMALLEST_SHARE), _LARGEST_BATCH)
        size = 0
        while self._ready and room > 0 and size < _LARGEST_BATCH_BYTES:
            key = self._ready.popleft()
            waiting = self._waiting.pop(key)
            while waiting and room > 0 and size < _LARGEST_BATCH_BYTES:
                entry = waiting.popleft()
                if not entry.is_abandoned:
                    entries.append(entry)
                    room -= 1
                    size += len(entry.statement.parameters["events"])  # type: ignore[arg-type]
            if waiting:  # until these are done
                self._waiting[key] = waiting
        return entries

    def _free_place(self, batch: Batch) -> None:
        if batch.takes_place:
            batch.takes_place = False
            self._free += 1
            self._free_for_batches += not batch.is_alone

    def _begin(self, entries: list[PendingAppend], *, takes_place: bool = True) -> Batch:
        batch = Batch(entries, takes_place)
        for entry in entries:
            entry.is_sent = True
        self._running.add(batch)
        if takes_place:
            self._free -= 1
            self._free_for_batches -= not batch.is_alone
        self._in_progress.update(entry.ordering_key for entry in entries)
        return batch
