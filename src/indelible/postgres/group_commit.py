"""Group commit run by threads."""

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
    """Group commit for threads: a few of its own run what cannot go at once.

    They go on with what has come meanwhile, and send it before they tell outcomes: threads that are
    told want the interpreter's lock, which would keep the database waiting.

    The handler of a signal may raise in the thread of a caller between any two steps of the
    interpreter. So callers keep no books. They put something into a container, or take it out, in a
    single call of C; only threads of the store touch the queue and its lock. An append whose
    `alive` nobody holds has lost its caller.

    Args:
        execute: runs one statement, on a connection of its own; calls its second argument, where
            there is one, while it waits for the database, until that tells that all is done.
        connections: how many of these there are at most.
        timeout: seconds that an append waits to be sent.
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
        """What callers have under way by themselves, by its key."""
        self._arrived: deque[PendingAppend] = deque()
        """What is to be taken into the queue."""
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """What the threads are to do."""
        self._is_closed = False
        # Callers only read what comes from here on.
        self._guard = threading.Lock()
        self._queue = CommitQueue(min(WORKERS, connections), BATCHES)
        self._admitted: dict[PendingAppend, Batch] = {}
        """What was taken over from `_passing`."""
        self._most_threads = connections
        self._threads = self._busy_threads = 0
        weakref.finalize(self, self._tasks.put, None).atexit = False

    def open(self) -> None:
        """Start the first thread; it starts the others."""
        with self._guard:
            self._ensure_threads(1)

    def append(self, statement: AppendStatement) -> Rows:
        """Append, with others where they are many."""
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
        """Let the threads end when they have nothing more to do."""
        self._is_closed = True
        self._tasks.put(self._update)

    def _wait(self, entry: PendingAppend) -> Rows:
        """Wait for the outcome of an append that the store's threads make."""
        entry.signal = threading.Lock()
        entry.signal.acquire()
        with entry.alive:
            self._arrived.append(entry)
            if not self._passing and self._queue.is_free:  # else whoever is done rings
                self._tasks.put(self._update)
            while not (entry.signal.acquire(timeout=PATIENCE) or entry.is_settled):
                # Those that are under way take long, or were interrupted.
                self._tasks.put(self._update)
                self._check_wait(entry)
        return entry.outcome()

    def _check_wait(self, entry: PendingAppend) -> None:
        if self._is_closed and self._threads == 0:
            raise StoreClosed
        # What was sent has the time limits of the engine, which tells more: they come first.
        if time.monotonic() > entry.started_at + self._timeout * (3 if entry.is_sent else 1):
            raise outcome_not_known(
                f"the append to stream {entry.statement.parameters['stream']} has waited"
                f" {time.monotonic() - entry.started_at:.0f} s for other appends of this process"
            )

    # In threads of the store's own, which no signal interrupts -----------------------------------

    def _update(self) -> None:
        """Bring the queue up to date with what callers did, and run what is to be run."""
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
        with suppress(KeyError):  # there is nothing more
            while True:
                _, entry = self._passing.popitem()
                self._admitted[entry] = self._queue.add_running(entry)
        for entry in list(self._admitted):
            if entry.is_abandoned:  # its caller is done, or was interrupted
                batches += self._queue.settle(self._admitted.pop(entry), [])
        while self._arrived:
            self._queue.add(self._arrived.popleft())
        return batches

    def _run(self, batches: list[Batch]) -> None:
        """Run what is to be run, and what has come meanwhile, until nothing waits."""
        settled: deque[PendingAppend] = deque()

        def notify() -> bool:
            while settled:
                settled.popleft().signal.release()
            return False

        while batches:
            # What may have to wait for long is for other threads.
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
                # Once more: who came until nothing was under way did not ring.
                batches += self._take_in() + self._queue.next_batches()
            notify()
            settled.extend(entry for entry in batch.entries if entry.is_settled)
        notify()

    def _ensure_threads(self, number: int) -> None:
        while self._threads < min(number, self._most_threads):
            self._threads += 1
            # It knows the queue alone, so that a store that nobody uses any more can go.
            threading.Thread(
                target=_run_tasks, args=[self._tasks], name="indelible-append", daemon=True
            ).start()


def _run_tasks(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run the tasks of a queue until its end, None."""
    while task := tasks.get():
        try:
            task()
        except Exception:
            _log.exception("a thread that appends goes on after an error")
        del task
    tasks.put(None)  # for the next thread
