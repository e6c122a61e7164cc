# Generated from streams_async.py; do not edit.
"""Streams and their life cycle: methods of the store."""

from __future__ import annotations

from collections.abc import Iterator

from indelible.events import ExpectedVersion
from indelible.streams import info, lifecycle
from indelible.streams.info import StreamChange, StreamInfo
from indelible.streams.iterators import pages

from .base import StoreBase


class StreamMethods(StoreBase):
    """The part of an `EventStore` that looks after streams."""

    def stream(self, name: str) -> StreamInfo | None:
        """Ask what the store knows of a stream.

        Returns:
            Its channel, version and times; None for a stream never written.
        """
        return self._engine.run(info.stream_info(name))

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
        return pages(self._engine, info.StreamsReading(channel=channel, prefix=prefix))

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
        return self._engine.run(lifecycle.close_stream(stream, expected=expected, reason=reason))

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
        return self._engine.run(lifecycle.change_stream(stream, "reopen", reason=reason))

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
        return self._engine.run(lifecycle.change_stream(stream, "archive", reason=reason))

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
        return self._engine.run(lifecycle.change_stream(stream, "erase", reason=reason))

    def stream_changes(self, stream: str) -> list[StreamChange]:
        """Ask who closed, reopened, archived or erased a stream, when and why, in order."""
        return self._engine.run(lifecycle.stream_changes(stream))
