"""Subscribe: methods of the store."""

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
    """The part of an `AsyncEventStore` that follows the log."""

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
        """Read the log, and go on with what comes.

        Every event that matches is handed out once, in order of position. A lost connection or a
        server that restarts only makes it wait: it goes on where it was, trying again less and
        less often. Memory stays bounded: it reads on as you take.

        Args:
            query: which events: a `Query`, an event class, or a union of some; None for all.
            after: the checkpoint or position after which to begin, such as the `checkpoint` that
                you kept; a moment, for what was recorded after it; or `"head"` for what comes
                from now on.
            deliver_when_valid: hand out each event when its valid time comes, facts that are known
                late at once.
                What was recorded before the start and is valid after it comes too. The order is
                that of the log for what is due when it comes, and that of valid time for the rest.
                Keep the `checkpoint`: a position alone does not say how far the time had come.

        Returns:
            An iterator over the events that never ends by itself, and a context manager that
            stops it.

        Raises:
            EpochMismatch: the log has lost events that this reader may have seen, by a fail-over or
                a restore: at the start, or while it runs.
            InvalidInput: an argument is wrong, such as a position that this store never gave out.
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
        """Wait until a consumer group or a projection is done up to a position.

        So that you can read what you wrote.

        Args:
            reader: its name.
            position: such as that of an `AppendResult`.
            timeout: seconds to wait at most.

        Returns:
            The checkpoint; of the projection's newest version that serves.

        Raises:
            GroupNotFound: there is neither a group nor a projection of the name.
            ProjectionNotReady: the projection does not serve yet.
            WaitTimeout: it did not come that far in time.

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
