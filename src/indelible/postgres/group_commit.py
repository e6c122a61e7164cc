"""Group commit for threads."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from indelible.core.operation import AppendStatement, Rows, Statement
from indelible.errors import StoreClosed

from .commit_queue import BATCHES, PATIENCE, WORKERS, Batch, CommitQueue, PendingAppend
from .errors import outcome_not_known

_log = logging.getLogger("indelible")


class GroupCommit:
    """Group commit for threads: worker threads run appends that cannot be sent at once.

    A worker sends the next batch before it reports the outcomes of the last one. Callers that have
    their outcome compete for the interpreter's lock, and the database would have to wait.

    A signal handler may raise in the thread of a caller between any two bytecode instructions. So
    callers change no shared state in several steps: they only add to or remove from a container, in
    a single C call. Only worker threads use the queue and its lock. If the lock `alive` of an
    append is free, the append has lost its caller.

    Args:
        execute: runs one statement on a connection of its own. While it waits for the database, it
            calls its second argument, if there is one, until that returns False.
        connections: the largest number of these connections.
        timeout: seconds that an append may wait to be sent.
    """

    def __init__(
        self,
        execute: Callable[[Statement, Callable[[], bool] | None], Rows],
        connections: int,
        timeout: float,
    ) -> None:
        self._execute = execute
        self._timeout = timeout
        self._passing: dict[str, PendingAppend] = {}
        """The appends that callers run themselves, by ordering key."""
        self._arrived: deque[PendingAppend] = deque()
        """The appends to add to the queue."""
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """The tasks of the worker threads."""
        self._is_closed = False
        # Callers only read the attributes below.
        self._guard = threading.Lock()
        self._queue = CommitQueue(min(WORKERS, connections), BATCHES)
        self._admitted: dict[PendingAppend, Batch] = {}
        """The appends that were moved from `_passing` into the queue."""
        self._most_threads = connections
        self._threads = self._busy_threads = 0
        weakref.finalize(self, self._tasks.put, None).atexit = False

    def open(self) -> None:
        """Start the first worker thread, which starts the others."""
        with self._guard:
            self._ensure_threads(1)

    def append(self, statement: AppendStatement) -> Rows:
        """Run an append, in a batch with others if there are many."""
        entry = PendingAppend(statement, threading.Lock())
        entry.started_at = time.monotonic()
        key = entry.ordering_key
        if self._arrived or not self._queue.may_pass(key, self._passing):
            return self._wait(entry)
        try:
            with entry.alive:
                self._passing[key] = entry
                return self._execute(statement, None)
        finally:
            if self._passing.pop(key, None) is None or self._arrived or self._queue.is_waited_for:
                self._tasks.put(self._update)

    def close(self) -> None:
        """Let the worker threads end when no append is left."""
        self._is_closed = True
        self._tasks.put(self._update)

    def _wait(self, entry: PendingAppend) -> Rows:
        """Wait for the outcome of an append that a worker thread runs."""
        entry.signal = threading.Lock()
        entry.signal.acquire()
        with entry.alive:
            self._arrived.append(entry)
            if (
                not self._passing and self._queue.is_free
            ):  # else the next that ends queues an update
                self._tasks.put(self._update)
            while not (entry.signal.acquire(timeout=PATIENCE) or entry.is_settled):
                # The appends in progress take long, or were interrupted.
                self._tasks.put(self._update)
                self._check_wait(entry)
        return entry.outcome()

    def _check_wait(self, entry: PendingAppend) -> None:
        if self._is_closed and self._threads == 0:
            raise StoreClosed
        # An append that was sent has the timeouts of the engine. They come first, since the engine
        # reports more details.
        if time.monotonic() > entry.started_at + self._timeout * (3 if entry.is_sent else 1):
            raise outcome_not_known(
                f"the append to stream {entry.statement.parameters['stream']} waited"
                f" {time.monotonic() - entry.started_at:.0f} s for other appends of this process"
            )

    # In worker threads, which no signal interrupts -----------------------------------------------

    def _update(self) -> None:
        """Move the appends of callers into the queue, and run the next batches."""
        with self._guard:
            batches = self._take_in() + self._queue.add_workers()
        self._run(batches)
        with self._guard:
            has_ended = self._is_closed and self._queue.is_idle
            if has_ended and not self._arrived and not self._passing:
                self._threads = 0
                self._tasks.put(None)

    def _take_in(self) -> list[Batch]:
        batches = []
        with suppress(KeyError):  # it is empty
            while True:
                _, entry = self._passing.popitem()
                self._admitted[entry] = self._queue.add_running(entry)
        for entry in list(self._admitted):
            if entry.is_abandoned:  # its caller has its result, or was interrupted
                batches += self._queue.settle(self._admitted.pop(entry), [])
        while self._arrived:
            self._queue.add(self._arrived.popleft())
        return batches

    def _run(self, batches: list[Batch]) -> None:
        """Run batches, and those that form meanwhile, until no append waits."""
        settled: deque[PendingAppend] = deque()

        def notify() -> bool:
            while settled:
                settled.popleft().signal.release()
            return False

        while batches:
            # Other threads run the batches that may wait long.
            batches.sort(key=lambda batch: not batch.takes_place)
            batch, *other_batches = batches
            with self._guard:
                self._busy_threads += 1
                self._ensure_threads(self._busy_threads + len(other_batches) + 1)
            for other_batch in other_batches:
                self._tasks.put(partial(self._run, [other_batch]))
            outcome: Rows | BaseException
            try:
                outcome = self._execute(batch.statement(), notify)
            except BaseException as error:
                outcome = error
            with self._guard:
                self._busy_threads -= 1
                batches = self._take_in()
                batches += self._queue.settle(batch, outcome)
                # Again: callers queue no update while an append is in progress.
                batches += self._take_in() + self._queue.next_batches()
            notify()
            settled.extend(entry for entry in batch.entries if entry.is_settled)
        notify()

    def _ensure_threads(self, number: int) -> None:
        while self._threads < min(number, self._most_threads):
            self._threads += 1
            # The thread refers only to the task queue, so that an unused store can be collected.
            threading.Thread(
                target=_run_tasks, args=[self._tasks], name="indelible-append", daemon=True
            ).start()


def _run_tasks(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run the tasks of a queue until None ends it."""
    while task := tasks.get():
        try:
            task()
        except Exception:
            _log.exception("error in a thread that appends; the thread continues")
        del task
    tasks.put(None)  # for the next thread
