"""CloudEvents 1.0 in the JSON format: events of other systems in, stored events out.

An event has no place for most attributes of a CloudEvent. Its metadata keeps them, below the key
`cloudevents`, so that readers get the event back as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from indelible.events import RecordedEvent

from . import wire
from .problems import Problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_KEY = "cloudevents"
_NAME = re.compile(r"[a-z0-9]+")
_JSON_DATA = re.compile(r"[^;]*[/+]json\s*(;.*)?", re.IGNORECASE)
_encode = msgspec.json.encode

Text = Annotated[str, msgspec.Meta(min_length=1)]
Source = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[^\s<>\"{}|\\^`]+$", description="What the event comes from: a URI reference."
    ),
]


class CloudEvent(msgspec.Struct, kw_only=True):
    """A CloudEvent. Members with other names are extension attributes.

    Attributes:
        specversion: the version of the specification.
        id: identifies the event together with `source`.
        source: what the event comes from.
        type: the event type.
        time: when the fact holds, with a time zone: the valid time.
        subject: what of the source the event is about.
        datacontenttype: the media type of the data; by default JSON.
        dataschema: the schema of the data, as a URI.
        tags: tags `key:value` with commas in between (an extension attribute). A comma within a tag
            is written as `%2C`, and `%` as `%25`.
        data: the data: any JSON value, or text if `datacontenttype` is not JSON.
        data_base64: binary data, instead of `data`.
    """

    specversion: Literal["1.0"]
    id: Text
    source: Source
    type: wire.TypeName
    time: wire.Moment | None = None
    subject: Text | None = None
    datacontenttype: Text | None = None
    dataschema: Text | None = None
    tags: str | None = None
    data: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    data_base64: bytes | None = None


_MEMBERS = frozenset(CloudEvent.__struct_fields__)
_Extension = bool | Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | str | None
_decode_extension = msgspec.json.Decoder(_Extension).decode
_decode_members = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


class _Metadata(msgspec.Struct):
    cloudevents: dict[str, bool | int | str] = {}


_decode_metadata = msgspec.json.Decoder(_Metadata).decode


def append_form(given: CloudEvent | list[CloudEvent], body: bytes) -> wire.AppendForm:
    """Return the request to append CloudEvents.

    Args:
        given: the CloudEvents.
        body: the same as JSON, which also has the extension attributes.

    Raises:
        Problem: an attribute is not valid.
    """
    if isinstance(given, CloudEvent):
        given, body = [given], b"[%b]" % body
    pairs = zip(given, _decode_members(body), strict=True)
    return wire.AppendForm(events=[_event(*pair) for pair in pairs])


def cloud_event(event: RecordedEvent) -> dict[str, Any]:
    """Return a stored event as a CloudEvent.

    An event that came as a CloudEvent keeps its attributes. The extension attributes `stream`,
    `version`, `position`, `channel`, `recordedtime` and `tags` are those of the store.
    """
    kept = _kept(event.metadata)
    is_binary = kept.pop("data_base64", False)
    found = {
        **(kept or {"source": f"/streams/{quote(event.stream, safe='')}", "subject": event.stream}),
        "specversion": "1.0",
        "id": kept.get("id", str(event.id)),
        "type": event.type,
        "time": event.valid_at,
        "datacontenttype": kept.get("datacontenttype", "application/json"),
        "stream": event.stream,
        "version": str(event.version),
        "position": str(event.position),
        "channel": event.channel,
        "recordedtime": event.recorded_at,
    }
    if event.tags:
        found["tags"] = ",".join(map(_escaped, event.tags))
    if event.is_erased:
        found["erased"] = True
    else:
        found["data_base64" if is_binary else "data"] = event.data
    return found


def batch(events: Iterable[RecordedEvent]) -> bytes:
    """Return events in the JSON batch format."""
    return _encode(list(map(cloud_event, events)))


def _event(given: CloudEvent, members: dict[str, msgspec.Raw]) -> wire.EventToAppend:
    event_id = _id(given)
    kept: dict[str, bool | int | str] = {"source": given.source}
    if str(event_id) != given.id:
        kept["id"] = given.id
    for name in ("subject", "datacontenttype", "dataschema"):
        if (value := getattr(given, name)) is not None:
            kept[name] = value
    for name in members.keys() - _MEMBERS:
        if (extension := _extension(name, members[name])) is not None:
            kept[name] = extension
    data = given.data
    if given.data_base64 is not None:
        if bytes(data) != b"null":
            raise _invalid("data", "a CloudEvent has either data or data_base64, not both")
        data, kept["data_base64"] = msgspec.Raw(_encode(given.data_base64)), True
    elif not _is_writable(given.datacontenttype, bytes(data)):
        raise _invalid(
            "data",
            f"data must be text if datacontenttype is {given.datacontenttype!r}: send text, or"
            " binary data as data_base64",
        )
    return wire.EventToAppend(
        type=given.type,
        data=data,
        id=event_id,
        metadata={_KEY: msgspec.Raw(_encode(kept))},
        tags=[unquote(tag) for tag in given.tags.split(",")] if given.tags else [],
        valid_at=given.time,
    )


def _id(given: CloudEvent) -> UUID:
    """Return the id of an event: that of the CloudEvent if it is a UUID, else one made from it."""
    try:
        found = UUID(given.id)
    except ValueError:
        found = None
    if found is not None and str(found) == given.id.lower():  # UUID() also reads other notations
        return found
    return uuid5(uuid5(NAMESPACE_URL, given.source), given.id)


def _extension(name: str, value: msgspec.Raw) -> bool | int | str | None:
    if not _NAME.fullmatch(name):
        raise _invalid(
            name,
            f"{name!r} cannot be the name of an attribute of a CloudEvent: use lower-case letters"
            " and digits only",
        )
    try:
        return _decode_extension(value)
    except msgspec.ValidationError as error:
        raise _invalid(
            name,
            f"the extension attribute {name!r} must be text, true, false or an integer of 32 bits",
        ) from error


def _is_writable(content_type: str | None, data: bytes) -> bool:
    """Return whether data of a media type can stand in `data`: other data than JSON is text."""
    return (
        content_type is None
        or _JSON_DATA.fullmatch(content_type) is not None
        or data.startswith(b'"')
        or data == b"null"
    )


def _kept(metadata: Any) -> dict[str, bool | int | str]:
    """Return the attributes that the metadata keeps, if they are those of a CloudEvent."""
    if not isinstance(metadata, msgspec.Raw):  # there is none
        return {}
    try:
        kept = _decode_metadata(metadata).cloudevents
    except msgspec.ValidationError:
        return {}
    if not isinstance(kept.get("source"), str):
        return {}
    return {
        name: value
        for name, value in kept.items()
        if name == "data_base64" or (_NAME.fullmatch(name) and name != "data")
    }


def _escaped(tag: str) -> str:
    return tag.replace("%", "%25").replace(",", "%2C")


def _invalid(field: str, detail: str) -> Problem:
    return Problem(422, "invalid-input", detail, field=field)
