"""Turn rows into recorded events, upcasting included."""

from __future__ import annotations

from typing import Any

from indelible.core.gc import gc_paused
from indelible.core.operation import Rows
from indelible.errors import UnknownEventType, UpcastingFailed
from indelible.events import ERASED, RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec, succeeds
from indelible.serialization.json_encoding import cause_of
from indelible.serialization.upcasting import UpcasterFailure


def decode_rows(
    codec: Codec,
    rows: Rows,
    stream: str | None = None,
    *,
    query: Query | None = None,
    backwards: bool = False,
) -> tuple[list[RecordedEvent], int]:
    """Turn rows into events, and count the bytes of their data.

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
    if steps and not steps.keys().isdisjoint(row[4] for row in rows):
        rows = _upcast(codec, rows, stream, query, backwards=backwards)
    decoders, decode_metadata = codec.decoders, codec.decode_metadata
    events: list[RecordedEvent] = []
    size = 0
    position, name, version, event_type = 0, "", 0, ""
    with gc_paused():
        try:
            for (
                position, name, version, event_id, event_type, data, metadata, tags, channel,
                recorded_at, valid_at,
            ) in rows:  # fmt: skip
                size += len(data or b"")
                events.append(
                    RecordedEvent(
                        position,
                        stream or name,
                        version,
                        event_id,
                        event_type,
                        ERASED if data is None else decoders[event_type](data),
                        {} if metadata is None else decode_metadata(metadata),
                        () if tags is None else tuple(tags),
                        channel,
                        recorded_at,
                        valid_at,
                    )
                )
        except UnknownEventType as error:
            raise error.add_location(event_location(position, stream or name, version)) from None
        except Exception as error:
            if succeeds(lambda: data is None or decoders[event_type](data)):
                raise
            failure = codec.failure(event_type, error)
            raise failure.add_location(
                event_location(position, stream or name, version)
            ) from cause_of(error)
    return events, size


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
            upcast_events = codec.upcast(row[4], row[5])
        except UpcasterFailure as failure:
            raise UpcastingFailed(
                stream or row[1], row[2], row[4], str(failure.upcaster), failure.reason
            ) from failure.__cause__
        replacements = [
            (*row[:4], event_type, data, *row[6:]) for event_type, data in upcast_events
        ]
        if query is not None:
            replacements = [
                replacement
                for replacement in replacements
                if query.matches(_undecoded(replacement))
            ]
        upcast_rows += reversed(replacements) if backwards else replacements
    return upcast_rows


def _undecoded(row: tuple[Any, ...]) -> RecordedEvent:
    position, stream, version, event_id, event_type, _, _, tags, channel, *times = row
    return RecordedEvent(
        position,
        stream,
        version,
        event_id,
        event_type,
        None,
        {},
        tuple(tags or ()),
        channel,
        *times,
    )
