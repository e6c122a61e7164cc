"""Store methods that append."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indelible.events import AppendResult, ExpectedVersion, StreamAppend
from indelible.query import AppendCondition
from indelible.streams import append

from .base_async import AsyncStoreBase


class AsyncAppendMethods(AsyncStoreBase):
    """The methods of an `AsyncEventStore` that append."""

    async def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append events to the end of a stream, all or none.

        Appends are idempotent: a retry with the same event ids (`NewEvent.id`) stores nothing
        twice and returns the first result with `idempotent=True`.

        Args:
            stream: the stream, 1 to 255 characters. With None, each event gets its own stream,
                `event-<id>`; use it for events that you only find by their tags.
            events: one or many events, in order: instances of registered classes, or `NewEvent`.
            expected: the version that you expect the stream to have (optimistic concurrency): the
                version you read (-1 if the stream does not exist), `NO_STREAM`, `STREAM_EXISTS` or
                `ANY`. You may omit it only with a `condition` or without a stream.
            condition: one or several append conditions; see `AppendCondition`.
            channel: the channel of the stream, usually the service that owns it. The first append
                fixes it. By default the channel of the store, else the stream's name up to the
                first `-`.
            metadata: metadata for all of these events. The metadata of an event takes precedence.

        Returns:
            The result. For several events it describes the last one.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            AppendConditionFailed: an event conflicts with the condition.
            StreamClosed: the stream is closed.
            ChannelMismatch: the stream belongs to another channel.
            DuplicateEvent: an event id is already stored, and this is not an exact retry.
            InvalidInput: an argument is wrong; nothing was sent.
            ConnectionLost: the connection broke and could not be restored in time.

        Example:
            ```python
            result = await store.append("order-17", OrderTipped(2), expected=4)
            await store.append("order-17", OrderCanceled("late"), expected=result.version)
            ```
        """
        return await self._engine.run(
            append.append(
                self._append_settings,
                stream,
                events,
                expected=expected,
                condition=condition,
                channel=channel,
                metadata=metadata,
            )
        )

    async def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all events or none.

        Args:
            appends: one `StreamAppend` per stream. Their order is the order in the log. One
                without events only checks the version of its stream.
            condition: one or several append conditions; see `AppendCondition`.

        Returns:
            One result per `StreamAppend`, in order.

        Raises:
            WrongExpectedVersion: a stream is at another version. `conflicts` has all failed
                checks.
            AppendConditionFailed, StreamClosed, ChannelMismatch, DuplicateEvent, InvalidInput,
                ConnectionLost: as for `append`.

        Example:
            ```python
            await store.append_many([
                StreamAppend("order-17", OrderPaid(12), expected=4),
                StreamAppend("account-3", [], expected=8),
            ])
            ```
        """
        return await self._engine.run(
            append.append_many(self._append_settings, appends, condition=condition)
        )
