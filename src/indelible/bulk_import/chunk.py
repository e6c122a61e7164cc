"""A chunk of an import: events that are stored together, in the form that the database takes.

The keys of a chunk name the streams and ids for which the database reserves positions. Its rows are
copied to the reserved positions. docs/explanation/bulk-import.md explains why no event is lost or
duplicated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from struct import Struct

import msgspec
from msgspec import to_builtins

from indelible.errors import InvalidInput
from indelible.postgres.binary import COPY_END, COPY_HEAD, NULL, array, column, microseconds, sized
from indelible.streams.info import StreamChange

STEP = 100
"""How many events are prepared or sent in one step."""


class LifeCycle(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The life cycle of a stream, as an export has it on the line of the stream's last event.

    Attributes:
        closed_at, archived_at, erased_at: when the stream was closed, archived and erased.
        changes: the life cycle changes of the stream, in order.
    """

    closed_at: datetime | None = None
    archived_at: datetime | None = None
    erased_at: datetime | None = None
    changes: tuple[StreamChange, ...] = ()


@dataclass(slots=True)
class ImportStream:
    """A stream with events in a chunk.

    Attributes:
        given_channel: the channel that its first event names.
        channel: the channel to use; None for the channel in its name.
        count: how many events of the stream the chunk has.
        before: the version that the stream must have before the first of them; None for any.
        is_erased: whether any of them is erased.
        life_cycle: the life cycle of the stream after the last of them, if known.
    """

    given_channel: str | None
    channel: str | None
    count: int = 0
    before: int | None = None
    is_erased: bool = False
    life_cycle: LifeCycle | None = None

    def add(self, stream: str, version: int | None) -> None:
        """Count one more event, and check that its version follows the previous one."""
        if version is not None:
            before = version - self.count - 1
            if self.before is None:
                self.before = before
            elif self.before != before:
                raise InvalidInput(
                    f"version {version} of stream {stream!r} does not follow version"
                    f" {self.before + self.count}, the one before it: versions must have no gaps"
                )
        self.count += 1


class ChunkEvent(msgspec.Struct, gc=False):
    """A checked event, field by field.

    Python's garbage collector does not track it: scanning thousands of them would be in vain.
    """

    place: int
    stream: str
    version: int | None
    id: bytes
    type: str
    data: bytes
    metadata: bytes | None
    tags: list[str] | None
    valid_at: datetime | None
    recorded_at: datetime | None
    is_erased: bool = False


