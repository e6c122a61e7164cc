"""A chunk of an import: events that are stored together, as the database takes them.

Its keys tell the database for which streams and ids places are to be secured; its rows are copied
to the places that are. docs/explanation/bulk-import.md says why nothing is lost or doubled.
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
"""How many events are made, or sent, in one go."""


class Life(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What was done to a stream as a whole, as an export has it on the line of its last event.

    Attributes:
        closed_at, archived_at, erased_at: those of the stream.
        changes: who did it, when and why, in order.
    """

    closed_at: datetime | None = None
    archived_at: datetime | None = None
    erased_at: datetime | None = None
    changes: tuple[StreamChange, ...] = ()


@dataclass(slots=True)
class ImportStream:
    """What a chunk knows of one of its streams.

    Attributes:
        given: the channel that its first event gave.
        channel: the channel that is meant; None for that of its name.
        count: how many events of it the chunk has.
        before: the version that it must have before the first of them; None for any.
        is_erased: whether any of them is erased.
        life: what was done to the stream as a whole after the last of them, if that is known.
    """

    given: str | None
    channel: str | None
    count: int = 0
    before: int | None = None
    is_erased: bool = False
    life: Life | None = None

    def follow(self, stream: str, version: int | None) -> None:
        """Note one event more, and check that its version follows the one before it."""
        if version is not None:
            before = version - self.count - 1
            if self.before is None:
                self.before = before
            elif self.before != before:
                raise InvalidInput(
                    f"version {version} of stream {stream!r} does not follow version"
                    f" {self.before + self.count} before it: versions have no gaps"
                )
        self.count += 1


class ChunkEvent(msgspec.Struct, gc=False):
    """An event that has been checked, field by field.

    Unknown to Python's garbage collection, which would look through thousands of them in vain.
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
    """Events that are stored together, or none of them.

    Attributes:
        events: in the order of the input.
        of_streams: what it knows of their streams, by name.
        names: those of the streams, in order of their bytes, which is that of code points.
        keys: what tells the places of its events.
        was_refused: whether to look for each of its ids: mostly the first tells enough.
    """

    def __init__(self) -> None:
        self.events: list[ChunkEvent] = []
        self.of_streams: dict[str, ImportStream] = {}
        self.was_refused = False
        self.names: list[str] = []
        self.keys: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self.events)

    def after(self, known: int) -> Chunk:
        """Give it without the events at its beginning."""
        rest = Chunk()
        rest.events = self.events[known:]
        for event in rest.events:
            given = self.of_streams[event.stream]
            found = rest.of_streams.setdefault(
                event.stream, ImportStream(given.given, given.channel, life=given.life)
            )
            found.follow(event.stream, event.version)
            found.is_erased |= event.is_erased
        return rest.closed()

    def closed(self) -> Chunk:
        """Give it with its names and keys, when all its events are there."""
        names = self.names = sorted(self.of_streams)
        of_streams = [self.of_streams[name] for name in names]
        self.keys = {
            "names": column("text", names),
            "channels": column("text", [stream.channel for stream in of_streams]),
            "counts": column("bigint", [stream.count for stream in of_streams]),
            "versions": column("bigint", [stream.before for stream in of_streams]),
            **self._tags(),
            "life_cycles": self._lives(of_streams),
            "latest": max(
                (event.recorded_at for event in self.events if event.recorded_at), default=None
            ),
        }
        return self

    def ids(self) -> dict[str, object]:
        """Give the ids that are looked for."""
        sought = self.events if self.was_refused else self.events[:1]
        return {"ids": column("uuid", [event.id for event in sought])}

    def archived(self, stream_ids: Sequence[int]) -> list[int]:
        """Give those of the streams whose events are to be moved out of the way."""
        lives = (self.of_streams[name].life for name in self.names)
        return [
            stream_id
            for stream_id, life in zip(stream_ids, lives, strict=True)
            if life is not None and life.archived_at is not None and life.closed_at is not None
        ]

    def _lives(self, of_streams: Sequence[ImportStream]) -> str | None:
        """Give what is to be noted of the streams; mostly nothing."""
        lives = [
            {"ordinal": place, "is_erased": stream.is_erased, **to_builtins(stream.life or Life())}
            for place, stream in enumerate(of_streams, start=1)
            if stream.is_erased or stream.life is not None
        ]
        return _encode(lives).decode() if lives else None

    def _tags(self) -> dict[str, object]:
        pairs = [
            (tag, place)
            for place, event in enumerate(self.events, start=1)
            if event.tags
            for tag in event.tags
        ]
        return {
            "tags": column("text", [tag for tag, _ in pairs]),
            "tag_events": column("integer", [place for _, place in pairs]),
        }

    def contents(self) -> dict[str, object]:
        """Give all that the events say."""
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
        taken_at: datetime,
        stream_ids: Sequence[int],
        last_versions: Sequence[int],
        positions: Sequence[int],
    ) -> Iterator[bytes]:
        """Give the events as a binary COPY takes them, at the places that are secured for them."""
        ids = dict(zip(self.names, stream_ids, strict=True))
        versions = dict(zip(self.names, last_versions, strict=True))
        types: dict[str, bytes] = {}
        taken = microseconds(taken_at)
        places = iter(positions)
        yield COPY_HEAD
        for start in range(0, len(self.events), STEP):
            parts: list[bytes] = []
            for event, position in zip(self.events[start : start + STEP], places, strict=False):
                stream, data = event.stream, event.data
                version = versions[stream] = versions[stream] + 1
                recorded = taken if event.recorded_at is None else microseconds(event.recorded_at)
                event_type = types.get(event.type)
                if event_type is None:
                    event_type = types[event.type] = sized(event.type.encode())
                parts += (
                    _row(11, 8, position, 8, ids[stream], 8, version, 8, recorded, 16, event.id),
                    event_type,
                    _json(len(data) + 1, 1),
                    data,
                    _rest(event, recorded),
                )
            yield b"".join(parts)
        yield COPY_END


def _rest(event: ChunkEvent, recorded: int) -> bytes:
    """The fields of a row that most events do not have."""
    metadata, tags, valid_at = event.metadata, event.tags, event.valid_at
    if metadata is None and tags is None and valid_at is None and not event.is_erased:
        return _NOTHING
    valid = None if valid_at is None else microseconds(valid_at)
    return b"".join(
        (
            NULL if metadata is None else _json(len(metadata) + 1, 1) + metadata,
            NULL if tags is None else sized(array("text", tags)),
            NULL if valid is None or valid == recorded else _moment(8, valid),
            _BEFORE if event.is_erased else NULL,
        )
    )


_NOTHING = NULL * 4
_BEFORE = Struct(">iq").pack(8, 0)  # erased before it came here, by no change of this store
_row = Struct(">hiqiqiqiqi16s").pack
_json = Struct(">ib").pack  # its length, and the version of the format
_moment = Struct(">iq").pack
_encode = msgspec.json.Encoder().encode
