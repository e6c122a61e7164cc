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
    """Make events of rows, and count the bytes of their data.

    Args:
        codec: the classes and the upcasters. By these a row may become several events, or none:
            who counts, or goes on from where it is, goes by the rows.
        rows: the stored events.
        stream: their stream, where the rows do not name it.
        query: what was asked for, in the names of today: of that which a row became, only this.
        backwards: whether what became several comes in reverse.

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
    """Say where an event stands: errors that say what is wrong with it begin so."""
    return f"event {version} of stream {stream!r}, at position {position}"


def _upcast(
    codec: Codec, rows: Rows, stream: str | None, query: Query | None, *, backwards: bool
) -> Rows:
    """Put what upcasters make of them in the place of the rows whose types have any."""
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
