"""Append: methods of the async store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indelible.bulk_import import importer_async
from indelible.bulk_import.operations import AsyncImportable, Importing
from indelible.bulk_import.types import ImportResult
from indelible.core.operation import documented_as
from indelible.errors import InvalidInput
from indelible.events import AppendResult, ExpectedVersion, StreamAppend
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.projections import registry
from indelible.query import AppendCondition
from indelible.streams import append

from .append import AppendMethods
from .base_async import AsyncStoreBase

_COMMITS_BY_ITSELF = (
    "an import commits chunk by chunk, since readers of the log wait behind an open transaction:"
    " call this on the store itself"
)
_PASSES_BY_PROJECTIONS = (
    "an import does not bring inline projections up to date: import through a store that is"
    " connected without them, with past_inline=True, and build them anew afterwards"
)


@documented_as(AppendMethods)
class AsyncAppendMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that appends."""

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
        return await self._engine.run(
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

    async def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
    ) -> list[AppendResult]:
        return await self._engine.run(
            append.append_many(self._writing, appends, condition=condition)
        )

    async def import_events(
        self,
        events: AsyncImportable,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
        past_inline: bool = False,
    ) -> ImportResult:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(_COMMITS_BY_ITSELF)
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(
            self._writing,
            source=source,
            keep_recorded_at=keep_recorded_at,
            inline=registry.inline_types(await self._engine.run(registry.builds())),
            past_inline=past_inline,
        )
        await importer_async.import_events_async(self._engine, importing, events)
        return importing.result
