"""A worker of a consumer group over HTTP."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, cast

from indelible.consumer_groups.delivery_async import AsyncDelivery
from indelible.consumer_groups.progress import InFlightEvent
from indelible.core.concurrency_async import AsyncBackground, AsyncEvent, cancel_async
from indelible.core.retry import StepSupervisor
from indelible.errors import (
    DecodingFailed,
    InvalidInput,
    LeaseLost,
    UnknownEventType,
    UpcastingFailed,
    describe,
)
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.rows import decode_rows

from . import groups
from .engine_async import AsyncRemoteEngine

_log = logging.getLogger("indelible")
_AHEAD = 20
"""How many events are leased at once."""
_POLL = 1.0
"""Seconds that the server waits for events; so long does the end of a consumer take at most."""
_LEASE = 30.0
"""The length of a lease in seconds. It is extended while handlers have events of it."""
_CLOSED = "the consumer was closed"
_OUTCOMES = {"finished": "ack", "retry": "nack", "park": "park", "given back": "give-back"}


@dataclass(slots=True, eq=False)
class LeasedEvent(InFlightEvent):
    """An event of a lease.

    Attributes:
        lease: the lease.
    """

    lease: str = ""


class AsyncRemoteConsumer(AsyncIterator[AsyncDelivery[Any, Any]]):
    """A worker of a consumer group over HTTP; see `AsyncGroup.consume`.

    A consumer is a context manager. At the end of the block, events without an outcome are given
    back. Several threads or tasks may take events; each event goes to one of them. Events of one
    stream are handed out in order, one at a time. `transaction()` of an event needs the database.
    """

    def __init__(
        self,
        engine: AsyncRemoteEngine,
        codec: Codec,
        group: str,
        name: str,
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._group = group
        self._query: Query | None = None
        self._name = name
        self._queue: deque[AsyncDelivery[Any, Any]] = deque()
        self._open: set[LeasedEvent] = set()
        """The events without a recorded outcome."""
        self._outcomes: deque[InFlightEvent] = deque()
        """The events whose outcome is to be sent; any thread may append to it."""
        self._extend_at: dict[str, float] = {}
        """When each lease is to be extended."""
        self._takers: set[object] = set()
        self._arrived, self._hungry, self._told = AsyncEvent(), AsyncEvent(), AsyncEvent()
        self._stopped = AsyncEvent()
        self._is_closed = False
        self._problem: Exception | None = None
        self._polling: AsyncBackground | None = None
        self._reporting: AsyncBackground | None = None

    async def take(self, timeout: float | None = None) -> AsyncDelivery[Any, Any] | None:
        """Take the next event.

        Args:
            timeout: seconds to wait at most; None to wait without a limit.

        Returns:
            The event; None if the time is over or the consumer was stopped.

        Raises:
            GroupNotFound: the group was deleted.
        """
        if self._polling is None:
            raise InvalidInput("enter the consumer first: async with group.consume() as consumer")
        deadline = None if timeout is None else time.monotonic() + timeout
        taker = object()
        self._takers.add(taker)
        try:
            while not self._stopped.is_set():
                if self._problem is not None:
                    raise self._problem
                self._arrived.clear()
                if (delivery := self._next()) is not None:
                    return delivery
                self._hungry.set()
                left = _POLL if deadline is None else min(deadline - time.monotonic(), _POLL)
                if left <= 0:
                    return None
                await self._arrived.wait(left)
            return None
        finally:
            self._takers.discard(taker)

    def _next(self) -> AsyncDelivery[Any, Any] | None:
        try:
            delivery = self._queue.popleft()
        except IndexError:  # another taker was faster
            return None
        if self._queue:
            self._arrived.set()  # for other takers
        delivery._is_taken = True
        return delivery

    async def stop(self) -> None:
        """Stop handing out events. Events already handed out can be acked until `close`."""
        self._stopped.set()
        self._arrived.set()
        self._hungry.set()

    async def close(self) -> None:
        """Stop, give back events without an outcome, and end the leases.

        Closing twice is allowed.
        """
        await self.stop()
        if self._polling is not None:
            await cancel_async([self._polling])
            await self._polling.join()
        self._queue.clear()
        for item in list(self._open):
            if item.outcome is None:
                item.outcome, item.reason = "given back", _CLOSED
                self._outcomes.append(item)
        self._is_closed = True
        self._told.set()
        if self._reporting is not None:
            await self._reporting.join()

    async def __anext__(self) -> AsyncDelivery[Any, Any]:
        delivery = await self.take()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def __aenter__(self) -> Self:
        query = (await self._engine.run(groups.info(self._group))).settings.query
        self._query = query and self._codec.upcasting.current(query)
        self._polling = AsyncBackground(self._poll, name=f"indelible-{self._group}-leases")
        self._reporting = AsyncBackground(self._report, name=f"indelible-{self._group}-outcomes")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _tell(self, item: InFlightEvent) -> None:
        self._outcomes.append(item)
        self._told.set()

    # Lease events ----------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Lease events whenever a handler waits for one."""
        supervisor = StepSupervisor("a worker waits", _log)
        while not self._stopped.is_set():
            self._hungry.clear()
            if not self._takers or self._queue:
                await self._hungry.wait()
                continue
            try:
                with supervisor:
                    await self._lease()
            except Exception as error:
                self._fail(error)
                return
            await self._stopped.wait(supervisor.pause)

    async def _lease(self) -> None:
        asked_at = time.monotonic()
        lent = await self._engine.run(
            groups.lend(self._group, limit=_AHEAD, seconds=_LEASE, wait=_POLL, worker=self._name)
        )
        if lent.lease is None:
            return
        self._extend_at[lent.lease] = asked_at + _LEASE / 3
        readable = []
        for delivered in lent.deliveries:
            event = delivered.event
            item = LeasedEvent(
                None, event.position, event.stream, 0, attempt=delivered.attempt, lease=lent.lease
            )
            self._open.add(item)
            try:
                decoded = decode_rows(self._codec, [event.row()], query=self._query)
            except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
                item.outcome, item.error = "park", describe(error)
                item.reason = "the event cannot be decoded"
                self._tell(item)
                continue
            if not decoded:
                item.outcome = "finished"
                self._tell(item)
                continue
            item.event, item.rest = decoded[0], tuple(decoded[1:])
            readable.append(self._delivery(item))
        await self._send_outcomes()  # of those that cannot be read
        self._queue.extend(readable)
        self._arrived.set()

    def _delivery(self, item: LeasedEvent) -> AsyncDelivery[Any, Any]:
        event = item.event
        assert event is not None  # noqa: S101 - it was decoded
        nothing = cast(Any, None)  # only a transaction needs it
        return AsyncDelivery(
            item, event, self._tell, self._outcomes, cast(Any, self._engine), nothing, nothing
        )

    # Report outcomes -------------------------------------------------------------------------

    async def _report(self) -> None:
        """Send outcomes, and extend leases, until the consumer is closed."""
        supervisor = StepSupervisor("a worker waits", _log)
        is_last = False
        while not is_last:
            self._told.clear()
            is_last = self._is_closed
            try:
                with supervisor:
                    await self._send_outcomes()
                    await self._extend()
            except Exception as error:
                self._fail(error)
                return
            if is_last and self._outcomes:
                _log.warning("a worker could not report outcomes; its leases will expire")
            elif not is_last:
                await self._told.wait(supervisor.pause or self._pause())

    async def _send_outcomes(self) -> None:
        together: dict[tuple[str, str, str, str | None], list[LeasedEvent]] = {}
        while self._outcomes:
            item = self._outcomes.popleft()
            assert isinstance(item, LeasedEvent)  # noqa: S101 - it was made here
            if item not in self._open:  # its lease was lost
                continue
            if item.rest and item.outcome == "finished":
                self._hand_out_rest(item)
                continue
            if item.outcome == "given back" and item.reason is not _CLOSED:
                _log.warning(
                    "group %r: event %d is given back: %s", self._group, item.position, item.reason
                )
            key = item.lease, str(item.outcome), item.reason, item.error
            together.setdefault(key, []).append(item)
        while together:
            (lease, outcome, reason, error), items = together.popitem()
            try:
                left = await self._engine.run(
                    groups.settle(
                        self._group,
                        lease,
                        _OUTCOMES[outcome],
                        [item.position for item in items],
                        reason=reason or None,
                        error=error,
                    )
                )
            except LeaseLost as lost:
                self._lose(lease, lost)
                continue
            except BaseException:
                # Sent again later, with those that were not sent.
                self._outcomes.extend(items)
                for unsent in together.values():
                    self._outcomes.extend(unsent)
                raise
            self._open.difference_update(items)
            if not left:
                self._extend_at.pop(lease, None)

    def _hand_out_rest(self, item: LeasedEvent) -> None:
        """Hand out the next event that upcasters made of a stored one."""
        event, *rest = item.rest
        following = replace(item, event=event, rest=tuple(rest), outcome=None)
        self._open.discard(item)
        self._open.add(following)
        self._queue.appendleft(self._delivery(following))
        self._arrived.set()

    async def _extend(self) -> None:
        now = time.monotonic()
        for lease in [lease for lease, at in list(self._extend_at.items()) if at <= now]:
            try:
                await self._engine.run(groups.extend(self._group, lease, _LEASE))
            except LeaseLost as lost:
                self._lose(lease, lost)
            else:
                self._extend_at[lease] = now + _LEASE / 3

    def _pause(self) -> float:
        """Return the seconds until there may be something to do."""
        now = time.monotonic()
        soonest = min(self._extend_at.values(), default=now + _POLL)
        # Dropped deliveries are found at the next turn.
        return max(min(soonest - now, _POLL), 0.01)

    def _lose(self, lease: str, lost: LeaseLost) -> None:
        """Forget the events of a lease: others handle them."""
        _log.warning("group %r: %s", self._group, lost)
        self._extend_at.pop(lease, None)
        self._open.difference_update([item for item in list(self._open) if item.lease == lease])
        for delivery in [one for one in list(self._queue) if one._item not in self._open]:
            self._queue.remove(delivery)

    def _fail(self, error: Exception) -> None:
        self._problem = error
        self._arrived.set()
