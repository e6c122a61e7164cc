"""Reserve positions, copy events, resume after an interruption: operations."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.operation import AppendStatement, Operation, Rows, Statement
from indelible.core.timestamps import validate_timestamp
from indelible.core.validation import validate_integer, validate_name, validate_new_name
from indelible.errors import (
    ChannelMismatch,
    ConnectionLost,
    Duplicate,
    DuplicateEvent,
    IndelibleError,
    InvalidInput,
    StreamClosed,
    TransactionConflict,
    VersionConflict,
    WrongExpectedVersion,
    rebuild_command,
)
from indelible.events import ERASED, RecordedEvent
from indelible.streams.append_input import (
    AppendSettings,
    check_channel,
    check_id,
    check_size,
    check_tag_list,
    check_tags,
    encode_event,
)

from .chunk import STEP, Chunk, ChunkEvent, ImportStream
from .ndjson import NO_METADATA, ImportLine, read_line
from .types import ImportEvent, ImportResult

Importable = Iterable[bytes | str | ImportEvent | RecordedEvent]
"""The input of `import_events`."""

AsyncImportable = Importable | AsyncIterable[bytes | str | ImportEvent | RecordedEvent]
"""The input of the async `import_events`."""

CHUNK_EVENTS = 10_000
CHUNK_BYTES = 8 * 1024 * 1024
"""How many events, or bytes of lines, fill a chunk. Readers of the log wait for its transaction."""

_SHOWN = 10
"""The most duplicates that an error names."""

_TYPES_REMEMBERED = 10_000

_LINES = (bytes, str)


def take_chunk(events: Iterator[Any]) -> list[Any]:
    """Take the events of one chunk; an empty list at the end."""
    batch: list[Any] = []
    size = 0
    while step := list(islice(events, min(STEP, CHUNK_EVENTS - len(batch)))):
        batch += step
        size += size_of(step)
        if is_full(len(batch), size):
            break
    return batch


def size_of(events: Sequence[Any]) -> int:
    """Return how much events add to the size of a chunk: the length of lines, 0 for others."""
    return sum(len(event) for event in events if isinstance(event, _LINES))


def is_full(count: int, size: int) -> bool:
    """Return whether this number of events, or this size, fills a chunk."""
    return count >= CHUNK_EVENTS or size >= CHUNK_BYTES


class Importing:
    """One run of an import: takes events, makes chunks, and writes them.

    Args:
        settings: the store's codec and settings.
        source: the source of the events. Ids are derived from it for events without an id.
        keep_recorded_at: whether to keep the original recorded time of events.
        inline: the serving inline projections, and the event types of each (None for all).
        past_inline: whether to import events of these types without updating the projections.
    """

    result: ImportResult

    def __init__(
        self,
        settings: AppendSettings,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
        inline: Mapping[str, frozenset[str] | None] = MappingProxyType({}),
        past_inline: bool = False,
    ) -> None:
        self._append_settings = settings
        self._source = None if source is None else validate_name("source", source).encode()
        self._keep_recorded_at = keep_recorded_at
        self._inline = inline
        self._past_inline = past_inline
        self._count = 0
        self._unit = "event"
        self._chunk = Chunk()
        self._types: set[str] = set()
        self.result = ImportResult(imported=0, skipped=0, position=0)

    def add(self, events: Iterable[Any]) -> None:
        """Check events, and add them to the current chunk.

        Raises:
            InvalidInput: an event cannot be stored.
        """
        try:
            for event in events:
                self._count += 1
                if isinstance(event, _LINES):
                    self._unit = "line"
                    self._add_line(event)
                else:
                    self._unit = "event"
                    self._add_value(event)
        except IndelibleError as error:
            error.add_location(f"{self._unit} {self._count:,}")
            raise

    def finish(self) -> Chunk:
        """Return the current chunk, and begin the next one.

        Raises:
            InvalidInput: an id is used twice in the chunk.
        """
        chunk, self._chunk = self._chunk, Chunk()
        ids: set[bytes] = set()
        for event in chunk.events:
            if event.id in ids:
                raise InvalidInput(
                    f"{self._unit} {event.place:,}: event id {UUID(bytes=event.id)} is used twice:"
                    " give each event its own id"
                )
            ids.add(event.id)
        return chunk.seal()

    def begin(self, chunk: Chunk) -> Statement:
        """Return the statement that reserves the positions of the events.

        The first try looks for the first id only. If another id exists, the unique key or the
        check rejects the chunk. The chunk is then retried, and each id is looked for.
        """
        return AppendStatement(
            "bulk_import.reserve",
            {**chunk.keys, **chunk.ids()},
            survives_conflicts=chunk.was_refused,
        )

    def retry(self, chunk: Chunk, conflict: TransactionConflict | None = None) -> Chunk:
        """Return a rejected chunk for a second try.

        Raises:
            TransactionConflict: it was rejected twice.
        """
        if conflict is not None and chunk.was_refused:
            raise conflict
        chunk.was_refused = True
        return chunk

    def rows(self, chunk: Chunk, reserved: Rows) -> Iterator[bytes] | None:
        """Return the rows to copy; None if the transaction must be rolled back."""
        ((outcome, _, taken_at, stream_ids, versions, first, positions),) = reserved
        if outcome != "ready":
            return None
        if positions is None:
            positions = range(first, first + len(chunk))
        return chunk.rows(taken_at, stream_ids, versions, positions)

    def check(self, chunk: Chunk, reserved: Rows) -> Statement:
        """Return the statement that looks for the ids of the copied rows in the archive."""
        ((_, _, _, stream_ids, _, first, positions),) = reserved
        last = _last(chunk, first, positions)
        archived = chunk.archived(stream_ids)
        return Statement("bulk_import.check", {"first": first, "last": last, "archived": archived})

    def finish_chunk(self, chunk: Chunk, reserved: Rows) -> Operation[Chunk]:
        """Record the outcome of a chunk.

        Returns:
            The rest of the chunk. It is empty if the chunk was imported or existed before.
            Otherwise it starts after the first events, which existed before.

        Raises:
            DuplicateEvent, WrongExpectedVersion, ChannelMismatch, InvalidInput: no event of the
                chunk was stored.
        """
        ((outcome, facts, _, _, _, first, positions),) = reserved
        if outcome == "ready":
            imported = self.result.imported + len(chunk)
            last = _last(chunk, first, positions)
            self.result = replace(self.result, imported=imported, position=last)
            return Chunk()
        if outcome == "known":
            parameters = {**chunk.contents(), "after": self.result.position}
            ((skipped_count, position, facts),) = yield Statement(
                "bulk_import.find_existing", parameters
            )
            if facts is None:
                skipped = self.result.skipped + skipped_count
                self.result = replace(self.result, skipped=skipped, position=position)
                return chunk.after(skipped_count)
        elif outcome != "in_future" and not chunk.was_refused:
            return self.retry(chunk)  # an existing id explains more than a wrong version
        index, error = _refusal(outcome, facts, chunk)
        raise error.add_location(f"{self._unit} {chunk.events[index].place:,}")

    def connection_lost(self, chunk: Chunk, loss: ConnectionLost) -> ConnectionLost:
        """Return the error to raise if it is unknown whether a chunk was stored."""
        return ConnectionLost(
            f"{loss}; or run the import again: it skips the events that exist",
            [UUID(bytes=event.id) for event in chunk.events],
        )

    # The forms of events ------------------------------------------------------------------

    def _add_value(self, event: object) -> None:
        if isinstance(event, ImportEvent):
            event_type = event.type
            if event_type is None:
                event_type = self._append_settings.codec.type_of(event.data)
        elif isinstance(event, RecordedEvent):
            event_type = event.type
        else:
            raise InvalidInput(
                "an event to import must be a line of NDJSON, an ImportEvent or a RecordedEvent,"
                f" not {event!r}"
            )
        of_stream = self._stream(event.stream, event.channel)
        self._check_type(event_type)
        is_erased = event.data is ERASED
        if is_erased:
            data, metadata = b"null", None
        else:
            data, metadata = encode_event(
                self._append_settings, event_type, event.data, event.metadata
            )
        event_id = None if event.id is None else check_id(event_type, event.id)
        class_tags = (
            () if is_erased else self._append_settings.codec.tags_of(event_type, event.data, data)
        )
        self._append(
            *(event, of_stream, event_id, event_type, data, metadata, class_tags),
            is_erased=is_erased,
        )

    def _add_line(self, text: bytes | str) -> None:
        try:
            line = read_line(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            if not text.strip():
                return
            raise InvalidInput(f"not a valid event in JSON: {error}") from error
        event_type = line.type
        of_stream = self._stream(line.stream, line.channel)
        self._check_type(event_type)
        codec = self._append_settings.codec
        # Parsed to check it, then stored as it is: encoding it again would take longer.
        data, metadata = bytes(line.data), None
        codec.check(event_type, data)
        if line.metadata is not NO_METADATA:
            metadata = bytes(line.metadata)
            if metadata in (b"{}", b"null"):
                metadata = None
            elif not isinstance(codec.check(event_type, metadata, field="metadata"), dict):
                raise InvalidInput(f"the metadata of event {event_type!r} must be a JSON object")
        if line.erased and (data != b"null" or metadata is not None):
            raise InvalidInput(
                f"event {event_type!r} is erased, so it must not have data or metadata"
            )
        check_size(self._append_settings, event_type, len(data) + len(metadata or b""))
        tags = () if line.erased else codec.tags_of(event_type, line.data, data)
        self._append(
            *(line, of_stream, line.id, event_type, data, metadata, tags), is_erased=line.erased
        )
        of_stream.life_cycle = line.life

    def _append(
        self,
        event: ImportEvent | RecordedEvent | ImportLine,
        of_stream: ImportStream,
        event_id: UUID | None,
        event_type: str,
        data: bytes,
        metadata: bytes | None,
        class_tags: Sequence[str] = (),
        *,
        is_erased: bool = False,
    ) -> None:
        version = None if event.version is None else _version(event.version)
        id_bytes = self._derived_id() if event_id is None else event_id.bytes
        tags = None
        if event.tags or class_tags:
            tags = check_tags([*check_tag_list(event.tags or ()), *class_tags]) or None
        valid_at, recorded_at = event.valid_at, event.recorded_at
        if valid_at is not None:
            valid_at = validate_timestamp("valid_at", valid_at)
        if recorded_at is not None:
            recorded_at = validate_timestamp("recorded_at", recorded_at)
        if of_stream.life_cycle is not None and of_stream.life_cycle.closed_at is not None:
            raise InvalidInput(
                f"stream {event.stream!r} was closed after the event before this one: put the life"
                " cycle of a stream on the line of its last event"
            )
        of_stream.add(event.stream, version)
        self._chunk.events.append(
            ChunkEvent(
                self._count,
                event.stream,
                version,
                id_bytes,
                event_type,
                data,
                metadata,
                tags,
                valid_at,
                recorded_at if self._keep_recorded_at else None,
                is_erased,
            )
        )
        of_stream.is_erased |= is_erased

    def _stream(self, stream: Any, given_channel: str | None) -> ImportStream:
        of_streams = self._chunk.of_streams
        of_stream = of_streams.get(stream) if isinstance(stream, str) else None
        if of_stream is None:
            validate_new_name("stream", stream)
            channel = check_channel(self._append_settings, stream, given_channel)
            of_stream = of_streams[stream] = ImportStream(given_channel, channel)
        elif given_channel != of_stream.given_channel:
            raise InvalidInput(
                f"stream {stream!r} has channel {given_channel!r} here and"
                f" {of_stream.given_channel!r} shortly before: a stream belongs to one channel"
            )
        return of_stream

    def _check_type(self, event_type: Any) -> None:
        if isinstance(event_type, str) and event_type in self._types:
            return
        validate_new_name("event type", event_type)
        stale = [
            name for name, types in self._inline.items() if types is None or event_type in types
        ]
        if stale and not self._past_inline:
            raise InvalidInput(
                f"inline projection {stale[0]!r} handles {event_type!r}, but an import does not"
                " update inline projections: import without them (--past-inline, past_inline=True),"
                f" then rebuild them: {rebuild_command(stale[0])}"
            )
        if missing := set(stale).difference(self.result.stale):
            self.result = replace(self.result, stale=tuple(sorted((*self.result.stale, *missing))))
        if len(self._types) >= _TYPES_REMEMBERED:
            self._types.clear()
        self._types.add(event_type)

    def _derived_id(self) -> bytes:
        """Return the id for an event without one: the same in each run of the import.

        It is a UUID of version 8 that begins with the event's place in its source. So the ids of a
        source are next to each other in their index, in order.
        """
        if self._source is None:
            raise InvalidInput(
                "the event has no id: add one, or pass source=… to derive ids from, so that the"
                " import can be run again"
            )
        digest = blake2b(b"%d %b" % (self._count, self._source), digest_size=10).digest()
        hashed = int.from_bytes(digest, "big")
        number = self._count << 80 | 8 << 76 | (hashed >> 68) << 64 | 2 << 62 | hashed & (2**62 - 1)
        return number.to_bytes(16, "big")


def _last(chunk: Chunk, first: int, positions: list[int] | None) -> int:
    """Return the position of the last event of a chunk."""
    return positions[-1] if positions else first + len(chunk) - 1


def _version(version: object) -> int:
    if isinstance(version, str) and version.isdecimal() and version.isascii():
        version = int(version)
    return validate_integer("version", version)


class _Refused(msgspec.Struct):
    """Why a chunk was rejected: the error of one of its events or streams, counted from 1."""

    ordinal: int
    id: UUID | None = None
    stream: str = ""
    version: int = -1
    same_content: bool = False
    channel: str = ""
    recorded_at: datetime | None = None
    closed_at: datetime | None = None


def _refusal(outcome: str, facts: bytes, chunk: Chunk) -> tuple[int, IndelibleError]:
    """Return the index of the event for which the chunk was rejected, and the error."""
    if outcome == "in_future":
        recorded_at = [event.recorded_at for event in chunk.events]
        latest = max(filter(None, recorded_at))
        return recorded_at.index(latest), InvalidInput(
            f"recorded_at {latest} is in the future: it must be a past time"
        )
    if outcome == "known":
        duplicates = msgspec.json.decode(facts, type=list[_Refused])
        return duplicates[0].ordinal - 1, DuplicateEvent(
            [
                Duplicate(fact.id or UUID(int=0), fact.stream, fact.version, fact.same_content)
                for fact in duplicates[:_SHOWN]
            ]
        )
    fact = msgspec.json.decode(facts, type=_Refused)
    stream = chunk.names[fact.ordinal - 1]
    of_stream = chunk.of_streams[stream]
    if outcome == "closed":
        error: IndelibleError = StreamClosed(
            stream, fact.version, fact.closed_at or datetime.now(UTC)
        )
    elif outcome == "channel_mismatch":
        error = ChannelMismatch(stream, of_stream.channel or "", fact.channel)
    else:
        conflict = VersionConflict(
            stream=stream,
            expected=-1 if of_stream.before is None else of_stream.before,
            actual=fact.version,
            last_event_id=fact.id,
            last_recorded_at=fact.recorded_at and fact.recorded_at.astimezone(UTC),
        )
        error = WrongExpectedVersion([conflict])
    return [event.stream for event in chunk.events].index(stream), error
