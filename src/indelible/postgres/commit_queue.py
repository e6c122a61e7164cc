"""Decide which appends share a batch of the group commit."""

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
"""The limits of statements in progress: all of them, and those with several appends. Higher limits
make batches smaller, and the fixed cost of a batch equals the cost of ten appends."""
PATIENCE = 0.05
"""Seconds that an append waits for a worker before a worker is added. The existing ones may be
waiting for streams that other transactions have locked."""

_OF_ONE = (DatabaseError, InvalidInput, TransactionConflict)
"""Errors of a batch that a single append may have caused."""

_json = msgspec.json.Encoder().encode


class PendingAppend:
    """An append that waits for its outcome; `signal` wakes its caller.

    `alive` is a lock. The caller holds it in a `with` block of its own frame while it waits. Such a
    block always ends, even if a signal handler raises. So the lock is free once the caller has
    stopped waiting.
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
        """Whether the caller has stopped waiting for the outcome."""
        return self.has_left or (self.alive is not None and not self.alive.locked())

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self.rows is not None or self.problem is not None

    def outcome(self) -> Rows:
        """Return the rows, or raise the problem."""
        if self.rows is None:
            assert self.problem is not None  # noqa: S101
            raise self.problem
        return self.rows

    def text(self) -> str:
        """Return the append as an element of the argument of `append_batch`."""
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
    """Appends that a worker runs as one statement.

    Attributes:
        entries: the appends, in order.
        takes_place: whether the batch occupies a worker. A batch that may wait long does not.
        started_at: when the batch began, on the monotonic clock.
    """

    entries: list[PendingAppend]
    takes_place: bool = True
    started_at: float = field(default_factory=time.monotonic)

    @property
    def is_alone(self) -> bool:
        """Whether the batch is a single append, which may have to wait for a stream."""
        return len(self.entries) == 1

    def statement(self) -> AppendStatement:
        """Return the statement that runs the batch."""
        if self.is_alone:
            return self.entries[0].statement
        appends = ",".join(entry.text() for entry in self.entries)
        return AppendStatement(
            "streams.append_batch", {"appends": f"[{appends}]"}, survives_conflicts=False
        )


class CommitQueue:
    """Decides which appends share a batch; appends with one ordering key keep their order.

    Args:
        workers: the limit of statements in progress.
        batches: the limit of statements in progress that have several appends.
    """

    def __init__(self, workers: int, batches: int) -> None:
        self._workers = self._free = workers
        self._free_for_batches = batches
        self._running: set[Batch] = set()
        self._settled = 0
        """The number of appends that were settled last: their callers may append again soon."""
        self._in_progress: set[str] = set()
        """The ordering keys of the appends in progress."""
        self._waiting: dict[str, deque[PendingAppend]] = {}
        """The waiting appends by ordering key."""
        self._ready: deque[str] = deque()
        """The ordering keys of waiting appends that are not in progress."""

    @property
    def is_idle(self) -> bool:
        """Whether no append is in progress."""
        return not self._running

    @property
    def is_free(self) -> bool:
        """Whether all workers are idle."""
        return self._free == self._workers

    def may_pass(self, key: str, others: Collection[str]) -> bool:
        """Return whether an append may bypass the queue.

        Args:
            key: the ordering key of the append.
            others: the ordering keys of appends that bypass the queue already.
        """
        return (
            self._free > len(others)
            and self._free_for_batches > 0
            and not self._ready
            and key not in others
            and key not in self._in_progress
        )

    @property
    def has_room(self) -> bool:
        """Whether a worker is free. While a batch is in progress, the next one is gathered."""
        return self._free > 0 and self._free_for_batches > 0

    @property
    def is_waited_for(self) -> bool:
        """Whether an append waits for a worker."""
        return bool(self._ready)

    def enter(self, entry: PendingAppend) -> Batch | None:
        """Add an append; return the batch to run at once, if a worker is free."""
        if self.has_room and entry.ordering_key not in self._in_progress:
            return self._begin([entry])
        self.add(entry)
        return None

    def add(self, entry: PendingAppend) -> bool:
        """Add an append to the waiting ones; return whether a worker is free to run it."""
        waiting = self._waiting.get(entry.ordering_key)
        if waiting is not None:
            waiting.append(entry)
        else:
            self._waiting[entry.ordering_key] = deque((entry,))
            if entry.ordering_key not in self._in_progress:
                self._ready.append(entry.ordering_key)
        return self.has_room and bool(self._ready)

    def add_running(self, entry: PendingAppend) -> Batch:
        """Add an append that is in progress already."""
        batch = self._begin([entry])
        batch.started_at = entry.started_at
        return batch

    def settle(self, batch: Batch, outcome: Rows | BaseException) -> list[Batch]:
        """Record the outcome of a batch; return the batches to run next."""
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
        """Record the outcomes; return the appends to send one by one."""
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
        """Add a worker for each one that has been busy for long; return the batches to run."""
        if self._ready:
            latest = time.monotonic() - PATIENCE
            for batch in self._running:
                if batch.started_at < latest:
                    self._free_place(batch)
        return self.next_batches()

    def next_batches(self) -> list[Batch]:
        """Return the batches to run now, as many as there are free workers."""
        batches = []
        while self.has_room and (entries := self._gather()):
            batches.append(self._begin(entries))
        return batches

    def _gather(self) -> list[PendingAppend]:
        """Take waiting appends, up to the size of a batch."""
        entries: list[PendingAppend] = []
        # Half of all callers. The database processes this half while the other half gets its
        # outcomes and appends again.
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
            if waiting:  # they wait until this batch is settled
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
