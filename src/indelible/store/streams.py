"""What streams there are, and their life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from indelible import life, read
from indelible.events import ExpectedVersion, StreamChange, StreamInfo
from indelible.plan import documented_as

from .events import async_pages, pages
from .opened import AsyncOpened, Opened


class StreamsFace(Opened):
    """The part of an `EventStore` that looks after streams."""

    def stream(self, name: str) -> StreamInfo | None:
        """Ask what the store knows of a stream.

        Returns:
            Its channel, version and times; None for a stream never written.
        """
        return self._engine.run(read.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> Iterator[StreamInfo]:
        """Ask what streams there are, in order of name.

        Args:
            channel: only those of a channel.
            prefix: only those whose name starts with it.

        Returns:
            An iterator over them; they are read in pages.
        """
        return pages(self._engine, read.StreamsReading(channel=channel, prefix=prefix))

    def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        """Close a stream: it takes no more events, until it is reopened.

        Its events stay where they are, and are read as before. Closing a closed stream changes
        nothing.

        Args:
            stream: the stream.
            expected: what you believe its last version to be, as for `append`.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            StreamNotFound: it was never written.

        Example:
            ```python
            last = store.append("order-17", OrderPaid(12), expected=4)
            store.close_stream("order-17", expected=last.version)
            ```
        """
        return self._engine.run(life.close_stream(stream, expected=expected, reason=reason))

    def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Open a closed stream again; it goes on at the version where it stands.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotFound: it was never written.
        """
        return self._engine.run(life.change_stream(stream, "reopen", reason=reason))

    def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Move the events of a closed stream out of the way of those that are still written to.

        They keep their places, and every reader finds them there. Needs the role
        SCHEMA_maintainer. Archiving again moves what came since.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotClosed: it is open.
            StreamNotFound: it was never written.
            PermissionDenied: the role may not.
        """
        return self._engine.run(life.change_stream(stream, "archive", reason=reason))

    def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        """Destroy the data and the metadata of a stream's events, for good.

        Their places, ids, types, tags and times stay; `event.data is ERASED` from then on, and
        consumer groups pass them over. The stream stays open or closed as it is. Needs the role
        SCHEMA_maintainer. Old copies go with the next VACUUM; backups and the write-ahead log
        keep theirs until they expire.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotFound: it was never written.
            PermissionDenied: the role may not.
            InvalidInput: no reason is given.
        """
        return self._engine.run(life.change_stream(stream, "erase", reason=reason))

    def stream_changes(self, stream: str) -> list[StreamChange]:
        """Ask who closed, reopened, archived or erased a stream, when and why, in order."""
        return self._engine.run(life.stream_changes(stream))


@documented_as(StreamsFace)
class AsyncStreamsFace(AsyncOpened):
    """The part of an `AsyncEventStore` that looks after streams."""

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._engine.run(read.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[StreamInfo]:
        return async_pages(self._engine, read.StreamsReading(channel=channel, prefix=prefix))

    async def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        return await self._engine.run(life.close_stream(stream, expected=expected, reason=reason))

    async def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "reopen", reason=reason))

    async def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "archive", reason=reason))

    async def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "erase", reason=reason))

    async def stream_changes(self, stream: str) -> list[StreamChange]:
        return await self._engine.run(life.stream_changes(stream))
