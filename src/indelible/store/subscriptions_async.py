"""Store methods that follow the log."""

from __future__ import annotations

from types import UnionType
from typing import Any, TypeVar, overload

from indelible.query import Query
from indelible.subscriptions.log_follower import LogFollower, Start
from indelible.subscriptions.subscription_async import AsyncSubscription
from indelible.subscriptions.valid_time_follower import ValidTimeFollower
from indelible.subscriptions.wait_async import wait_for_async

from . import checkpoints
from .base_async import AsyncPooledStoreBase

Data = TypeVar("Data")


class AsyncSubscriptionMethods(AsyncPooledStoreBase):
    """The methods of an `AsyncEventStore` that follow the log."""

    @overload
    def subscribe(
        self, query: type[Data], *, after: Start = 0, deliver_when_valid: bool = False
    ) -> AsyncSubscription[Data]: ...

    @overload
    def subscribe(
        self,
        query: Query | UnionType | None = None,
        *,
        after: Start = 0,
        deliver_when_valid: bool = False,
    ) -> AsyncSubscription[Any]: ...

    def subscribe(
        self, query: Any = None, *, after: Start = 0, deliver_when_valid: bool = False
    ) -> AsyncSubscription[Any]:
        """Subscribe to the log: read the stored events, then new events as they arrive.

        Each matching event is delivered once, in order of position. If the connection is lost or
        the server restarts, the subscription resumes where it was, and retries with backoff.
        Memory use is bounded: events are read as you take them. Store the `checkpoint` after you
        process an event; a restart from it gives at-least-once processing.

        Args:
            query: a `Query`, an event class, or a union of classes; None for all events.
            after: the start: a stored `checkpoint` or a position; a time, for events recorded
                after it; or `"head"`, for new events only.
            deliver_when_valid: deliver each event when its valid time comes, and backdated events
                immediately. Events recorded before the start and valid after it are delivered too.
                Events that are due when they are recorded come in order of position, the others in
                order of valid time. Store the `checkpoint`, because a position does not include
                the time.

        Returns:
            An iterator that never ends by itself. It is also a context manager that stops it.

        Raises:
            EpochMismatch: at the start or later: the log has lost events that this reader may have
                seen, in a failover or a restore.
            InvalidInput: an argument is wrong, such as a position beyond the end of the log.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.

        Example:
            ```python
            async with store.subscribe(Query(channel="ordering"), after=checkpoint) as subscription:
                async for event in subscription:
                    handle(event)
                    checkpoint = subscription.checkpoint
            ```
        """
        following = (ValidTimeFollower if deliver_when_valid else LogFollower)(
            self._append_settings.codec, query, after=after
        )
        return AsyncSubscription(self._engine, self._wakeup.watch, following)

    async def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:
        """Wait until a consumer group or a projection has processed a position.

        Use it to read your own writes from a read model.

        Args:
            reader: the name of the consumer group or projection.
            position: the position, such as that of an `AppendResult`.
            timeout: the longest wait in seconds.

        Returns:
            The checkpoint of the reader; for a projection, that of its newest version that serves.

        Raises:
            GroupNotFound: no group and no projection has this name.
            ProjectionNotReady: the projection is not built yet.
            WaitTimeout: the reader did not reach the position in time.

        Example:
            ```python
            result = await store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            await store.wait_for("orders", result.position, timeout=2)
            ```
        """
        return await wait_for_async(
            self._engine,
            lambda: checkpoints.reader_checkpoint(reader, position),
            reader,
            position,
            timeout,
        )
