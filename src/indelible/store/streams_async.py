"""Store methods for streams: info, close, reopen, archive, erase."""

from __future__ import annotations

from collections.abc import AsyncIterator

from indelible.events import ExpectedVersion
from indelible.streams import info, lifecycle
from indelible.streams.info import StreamChange, StreamInfo
from indelible.streams.iterators_async import pages_async

from .base_async import AsyncStoreBase


class AsyncStreamMethods(AsyncStoreBase):
    """The methods of an `AsyncEventStore` that manage streams."""

    async def stream(self, name: str) -> StreamInfo | None:
        """Return the channel, version and times of a stream.

        Args:
            name: the stream.

        Returns:
            The stream; None if it does not exist.
        """
        return await self._engine.run(info.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[StreamInfo]:
        """Iterate over the streams, in order of name.

        Args:
            channel: only streams of this channel.
            prefix: only streams whose name starts with this text.

        Returns:
            An iterator over the streams, which reads them in pages.

        Example:
            ```python
            async for stream in store.streams(prefix="order-"):
                print(stream.stream, stream.version)
            ```
        """
        return pages_async(self._engine, info.StreamsReading(channel=channel, prefix=prefix))

    async def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        """Close a stream. It takes no new events until it is reopened.

        Its events can still be read. Closing a closed stream changes nothing.

        Args:
            stream: the stream.
            expected: the version that you expect it to have, as for `append`.
            reason: the reason, stored for `stream_changes`.

        Returns:
            The closed stream.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            StreamNotFound: the stream does not exist.

        Example:
            ```python
            last = await store.append("order-17", OrderPaid(12), expected=4)
            await store.close_stream("order-17", expected=last.version)
            ```
        """
        return await self._engine.run(
            lifecycle.close_stream(stream, expected=expected, reason=reason)
        )

    async def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Reopen a closed stream. Its version does not change.

        Args:
            stream: the stream.
            reason: the reason, stored for `stream_changes`.

        Returns:
            The reopened stream.

        Raises:
            StreamNotFound: the stream does not exist.
        """
        return await self._engine.run(lifecycle.change_stream(stream, "reopen", reason=reason))

    async def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Move the events of a closed stream to the archive.

        The events keep their positions and versions, and all readers still receive them. Archive
        a stream again to move events appended since. Requires the role SCHEMA_maintainer.

        Args:
            stream: the stream.
            reason: the reason, stored for `stream_changes`.

        Returns:
            The archived stream.

        Raises:
            StreamNotClosed: the stream is open.
            StreamNotFound: the stream does not exist.
            PermissionDenied: the role is not a member of SCHEMA_maintainer.
        """
        return await self._engine.run(lifecycle.change_stream(stream, "archive", reason=reason))

    async def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        """Erase the data and metadata of a stream's events permanently (GDPR).

        The positions, versions, ids, types, tags and times of the events remain. Their data is
        `ERASED`, and consumer groups skip them. The stream stays open or closed. The next VACUUM
        removes old copies from the tables. Backups and the write-ahead log keep copies until they
        expire. Requires the role SCHEMA_maintainer.

        Args:
            stream: the stream.
            reason: the reason, stored for `stream_changes`.

        Returns:
            The erased stream.

        Raises:
            StreamNotFound: the stream does not exist.
            PermissionDenied: the role is not a member of SCHEMA_maintainer.
            InvalidInput: `reason` is empty.

        Example:
            ```python
            await store.erase_stream("customer-7", reason="erasure request 2024-118")
            ```
        """
        return await self._engine.run(lifecycle.change_stream(stream, "erase", reason=reason))

    async def stream_changes(self, stream: str) -> list[StreamChange]:
        """Return who closed, reopened, archived or erased a stream, when and why, in order."""
        return await self._engine.run(lifecycle.stream_changes(stream))
