"""A subscription: catch-up first, then live, async."""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Self

from indelible.core.concurrency_async import AsyncEvent
from indelible.core.operation import documented_as
from indelible.core.retry import TRANSIENT_ERRORS, Backoff
from indelible.errors import StoreClosed
from indelible.events import Checkpoint, RecordedEvent
from indelible.postgres.engine_async import AsyncPoolEngine

from .head_watcher import HeadWatcher
from .log_follower import Batch, LogFollower
from .subscription import Subscription

_log = logging.getLogger("indelible")


def _has_more(event: RecordedEvent | None, rest: deque[RecordedEvent]) -> bool:
    """Whether upcasters made several of a stored event, and some of them are still to come."""
    return event is not None and bool(rest) and rest[0].position == event.position


def _deadline(following: LogFollower) -> float | None:
    seconds = following.wait_seconds
    return None if seconds is None else time.monotonic() + seconds


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)


def _raise_what_ended(watch: HeadWatcher) -> None:
    if watch.is_closed:
        raise StoreClosed
    if watch.problem is not None:
        raise watch.problem


@documented_as(Subscription)
class AsyncSubscription(AsyncIterator[RecordedEvent]):
    """The events of the log, those that are there and those that come; see `Subscription`.

    `await` it to begin before the first event is taken: a subscription from the head begins then.
    """

    def __init__(self, engine: AsyncPoolEngine, watch: HeadWatcher, following: LogFollower) -> None:
        self._engine = engine.impatient()
        self._patient_engine = engine
        self._watch = watch
        self._following = following
        self._events: deque[RecordedEvent] = deque()
        self._handed_out: RecordedEvent | None = None
        self._woken = AsyncEvent()
        self._stopped = False
        self._has_caught_up = False
        self._settled = AsyncEvent()
        self._retries = Backoff()
        self._finalizer = weakref.finalize(self, watch.leave, id(self._woken))

    def __await__(self) -> Generator[object, None, Self]:
        yield from self._patient_engine.run(self._following.begin()).__await__()
        return self

    @property
    def position(self) -> int:
        has_more = _has_more(self._handed_out, self._events)
        return self._following.position_after(self._handed_out, has_more=has_more)

    @property
    def checkpoint(self) -> Checkpoint:
        has_more = _has_more(self._handed_out, self._events)
        return self._following.checkpoint_after(self._handed_out, has_more=has_more)

    @property
    def is_caught_up(self) -> bool:
        return self._following.is_caught_up and not self._events

    async def wait_until_caught_up(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        await self._settled.wait(timeout)
        return self._has_caught_up

    async def batches(self) -> AsyncIterator[Batch]:
        while (batch := await self._next_batch()) is not None:
            self._handed_out = None
            yield batch

    def stop(self) -> None:
        self._stopped = True
        self._woken.ring()
        self._settled.ring()
        self._finalizer()

    async def __anext__(self) -> RecordedEvent:
        while not self._events:
            self._handed_out = None
            batch = await self._next_batch()
            if batch is None:
                raise StopAsyncIteration
            self._events.extend(batch.events)
        if self._stopped:
            raise StopAsyncIteration
        event = self._events.popleft()
        self._handed_out = event
        return event

    async def _next_batch(self) -> Batch | None:
        if not self._stopped:
            await self
        while not self._stopped:
            try:
                if self._following.is_caught_up:
                    self._has_caught_up = True
                    self._settled.ring()
                    if not await self._wait_for_more():
                        break
                batch = await self._engine.run(self._following.next_batch())
            except TRANSIENT_ERRORS as error:
                pause = self._retries.next_pause()
                _log.warning("a subscription waits %.2f s for the database: %s", pause, error)
                self._woken.clear()
                if not self._stopped:  # else its ring may just have been taken back
                    await self._woken.wait(pause)
            else:
                self._retries.succeed()
                return batch
        return None

    async def _wait_for_more(self) -> bool:
        self._woken.attach()
        self._watch.join(id(self._woken), self._woken.ring)
        deadline = _deadline(self._following)
        while not self._stopped:
            self._woken.clear()
            _raise_what_ended(self._watch)
            state = self._watch.state
            if state is not None and self._following.has_more(state):
                self._following.extend(state)
                return True
            if not await self._woken.wait(_seconds_until(deadline)):
                self._following.look_again()
                return True
        self._watch.leave(id(self._woken))
        return False

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
