"""Group commit for tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from indelible.core.operation import AppendStatement, Rows, Statement
from indelible.errors import StoreClosed

from .commit_queue import BATCHES, PATIENCE, WORKERS, Batch, CommitQueue, PendingAppend


class AsyncGroupCommit:
    """Group commit for tasks.

    Each batch runs in a task of its own, so that cancelling one append does not affect the others.

    Args:
        execute: runs one statement on a connection of its own.
        connections: the largest number of these connections.
    """

    def __init__(self, execute: Callable[[Statement], Awaitable[Rows]], connections: int) -> None:
        self._execute = execute
        self._queue = CommitQueue(min(WORKERS, connections), BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    async def append(self, statement: AppendStatement) -> Rows:
        """Run an append, in a batch with others if there are many."""
        entry = PendingAppend(statement)
        if self._queue.is_idle and (batch := self._queue.enter(entry)):
            return await self._alone(batch)
        loop = asyncio.get_running_loop()
        entry.signal = loop.create_future()
        if self._queue.add(entry):
            if not self._is_scheduled:
                self._is_scheduled = True  # after all tasks that are ready to run
                loop.call_soon(self._start_batches)
        elif self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._start_more)
        try:
            await entry.signal
        except asyncio.CancelledError:
            entry.has_left = True
            raise
        return entry.outcome()

    async def _alone(self, batch: Batch) -> Rows:
        try:
            rows = await self._execute(batch.statement())
        except BaseException as error:
            self._begin(self._queue.settle(batch, error))
            raise
        self._begin(self._queue.settle(batch, rows))
        return rows

    def _start_batches(self) -> None:
        self._is_scheduled = False
        self._begin(self._queue.next_batches())

    def _start_more(self) -> None:
        self._timer = None
        self._begin(self._queue.add_workers())
        if self._queue.is_waited_for:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._start_more)

    def _begin(self, batches: list[Batch]) -> None:
        for batch in batches:
            task = asyncio.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: Batch) -> None:
        outcome: Rows | BaseException
        try:
            outcome = await self._execute(batch.statement())
        except Exception as error:
            outcome = error
        except BaseException:  # the event loop ends
            self._settle(batch, StoreClosed())
            raise
        self._settle(batch, outcome)

    def _settle(self, batch: Batch, outcome: Rows | BaseException) -> None:
        self._begin(self._queue.settle(batch, outcome))
        for entry in batch.entries:
            if entry.is_settled and not entry.signal.done():
                entry.signal.set_result(None)
