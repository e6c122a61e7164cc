# Generated from group_async.py; do not edit.
"""The client API of a consumer group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal

from indelible.core.validation import validate_name
from indelible.core.worker_name import worker_name
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.wait import wait_for

from . import admin_operations
from .consumer import Consumer
from .delivery import Bound
from .types import GroupInfo, GroupSettings, GroupStart, ParkedEvent
from .worker import Worker


class Group(Generic[Bound]):
    """A consumer group: a durable, named reader that any number of workers share.

    Get one with `EventStore.group`; whether it is there shows only when it is used.

    Example:
        ```python
        group = store.group("delivery")
        group.create(Query(types="OrderCreated"))
        with group.consume() as consumer:
            for event in consumer:
                with event:
                    book_delivery(event.data)
        ```
    """

    def __init__(
        self,
        name: str,
        engine: PoolEngine,
        watch: HeadWatcher,
        codec: Codec,
        bind: Callable[[BoundEngine], Bound],
    ) -> None:
        self.name = validate_name("group", name)
        """Its name."""
        self._engine = engine
        self._watch = watch
        self._codec = codec
        self._bind = bind

    def create(
        self,
        query: Query | None = None,
        *,
        start: GroupStart = "beginning",
        partition_by: str = "stream",
        max_attempts: int = 5,
        retry_after: float = 1.0,
        lease: float = 10.0,
        park_blocks_stream: bool = True,
        deliver_when_valid: bool = False,
        exists: Literal["raise", "change"] = "raise",
    ) -> bool:
        """Create the group. Creating it again with the same settings changes nothing.

        Args:
            query: which events; None for all.
            start: where it begins: `"beginning"`, `"head"` (fixed at this moment), after a
                position, or with what was recorded at a time or later. Counts for a new group.
                With `deliver_when_valid`, what was recorded before and becomes due after it comes
                too; a position stands for the time when it was the last.
            partition_by: what is kept in order, one event at a time: `"stream"`, or events with
                the same tag `"tag:KEY"` or the same value of `"metadata:FIELD"`; an event without
                it is kept in order with its stream. Fixed for ever.
            max_attempts: after how many attempts an event is parked.
            retry_after: seconds that the first retry waits; each later one waits twice as long.
            lease: seconds without a sign of life after which a worker loses what it held.
            park_blocks_stream: whether the later events of a stream wait behind a parked one.
            deliver_when_valid: hand out each event when its valid time comes, what is late at once;
                other events of the stream do not wait for it. Fixed for ever.
            exists: what to do where there is a group of that name with other settings: `"raise"`,
                or `"change"` them from where it stands.

        Returns:
            Whether it was created; False where it was there.

        Raises:
            GroupExists: it is there with other settings.
            InvalidInput: an argument is wrong.
        """
        settings = GroupSettings(
            query=query and self._codec.check_query(query),
            partition_by=partition_by,
            max_attempts=max_attempts,
            retry_after=retry_after,
            lease=lease,
            park_blocks_stream=park_blocks_stream,
            deliver_when_valid=deliver_when_valid,
        )
        return self._engine.run(
            admin_operations.create(self.name, settings, start=start, exists=exists)
        )

    def info(self) -> GroupInfo:
        """Ask how the group stands: checkpoint, lag, workers, what is retried and parked.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._engine.run(admin_operations.info(self._codec, self.name))

    def consume(self, *, name: str | None = None) -> Consumer[Bound]:
        """Join the group as a worker. Workers in any number of processes share its events.

        Args:
            name: the worker's name, for people; by default host and process.

        Returns:
            An iterator over the events that fall to it, and a context manager that leaves.

        Raises:
            GroupNotFound: there is no such group.

        Example:
            ```python
            with store.group("delivery").consume() as consumer:
                for event in consumer:
                    with event:              # acks; an error nacks
                        handle(event.data)
            ```
        """
        worker = Worker(self._codec, self.name, name or worker_name())
        return Consumer(self._engine, self._watch, worker, self._bind)

    def reset(self, to: GroupStart) -> int:
        """Send the group back or forward. What its workers are at does not count any more.

        What is parked or to be retried at or below the new position stays; what is above it comes
        again. So does, in a group that waits for valid times, what became due after it.

        Args:
            to: as `start` of `create`.

        Returns:
            The position that it goes on after.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._engine.run(admin_operations.reset(self.name, to))

    def delete(self) -> None:
        """Delete the group with all that is noted for it; events stay as they are.

        Raises:
            GroupNotFound: there is no such group.
        """
        self._engine.run(admin_operations.delete(self.name))

    def parked(self, *, stream: str | None = None, limit: int | None = None) -> list[ParkedEvent]:
        """List what is parked, in order of position.

        Args:
            stream: only what is kept in order with this: a stream, or the tag or field that the
                group is partitioned by.
            limit: how many at most.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._engine.run(admin_operations.parked(self.name, key=stream, limit=limit))

    def replay(self, *, position: int | None = None, stream: str | None = None) -> int:
        """Have parked events tried again, from the first attempt on; what waits behind follows.

        Args:
            position: only this event.
            stream: only those of this stream, as in `parked`.

        Returns:
            How many.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._engine.run(
            admin_operations.act_on_parked(self.name, "replay", position=position, key=stream)
        )

    def discard(self, *, position: int | None = None, stream: str | None = None) -> int:
        """Give parked events up; what waits behind follows.

        Args:
            position: only this event.
            stream: only those of this stream, as in `parked`.

        Returns:
            How many.

        Raises:
            GroupNotFound: there is no such group.
        """
        return self._engine.run(
            admin_operations.act_on_parked(self.name, "discard", position=position, key=stream)
        )

    def wait_for(self, position: int, *, timeout: float = 10.0) -> int:
        """Wait until the group is done up to a position, so that you can read what you wrote.

        Args:
            position: such as that of an `AppendResult`.
            timeout: seconds to wait at most.

        Returns:
            The group's checkpoint.

        Raises:
            GroupNotFound: there is no such group.
            WaitTimeout: it did not come that far in time.
        """
        return wait_for(
            self._engine,
            lambda: admin_operations.checkpoint(self.name),
            self.name,
            position,
            timeout,
        )
