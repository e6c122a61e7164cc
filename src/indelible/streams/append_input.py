"""Check and encode the events of an append before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.stream_write import EventPayload, StreamWrite
from indelible.core.timestamps import validate_timestamp
from indelible.core.uuid7 import uuid7_hexes
from indelible.core.validation import is_integer, validate_name, validate_new_name
from indelible.errors import EventTooLarge, InvalidInput
from indelible.events import ExpectedVersion, NewEvent
from indelible.serialization.codec import Codec


@dataclass(frozen=True, slots=True)
class AppendSettings:
    """The settings that all appends of a store share.

    Attributes:
        codec: writes the events.
        channel: the channel of the streams; None for the one in a stream's name.
        max_event_bytes: the largest data and metadata of an event, in bytes.
        metadata: returns metadata that every event gets, called once per append and stream; None
            for no such metadata.
        takes_reserved_names: whether names of streams and event types may begin with `$`.
    """

    codec: Codec
    channel: str | None
    max_event_bytes: int
    metadata: Callable[[], Mapping[str, Any] | None] | None = None
    takes_reserved_names: bool = False

    def check_name(self, what: str, name: object) -> str:
        """Check the name of a stream or an event type of an append.

        Raises:
            InvalidInput: the name is not valid, or is reserved for the store.
        """
        check = validate_name if self.takes_reserved_names else validate_new_name
        return check(what, name)


def check_append(
    settings: AppendSettings,
    stream: str,
    events: Any,
    expected: object,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> StreamWrite:
    """Check an append to one stream, and turn it into the form that the database takes.

    Raises:
        InvalidInput: an argument is invalid.
    """
    stream = settings.check_name("stream", stream)
    if settings.metadata is not None:
        metadata = merge_metadata(settings.metadata(), metadata)
    if not isinstance(events, list | tuple):
        events = [events]
    if events or channel is not None:  # a version check may name another service's stream
        channel = check_channel(settings, stream, channel)
    write = StreamWrite(stream, channel, check_expected(expected), [])
    ids = uuid7_hexes()
    try:
        for event in events:
            write.events.append(_event(settings, event, metadata, ids))
    except InvalidInput as error:
        locate(error, f"event {len(write.events) + 1}", len(events))
        raise
    return write


def merge_metadata(*parts: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Merge metadata, later parts over earlier ones; None if there is none.

    Raises:
        InvalidInput: a part is not a mapping.
    """
    given = [part for part in parts if part is not None]
    for part in given:
        if not isinstance(part, Mapping):
            raise InvalidInput(f"metadata must be a mapping such as a dict, not {part!r}")
    if len(given) < 2:
        return given[0] if given else None
    return {key: value for part in given for key, value in part.items()}


def check_channel(settings: AppendSettings, stream: str, channel: str | None) -> str | None:
    """Return the channel for an append to a stream; None for the channel in the stream's name.

    Raises:
        InvalidInput: it is not a valid name, or the stream's name has no channel.
    """
    channel = settings.channel if channel is None else channel
    if channel is not None:
        return validate_name("channel", channel)
    if stream.startswith("-"):
        raise InvalidInput(
            f"stream {stream!r} has no channel: there is nothing before its first '-'; pass"
            " channel=…"
        )
    return None


def to_expected_version(expected: int) -> int | ExpectedVersion:
    """Return an expected version as callers write it, from the number that the database takes."""
    return expected if expected >= 0 else ExpectedVersion(expected)


def check_expected(expected: object) -> int:
    """Check an expected version, and return it as the number that the database takes.

    Raises:
        InvalidInput: it is not an expected version.
    """
    if isinstance(expected, ExpectedVersion):
        return expected.value
    if is_integer(expected, -1):
        return expected
    raise InvalidInput(
        "expected must be a version (a whole number, -1 or more), NO_STREAM, STREAM_EXISTS or ANY,"
        f" not {expected!r}"
    )


