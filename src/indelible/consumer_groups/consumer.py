"""A consumer: the thread of one worker, which hands out deliveries."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self

from indelible.core.retry import TRANSIENT_ERRORS, Backoff
from indelible.errors import IndelibleError, LeaseLost
from indelible.events import RecordedEvent
from indelible.postgres.engine import PoolEngine
from indelible.postgres.forks import Origin
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction import BoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher

from .delivery import Bound, Delivery
from .progress import InFlightEvent
from .worker import Worker

_AHEAD = 16
"""How many events wait ready for whoever takes the next one."""

_log = logging.getLogger("indelible")


class Consumer(Iterator[Delivery[Any, Bound]], Generic[Bound]):
    """A worker of a consumer group; see `Group.consume`.

    A context manager: at its end what was not acked is given back at once. Any number of threads
    may take from it, each its own events; events of one stream come in order, one at a time.
    """

    def __init__(
        self,
        engine: PoolEngine,
        watch: HeadWatcher,
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
        self._queue: deque[Delivery[Any, Bound]] = deque()
        self._takers = 0
        self._is_stopped = False
        self._is_closed = False
        self._problem: Exception | None = None
        self._woken = threading.Event()
        engine.run(worker.check())
        self._lease = _hold_lease(watch, worker)
        self._retries = Backoff()
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

    def take(self, timeout: float | None = None) -> Delivery[Any, Bound] | None:
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

    def __next__(self) -> Delivery[Any, Bound]:
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

    def _tell(self, item: InFlightEvent) -> None:
        self._worker.outcomes.append(item)
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
        except TRANSIENT_ERRORS as error:
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

    def _delivery(self, item: InFlightEvent) -> Delivery[Any, Bound]:
        worker = self._worker
        return Delivery(
            item,
            _event(item),
            self._tell,
            worker.outcomes,
            self._patient_engine,
            worker,
            self._bind,
        )


def _work(
    reference: weakref.ref[Consumer[Any]],
    engine: PoolEngine,
    worker: Worker,
    watch: HeadWatcher,
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


def _leave(watch: HeadWatcher, lease: Lease, woken: threading.Event) -> None:
    watch.leave(id(woken))
    watch.leases.drop(lease)
    woken.set()


def _hold_lease(watch: HeadWatcher, worker: Worker) -> Lease:
    return watch.leases.hold(f"the lease of a worker of group {worker.group!r}")


def _show_life(lease: Lease, worker: Worker, pause: float) -> None:
    lease.show_life(
        worker.renewal(),
        seconds=worker.settings.lease,
        pause=pause,
        renewed_at=worker.renewed_at,
    )


def _event(item: InFlightEvent) -> RecordedEvent:
    if item.event is None:  # the worker hands out only what could be read
        raise AssertionError(item)
    return item.event
