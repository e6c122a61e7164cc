"""Operations: one turn of a worker of a consumer group.

One thread or task runs the operations of a worker; they share no state with others. The state in
memory may be lost at any moment. The rows in the database record what is finished;
docs/explanation/consumer-groups.md explains why that is enough.
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
        codec: decodes the events.
        group: the group's name.
        name: the worker's display name.

    Attributes:
        group: the group's name.
        settings: the settings of the group when the worker joined.
        outcomes: events whose outcomes are to be recorded; any thread may append to it.
    """

    def __init__(self, codec: Codec, group: str, name: str) -> None:
        self.group = group
        self.outcomes: deque[InFlightEvent] = deque()
        self._codec = codec
        self._name = name
        self._instance = uuid4()
        self._begin(GroupSettings())

    def _begin(self, settings: GroupSettings) -> None:
        """Return to the state before the worker joins."""
        self.settings = settings
        self._slices = slices = OwnedSlices()
        self._lease = lease = Lease(self.group, self._name, self._instance, settings, slices)
        self._dispatcher = Dispatcher(self.group, settings, lease, slices, self.outcomes)
        self._fetcher = Fetcher(self._codec, settings, lease, slices, self._dispatcher)

    @property
    def slices(self) -> int:
        """How many slices the worker owns."""
        return len(self._slices.by_number)

    @property
    def group_id(self) -> int:
        """The id of the group; 0 before the worker has joined."""
        return self._lease.group_id

    @property
    def token(self) -> int:
        """The fencing token of the lease; 0 before the worker has joined."""
        return self._lease.token

    @property
    def renewed_at(self) -> float:
        """When the lease was last renewed, on the clock of `turn`."""
        return self._lease.renewed_at

    @property
    def has_retries(self) -> bool:
        """Whether an event is due for a retry, and no handler has waited for it yet."""
        return bool(self._dispatcher.retries)

    def renewal(self) -> Statement | None:
        """Return the statement that only renews the lease; None without a lease."""
        return self._lease.renewal()

    def check(self) -> Operation[None]:
        """Check that the group exists.

        Raises:
            GroupNotFound: the group does not exist.
        """
        yield from admin_operations.settings_of(self.group)

    def turn(
        self, now: float, head: int, limit: int, tracked_limit: int
    ) -> Operation[list[InFlightEvent]]:
        """Record outcomes, renew the lease, read the next events, and hand out the ready ones.

        Args:
            now: the time on a monotonic clock, in seconds.
            head: the settled position.
            limit: how many events to hand out at most.
            tracked_limit: how many of them may have an attempt counted before a handler gets them.

        Returns:
            The events for handlers, at most one per slice.

        Raises:
            LeaseLost: the lease expired, and other workers have taken over.
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
        except EpochMismatch as error:  # the events in memory may no longer exist
            raise LeaseLost from error
        return (yield from self._dispatcher.hand_out(limit, tracked_limit))

    def head_of(self, state: HeadState | None) -> int:
        """Return the head up to which the worker may read: 0 if the epoch is another one."""
        return self._fetcher.head_of(state)

    def pause(self, now: float, head: int) -> float:
        """Return how many seconds to wait for the next turn if nothing wakes the worker."""
        has_room = self._fetcher.has_room
        if self.outcomes or (has_room and self._slices.cursor.position < head):
            return 0
        due_at = self._fetcher.due_at if has_room and self.settings.deliver_when_valid else inf
        return max(min(self._lease.next_at(), self._dispatcher.next_at(), due_at) - now, 0)

    def lose(self) -> None:
        """Clear the state after the lease was lost. Later outcomes of handlers are ignored."""
        self.outcomes.clear()
        self._begin(self.settings)

    def leave(self) -> Operation[None]:
        """Record outcomes, and release all slices so that other workers continue with them."""
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

    If upcasters made several events of a stored one, the last of them finishes the stored event.

    Raises:
        LeaseLost: another worker owns the event now, or it was finished before.
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
            f"event {item.position} is already finished: an earlier transaction of its handler was"
            " committed; this one was rolled back"
        )