def _event(
    settings: AppendSettings,
    value: object,
    common_metadata: Mapping[str, Any] | None,
    ids: Iterator[str],
) -> EventPayload:
    codec = settings.codec
    if isinstance(value, NewEvent):
        event_type = settings.check_name("event type", value.type)
        data, metadata = encode_event(
            settings, event_type, value.data, value.metadata, common_metadata
        )
        event = EventPayload(check_id(event_type, value.id).hex, event_type, msgspec.Raw(data))
        tags = [*codec.tags_of(event_type, value.data, data), *check_tag_list(value.tags)]
        if value.valid_at is not None:
            event.valid_at = validate_timestamp("valid_at", value.valid_at).isoformat()
    else:
        known_class = codec.known.get(type(value)) or codec.known_as(value)
        event = EventPayload(
            next(ids), known_class.type, value
        )  # encoded together with the other events
        tags = known_class.tags_of(value) if known_class.tags else []
        metadata = None
        if common_metadata is not None or not known_class.exactness.is_exact(value):
            data, metadata = encode_event(settings, known_class.type, value, None, common_metadata)
            event.data = msgspec.Raw(data)
    if metadata:
        event.metadata = msgspec.Raw(metadata)
    if tags:
        event.tags = check_tags(tags)
    return event


def locate(error: InvalidInput, location: str, count: int) -> None:
    """Add the location in a list to an error, unless the list has one element only."""
    if count > 1:
        error.add_location(location)


def encode_event(
    settings: AppendSettings,
    event_type: str,
    data: object,
    metadata: object,
    common_metadata: Mapping[str, Any] | None = None,
) -> tuple[bytes, bytes | None]:
    """Encode an event's data and metadata as JSON.

    Raises:
        InvalidInput: one of them cannot be stored, or both are too large.
    """
    codec = settings.codec
    registered = codec.registered_type(data)
    if registered is not None and codec.classes.get(event_type) is not type(data):
        raise InvalidInput(
            f"{type(data).__qualname__} is registered as {registered!r}, so it cannot be appended"
            f" as {event_type!r}"
        )
    data_json = codec.encode(event_type, data)
    all_metadata = _metadata(event_type, metadata, common_metadata)
    metadata_json = (
        codec.encode(event_type, all_metadata, field="metadata") if all_metadata else None
    )
    check_size(settings, event_type, len(data_json) + len(metadata_json or b""))
    return data_json, metadata_json


def check_size(settings: AppendSettings, event_type: str, size: int) -> None:
    """Check that an event is not too large.

    Raises:
        EventTooLarge: it is too large.
    """
    if size > settings.max_event_bytes:
        raise EventTooLarge(event_type, size, settings.max_event_bytes)


def check_id(event_type: str, event_id: object) -> UUID:
    """Check that the id of an event is a UUID.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(event_id, UUID):
        raise InvalidInput(f"the id of event {event_type!r} must be a UUID, not {event_id!r}")
    return event_id


def _metadata(
    event_type: str, event_metadata: object, common_metadata: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    for metadata in (event_metadata, common_metadata):
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidInput(
                f"the metadata of event {event_type!r} must be a mapping, not {metadata!r}"
            )
    return {**(common_metadata or {}), **(event_metadata or {})}  # type: ignore[dict-item]


def check_tag_list(tags: object) -> Iterable[str]:
    """Check that the tags of an event are a sequence.

    Raises:
        InvalidInput: they are not.
    """
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidInput(f"tags must be a sequence of strings key:value, not {tags!r}")
    return tags


def check_tags(tags: object) -> list[str]:
    """Check the tags of an event.

    Returns:
        The tags, sorted and without duplicates.

    Raises:
        InvalidInput: they are not a sequence of tags.
    """
    return sorted({validate_name("tag", tag) for tag in check_tag_list(tags)})


def check_ids(writes: Iterable[StreamWrite]) -> None:
    """Check that no event id is given twice.

    Raises:
        InvalidInput: an id is given twice.
    """
    ids = [event.id for write in writes for event in write.events]
    if len(set(ids)) < len(ids):
        duplicate = next(event_id for event_id in ids if ids.count(event_id) > 1)
        raise InvalidInput(
            f"event id {UUID(duplicate)} is used twice in one call: give each event its own id"
        )
