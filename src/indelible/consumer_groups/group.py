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
    """A consumer group: a durable, named subscription that any number of workers share.

    Get one with `EventStore.group`. The group need not exist until you use it.

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
        self.name: str = validate_name("group", name)
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
            query: which events to deliver; None for all.
            start: where a new group begins: `"beginning"`, `"head"` (the head at this moment),
                after a position, or with the first event recorded at a time or later. With
                `deliver_when_valid`, events recorded before the start that become due after it are
                delivered too. A position then means the time at which it was the last one.
            partition_by: which events are delivered in order, one at a time: those of a
                `"stream"`, with the same tag `"tag:KEY"`, or with the same value of
                `"metadata:FIELD"`. An event without the tag or field is kept in order with its
                stream. It cannot be changed later.
            max_attempts: after how many attempts an event is parked.
            retry_after: seconds before the first retry; the delay doubles with each further retry.
            lease: seconds without a heartbeat after which a worker loses its slices.
            park_blocks_stream: whether the later events of a stream wait behind a parked one.
            deliver_when_valid: deliver each event at its valid time, and backdated events at once.
                Other events of the stream do not wait for it. It cannot be changed later.
            exists: what to do if the group exists with other settings: `"raise"`, or `"change"`
                the settings and keep the progress.

        Returns:
            True if the group was created; False if it existed.

        Raises:
            GroupExists: the group exists with other settings.
            InvalidInput: an argument is invalid.
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
        """Return the status of the group: checkpoint, lag, workers, retries and parked events.

        Raises:
            GroupNotFound: the group does not exist.
        """
        return self._engine.run(admin_operations.info(self._codec, self.name))

    def consume(self, *, name: str | None = None) -> Consumer[Bound]:
        """Join the group as a worker. Workers in any number of processes share its events.

        Args:
            name: the worker's display name; by default host and process.

        Returns:
            A consumer. Iterate over it to get the worker's events. It is a context manager; the
            worker leaves the group at the end of the block.

        Raises:
            GroupNotFound: the group does not exist.

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
        """Move the group back or forward. Its workers lose their leases.

        Acks of events that handlers still have are ignored. Parked events and retries at or below
        the new position stay. Events above it are delivered again. In a group with
        `deliver_when_valid`, events that became due after that time are delivered again too.

        Args:
            to: the new start, as for `create`.

        Returns:
            The position after which the group continues.

        Raises:
            GroupNotFound: the group does not exist.
        """
        return self._engine.run(admin_operations.reset(self.name, to))

    def delete(self) -> None:
        """Delete the group with its progress and parked events. The events of the log stay.

        Raises:
            GroupNotFound: the group does not exist.
        """
        self._engine.run(admin_operations.delete(self.name))

    def parked(
        self, *, stream: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[ParkedEvent]:
        """List the parked events, in order of position.

        Args:
            stream: only the events with this key: a stream, or the tag or metadata value that the
                group is partitioned by.
            after: only events after this position, such as that of the last one of another list.
            limit: how many at most.

        Raises:
            GroupNotFound: the group does not exist.
        """
        return self._engine.run(
            admin_operations.parked(self.name, key=stream, after=after, limit=limit)
        )

    def replay(self, *, position: int | None = None, stream: str | None = None) -> int:
        """Retry parked events, counting attempts from 1. The events queued behind them follow.

        Args:
            position: only this event.
            stream: only the events with this key, as in `parked`.

        Returns:
            The number of events replayed.

        Raises:
            GroupNotFound: the group does not exist.
        """
        return self._engine.run(
            admin_operations.act_on_parked(self.name, "replay", position=position, key=stream)
        )

    def discard(self, *, position: int | None = None, stream: str | None = None) -> int:
        """Discard parked events. The events queued behind them follow.

        Args:
            position: only this event.
            stream: only the events with this key, as in `parked`.

        Returns:
            The number of events discarded.

        Raises:
            GroupNotFound: the group does not exist.
        """
        return self._engine.run(
            admin_operations.act_on_parked(self.name, "discard", position=position, key=stream)
        )

    def wait_for(self, position: int, *, timeout: float = 10.0) -> int:
        """Wait until the group's checkpoint reaches a position, so that you read your own writes.

        Args:
            position: such as that of an `AppendResult`.
            timeout: seconds to wait at most.

        Returns:
            The group's checkpoint.

        Raises:
            GroupNotFound: the group does not exist.
            WaitTimeout: the checkpoint did not reach the position in time.
        """
        return wait_for(
            self._engine,
            lambda: admin_operations.checkpoint(self.name),
            self.name,
            position,
            timeout,
        )
