"""The parts of an append, in the format of the database functions."""

from __future__ import annotations

from typing import Any

import msgspec


class EventPayload(msgspec.Struct, omit_defaults=True, gc=False):
    """An event to append.

    Attributes:
        id: its id, as 32 hexadecimal digits.
        type: its type.
        data: its data as JSON, or an instance of a registered class that is not encoded yet.
        metadata: its metadata as JSON.
        tags: its tags, sorted and without duplicates.
        valid_at: its valid time, with the UTC offset.
    """

    id: str
    type: str
    data: Any
    metadata: msgspec.Raw | None = None
    tags: list[str] | None = None
    valid_at: str | None = None


class StreamWrite(msgspec.Struct, gc=False):
    """The events to append to one stream.

    Attributes:
        stream: the name of the stream.
        channel: the channel of the stream; None for the channel in its name.
        expected: the expected version.
        events: the events in order; empty to check only the version.
    """

    stream: str
    channel: str | None
    expected: int
    events: list[EventPayload]
