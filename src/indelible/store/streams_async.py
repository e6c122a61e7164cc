"""Streams and their life cycle: methods of the async store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from indelible.core.operation import documented_as
from indelible.events import ExpectedVersion
from indelible.streams import info, lifecycle
from indelible.streams.info import StreamChange, StreamInfo
from indelible.streams.iterators_async import async_pages

from .base_async import AsyncStoreBase
from .streams import StreamMethods


@documented_as(StreamMethods)
class AsyncStreamMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that looks after streams."""

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._engine.run(info.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[StreamInfo]:
        return async_pages(self._engine, info.StreamsReading(channel=channel, prefix=prefix))

    async def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        return await self._engine.run(
            lifecycle.close_stream(stream, expected=expected, reason=reason)
        )

    async def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(lifecycle.change_stream(stream, "reopen", reason=reason))

    async def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(lifecycle.change_stream(stream, "archive", reason=reason))

    async def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        return await self._engine.run(lifecycle.change_stream(stream, "erase", reason=reason))

    async def stream_changes(self, stream: str) -> list[StreamChange]:
        return await self._engine.run(lifecycle.stream_changes(stream))
