"""The content of events: from the bytes of a client to what the store holds, and back.

The store holds data and metadata as JSON. A client gets them as compact JSON: without white space,
with keys in the order of JSONB. Content that the store cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from indelible.errors import EncodingFailed
from indelible.events import NewEvent, RecordedEvent
from indelible.serialization.codec import Codec

from .failures import Failure, bad_argument, missing_metadata

JSON = "application/json"
BINARY = "application/octet-stream"
_check = Codec().check
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Content(NamedTuple):
    """The content of a stored event, as clients get it."""

    data: bytes
    metadata: bytes
    content_type: str


def new_event(
    event_id: UUID, properties: Mapping[str, str], data: bytes, metadata: bytes
) -> NewEvent:
    """Return the event to store.

    Args:
        event_id: the id that the client gave.
        properties: its type and its content type.
        data: its data.
        metadata: its metadata.

    Raises:
        Failure: the type is missing, or the store cannot hold the content.
    """
    event_type, content_type = properties.get("type"), properties.get("content-type")
    if not event_type or not content_type:
        raise missing_metadata()
    if content_type != JSON:
        raise _refused(event_type, f"its content type is {content_type}, not {JSON}")
    try:
        _check(event_type, data)
        fields = _fields(event_type, metadata) if metadata else {}
    except EncodingFailed as error:
        raise _refused(event_type, str(error)) from error
    return NewEvent(event_type, msgspec.Raw(data), metadata=fields, id=event_id)


def content_of(event: RecordedEvent) -> Content:
    """Return the content of a stored event. That of an erased one is empty."""
    if event.is_erased:
        return Content(b"", b"", JSON)
    stored: Any = event.metadata  # keep_as_stored() leaves it as JSON
    metadata = bytes(stored)
    return Content(bytes(event.data), b"" if metadata == b"{}" else metadata, JSON)


def _fields(event_type: str, metadata: bytes) -> dict[str, msgspec.Raw]:
    _check(event_type, metadata, field="metadata")
    try:
        return _decode_fields(metadata)
    except msgspec.ValidationError as error:
        raise _refused(event_type, "its metadata is not a JSON object") from error


def _refused(event_type: str, reason: str) -> Failure:
    return bad_argument(f"this server cannot keep event {event_type!r} yet: {reason}")
