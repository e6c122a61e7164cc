"""Lend events to clients that are no workers, such as those of a server: values and operations.

A worker hands out a batch of events under a lease, which is a row. Any process records the outcomes
of the events, in the name of the worker; docs/explanation/leases.md explains why this holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.errors import InvalidInput, LeaseLost

from .delivered_event import DeliveredEvent
from .dispatch import event_parameters, failure_of, log_parked
from .types import GroupSettings
from .worker import Worker

LentOutcome = Literal["finished", "retry", "park", "given back"]

_encode = msgspec.json.Encoder().encode


class LentBatch:
    """A batch of events that a client has under a lease, as their worker knows it.

    Args:
        deliveries: the events that the worker has handed out. Those of an earlier token are left
            out: the worker has lost them.
        client: the display name of the client.

    Attributes:
        id: the id of the lease.
        token: the token of the worker.
        deliveries: the events.
        left: those without an outcome, by position.
    """

    def __init__(
        self, deliveries: Iterable[DeliveredEvent[Any]], client: str | None = None
    ) -> None:
        found = list(deliveries)
        self.client = client
        self.id: UUID = uuid4()
        self.token: int = max(delivery._item.token for delivery in found)
        self.deliveries: list[DeliveredEvent[Any]] = [
            delivery for delivery in found if delivery._item.token == self.token
        ]
        self.left: dict[int, DeliveredEvent[Any]] = {
            delivery.position: delivery for delivery in self.deliveries
        }

    @property
    def known(self) -> int:
        """How many outcomes the worker knows."""
        return len(self.deliveries) - len(self.left)

    def note(self, finished: Iterable[int], failed: Iterable[int]) -> None:
        """Tell the worker which events are finished, and which failures are recorded."""
        for position in finished:
            if (delivery := self.left.pop(position, None)) is not None:
                delivery._say("settled")
        for position in failed:
            if (delivery := self.left.pop(position, None)) is not None:
                delivery._say("recorded")

    def expire(self) -> None:
        """Have the worker record that the events without an outcome failed."""
        self._end("the lease expired", "retry")

    def give_back(self, reason: str) -> None:
        """Have the worker give back the events without an outcome."""
        self._end(reason, "given back")

    def _end(self, reason: str, outcome: Literal["retry", "given back"]) -> None:
        for delivery in self.left.values():
            delivery._item.reason = reason
            delivery._say(outcome)
        self.left.clear()


class LeaseNews(NamedTuple):
    """What has happened to a lease.

    Attributes:
        id: its id.
        finished: the positions of all its finished events.
        failed: the positions of all its events that are to be retried, or are parked.
        has_ended: whether it has ended. No outcome is added any more.
    """

    id: UUID
    finished: Sequence[int]
    failed: Sequence[int]
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a call about a lease did.

    Attributes:
        left: how many events have no outcome yet.
        expires_at: when the lease expires.
        finished: the positions of the events that the call finished.
        failed: the positions of the events whose failure it recorded.
    """

    left: int
    expires_at: datetime
    finished: Sequence[int] = ()
    failed: Sequence[int] = ()


def lend(worker: Worker, batch: LentBatch, seconds: float) -> Operation[datetime]:
    """Lend a batch to its client for some seconds, and return when the lease expires.

    Raises:
        LeaseLost: the worker has lost the events.
    """
    events = [
        {**event_parameters(delivery._item), "attempt": delivery.attempt}
        for delivery in batch.deliveries
    ]
    ((expires_at,),) = yield Statement(
        "consumer_groups.lend",
        {
            "lease": batch.id,
            "group_id": worker.group_id,
            "token": batch.token,
            "client": batch.client,
            "events": _encode(events).decode(),
            "seconds": float(seconds),
        },
    )
    return expires_at  # type: ignore[no-any-return]


