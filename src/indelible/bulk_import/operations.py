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
"""What `import_events` takes."""

AsyncImportable = Importable | AsyncIterable[bytes | str | ImportEvent | RecordedEvent]
"""What its async variant takes."""

CHUNK_EVENTS = 10_000
CHUNK_BYTES = 8 * 1024 * 1024
"""How many events, or bytes of lines, fill a chunk: readers of the log wait for its transaction."""

_SHOWN = 10
"""How many duplicates an error names at most."""

_TYPES_REMEMBERED = 10_000

_LINES = (bytes, str)


def take_chunk(events: Iterator[Any]) -> list[Any]:
    """Take as many events as a chunk has; none at the end."""
    batch: list[Any] = []
    size = 0
    while step := list(islice(events, min(STEP, CHUNK_EVENTS - len(batch)))):
        batch += step
        size += size_of(step)
        if is_full(len(batch), size):
            break
    return batch


def size_of(events: Sequence[Any]) -> int:
    """How much events count towards the size of a chunk: lines their length, others nothing."""
    return sum(len(event) for event in events if isinstance(event, _LINES))


def is_full(count: int, size: int) -> bool:
    """Whether so many events of such a size fill a chunk."""
    return count >= CHUNK_EVENTS or size >= CHUNK_BYTES


