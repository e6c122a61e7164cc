"""Group commit run by tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from indelible.core.operation import AppendStatement, Rows, Statement
from indelible.errors import StoreClosed

from .commit_queue import BATCHES, PATIENCE, WORKERS, Batch, CommitQueue, PendingAppend


class AsyncGroupCommit:
    """Group commit for tasks; a batch is a task of its own, so that cancelling one harms nobody.

    Args:
        execute: runs one statement, on a connection of its own.
        connections: how many of these there are at most.
    """

    def __init__(self, execute: Callable[[Statement], Awaitable[Rows]], connections: int) -> None:
        self._execute = execute
        self._line = CommitQueue(min(WORKERS, connections), BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._goes_on = False
        self._relief: asyncio.TimerHandle | None = None

    async def append(self, statement: AppendStatement) -> Rows:
        """Append, with others where they are many."""
        entry = PendingAppend(statement)
        if self._line.is_idle and (work := self._line.enter(entry)):
            return await self._alone(work)
        loop = asyncio.get_running_loop()
        entry.signal = loop.create_future()
        if self._line.queue(entry):
            if not self._goes_on:
                self._goes_on = True  # when all that is ready to run has run
                loop.call_soon(self._go_on)
        elif self._relief is None:
            self._relief = loop.call_later(PATIENCE, self._relieve)
        try:
            await entry.signal
        except asyncio.CancelledError:
            entry.has_left = True
            raise
        return entry.outcome()

    async def _alone(self, work: Batch) -> Rows:
        try:
            rows = await self._execute(work.statement())
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
            self._relief = asyncio.get_running_loop().call_later(PATIENCE, self._relieve)

    def _begin(self, following: list[Batch]) -> None:
        for work in following:
            task = asyncio.create_task(self._run(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Batch) -> None:
        outcome: Rows | BaseException
        try:
            outcome = await self._execute(work.statement())
        except Exception as error:
            outcome = error
        except BaseException:  # the loop ends
            self._settle(work, StoreClosed())
            raise
        self._settle(work, outcome)

    def _settle(self, work: Batch, outcome: Rows | BaseException) -> None:
        self._begin(self._line.settle(work, outcome))
        for entry in work.entries:
            if entry.is_settled and not entry.signal.done():
                entry.signal.set_result(None)