class Chunk:
    """Events that are stored in one transaction, all or none.

    Attributes:
        events: the events, in the order of the input.
        of_streams: the streams of the events, by name.
        names: the names of the streams in byte order, which is the order of code points.
        keys: the parameters with which positions are reserved.
        was_refused: whether to look for each of its ids. Before that, only the first id is checked.
    """

    def __init__(self) -> None:
        self.events: list[ChunkEvent] = []
        self.of_streams: dict[str, ImportStream] = {}
        self.was_refused = False
        self.names: list[str] = []
        self.keys: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self.events)

    def after(self, count: int) -> Chunk:
        """Return the chunk without the first `count` events."""
        remaining = Chunk()
        remaining.events = self.events[count:]
        for event in remaining.events:
            stream = self.of_streams[event.stream]
            remaining_stream = remaining.of_streams.setdefault(
                event.stream,
                ImportStream(stream.given_channel, stream.channel, life_cycle=stream.life_cycle),
            )
            remaining_stream.add(event.stream, event.version)
            remaining_stream.is_erased |= event.is_erased
        return remaining.seal()

    def seal(self) -> Chunk:
        """Set the names and keys after all events were added, and return the chunk."""
        names = self.names = sorted(self.of_streams)
        of_streams = [self.of_streams[name] for name in names]
        self.keys = {
            "names": column("text", names),
            "channels": column("text", [stream.channel for stream in of_streams]),
            "counts": column("bigint", [stream.count for stream in of_streams]),
            "versions": column("bigint", [stream.before for stream in of_streams]),
            **self._tags(),
            "life_cycles": self._life_cycles(of_streams),
            "latest": max(
                (event.recorded_at for event in self.events if event.recorded_at), default=None
            ),
        }
        return self

    def ids(self) -> dict[str, object]:
        """Return the parameters with the ids to look for."""
        events = self.events if self.was_refused else self.events[:1]
        return {"ids": column("uuid", [event.id for event in events])}

    def archived(self, stream_ids: Sequence[int]) -> list[int]:
        """Return the ids of the streams whose events are to be archived."""
        life_cycles = (self.of_streams[name].life_cycle for name in self.names)
        return [
            stream_id
            for stream_id, life_cycle in zip(stream_ids, life_cycles, strict=True)
            if life_cycle is not None
            and life_cycle.archived_at is not None
            and life_cycle.closed_at is not None
        ]

    def _life_cycles(self, of_streams: Sequence[ImportStream]) -> str | None:
        """Return the life cycles of the streams to store; None without any."""
        life_cycles = [
            {
                "ordinal": number,
                "is_erased": stream.is_erased,
                **to_builtins(stream.life_cycle or LifeCycle()),
            }
            for number, stream in enumerate(of_streams, start=1)
            if stream.is_erased or stream.life_cycle is not None
        ]
        return _encode(life_cycles).decode() if life_cycles else None

    def _tags(self) -> dict[str, object]:
        pairs = [
            (tag, number)
            for number, event in enumerate(self.events, start=1)
            if event.tags
            for tag in event.tags
        ]
        return {
            "tags": column("text", [tag for tag, _ in pairs]),
            "tag_events": column("integer", [number for _, number in pairs]),
        }

    def contents(self) -> dict[str, object]:
        """Return the contents of the events as parameters."""
        names, events = self.names, self.events
        numbers = {name: number for number, name in enumerate(names, start=1)}
        return {
            "names": column("text", names),
            "numbers": column("integer", [numbers[event.stream] for event in events]),
            "versions": column("bigint", [event.version for event in events]),
            "ids": column("uuid", [event.id for event in events]),
            "types": column("text", [event.type for event in events]),
            "data": column("jsonb", [event.data for event in events]),
            "metadata": column("jsonb", [event.metadata for event in events]),
            "tags": column("jsonb", [event.tags and _encode(event.tags) for event in events]),
            "valid_at": column("timestamptz", [event.valid_at for event in events]),
            "recorded_at": column("timestamptz", [event.recorded_at for event in events]),
        }

    def rows(
        self,
        reserved_at: datetime,
        stream_ids: Sequence[int],
        last_versions: Sequence[int],
        positions: Sequence[int],
    ) -> Iterator[bytes]:
        """Return the events at their reserved positions, in the format of a binary COPY."""
        ids = dict(zip(self.names, stream_ids, strict=True))
        versions = dict(zip(self.names, last_versions, strict=True))
        types: dict[str, bytes] = {}
        reserved = microseconds(reserved_at)
        remaining_positions = iter(positions)
        yield COPY_HEAD
        for start in range(0, len(self.events), STEP):
            fields: list[bytes] = []
            for event, position in zip(
                self.events[start : start + STEP], remaining_positions, strict=False
            ):
                stream, data = event.stream, event.data
                version = versions[stream] = versions[stream] + 1
                recorded = (
                    reserved if event.recorded_at is None else microseconds(event.recorded_at)
                )
                event_type = types.get(event.type)
                if event_type is None:
                    event_type = types[event.type] = sized(event.type.encode())
                fields += (
                    _row(11, 8, position, 8, ids[stream], 8, version, 8, recorded, 16, event.id),
                    event_type,
                    _json(len(data) + 1, 1),
                    data,
                    _optional_fields(event, recorded),
                )
            yield b"".join(fields)
        yield COPY_END


def _optional_fields(event: ChunkEvent, recorded: int) -> bytes:
    """Return the fields of a row that most events do not have."""
    metadata, tags, valid_at = event.metadata, event.tags, event.valid_at
    if metadata is None and tags is None and valid_at is None and not event.is_erased:
        return _NO_OPTIONAL_FIELDS
    valid_microseconds = None if valid_at is None else microseconds(valid_at)
    return b"".join(
        (
            NULL if metadata is None else _json(len(metadata) + 1, 1) + metadata,
            NULL if tags is None else sized(array("text", tags)),
            NULL
            if valid_microseconds is None or valid_microseconds == recorded
            else _moment(8, valid_microseconds),
            _ERASED_BEFORE if event.is_erased else NULL,
        )
    )


_NO_OPTIONAL_FIELDS = NULL * 4
_ERASED_BEFORE = Struct(">iq").pack(8, 0)  # erased before the import, not by a change in this store
_row = Struct(">hiqiqiqiqi16s").pack
_json = Struct(">ib").pack  # its length, and the version of the format
_moment = Struct(">iq").pack
_encode = msgspec.json.Encoder().encode
