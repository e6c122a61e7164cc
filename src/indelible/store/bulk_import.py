# Generated from bulk_import_async.py; do not edit.
"""Bulk import: methods of the store."""

from __future__ import annotations

from indelible.bulk_import import importer
from indelible.bulk_import.operations import Importable, Importing
from indelible.bulk_import.types import ImportResult
from indelible.errors import InvalidInput
from indelible.projections import registry

from .base import PooledStoreBase

_PASSES_BY_PROJECTIONS = (
    "an import does not bring inline projections up to date: import through a store that is"
    " connected without them, with past_inline=True, and build them anew afterwards"
)


class ImportMethods(PooledStoreBase):
    """The part of an `EventStore` that imports: each chunk is a transaction of its own."""

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
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(
            self._append_settings,
            source=source,
            keep_recorded_at=keep_recorded_at,
            inline=registry.inline_types(self._engine.run(registry.builds())),
            past_inline=past_inline,
        )
        importer.import_events(self._engine, importing, events)
        return importing.result