class Importing:
    """One run of an import: takes events, gives chunks, and writes them.

    Args:
        settings: the store's codec and settings.
        source: what the events come from; ids are made from it where an event has none.
        keep_recorded_at: whether to keep the time at which an event was recorded first.
        inline: the inline projections that serve, and the types that they take (None for all).
        past_inline: whether to import what they take all the same.
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
        """Check events, and add them to the chunk that is being made.

        Raises:
            InvalidInput: one of them cannot be stored.
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
        """Give the chunk that was being made; the next one begins.

        Raises:
            InvalidInput: an id stands in it twice.
        """
        chunk, self._chunk = self._chunk, Chunk()
        ids: set[bytes] = set()
        for event in chunk.events:
            if event.id in ids:
                raise InvalidInput(
                    f"{self._unit} {event.place:,}: event id {UUID(bytes=event.id)} stands twice:"
                    " give each event its own"
                )
            ids.add(event.id)
        return chunk.seal()

    def begin(self, chunk: Chunk) -> Statement:
        """Give the statement that secures the places of the events.

        That an id is there is mostly told by the first one, or else by the unique key and the
        check: then the chunk is tried once more, and each id is looked for.
        """
        return AppendStatement(
            "bulk_import.reserve",
            {**chunk.keys, **chunk.ids()},
            survives_conflicts=chunk.was_refused,
        )

    def retry(self, chunk: Chunk, conflict: TransactionConflict | None = None) -> Chunk:
        """Give a chunk that was refused, so that it is tried once more.

        Raises:
            TransactionConflict: it was already.
        """
        if conflict is not None and chunk.was_refused:
            raise conflict
        chunk.was_refused = True
        return chunk

    def rows(self, chunk: Chunk, reserved: Rows) -> Iterator[bytes] | None:
        """Give the rows to be copied; None where the transaction is to be undone."""
        ((outcome, _, taken_at, stream_ids, versions, first, positions),) = reserved
        if outcome != "ready":
            return None
        if positions is None:
            positions = range(first, first + len(chunk))
        return chunk.rows(taken_at, stream_ids, versions, positions)

    def check(self, chunk: Chunk, reserved: Rows) -> Statement:
        """Give the statement that looks for the ids of the copied rows in the archive."""
        ((_, _, _, stream_ids, _, first, positions),) = reserved
        last = _last(chunk, first, positions)
        archived = chunk.archived(stream_ids)
        return Statement("bulk_import.check", {"first": first, "last": last, "archived": archived})

    def finish_chunk(self, chunk: Chunk, reserved: Rows) -> Operation[Chunk]:
        """Note what became of a chunk.

        Returns:
            What is left of it: nothing where it was imported or was there, or else what comes
            after the events at its beginning that were there.

        Raises:
            DuplicateEvent, WrongExpectedVersion, ChannelMismatch, InvalidInput: nothing of the
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
            return self.retry(chunk)  # an id that is there tells more than a version
        index, error = _refusal(outcome, facts, chunk)
        raise error.add_location(f"{self._unit} {chunk.events[index].place:,}")

    def connection_lost(self, chunk: Chunk, loss: ConnectionLost) -> ConnectionLost:
        """Say what to do where it is not known whether a chunk was stored."""
        return ConnectionLost(
            f"{loss}; or run the import again, which skips what is there",
            [UUID(bytes=event.id) for event in chunk.events],
        )

    # Events of every form -----------------------------------------------------------------

    def _add_value(self, event: object) -> None:
        if isinstance(event, ImportEvent):
            event_type = event.type
            if event_type is None:
                event_type = self._append_settings.codec.type_of(event.data)
        elif isinstance(event, RecordedEvent):
            event_type = event.type
        else:
            raise InvalidInput(
                "import_events takes lines of NDJSON, ImportEvent or RecordedEvent values, not"
                f" {event!r}"
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
            raise InvalidInput(f"it is not the JSON that is wanted: {error}") from error
        event_type = line.type
        of_stream = self._stream(line.stream, line.channel)
        self._check_type(event_type)
        codec = self._append_settings.codec
        # Read whole, and then kept as it is: to write it again would take longer.
        data, metadata = bytes(line.data), None
        codec.check(event_type, data)
        if line.metadata is not NO_METADATA:
            metadata = bytes(line.metadata)
            if metadata in (b"{}", b"null"):
                metadata = None
            elif not isinstance(codec.check(event_type, metadata, field="metadata"), dict):
                raise InvalidInput(f"the metadata of event {event_type!r} must be a JSON object")
        if line.erased and (data != b"null" or metadata is not None):
            raise InvalidInput(f"event {event_type!r} is erased, and has data or metadata")
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
                f"stream {event.stream!r} was closed after its event before this one: what was done"
                " to a stream stands on the line of its last event"
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
                f"stream {stream!r} is given channel {given_channel!r} here and"
                f" {of_stream.given_channel!r} shortly before: a stream belongs to one"
                " channel for ever"
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
                f"inline projection {stale[0]!r} takes {event_type!r}, and an import does not bring"
                " inline projections up to date: import past them (--past-inline,"
                f" past_inline=True), and then build them anew: {rebuild_command(stale[0])}"
            )
        if missing := set(stale).difference(self.result.stale):
            self.result = replace(self.result, stale=tuple(sorted((*self.result.stale, *missing))))
        if len(self._types) >= _TYPES_REMEMBERED:
            self._types.clear()
        self._types.add(event_type)

    def _derived_id(self) -> bytes:
        """The id of an event that has none: the same in each run of the import.

        A UUID of version 8 that begins with the event's place in its source, so that ids of a
        source stand together in their index, in order.
        """
        if self._source is None:
            raise InvalidInput(
                "it has no id: give it one, or give the import a source=… that ids are made from,"
                " so that it can be run again"
            )
        digest = blake2b(b"%d %b" % (self._count, self._source), digest_size=10).digest()
        hashed = int.from_bytes(digest, "big")
        number = self._count << 80 | 8 << 76 | (hashed >> 68) << 64 | 2 << 62 | hashed & (2**62 - 1)
        return number.to_bytes(16, "big")


def _last(chunk: Chunk, first: int, positions: list[int] | None) -> int:
    """The position of the last event of a chunk."""
    return positions[-1] if positions else first + len(chunk) - 1


def _version(version: object) -> int:
    if isinstance(version, str) and version.isdecimal() and version.isascii():
        version = int(version)
    return validate_integer("version", version)


class _Refused(msgspec.Struct):
    """Why a chunk was refused: the matter with one of its events or streams, counted from 1."""

    ordinal: int
    id: UUID | None = None
    stream: str = ""
    version: int = -1
    same_content: bool = False
    channel: str = ""
    recorded_at: datetime | None = None
    closed_at: datetime | None = None


def _refusal(outcome: str, facts: bytes, chunk: Chunk) -> tuple[int, IndelibleError]:
    """The index of the event that the chunk was refused for, and the error that says why."""
    if outcome == "in_future":
        recorded_at = [event.recorded_at for event in chunk.events]
        latest = max(filter(None, recorded_at))
        return recorded_at.index(latest), InvalidInput(
            f"recorded_at {latest} is in the future: an event is recorded when it has happened"
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
