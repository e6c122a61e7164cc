# Generated from append_async.py; do not edit.
"""Append: methods of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indelible.bulk_import import importer
from indelible.bulk_import.operations import Importable, Importing
from indelible.bulk_import.types import ImportResult
from indelible.errors import InvalidInput
from indelible.events import AppendResult, ExpectedVersion, StreamAppend
from indelible.postgres.engine import PoolEngine
from indelible.projections import registry
from indelible.query import AppendCondition
from indelible.streams import append

from .base import StoreBase

_COMMITS_BY_ITSELF = (
    "an import commits chunk by chunk, since readers of the log wait behind an open transaction:"
    " call this on the store itself"
)
_PASSES_BY_PROJECTIONS = (
    "an import does not bring inline projections up to date: import through a store that is"
    " connected without them, with past_inline=True, and build them anew afterwards"
)


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
                self._writing,
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
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all of it, or nothing.

        Args:
            appends: the parts; their order is the order in the log. A part without events is a
                pure check of its stream's version.
            condition: what must not stand in the log, one or several; see `AppendCondition`.

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
        return self._engine.run(append.append_many(self._writing, appends, condition=condition))

    def import_events(
        self,
        events: Importable,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
        past_inline: bool = False,
    ) -> ImportResult:
        """Append very many events, such as those of another store, in their order.

        They are stored in chunks of up to 10,000 events, each whole or not at all, beside whatever
        else is appended; memory stays bounded. After an interruption run it again with the same
        events: what is there is skipped. A stream that others append to meanwhile gets their
        events between two chunks.

        Args:
            events: lines of NDJSON, as `indelible log --json` writes them (of which `stream`,
                `type` and `data` must be there), `ImportEvent`, or the `RecordedEvent` of another
                store. An id is kept; a version is checked against the place that the event gets.
            source: a name for what the events come from, other for other events. Needed where
                events have no id: it is made from the source and the event's place in it, so that
                they are known again.
            keep_recorded_at: keep the time at which an event was recorded first, where it has one,
                and do not take the present time for it. It must not be in the future.
            past_inline: import events that inline projections take, too. These projections miss
                them, until you build them anew (`rebuild`); the result names them.

        Returns:
            How many events were imported, and how many were there already.

        Raises:
            InvalidInput: an event cannot be stored, or an inline projection takes it. As with the
                errors below, the message says which line or event it is; nothing of its chunk is
                stored, the chunks before stay.
            DuplicateEvent: an id is there with other content, in another place or another order.
            WrongExpectedVersion: the version that an event has is not the next one of its stream.
            ChannelMismatch: the stream belongs to another channel.
            PermissionDenied: only the owner of the store may.
            ConnectionLost: the connection broke and could not be made again in time.

        Example:
            ```python
            with open("log.ndjson", "rb") as lines:
                result = store.import_events(lines, keep_recorded_at=True)
            print(result.imported, "imported,", result.skipped, "were there")
            ```
        """
        if not isinstance(self._engine, PoolEngine):
            raise InvalidInput(_COMMITS_BY_ITSELF)
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(
            self._writing,
            source=source,
            keep_recorded_at=keep_recorded_at,
            inline=registry.inline_types(self._engine.run(registry.builds())),
            past_inline=past_inline,
        )
        importer.import_events(self._engine, importing, events)
        return importing.result
