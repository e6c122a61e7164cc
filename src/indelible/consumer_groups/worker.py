"""Operations: one turn of a worker of a consumer group.

One thread or task runs the operations of a worker; nothing here is shared. What it holds in memory
may vanish at any moment: the rows say what is finished, and docs/explanation/consumer-groups.md
why that is enough.
"""

from __future__ import annotations

from collections import deque
from math import inf
from uuid import uuid4

from indelible.core.operation import Operation, Statement
from indelible.errors import EpochMismatch, LeaseLost
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState

from . import admin_operations
from .dispatch import Dispatcher, event_parameters
from .fetch import Fetcher
from .lease import Lease
from .progress import InFlightEvent, OwnedSlices
from .types import GroupSettings


class Worker:
    """One worker of a group.

    Args:
        codec: reads the events.
        group: the group's name.
        name: the worker's name, for people.

    Attributes:
        group: the group's name.
        settings: those of the group, when the worker joined.
        outcomes: events with outcomes, to be recorded; any thread may append to it.
    """

    def __init__(self, codec: Codec, group: str, name: str) -> None:
        self.group = group
        self.outcomes: deque[InFlightEvent] = deque()
        self._codec = codec
        self._name = name
        self._instance = uuid4()
        self._begin(GroupSettings())

    def _begin(self, settings: GroupSettings) -> None:
        """Forget everything, as before the worker joins."""
        self.settings = settings
        self._slices = slices = OwnedSlices()
        self._lease = lease = Lease(self.group, self._name, self._instance, settings, slices)
        self._dispatcher = Dispatcher(self.group, settings, lease, slices, self.outcomes)
        self._fetcher = Fetcher(self._codec, settings, lease, slices, self._dispatcher)

    @property
    def slices(self) -> int:
        """How many slices it has."""
        return len(self._slices.by_number)

    @property
    def group_id(self) -> int:
        """Identifies the group; 0 before the worker has joined."""
        return self._lease.group_id

    @property
    def token(self) -> int:
        """The fencing token of the lease; 0 before the worker has joined."""
        return self._lease.token

    @property
    def renewed_at(self) -> float:
        """When the lease was renewed last, on the clock of `turn`."""
        return self._lease.renewed_at

    def renewal(self) -> Statement | None:
        """Return the statement that only renews the lease; None if there is none."""
        return self._lease.renewal()

    def check(self) -> Operation[None]:
        """Check that there is such a group.

        Raises:
            GroupNotFound: there is none.
        """
        yield from admin_operations.settings_of(self.group)

    def turn(
        self, now: float, head: int, limit: int, tracked_limit: int
    ) -> Operation[list[InFlightEvent]]:
        """Record outcomes, keep the lease, read on, and hand out what is ready.

        Args:
            now: the time on a clock that never goes back, in seconds.
            head: the settled position.
            limit: how many events to hand out at most.
            tracked_limit: how many of them may be counted before a handler has them.

        Returns:
            The events for handlers, each the only one of its slice.

        Raises:
            LeaseLost: others have taken over.
            GroupNotFound: the group was deleted.
        """
        if not self.token:
            self._begin((yield from admin_operations.settings_of(self.group)))
            yield from self._lease.join(now)
        if (yield from self._lease.finish_rebalance()):
            self._slices_changed()
        yield from self._dispatcher.apply_outcomes(now)
        if (yield from self._lease.keep(now)):
            self._slices_changed()
        yield from self._dispatcher.learn_blocked_keys()
        yield from self._fetcher.fetch_retries(now)
        try:
            yield from self._fetcher.fetch_next(now, head)
        except EpochMismatch as error:  # what is in memory may be of events that are gone
            raise LeaseLost from error
        return (yield from self._dispatcher.hand_out(limit, tracked_limit))

    def head_of(self, state: HeadState | None) -> int:
        """Return the head up to which it may read: of a log of another epoch nothing is known."""
        return self._fetcher.head_of(state)

    def pause(self, now: float, head: int) -> float:
        """Return for how many seconds there is nothing to do unless something happens."""
        has_room = self._fetcher.has_room
        if self.outcomes or (has_room and self._slices.cursor.position < head):
            return 0
        due_at = self._fetcher.due_at if has_room and self.settings.deliver_when_valid else inf
        return max(min(self._lease.next_at(), self._dispatcher.next_at(), due_at) - now, 0)

    def lose(self) -> None:
        """Forget everything: the lease is over. What handlers still say does not count."""
        self.outcomes.clear()
        self._begin(self.settings)

    def leave(self) -> Operation[None]:
        """Record outcomes, and give everything back for others to continue with."""
        if not self.token:
            return
        yield from self._dispatcher.apply_outcomes(inf)
        yield from self._dispatcher.give_back()
        yield from self._lease.leave()
        self._begin(self.settings)

    def _slices_changed(self) -> None:
        self._dispatcher.slices_changed()
        self._fetcher.slices_changed()


def finish(worker: Worker, item: InFlightEvent) -> Operation[None]:
    """Finish an event in the transaction that the operation runs in.

    Of several that upcasters made of a stored one, the last finishes them all.

    Raises:
        LeaseLost: the event belongs to another worker now, or was finished before.
    """
    if item.token != worker.token:
        raise LeaseLost
    if item.rest:
        return
    ((finished,),) = yield Statement(
        "consumer_groups.ack",
        {"group_id": worker.group_id, "token": item.token, **event_parameters(item)},
    )
    if not finished:
        raise LeaseLost(
            f"event {item.position} is finished already: an earlier transaction of its handler was"
            " committed, and nothing of this one was stored"
        )
