"""Turn rows into recorded events, upcasting included."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.gc import without_gc
from indelible.core.operation import Rows
from indelible.errors import UnknownEventType, UpcastingFailed
from indelible.events import ERASED, RecordedEvent
from indelible.postgres.adapters import moment_of
from indelible.postgres.binary import EPOCH, microseconds
from indelible.query import Query
from indelible.serialization.codec import Codec, succeeds
from indelible.serialization.json_encoding import cause_of
from indelible.serialization.upcasting import UpcasterFailure

_JSONB = b"\x01"
"""The version of the binary format of JSONB, with which each stored value begins."""


def decode_rows(
    codec: Codec,
    rows: Rows,
    stream: str | None = None,
    *,
    query: Query | None = None,
    backwards: bool = False,
) -> list[RecordedEvent]:
    """Turn the rows of an `EventStatement` into events.

    Args:
        codec: the event classes and the upcasters. Upcasters may turn a row into several events, or
            into none. So count rows, and continue after rows, not after events.
        rows: the stored events.
        stream: their stream, if the rows do not name it.
        query: the query with the current names of types. Of the events that a row became, only
            matching ones are returned.
        backwards: whether to reverse the events that one row became.

    Raises:
        UnknownEventType, DecodingFailed, UpcastingFailed: a row does not fit the registered
            classes.
    """
    steps = codec.upcasting.steps
    if steps and not steps.keys().isdisjoint([row[4] for row in rows]):
        rows = _upcast(codec, rows, stream, query, backwards=backwards)
    return without_gc(partial(_decode, codec, rows, stream))


def _decode(codec: Codec, rows: Rows, stream: str | None) -> list[RecordedEvent]:
    decoders, decode_metadata = codec.decoders, codec.decode_metadata
    events: list[RecordedEvent] = []
    position, name, version, event_type = 0, "", 0, ""
    recorded: bytes | None = None
    recorded_at = EPOCH
    # All ids at once, in C: uuid.UUID takes longer than the rest of the event.
    ids: list[UUID] = msgspec.convert([row[3] for row in rows], list[UUID])
    try:
        for (
            position, name, version, _, event_type, data, metadata, tags, channel,
            recorded_bytes, valid_bytes,
        ), event_id in zip(rows, ids, strict=True):  # fmt: skip
            if recorded_bytes != recorded:  # the events of an append have the same
                recorded, recorded_at = recorded_bytes, moment_of(recorded_bytes)
            events.append(
                RecordedEvent(
                    position,
                    stream or name,
                    version,
                    event_id,
                    event_type,
                    ERASED if data is None else decoders[event_type](data[1:]),
                    {} if metadata is None else decode_metadata(metadata[1:]),
                    () if tags is None else tuple(tags),
                    channel,
                    recorded_at,
                    recorded_at if valid_bytes == recorded else moment_of(valid_bytes),
                )
            )
    except UnknownEventType as error:
        raise error.add_location(event_location(position, stream or name, version)) from None
    except Exception as error:
        if succeeds(lambda: data is None or decoders[event_type](data[1:])):
            raise
        failure = codec.failure(event_type, error)
        raise failure.add_location(event_location(position, stream or name, version)) from cause_of(
            error
        )
    return events


def json_of(stored: bytes) -> bytes:
    """Return the JSON of a stored value in the database's binary format."""
    return stored[1:]  # the first byte is the version of the format


def stored_form(event: RecordedEvent, data: bytes | None, metadata: bytes) -> tuple[Any, ...]:
    """Return the row of an event, in the form of an `EventStatement`, with other JSON."""
    row = msgspec.structs.replace(
        event,
        id=event.id.bytes,
        recorded_at=_bytes_of(event.recorded_at),
        valid_at=_bytes_of(event.valid_at),
        data=None if data is None else _JSONB + data,
        metadata=_JSONB + metadata,
    )
    return msgspec.structs.astuple(row)


def _bytes_of(moment: datetime) -> bytes:
    return microseconds(moment).to_bytes(8, "big", signed=True)


def recorded_at_of(row: tuple[Any, ...]) -> datetime:
    """Return the recorded time of a row."""
    return moment_of(row[9])


def valid_at_of(row: tuple[Any, ...]) -> datetime:
    """Return the valid time of a row."""
    return moment_of(row[10])


def event_location(position: int, stream: str, version: int) -> str:
    """Return the location of an event. Errors about an event begin with it."""
    return f"event {version} of stream {stream!r}, at position {position}"


def _upcast(
    codec: Codec, rows: Rows, stream: str | None, query: Query | None, *, backwards: bool
) -> Rows:
    """Replace the rows whose types have upcasters by the rows that the upcasters make of them."""
    upcast_rows: Rows = []
    for row in rows:
        if row[4] not in codec.upcasting.steps:
            upcast_rows.append(row)
            continue
        try:
            upcast_events = codec.upcast(row[4], None if row[5] is None else json_of(row[5]))
        except UpcasterFailure as failure:
            raise UpcastingFailed(
                stream or row[1], row[2], row[4], str(failure.upcaster), failure.reason
            ) from failure.__cause__
        replacements = [
            (*row[:4], event_type, None if data is None else _JSONB + data, *row[6:])
            for event_type, data in upcast_events
        ]
        if query is not None:
            replacements = [
                replacement for replacement in replacements if query.matches(undecoded(replacement))
            ]
        upcast_rows += reversed(replacements) if backwards else replacements
    return upcast_rows


def undecoded(row: tuple[Any, ...]) -> RecordedEvent:
    """Return the event of a row without its data, to compare it with a query."""
    position, stream, version, event_id, event_type, _, _, tags, channel, *_ = row
    return RecordedEvent(
        position,
        stream,
        version,
        UUID(bytes=event_id),
        event_type,
        None,
        {},
        tuple(tags or ()),
        channel,
        recorded_at_of(row),
        valid_at_of(row),
    )
