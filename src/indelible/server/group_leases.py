"""The routes for the events of consumer groups: lease them, acknowledge them, report failures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.consumer_groups import lent_batch as batches
from indelible.consumer_groups.lent_batch import LentOutcome, Settled
from indelible.errors import LeaseLost, describe

from . import wire
from .groups import Waiting, allowed
from .leases import Leases, Wanted
from .routing import Call, Handler, Route, answer, route

_log = logging.getLogger("indelible.server")

Seconds = Annotated[float, msgspec.Meta(ge=1, le=3600, description="The length of the lease.")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]


class LeaseForm(wire.Fields):
    """What to lease."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="At most so many events.")] = 10
    seconds: Seconds = 30.0
    wait: Waiting = 0.0
    worker: Name | None = None


class DeliveryAnswer(msgspec.Struct):
    """A delivered event, and the number of this attempt: 1 for the first."""

    event: wire.EventAnswer
    attempt: int


class LeaseAnswer(msgspec.Struct):
    """A lease on events; all null and empty if there were none in time."""

    lease: UUID | None
    expires_at: datetime | None
    deliveries: list[DeliveryAnswer]


class OutcomeForm(wire.Fields):
    """The events with an outcome; by default all of the lease that have none yet."""

    positions: Annotated[list[wire.Number], msgspec.Meta(min_length=1, max_length=1000)] | None = (
        None
    )
    reason: Text | None = None
    error: Text | None = None


class ExtendForm(wire.Fields):
    """How long the lease lasts from now on."""

    seconds: Seconds = 30.0


class LeaseState(msgspec.Struct):
    """How many events of the lease have no outcome yet, and when it expires."""

    left: int
    expires_at: datetime


@route(
    "POST",
    "/groups/{group}/leases",
    "groups",
    body=LeaseForm,
    answer=LeaseAnswer,
    example={"limit": 10, "seconds": 30},
)
async def lease_events(call: Call[Any, LeaseForm]) -> Response:
    """Lease the next events of a group, at most one of each stream.

    Report an outcome of each before the lease expires: ack, nack, park, skip or give-back. An event
    without an outcome has then failed. It is delivered again, and parked after too many attempts.
    With `wait` the answer comes as soon as there is an event.
    """
    group, form = await allowed(call, Verb.CONSUME), call.body

    async def gone() -> None:
        while (await call.request.receive())["type"] != "http.disconnect":
            pass

    wanted = Wanted(form.limit, form.seconds, form.wait, form.worker)
    lent = await _leases(call).lend(group.name, wanted, gone)
    if lent is None:
        return answer(LeaseAnswer(None, None, []))
    batch, expires_at = lent
    return answer(
        LeaseAnswer(
            batch.id,
            expires_at,
            [
                DeliveryAnswer(wire.event_answer(delivery.event), delivery.attempt)
                for delivery in batch.deliveries
            ],
        )
    )


def _outcome_route(name: str) -> Callable[[Handler], Route]:
    return route(
        "POST",
        f"/groups/{{group}}/leases/{{lease}}/{name}",
        "groups",
        body=OutcomeForm,
        answer=LeaseState,
        example={"reason": "the bank did not answer"},
    )


@_outcome_route("ack")
async def ack(call: Call[Any, OutcomeForm]) -> Response:
    """Acknowledge leased events: they were handled. What is answered with 200 is stored."""
    return await _settle(call, "finished")


@_outcome_route("skip")
async def skip(call: Call[Any, OutcomeForm]) -> Response:
    """Acknowledge leased events that need no handling; the server logs the reason."""
    done = await _settle(call, "finished")
    _log.info("a client skipped events of group %r: %s", call.path["group"], call.body.reason)
    return done


@_outcome_route("nack")
async def nack(call: Call[Any, OutcomeForm]) -> Response:
    """Report that leased events failed: they are retried later, and parked at last."""
    return await _settle(call, "retry", "the handler failed")


@_outcome_route("park")
async def park(call: Call[Any, OutcomeForm]) -> Response:
    """Park leased events (dead letters) for an operator."""
    return await _settle(call, "park", "parked by its handler")


@_outcome_route("give-back")
async def give_back(call: Call[Any, OutcomeForm]) -> Response:
    """Give back leased events: they are delivered again, and no attempt is counted."""
    return await _settle(call, "given back", "given back by its handler")


@route(
    "POST",
    "/groups/{group}/leases/{lease}/extend",
    "groups",
    body=ExtendForm,
    answer=LeaseState,
    example={"seconds": 60},
)
async def extend(call: Call[Any, ExtendForm]) -> Response:
    """Extend a lease: it expires so many seconds from now."""
    group = await allowed(call, Verb.CONSUME)
    return _lease_state(
        await call.store._engine.run(batches.extend(group.name, _lease_id(call), call.body.seconds))
    )


routes = [lease_events, ack, skip, nack, park, give_back, extend]


async def _settle(call: Call[Any, OutcomeForm], outcome: LentOutcome, reason: str = "") -> Response:
    group, lease, form = await allowed(call, Verb.CONSUME), _lease_id(call), call.body
    settled = await call.store._engine.run(
        batches.settle(
            group.name,
            lease,
            outcome,
            positions=None if form.positions is None else list(map(int, form.positions)),
            reason=describe(form.reason or reason),
            error=None if form.error is None else describe(form.error),
        )
    )
    _leases(call).note(group.name, lease, settled)
    return _lease_state(settled)


def _lease_id(call: Call[Any, Any]) -> UUID:
    try:
        return UUID(call.path["lease"])
    except ValueError:
        raise LeaseLost(
            f"there is no lease {call.path['lease']!r}: its id stands in the answer that gave it"
        ) from None


def _lease_state(settled: Settled) -> Response:
    return answer(LeaseState(settled.left, settled.expires_at))


def _leases(call: Call[Any, Any]) -> Leases:
    found: Leases = call.request.app.state.leases
    return found
