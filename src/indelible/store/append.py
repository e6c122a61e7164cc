# Generated from append_async.py; do not edit.
"""Append: methods of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indelible.events import AppendResult, ExpectedVersion, StreamAppend
from indelible.query import AppendCondition
from indelible.streams import append

from .base import StoreBase


class AppendMethods(StoreBase):
    """The part of an `EventStore` that appends."""

    def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append events to the end of a stream: all of them, or none.

        A retry with the same event ids (`NewEvent.id`) is safe: it stores nothing twice and
        returns the first result with `idempotent=True`.

        Args:
            stream: the stream, 1 to 255 characters. None for events that belong to no stream, for
                those who work with tags alone: each gets one of its own, `event-<id>`.
            events: one or many, in order: instances of registered classes, or `NewEvent`.
            expected: what you believe the stream's last version to be: the version you read (-1
                for a stream never written), `NO_STREAM`, `STREAM_EXISTS` or `ANY`. It may be left
                out only where there is a condition, or no stream.
            condition: what must not stand in the log, one or several; see `AppendCondition`.
            channel: the service that owns the stream; fixed by the first append. By default the
                store's channel, else the stream's name up to the first `-`.
            metadata: what is known about all of these events; an event's own wins.

        Returns:
            The facts of the last event.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            AppendConditionFailed: an event stands in the way of the condition.
            StreamClosed: the stream takes no more events.
            ChannelMismatch: the stream belongs to another channel.
            DuplicateEvent: an event id is in the store already, and this is no exact retry.
            InvalidInput: an argument is wrong; nothing was sent.
            ConnectionLost: the connection broke and could not be made again in time.

        Example:
            ```python
            result = store.append("order-17", OrderTipped(2), expected=4)
            store.append("order-17", OrderCanceled("late"), expected=result.version)
            ```
        """
        return self._engine.run(
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

    def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all of it, or nothing.

        Args:
            appends: the parts; their order is the order in the log. A part without events is a
                pure check of its stream's version.
            condition: what must not stand in the log, one or several; see `AppendCondition`.
            metadata: metadata of all events. That of a `StreamAppend` wins, and an event's own
                wins over both.

        Returns:
            A result for each part.

        Raises:
            WrongExpectedVersion: with every check that failed in `conflicts`.
            AppendConditionFailed, StreamClosed, ChannelMismatch, DuplicateEvent, InvalidInput,
                ConnectionLost: as for `append`.

        Example:
            ```python
            store.append_many([
                StreamAppend("order-17", OrderPaid(12), expected=4),
                StreamAppend("account-3", [], expected=8),
            ])
            ```
        """
        return self._engine.run(
            append.append_many(
                self._append_settings, appends, condition=condition, metadata=metadata
            )
        )
