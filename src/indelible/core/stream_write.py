"""What an append is made of, as the functions in the database take it."""

from __future__ import annotations

from typing import Any

import msgspec


class EventPayload(msgspec.Struct, omit_defaults=True, gc=False):
    """An event that is to be appended.

    Attributes:
        id: its id, as 32 hexadecimal digits.
        type: its type.
        data: JSON, or an instance of a registered class that is still to be written as such.
        metadata: JSON.
        tags: in order, each once.
        valid_at: the moment, with its offset.
    """

    id: str
    type: str
    data: Any
    metadata: msgspec.Raw | None = None
    tags: list[str] | None = None
    valid_at: str | None = None


class StreamWrite(msgspec.Struct, gc=False):
    """What is to be appended to one stream.

    Attributes:
        stream: its name.
        channel: its channel; None for that of its name.
        expected: the expected version.
        events: in order; none where only the version is checked.
    """

    stream: str
    channel: str | None
    expected: int
    events: list[EventPayload]
