"""The two faces of a worker of a consumer group: take an event, handle it, say how it went."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .errors import IndelibleError, InvalidInput, LeaseLost, describe
from .events import RecordedEvent
from .leases import Lease
from .outcomes import was_left
from .plan import documented_as
from .postgres import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, Origin, PoolEngine
from .retries import PASSING, Retries
from .slices import Item, Verdict
from .subscription import Bell
from .wakeup import Watch
from .worker import Worker, finish

Bound = TypeVar("Bound")

_AHEAD = 16
"""How many events wait ready for whoever takes the next one."""

_log = logging.getLogger("indelible")


class DeliveredEvent:
    """An event of a consumer group, in the hands of one handler.

    Say how it went with `ack`, `nack`, `skip` or `park`; or enter it with `with`: the end of the
    block acks it, an error nacks it and is logged, and the loop goes on. Until then no other event
    of its stream is handed out.

    An event that is left without a word is given back: it is delivered again after the group's
    `retry_after`, and no attempt is counted. That is so where the block is cancelled (the task that
    it runs in is, also by a timeout around it), interrupted or left for good, and where the object
    is dropped. A timeout inside the block is a failure as any other, and so is a cancellation of
    something else that the block waits for.
    """

    _is_taken = _is_told = False

    def __init__(
        self,
        item: Item,
        event: RecordedEvent,
        tell: Callable[[Item], None],
        verdicts: deque[Item],
    ) -> None:
        self._item = item
        self._tell = tell
        self._verdicts = verdicts
        self.event = event
        """The event as it stands in the store."""
        self.attempt = item.attempt
        """Which attempt this is: 1 for the first. A higher one may have run before, in part."""

    @property
    def position(self) -> int:
        """The event's place in the log."""
        return self.event.position

    @property
    def stream(self) -> str:
        """The event's stream."""
        return self.event.stream

    @property
    def version(self) -> int:
        """The event's place in its stream."""
        return self.event.version

    @property
    def data(self) -> Any:
        """The event's data: an instance of its class where one is registered."""
        return self.event.data

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the event."""
        return self.event.metadata

    def ack(self) -> None:
        """Say that it is handled.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._say("finished")

    def nack(self, error: object = None) -> None:
        """Say that it failed: it is tried again later, and parked after too many attempts.

        Args:
            error: why; kept with the event.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = "its handler failed"
        self._say("retry")

    def skip(self, reason: str = "") -> None:
        """Say that it needs no handling: as `ack`, with a line in the log.

        Raises:
            InvalidInput: something was said of it before.
        """
        _log.info("skipped event %d of stream %r: %s", self.position, self.stream, reason)
        self._say("finished")

    def park(self, reason: str = "parked by its handler", error: object = None) -> None:
        """Set it aside for an operator; later events of its stream wait behind it.

        Args:
            reason: why; kept with the event.
            error: the error, if there was one; kept with the event.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = describe(reason)
        self._say("park")

    def facts(self) -> dict[str, object]:
        """Give what names it in a log: its stream, version, position, type and attempt."""
        return {
            "stream": self.stream,
            "version": self.version,
            "position": self.position,
            "type": self.event.type,
            "attempt": self.attempt,
        }

    def _say(self, verdict: Verdict) -> None:
        self._check_unsaid()
        self._item.verdict = verdict
        self._tell(self._item)
        self._is_told = True

    def _check_unsaid(self) -> None:
        if self._item.verdict is not None:
            raise InvalidInput(
                f"event {self.position} was {self._item.verdict} already: say how it went once"
            )

    def __del__(self) -> None:
        # Anywhere, in any thread: no lock may be taken here. The worker finds it at its next turn.
        if self._is_taken and not self._is_told:
            if self._item.verdict is None:
                self._item.reason = "it was dropped, and nothing was said of it"
                self._item.verdict = "given back"
            self._verdicts.append(self._item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        said = self._item.verdict
        if error is None:
            if said is None:
                self.ack()
            return False
        if not was_left(error):
            if said is None:
                note_failure(self, error)
            return said in (None, "retry")
        if said is None:
            # Cancelled or interrupted: whoever did that may go on for long, or end the process.
            self._item.reason = f"its handler was left by {type(error).__name__}"
            self._say("given back")
        return False

    # After the annotations that say type, which it would hide.
    @property
    def type(self) -> str:
        """The event's type."""
        return self.event.type


def note_failure(delivery: DeliveredEvent, error: BaseException) -> None:
    """Log that the handler of an event failed, and nack it unless something was said of it."""
    _log.error("a handler failed", exc_info=error, extra=delivery.facts())
    if delivery._item.verdict is None:
        delivery.nack(error)


class Delivery(DeliveredEvent, Generic[Bound]):
    """An event of a consumer group, for code without `async`; see `DeliveredEvent`."""

    def __init__(
        self,
        item: Item,
        event: RecordedEvent,
        tell: Callable[[Item], None],
        verdicts: deque[Item],
        engine: PoolEngine,
        worker: Worker,
        bind: Callable[[BoundEngine], Bound],
    ) -> None:
        super().__init__(item, event, tell, verdicts)
        self._engine = engine
        self._worker = worker
        self._bind = bind

    @contextmanager
    def transaction(self) -> Iterator[Bound]:
        """Handle it exactly once: what is written and that it is handled commit together.

        The end of the block acks the event. An error undoes the block's work and nacks nothing.

        Returns:
            A context manager that gives a store bound to the transaction, as
            `EventStore.transaction` does.

        Raises:
            LeaseLost: others have taken the event over, or an earlier transaction has finished it;
                the block's work is undone.
            InvalidInput: something was said of it before; the block's work is undone.

        Example:
            ```python
            with delivery, delivery.transaction() as transaction:
                transaction.connection.execute("UPDATE …")
                transaction.append("delivery-17", DeliveryBooked(), expected=NO_STREAM)
            ```
        """
        with self._engine.transaction() as engine:
            yield self._bind(engine)
            self._check_unsaid()
            # Last, so that it holds its rows as short as can be: from here on the server ends the
            # session of a client that is silent for longer than the lease.
            engine.run(finish(self._worker, self._item))
        self._say("settled")


class AsyncDelivery(DeliveredEvent, Generic[Bound]):
    """An event of a consumer group, for `async` code; see `DeliveredEvent`.

    It is entered with `with`, since saying how it went waits for nothing.
    """

    def __init__(
        self,
        item: Item,
        event: RecordedEvent,
        tell: Callable[[Item], None],
        verdicts: deque[Item],
        engine: AsyncPoolEngine,
        worker: Worker,
        bind: Callable[[AsyncBoundEngine], Bound],
    ) -> None:
        super().__init__(item, event, tell, verdicts)
        self._engine = engine
        self._worker = worker
        self._bind = bind

    def transaction(self) -> AbstractAsyncContextManager[Bound]:
        return self._transaction()

    transaction.__doc__ = Delivery.transaction.__doc__

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Bound]:
        async with self._engine.transaction() as engine:
            yield self._bind(engine)
            self._check_unsaid()
            await engine.run(finish(self._worker, self._item))
        self._say("settled")


