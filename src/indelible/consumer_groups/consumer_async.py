"""Consumer: runs one worker in a task and hands out deliveries."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self

from indelible.core.concurrency_async import AsyncEvent
from indelible.core.retry import StepSupervisor
from indelible.errors import IndelibleError, InvalidInput, LeaseLost
from indelible.postgres.engine_async import AsyncPoolEngine, AsyncShortTimeoutEngine
from indelible.postgres.forks import Origin
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher

from .consumer import (
    GATHERING,
    add_to,
    ahead_of,
    event_of,
    hold_lease,
    ready,
    show_life,
)
from .delivery_async import AsyncDelivery, Bound
from .progress import InFlightEvent
from .worker import Worker

_log = logging.getLogger("indelible")


class AsyncConsumer(AsyncIterator[AsyncDelivery[Any, Bound]], Generic[Bound]):
    """A worker of a consumer group; see `AsyncGroup.consume`.

    A consumer is a context manager. At the end of the block, events without an outcome are given
    back at once. Any number of tasks may take events; each event goes to one task. Events of one
    stream are handed out in order, one at a time.
    """

    def __init__(
        self,
        engine: AsyncPoolEngine,
        watch: HeadWatcher,
        worker: Worker,
        bind: Callable[[AsyncBoundEngine], Bound],
    ) -> None:
        self._patient_engine = engine
        self._engine = AsyncShortTimeoutEngine(engine)
        self._watch = watch
        self._worker = worker
        self._bind = bind
        self._origin = Origin()
        self._changed = asyncio.Condition()
        self._queue: deque[AsyncDelivery[Any, Bound]] = deque()
        self._takers = self._taken = 0
        self._has_retries = False
        self._ahead = ahead_of(0)
        self._is_stopped = False
        self._is_closed = False
        self._problem: Exception | None = None
        self._woken, self._hungry = AsyncEvent(), AsyncEvent()
        self._lease: Lease
        self._task: asyncio.Task[None] | None = None

    @property
    def slices(self) -> int:
        """The number of the group's 1,024 slices that this worker owns."""
        return self._worker.slices

    async def take(self, timeout: float | None = None) -> AsyncDelivery[Any, Bound] | None:
        """Take the next event.

        Args:
            timeout: seconds to wait at most; None to wait without a limit.

        Returns:
            The event; None if the time is over or the consumer was stopped.

        Raises:
            GroupNotFound: the group was deleted.
        """
        self._patient_engine.check_origin()
        if self._task is None:
            raise InvalidInput("enter the consumer first: async with group.consume() as consumer")
        async with self._changed:
            self._takers += 1
            try:
                if not self._ready:
                    self._wake()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(timeout):
                            await self._changed.wait_for(
                                lambda: self._ready or self._is_stopped or self._problem
                            )
                if self._problem is not None:
                    raise self._problem
                if self._is_stopped or not self._queue:
                    return None
                self._queue[0]._is_taken = True
                self._taken += 1
                if len(self._queue) == self._ahead // 2:
                    self._wake()
                return self._queue.popleft()
            finally:
                self._takers -= 1

    def _wake(self) -> None:
        """Have the worker run a turn at once."""
        self._woken.set()
        self._hungry.set()

    @property
    def _ready(self) -> int:
        """How many events handlers may take at once."""
        return ready(self._queue, has_retries=self._has_retries)

    @property
    def _waiting(self) -> int:
        """How many handlers wait for an event, or for the next retry."""
        return max(self._takers - self._ready, 0)

    @property
    def _is_fed(self) -> bool:
        """Whether enough events are ready, so that the worker may gather outcomes."""
        return not (self._takers or self._is_stopped) and len(self._queue) >= self._ahead // 2

    async def stop(self) -> None:
        """Stop handing out events. Events already handed out can be acked until `close`."""
        async with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._wake()

    async def close(self) -> None:
        """Stop, give back events without an outcome, and end the lease.

        Closing twice is allowed.
        """
        if not self._origin.is_here:  # another process owns this consumer and still uses it
            return
        await self.stop()
        self._is_closed = True
        self._wake()
        try:
            if self._task is not None:
                await self._task
                self._watch.leases.drop(self._lease)
        finally:
            self._watch.leave(id(self))

    async def __anext__(self) -> AsyncDelivery[Any, Bound]:
        delivery = await self.take()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def __aenter__(self) -> Self:
        await self._patient_engine.run(self._worker.check())
        self._watch.join(id(self), self._woken.set)
        self._lease = hold_lease(self._watch, self._worker)
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _tell(self, item: InFlightEvent) -> None:
        self._worker.outcomes.append(item)
        if not self._woken.is_set():
            self._woken.set()

    async def _work(self) -> None:
        try:
            if not await self._work_on():
                return
        finally:
            self._watch.leases.drop(self._lease)
        try:
            await self._engine.run(self._worker.leave())
        except IndelibleError as error:
            _log.warning(
                "a worker could not give back its events; they are free when its lease expires: %s",
                error,
            )

    async def _work_on(self) -> bool:
        """Run turns until the consumer is closed; return whether it is closed."""
        supervisor = StepSupervisor("a worker waits", _log)
        pause = 0.0
        while not self._is_closed:
            self._woken.clear()
            self._hungry.clear()
            show_life(self._lease, self._worker, 0)
            try:
                with supervisor:
                    pause = await self._turn()
            except LeaseLost as error:
                _log.warning("group %r: %s", self._worker.group, error)
                self._worker.lose()
                self._queue.clear()
                await self._note_retries(has_some=False)
            except Exception as error:
                async with self._changed:
                    self._problem = error
                    self._changed.notify_all()
                return False
            if supervisor.pause:
                await self._note_retries(has_some=False)
            pause = supervisor.pause or pause
            show_life(self._lease, self._worker, pause)
            await self._woken.wait(pause)
            if self._is_fed:
                await self._hungry.wait(GATHERING)
        return True

    async def _turn(self) -> float:
        wanted = wanted_noted = 0
        self._ahead, self._taken = ahead_of(self._taken), 0
        if not self._is_stopped:
            wanted_noted = self._waiting
            wanted = max(self._takers + self._ahead - len(self._queue), wanted_noted)
        if self._watch.problem is not None:
            raise self._watch.problem
        head = self._worker.head_of(self._watch.state)
        turn = self._worker.turn(time.monotonic(), head, wanted, wanted_noted)
        found = await self._engine.run(turn)
        add_to(self._queue, [self._delivery(item) for item in found])
        await self._note_retries(has_some=self._worker.has_retries, has_found=bool(found))
        # Handlers that wait for a retry, and for which this turn had none, get the next ones.
        if self._has_retries and self._waiting:
            return 0
        return self._worker.pause(time.monotonic(), head)

    async def _note_retries(self, *, has_some: bool, has_found: bool = False) -> None:
        """Note whether events are due for a retry, and wake the handlers if they need to know."""
        if has_found or has_some != self._has_retries:
            async with self._changed:
                self._has_retries = has_some
                self._changed.notify_all()

    def _delivery(self, item: InFlightEvent) -> AsyncDelivery[Any, Bound]:
        worker = self._worker
        return AsyncDelivery(
            item,
            event_of(item),
            self._tell,
            worker.outcomes,
            self._patient_engine,
            worker,
            self._bind,
        )
