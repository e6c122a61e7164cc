"""Store methods for bulk import."""

from __future__ import annotations

from indelible.bulk_import import importer_async
from indelible.bulk_import.operations import AsyncImportable, Importing
from indelible.bulk_import.types import ImportResult
from indelible.errors import InvalidInput
from indelible.projections import registry

from .base_async import AsyncPooledStoreBase

_PASSES_BY_PROJECTIONS = (
    "an import does not update inline projections: connect without inline=, import with"
    " past_inline=True, and rebuild the projections afterwards"
)


class AsyncImportMethods(AsyncPooledStoreBase):
    """The methods of an `AsyncEventStore` for bulk import."""

    async def import_events(
        self,
        events: AsyncImportable,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
        past_inline: bool = False,
    ) -> ImportResult:
        """Import many events, such as those of another store, in their order.

        Each chunk of up to 10,000 events is one transaction. Memory use is bounded. The import is
        idempotent: after an interruption, run it again with the same events, and stored events are
        skipped. Other writers can append at the same time. If they append to an imported stream,
        their events come between two chunks.

        Args:
            events: NDJSON lines as written by `indelible log --json`, `ImportEvent` values, or the
                `RecordedEvent` values of another store. An NDJSON line needs `stream`, `type` and
                `data`. The id of an event is kept. Its version must match the version that it gets.
            source: a unique name for the origin of the events. Required if events have no id: the
                id is then derived from the source and the event's place in it.
            keep_recorded_at: keep the original recorded time of events that have one, instead of
                the current time. It must not be in the future.
            past_inline: also import events of types that inline projections process. These
                projections miss the events until you rebuild them (`rebuild`). The result names
                them.

        Returns:
            The number of imported events, and the number of events that were already stored.

        Raises:
            InvalidInput: an event cannot be stored, or an inline projection processes its type.
                The message names the line or event, as do the messages of the errors below.
                Nothing of its chunk is stored; earlier chunks remain.
            DuplicateEvent: an id is already stored with other content, in another place or order.
            WrongExpectedVersion: the version of an event is not the next version of its stream.
            ChannelMismatch: the stream belongs to another channel.
            PermissionDenied: the role is not the owner of the store.
            ConnectionLost: the connection broke and could not be restored in time.

        Example:
            ```python
            with open("log.ndjson", "rb") as lines:
                result = await store.import_events(lines, keep_recorded_at=True)
            print(result.imported, "imported,", result.skipped, "skipped")
            ```
        """
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(
            self._append_settings,
            source=source,
            keep_recorded_at=keep_recorded_at,
            inline=registry.inline_types(await self._engine.run(registry.builds())),
            past_inline=past_inline,
        )
        await importer_async.import_events_async(self._engine, importing, events)
        return importing.result