class Consumer(Iterator[Delivery[Bound]], Generic[Bound]):
    """A worker of a consumer group; see `Group.consume`.

    A context manager: at its end what was not acked is given back at once. Any number of threads
    may take from it, each its own events; events of one stream come in order, one at a time.
    """

    def __init__(
        self,
        engine: PoolEngine,
        watch: Watch,
        worker: Worker,
        bind: Callable[[BoundEngine], Bound],
    ) -> None:
        self._patient_engine = engine
        self._engine = engine.impatient()
        self._watch = watch
        self._worker = worker
        self._bind = bind
        self._origin = Origin()
        self._changed = threading.Condition()
        self._queue: deque[Delivery[Bound]] = deque()
        self._takers = 0
        self._is_stopped = False
        self._is_closed = False
        self._problem: Exception | None = None
        self._woken = threading.Event()
        engine.run(worker.check())
        self._lease = _hold_lease(watch, worker)
        self._retries = Retries()
        self._thread = threading.Thread(
            target=_work,
            args=(weakref.ref(self), self._engine, worker, watch, self._lease, self._woken),
            name=f"indelible-worker-{worker.group}",
            daemon=True,
        )
        watch.join(id(self._woken), self._woken.set)
        self._forgotten = weakref.finalize(self, _leave, watch, self._lease, self._woken)
        self._thread.start()

    @property
    def slices(self) -> int:
        """How many of the group's 1,024 slices this worker has."""
        return self._worker.slices

    def take(self, timeout: float | None = None) -> Delivery[Bound] | None:
        """Take the next event.

        Args:
            timeout: seconds to wait at most; None for no bound.

        Returns:
            It; None when the time is over or the consumer was stopped.

        Raises:
            GroupNotFound: the group was deleted.
        """
        self._origin.check()
        with self._changed:
            self._takers += 1
            try:
                if not self._queue:
                    self._woken.set()
                    self._changed.wait_for(
                        lambda: self._queue or self._is_stopped or self._problem, timeout
                    )
                if self._problem is not None:
                    raise self._problem
                if self._is_stopped or not self._queue:
                    return None
                self._queue[0]._is_taken = True
                return self._queue.popleft()
            finally:
                self._takers -= 1

    def stop(self) -> None:
        """Hand out nothing more, at once; what is in hands may still be acked until `close`."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._woken.set()

    def close(self) -> None:
        """Stop, give back what was not acked, and end the lease. Closing twice is allowed."""
        if not self._origin.is_here:  # it is another process's, which goes on with it
            return
        self.stop()
        self._is_closed = True
        self._woken.set()
        self._thread.join()
        self._forgotten()

    def __next__(self) -> Delivery[Bound]:
        delivery = self.take()
        if delivery is None:
            raise StopIteration
        return delivery

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _tell(self, item: Item) -> None:
        self._worker.verdicts.append(item)
        self._woken.set()

    def _step(self) -> float | None:
        """Do what there is to do; return how long to rest then, or None where it has ended."""
        _show_life(self._lease, self._worker, 0)
        try:
            pause = self._turn()
            self._retries.succeed()
        except LeaseLost as error:
            _log.warning("group %r: %s", self._worker.group, error)
            pause = self._retries.next_pause()
            with self._changed:
                self._worker.lose()
                self._queue.clear()
        except PASSING as error:
            pause = self._retries.next_pause()
            _log.warning("a worker waits %.2f s for the database: %s", pause, error)
        except Exception as error:
            with self._changed:
                self._problem = error
                self._changed.notify_all()
            return None
        _show_life(self._lease, self._worker, pause)
        return pause

    def _turn(self) -> float:
        with self._changed:
            wanted = wanted_noted = 0
            if not self._is_stopped:
                wanted = max(self._takers + _AHEAD - len(self._queue), 0)
                wanted_noted = max(self._takers - len(self._queue), 0)
        if self._watch.problem is not None:
            raise self._watch.problem
        head = self._worker.head_of(self._watch.state)
        turn = self._worker.turn(time.monotonic(), head, wanted, wanted_noted)
        found = self._engine.run(turn)
        if found:
            with self._changed:
                self._queue.extend(map(self._delivery, found))
                self._changed.notify_all()
        return self._worker.pause(time.monotonic(), head)

    def _delivery(self, item: Item) -> Delivery[Bound]:
        worker = self._worker
        return Delivery(
            item,
            _event(item),
            self._tell,
            worker.verdicts,
            self._patient_engine,
            worker,
            self._bind,
        )


def _work(
    reference: weakref.ref[Consumer[Any]],
    engine: PoolEngine,
    worker: Worker,
    watch: Watch,
    lease: Lease,
    woken: threading.Event,
) -> None:
    try:
        # Holding no consumer while it rests: one that is forgotten gives back what it held.
        while (consumer := reference()) is not None and not consumer._is_closed:
            woken.clear()
            pause = consumer._step()
            del consumer
            if pause is None:
                return
            woken.wait(pause)
        del consumer
    finally:
        watch.leases.drop(lease)
    try:
        engine.run(worker.leave())
    except IndelibleError as error:  # the lease ends by itself
        _log.warning("a worker could not give back what it held: %s", error)


def _leave(watch: Watch, lease: Lease, woken: threading.Event) -> None:
    watch.leave(id(woken))
    watch.leases.drop(lease)
    woken.set()


def _hold_lease(watch: Watch, worker: Worker) -> Lease:
    return watch.leases.hold(f"the lease of a worker of group {worker.group!r}")


def _show_life(lease: Lease, worker: Worker, pause: float) -> None:
    lease.show_life(
        worker.renewal(),
        seconds=worker.settings.lease,
        pause=pause,
        renewed_at=worker.renewed_at,
    )


@documented_as(Consumer)
class AsyncConsumer(AsyncIterator[AsyncDelivery[Bound]], Generic[Bound]):
    """A worker of a consumer group; see `AsyncGroup.consume`.

    A context manager: at its end what was not acked is given back at once. Any number of tasks may
    take from it, each its own events; events of one stream come in order, one at a time.
    """

    def __init__(
        self,
        engine: AsyncPoolEngine,
        watch: Watch,
        worker: Worker,
        bind: Callable[[AsyncBoundEngine], Bound],
    ) -> None:
        self._patient_engine = engine
        self._engine = engine.impatient()
        self._watch = watch
        self._worker = worker
        self._bind = bind
        self._origin = Origin()
        self._changed = asyncio.Condition()
        self._queue: deque[AsyncDelivery[Bound]] = deque()
        self._takers = 0
        self._is_stopped = False
        self._is_closed = False
        self._problem: Exception | None = None
        self._woken = Bell()
        self._lease: Lease
        self._task: asyncio.Task[None] | None = None

    @property
    def slices(self) -> int:
        return self._worker.slices

    async def take(self, timeout: float | None = None) -> AsyncDelivery[Bound] | None:  # noqa: ASYNC109
        self._engine.check_origin()
        if self._task is None:
            raise InvalidInput("enter the consumer first: async with group.consume() as consumer")
        async with self._changed:
            self._takers += 1
            try:
                if not self._queue:
                    self._woken.ring()
                    try:
                        async with asyncio.timeout(timeout):
                            await self._changed.wait_for(
                                lambda: self._queue or self._is_stopped or self._problem
                            )
                    except TimeoutError:
                        return None
                if self._problem is not None:
                    raise self._problem
                if self._is_stopped or not self._queue:
                    return None
                self._queue[0]._is_taken = True
                return self._queue.popleft()
            finally:
                self._takers -= 1

    async def stop(self) -> None:
        async with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._woken.ring()

    async def close(self) -> None:
        if not self._origin.is_here:  # it is another process's, which goes on with it
            return
        await self.stop()
        self._is_closed = True
        self._woken.ring()
        try:
            if self._task is not None:
                await self._task
                self._watch.leases.drop(self._lease)
        finally:
            self._watch.leave(id(self))

    async def __anext__(self) -> AsyncDelivery[Bound]:
        delivery = await self.take()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def __aenter__(self) -> Self:
        await self._patient_engine.run(self._worker.check())
        self._woken.attach()
        self._watch.join(id(self), self._woken.ring)
        self._lease = _hold_lease(self._watch, self._worker)
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _tell(self, item: Item) -> None:
        self._worker.verdicts.append(item)
        self._woken.ring()

    async def _work(self) -> None:
        try:
            if not await self._work_on():
                return
        finally:
            self._watch.leases.drop(self._lease)
        try:
            await self._engine.run(self._worker.leave())
        except IndelibleError as error:  # the lease ends by itself
            _log.warning("a worker could not give back what it held: %s", error)

    async def _work_on(self) -> bool:
        """Do what there is to do until it is closed; say whether it is."""
        retries = Retries()
        while not self._is_closed:
            self._woken.clear()
            _show_life(self._lease, self._worker, 0)
            try:
                pause = await self._turn()
                retries.succeed()
            except LeaseLost as error:
                _log.warning("group %r: %s", self._worker.group, error)
                pause = retries.next_pause()
                self._worker.lose()
                self._queue.clear()
            except PASSING as error:
                pause = retries.next_pause()
                _log.warning("a worker waits %.2f s for the database: %s", pause, error)
            except Exception as error:
                async with self._changed:
                    self._problem = error
                    self._changed.notify_all()
                return False
            _show_life(self._lease, self._worker, pause)
            await self._woken.wait(pause)
        return True

    async def _turn(self) -> float:
        wanted = wanted_noted = 0
        if not self._is_stopped:
            wanted = max(self._takers + _AHEAD - len(self._queue), 0)
            wanted_noted = max(self._takers - len(self._queue), 0)
        if self._watch.problem is not None:
            raise self._watch.problem
        head = self._worker.head_of(self._watch.state)
        turn = self._worker.turn(time.monotonic(), head, wanted, wanted_noted)
        found = await self._engine.run(turn)
        if found:
            async with self._changed:
                self._queue.extend(map(self._delivery, found))
                self._changed.notify_all()
        return self._worker.pause(time.monotonic(), head)

    def _delivery(self, item: Item) -> AsyncDelivery[Bound]:
        worker = self._worker
        return AsyncDelivery(
            item,
            _event(item),
            self._tell,
            worker.verdicts,
            self._patient_engine,
            worker,
            self._bind,
        )


def worker_name() -> str:
    """Host and process, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _event(item: Item) -> RecordedEvent:
    if item.event is None:  # the worker hands out only what could be read
        raise AssertionError(item)
    return item.event
