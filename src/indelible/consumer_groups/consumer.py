"""Consumer: runs one worker in a thread and hands out deliveries."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import takewhile
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from indelible.core.retry import StepSupervisor
from indelible.errors import IndelibleError, LeaseLost
from indelible.events import RecordedEvent
from indelible.postgres.engine import PoolEngine, ShortTimeoutEngine
from indelible.postgres.forks import Origin
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction import BoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher

from .delivered_event import DeliveredEvent
from .delivery import Bound, Delivery
from .progress import InFlightEvent
from .worker import Worker

_FEWEST_AHEAD = 16
_MOST_AHEAD = 512
"""How many events a consumer holds ready for `take`: four times as many as were taken since the
last turn, within these limits. The slices of these events cannot move to another worker."""
GATHERING = 0.005
"""Seconds for which a worker gathers outcomes while enough events are ready."""

AnyDelivery = TypeVar("AnyDelivery", bound=DeliveredEvent[Any])

_log = logging.getLogger("indelible")


class Consumer(Iterator[Delivery[Any, Bound]], Generic[Bound]):
    """A worker of a consumer group; see `Group.consume`.

    A consumer is a context manager. At the end of the block, events without an outcome are given
    back at once. Any number of threads may take events; each event goes to one thread. Events of
    one stream are handed out in order, one at a time.
    """

    def __init__(
        self,
        engine: PoolEngine,
        watch: HeadWatcher,
        worker: Worker,
        bind: Callable[[BoundEngine], Bound],
    ) -> None:
        self._patient_engine = engine
        self._engine = ShortTimeoutEngine(engine)
        self._watch = watch
        self._worker = worker
        self._bind = bind
        self._origin = Origin()
        self._changed = threading.Condition()
        self._queue: deque[Delivery[Any, Bound]] = deque()
        self._takers = self._taken = 0
        self._has_retries = False
        self._ahead = _FEWEST_AHEAD
        self._is_stopped = False
        self._is_closed = False
        self._problem: Exception | None = None
        self._woken, self._hungry = threading.Event(), threading.Event()
        engine.run(worker.check())
        self._lease = hold_lease(watch, worker)
        self._supervisor = StepSupervisor("a worker waits", _log)
        self._thread = threading.Thread(
            target=_work,
            args=(
                weakref.ref(self),
                self._engine,
                worker,
                watch,
                self._lease,
                self._woken,
                self._hungry,
            ),
            name=f"indelible-worker-{worker.group}",
            daemon=True,
        )
        watch.join(id(self._woken), self._woken.set)
        self._forgotten = weakref.finalize(
            self, _leave, watch, self._lease, self._woken, self._hungry
        )
        self._thread.start()

    @property
    def slices(self) -> int:
        """The number of the group's 1,024 slices that this worker owns."""
        return self._worker.slices

    def take(self, timeout: float | None = None) -> Delivery[Any, Bound] | None:
        """Take the next event.

        Args:
            timeout: seconds to wait at most; None to wait without a limit.

        Returns:
            The event; None if the time is over or the consumer was stopped.

        Raises:
            GroupNotFound: the group was deleted.
        """
        self._origin.check()
        with self._changed:
            self._takers += 1
            try:
                if not self._ready:
                    self._wake()
                    self._changed.wait_for(
                        lambda: self._ready or self._is_stopped or self._problem, timeout
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

    def stop(self) -> None:
        """Stop handing out events. Events already handed out can be acked until `close`."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._wake()

    def close(self) -> None:
        """Stop, give back events without an outcome, and end the lease.

        Closing twice is allowed.
        """
        if not self._origin.is_here:  # another process owns this consumer and still uses it
            return
        self._end()
        self._thread.join()
        self._forgotten()

    def _end(self) -> None:
        """Begin to close, without waiting."""
        self.stop()
        self._is_closed = True
        self._wake()

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
        if not self._woken.is_set():
            self._woken.set()

    def _step(self) -> float | None:
        """Run one turn; return the seconds to wait after it, or None if the worker has ended."""
        show_life(self._lease, self._worker, 0)
        pause = 0.0
        try:
            with self._supervisor:
                pause = self._turn()
        except LeaseLost as error:
            _log.warning("group %r: %s", self._worker.group, error)
            with self._changed:
                self._worker.lose()
                self._queue.clear()
                self._note_retries(has_some=False)
        except Exception as error:
            with self._changed:
                self._problem = error
                self._changed.notify_all()
            return None
        if self._supervisor.pause:  # meanwhile handlers take the events that are there
            with self._changed:
                self._note_retries(has_some=False)
        pause = self._supervisor.pause or pause
        show_life(self._lease, self._worker, pause)
        return pause

    def _turn(self) -> float:
        with self._changed:
            wanted = wanted_noted = 0
            self._ahead, self._taken = ahead_of(self._taken), 0
            if not self._is_stopped:
                wanted_noted = self._waiting
                wanted = max(self._takers + self._ahead - len(self._queue), wanted_noted)
        if self._watch.problem is not None:
            raise self._watch.problem
        head = self._worker.head_of(self._watch.state)
        turn = self._worker.turn(time.monotonic(), head, wanted, wanted_noted)
        found = self._engine.run(turn)
        deliveries = list(map(self._delivery, found))
        with self._changed:
            add_to(self._queue, deliveries)
            self._note_retries(has_some=self._worker.has_retries, has_found=bool(found))
            # Handlers that wait for a retry, and for which this turn had none, get the next ones.
            if self._has_retries and self._waiting:
                return 0
        return self._worker.pause(time.monotonic(), head)

    def _note_retries(self, *, has_some: bool, has_found: bool = False) -> None:
        """Note whether events are due for a retry, and wake the handlers if they need to know."""
        if has_found or has_some != self._has_retries:
            self._has_retries = has_some
            self._changed.notify_all()

    def _delivery(self, item: InFlightEvent) -> Delivery[Any, Bound]:
        worker = self._worker
        return Delivery(
            item,
            event_of(item),
            self._tell,
            worker.outcomes,
            self._patient_engine,
            worker,
            self._bind,
        )


def _work(
    reference: weakref.ref[Consumer[Any]],
    engine: ShortTimeoutEngine,
    worker: Worker,
    watch: HeadWatcher,
    lease: Lease,
    woken: threading.Event,
    hungry: threading.Event,
) -> None:
    try:
        # The thread holds no reference while it waits, so a dropped consumer gives back its events.
        while (consumer := reference()) is not None and not consumer._is_closed:
            woken.clear()
            hungry.clear()
            pause = consumer._step()
            del consumer
            if pause is None:
                return
            woken.wait(pause)
            is_fed = (consumer := reference()) is not None and consumer._is_fed
            del consumer
            if is_fed:
                hungry.wait(GATHERING)
        del consumer
    finally:
        watch.leases.drop(lease)
    try:
        engine.run(worker.leave())
    except IndelibleError as error:
        _log.warning(
            "a worker could not give back its events; they are free when its lease expires: %s",
            error,
        )


def _leave(
    watch: HeadWatcher, lease: Lease, woken: threading.Event, hungry: threading.Event
) -> None:
    watch.leave(id(woken))
    watch.leases.drop(lease)
    woken.set()
    hungry.set()


def ready(queue: Collection[DeliveredEvent[Any]], *, has_retries: bool) -> int:
    """Return how many of the events held ready handlers may take at once.

    Args:
        queue: the events held ready.
        has_retries: whether an event is due for a retry. A handler then waits until the worker has
            counted the attempt, and takes this event first. So a retry does not wait until all
            other events are handled.
    """
    if not has_retries:
        return len(queue)
    return sum(1 for _ in takewhile(lambda delivery: delivery._item.is_tracked, queue))


def add_to(queue: deque[AnyDelivery], deliveries: Sequence[AnyDelivery]) -> None:
    """Add events to those held ready: first those whose attempt is counted, for they are late."""
    queue.extendleft(one for one in reversed(deliveries) if one._item.is_tracked)
    queue.extend(one for one in deliveries if not one._item.is_tracked)


def ahead_of(taken: int) -> int:
    """Return how many events to hold ready.

    Args:
        taken: how many were taken since the last turn.
    """
    return min(max(4 * taken, _FEWEST_AHEAD), _MOST_AHEAD)


def hold_lease(watch: HeadWatcher, worker: Worker) -> Lease:
    """Create the lease of a worker. `show_life` has it renewed."""
    return watch.leases.hold(f"the lease of a worker of group {worker.group!r}")


def show_life(lease: Lease, worker: Worker, pause: float) -> None:
    """Have the lease of a worker renewed.

    Args:
        lease: the lease.
        worker: the worker.
        pause: seconds until the worker calls this again, at most.
    """
    lease.show_life(
        worker.renewal(),
        seconds=worker.settings.lease,
        pause=pause,
        renewed_at=worker.renewed_at,
    )


def event_of(item: InFlightEvent) -> RecordedEvent:
    """Return the event of an item that the worker has handed out."""
    if item.event is None:  # the worker hands out only events that it could decode
        raise AssertionError(item)
    return item.event