def settle(
    group: str,
    lease: UUID,
    outcome: LentOutcome,
    *,
    positions: Sequence[int] | None,
    reason: str,
    error: str | None,
) -> Operation[Settled]:
    """Record the outcome of lent events, all or none. What it returns is stored.

    Args:
        group: the name of the group.
        lease: the id of the lease.
        outcome: the outcome.
        positions: the events; None for all that have no outcome yet.
        reason: why they failed.
        error: the text of the error.

    Raises:
        LeaseLost: the lease is over.
        InvalidInput: an event is not in the lease, or has an outcome already.
    """
    while True:
        events, settled, expires_at, settings = yield from _find(group, lease)
        left = {
            position: attempt for position, attempt in events.items() if position not in settled
        }
        for position in positions or ():
            if position not in left:
                raise InvalidInput(
                    f"event {position} already has an outcome: report one outcome per event"
                    if position in events
                    else f"event {position} is not in lease {lease}: name events of its deliveries"
                )
        chosen = {
            position: left[position] for position in (left if positions is None else positions)
        }
        outcomes: list[dict[str, Any]]
        if outcome == "finished":
            outcomes = [{"position": position, "state": outcome} for position in chosen]
        else:
            outcomes = [
                {
                    "position": position,
                    **failure_of(outcome, attempt, reason, settings)._asdict(),
                    "error": error,
                }
                for position, attempt in chosen.items()
            ]
        try:
            ((is_recorded,),) = yield Statement(
                "consumer_groups.settle_lease",
                {"lease": lease, "outcomes": _encode(outcomes).decode()},
            )
        except LeaseLost as lost:
            raise _over(lease) from lost
        if is_recorded is None:
            raise _over(lease)
        if is_recorded:
            break
        # Another call was faster: look again at what is left.
    for parked in outcomes:
        if parked["state"] == "parked":
            log_parked(group, parked["position"], parked["attempts"], parked["reason"], error)
    unsettled, done = len(left) - len(chosen), tuple(chosen)
    if outcome == "finished":
        return Settled(unsettled, expires_at, finished=done)
    return Settled(unsettled, expires_at, failed=done)


def extend(group: str, lease: UUID, seconds: float) -> Operation[Settled]:
    """Have a lease expire some seconds from now.

    Raises:
        LeaseLost: the lease is over.
    """
    events, settled, _, _ = yield from _find(group, lease)
    try:
        ((expires_at,),) = yield Statement(
            "consumer_groups.extend_lease", {"lease": lease, "seconds": float(seconds)}
        )
    except LeaseLost as lost:
        raise _over(lease) from lost
    if expires_at is None:
        raise _over(lease)
    return Settled(len(events) - len(settled), expires_at)


def look(
    worker: Worker, known: Mapping[UUID, int], done: Sequence[UUID]
) -> Operation[list[LeaseNews]]:
    """Return which leases of a worker have more outcomes than it knows, or have expired.

    Args:
        worker: the worker.
        known: its leases, and how many outcomes it knows of each.
        done: leases whose events all have an outcome that it knows: they are deleted.

    Raises:
        LeaseLost: the worker has lost its events.
    """
    rows = []
    if known:
        rows = yield Statement(
            "consumer_groups.look_at_leases",
            {"leases": list(known), "counts": list(known.values())},
        )
    news = [LeaseNews(*row) for row in rows]
    expired = [found.id for found in news if found.has_ended]
    ended = (yield from end(worker, expired, done=done)) if expired or done else []
    return [*(found for found in news if not found.has_ended), *ended]


def end(
    worker: Worker, leases: Sequence[UUID], *, is_early: bool = False, done: Sequence[UUID] = ()
) -> Operation[list[LeaseNews]]:
    """End the leases of a worker that have expired, and return their outcomes.

    Args:
        worker: the worker.
        leases: the leases.
        is_early: whether to end them all, also if they have not expired.
        done: leases to delete.

    Raises:
        LeaseLost: the worker has lost its events.
    """
    rows = yield Statement(
        "consumer_groups.end_leases",
        {
            "group_id": worker.group_id,
            "token": worker.token,
            "ended": list(leases),
            "is_early": is_early,
            "done": list(done),
        },
    )
    return [LeaseNews(lease, finished, failed, True) for lease, finished, failed in rows]


def _find(
    group: str, lease: UUID
) -> Operation[tuple[dict[int, int], set[int], datetime, GroupSettings]]:
    """Return the attempts of a lease's events by position, and which of them have an outcome."""
    rows = yield Statement("consumer_groups.find_lease", {"group": group, "lease": lease})
    if not rows:
        raise _over(lease)
    ((events, settled, expires_at, max_attempts, retry_after),) = rows
    attempts = {event["position"]: event["attempt"] for event in msgspec.json.decode(events)}
    settings = GroupSettings(max_attempts=max_attempts, retry_after=retry_after)
    return attempts, set(settled), expires_at, settings


def _over(lease: object) -> LeaseLost:
    return LeaseLost(
        f"lease {lease} is over: it has expired, all its events have an outcome, the group was"
        " reset, or the server that gave it has ended. Events without an outcome are delivered"
        " again: ask for the next ones, and extend a lease whose events take long"
    )
