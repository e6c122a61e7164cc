# Generated from subscription_async.py; do not edit.
"""A subscription: catch-up first, then live."""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self

from indelible.core.concurrency import Begun, Event
from indelible.core.retry import StepSupervisor
from indelible.events import Checkpoint, Data_co, RecordedEvent
from indelible.postgres.engine import PoolEngine, ShortTimeoutEngine

from .head_watcher import HeadWatcher
from .log_follower import Batch, LogFollower

_log = logging.getLogger("indelible")


class Subscription(Iterator[RecordedEvent[Data_co]], Begun, Generic[Data_co]):
    """The events of the log: first the stored ones (catch-up), then new ones (live).

    Get one with `EventStore.subscribe`. It begins at once. An async one begins when it is
    awaited or entered, or when its first event is taken.

    Iterate over it for events, or over `batches()` for events with the checkpoint to store. One
    thread or task takes events from it. Any thread may stop it.
    """

    def __init__(self, engine: PoolEngine, watch: HeadWatcher, following: LogFollower) -> None:
        self._engine = ShortTimeoutEngine(engine)
        self._patient_engine = engine
        self._watch = watch
        self._following = following
        self._events: deque[RecordedEvent[Data_co]] = deque()
        self._handed_out: RecordedEvent[Data_co] | None = None
        self._woken = Event()
        self._stopped = Event()
        self._has_caught_up = False
        self._settled = Event()  # set when it has caught up, or never will
        self._supervisor = StepSupervisor("a subscription waits", _log)
        self._finalizer = weakref.finalize(self, watch.leave, id(self._woken))
        super().__init__()

    def _begin(self) -> None:
        self._patient_engine.run(self._following.begin())

    @property
    def position(self) -> int:
        """All matching events up to here were returned. Pass it as `after` to a later reader."""
        event, has_more = _place(self._handed_out, self._events)
        return self._following.position_after(event, has_more=has_more)

    @property
    def checkpoint(self) -> Checkpoint:
        """The position with the store's epoch. If you store it, a restored store is detected.

        Raises:
            InvalidInput: an async subscription has not begun.
        """
        event, has_more = _place(self._handed_out, self._events)
        return self._following.checkpoint_after(event, has_more=has_more)

    @property
    def is_caught_up(self) -> bool:
        """Whether all matching events up to the last known head were returned."""
        return self._following.is_caught_up and not self._events

    def wait_until_caught_up(self, timeout: float | None = None) -> bool:
        """Wait until the subscription has caught up for the first time.

        Call it in another thread or task than the one that takes events.

        Args:
            timeout: seconds to wait at most; None to wait without a limit.

        Returns:
            Whether it has caught up; False if the time is over, or if it was stopped before.
        """
        self._settled.wait(timeout)
        return self._has_caught_up

    def batches(self) -> Iterator[Batch[Data_co]]:
        """Iterate over the events in batches.

        A batch may be empty if no events matched up to its `position`. Store this position, too: a
        later reader then need not look there again.

        Returns:
            An iterator over the batches. It ends when the subscription is stopped.
        """
        while (batch := self._next_batch()) is not None:
            self._handed_out = None
            yield batch

    def stop(self) -> None:
        """End the iteration at once. Any thread or task may call it, any number of times."""
        self._stopped.set()
        self._woken.set()
        self._settled.set()
        self._finalizer()

    def __next__(self) -> RecordedEvent[Data_co]:
        while not self._events:
            self._handed_out = None
            batch = self._next_batch()
            if batch is None:
                raise StopIteration
            self._events.extend(batch.events)
        if self._stopped.is_set():
            raise StopIteration
        event = self._events.popleft()
        self._handed_out = event
        return event

    def _next_batch(self) -> Batch[Data_co] | None:
        if not self._stopped.is_set():
            self._begin()
        while not self._stopped.is_set():
            with self._supervisor:
                if self._following.is_caught_up:
                    self._has_caught_up = True
                    self._settled.set()
                    if not self._wait_for_more():
                        break
                return self._engine.run(self._following.next_batch())
            self._stopped.wait(self._supervisor.pause)
        return None

    def _wait_for_more(self) -> bool:
        """Wait until there are more events; return False if the subscription was stopped."""
        self._watch.join(id(self._woken), self._woken.set, follows=True)
        deadline = _deadline(self._following)
        while not self._stopped.is_set():
            self._woken.clear()
            self._watch.raise_what_ended()
            tail, state = self._watch.tail, self._watch.state
            if state is not None and self._following.has_more(state):
                self._following.extend(state, tail)
                return True
            if not self._woken.wait(_seconds_until(deadline)):
                self._following.look_again()
                return True
        self._watch.leave(id(self._woken))  # it may have been stopped before it joined
        return False

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _place(
    last: RecordedEvent | None, rest: deque[RecordedEvent]
) -> tuple[RecordedEvent | None, bool]:
    """Return the event that the position is at, and whether a later reader must begin before it.

    Args:
        last: the last event of the batch that was handed out.
        rest: the other events of the batch.
    """
    if last is None and rest:  # stopped while it read the batch
        return rest[0], True
    # Upcasters may have made several events of a stored one.
    return last, last is not None and bool(rest) and rest[0].position == last.position


def _deadline(following: LogFollower) -> float | None:
    seconds = following.wait_seconds
    return None if seconds is None else time.monotonic() + seconds


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)
