"""Plans: append with an expected version, to one stream or to several.

The rules that must hold under concurrency live in the database (`sql/migrations`); here is what
can be said without it: what the arguments mean, and what an outcome means for the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from .codec import Codec
from .errors import (
    ChannelMismatch,
    ConnectionLost,
    Duplicate,
    DuplicateEvent,
    EventTooLarge,
    IndelibleError,
    InvalidInput,
    StreamClosed,
    VersionConflict,
    WrongExpectedVersion,
)
from .events import AppendResult, ExpectedVersion, NewEvent, StreamAppend
from .moments import check_moment
from .names import check_name
from .plan import Call, Plan, Rows

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Writing:
    """What every append of a store has in common: its codec and its settings."""

    codec: Codec
    channel: str | None
    max_event_bytes: int


def append(
    writing: Writing,
    stream: str,
    events: Any,
    *,
    expected: int | ExpectedVersion,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> Plan[AppendResult]:
    """Append to one stream; see `EventStore.append`."""
    part = _check(writing, StreamAppend(stream, events, expected, channel), metadata)
    if not part["events"]:
        raise InvalidInput(
            f"there is nothing to append to stream {stream!r}: pass at least one event; a pure"
            " check of a version is append_many with a StreamAppend without events"
        )
    _check_ids([part])
    rows = yield from _write(
        "append",
        {
            "stream": part["stream"],
            "channel": part["channel"],
            "expected": part["expected"],
            "events": _encode(part["events"]).decode(),
        },
        [part],
    )
    (outcome,) = (_Outcome(0, *row) for row in rows)
    if outcome.is_refusal:
        raise _refusal([part], [outcome])
    return outcome.result(part)


def append_many(writing: Writing, appends: Iterable[StreamAppend]) -> Plan[list[AppendResult]]:
    """Append to several streams, all or none; see `EventStore.append_many`."""
    parts = []
    for append_ in appends:
        if not isinstance(append_, StreamAppend):
            raise InvalidInput(f"append_many takes StreamAppend values, not {append_!r}")
        parts.append(_check(writing, append_, None))
    if not parts:
        return []
    _check_ids(parts)
    rows = yield from _write("append_many", {"appends": _encode(parts).decode()}, parts)
    outcomes = [_Outcome(place - 1, *row) for place, *row in rows]
    refused = [outcome for outcome in outcomes if outcome.is_refusal]
    if refused:
        raise _refusal(parts, refused)
    return [outcome.result(parts[outcome.place]) for outcome in outcomes]


def _write(
    statement: str, parameters: Mapping[str, object], parts: Sequence[Mapping[str, Any]]
) -> Plan[Rows]:
    try:
        return (yield Call(statement, parameters, appends=True))
    except ConnectionLost as lost:
        ids = [UUID(event["id"]) for part in parts for event in part["events"]]
        raise ConnectionLost(str(lost), ids) from lost


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A row of the functions `append` and `append_many`."""

    place: int
    outcome: str
    last_version: int | None
    last_position: int | None
    recorded_at: datetime
    facts: bytes | None

    @property
    def is_refusal(self) -> bool:
        return self.outcome not in ("appended", "checked", "idempotent")

    def result(self, part: Mapping[str, Any]) -> AppendResult:
        return AppendResult(
            stream=part["stream"],
            version=-1 if self.last_version is None else self.last_version,
            position=self.last_position or 0,
            recorded_at=self.recorded_at,
            idempotent=self.outcome == "idempotent",
        )


class LastEvent(msgspec.Struct):
    """What a wrong expected version is reported with."""

    id: UUID | None = None
    recorded_at: datetime | None = None


def _refusal(parts: Sequence[Mapping[str, Any]], refused: Sequence[_Outcome]) -> IndelibleError:
    """The error that says why an append was refused: what no retry can mend comes first."""
    for outcome in refused:
        part = parts[outcome.place]
        facts = outcome.facts or b"{}"
        if outcome.outcome == "channel_mismatch":
            actual = msgspec.json.decode(facts, type=dict[str, str])["channel"]
            return ChannelMismatch(part["stream"], part["channel"], actual)
    for outcome in refused:
        if outcome.outcome == "duplicate":
            return DuplicateEvent(msgspec.json.decode(outcome.facts or b"[]", type=list[Duplicate]))
    for outcome in refused:
        if outcome.outcome == "closed":
            closed_at = msgspec.json.decode(outcome.facts or b"{}", type=dict[str, datetime])
            version = -1 if outcome.last_version is None else outcome.last_version
            return StreamClosed(parts[outcome.place]["stream"], version, closed_at["closed_at"])
    conflicts = []
    for outcome in refused:
        part = parts[outcome.place]
        last = msgspec.json.decode(outcome.facts or b"{}", type=LastEvent)
        conflicts.append(
            VersionConflict(
                stream=part["stream"],
                expected=expected_name(part["expected"]),
                actual=-1 if outcome.last_version is None else outcome.last_version,
                last_event_id=last.id,
                last_recorded_at=last.recorded_at,
            )
        )
    return WrongExpectedVersion(conflicts)


def _check(
    writing: Writing, append_: StreamAppend, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Turn a stream's part into what the database takes, or say what is wrong with it."""
    stream = check_name("stream", append_.stream)
    events = append_.events
    if isinstance(events, NewEvent) or not isinstance(events, list | tuple):
        events = [events]
    channel = append_.channel
    if channel is None and events:  # a pure check may look at another service's stream
        channel = writing.channel
    if channel is not None:
        check_name("channel", channel)
    elif stream.startswith("-") and events:
        raise InvalidInput(
            f"stream {stream!r} has nothing before its first '-' that could be its channel:"
            " pass channel=…"
        )
    return {
        "stream": stream,
        "channel": channel,
        "expected": check_expected(append_.expected),
        "events": [_event(writing, event, metadata) for event in events],
    }


def expected_name(expected: int) -> int | str:
    """An expected version as errors tell it."""
    return expected if expected >= 0 else ExpectedVersion(expected).name


def check_expected(expected: object) -> int:
    """Check an expected version, and give it as the functions in the database take it.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(expected, ExpectedVersion):
        return expected.value
    if isinstance(expected, int) and not isinstance(expected, bool) and -1 <= expected < 2**63:
        return expected
    raise InvalidInput(
        "expected must be a version (a whole number from -1 on), NO_STREAM, STREAM_EXISTS or ANY,"
        f" not {expected!r}"
    )


def _event(writing: Writing, given: object, common: Mapping[str, Any] | None) -> dict[str, Any]:
    codec = writing.codec
    event = given if isinstance(given, NewEvent) else NewEvent(codec.type_of(given), given)
    event_type = check_name("event type", event.type)
    registered = codec.registered_type(event.data)
    if registered is not None and codec.classes.get(event_type) is not type(event.data):
        raise InvalidInput(
            f"a {type(event.data).__qualname__} is registered as {registered!r} and cannot be"
            f" appended as {event_type!r}"
        )
    data = codec.encode(event_type, event.data)
    size = len(data)
    stored: dict[str, Any] = {
        "id": str(_id(event_type, event.id)),
        "type": event_type,
        "data": msgspec.Raw(data),
    }
    metadata = _metadata(event_type, event.metadata, common)
    if metadata:
        written = codec.encode(event_type, metadata, field="metadata")
        size += len(written)
        stored["metadata"] = msgspec.Raw(written)
    if size > writing.max_event_bytes:
        raise EventTooLarge(event_type, size, writing.max_event_bytes)
    if event.tags:
        stored["tags"] = _tags(event.tags)
    if event.valid_at is not None:
        stored["valid_at"] = check_moment("valid_at", event.valid_at).isoformat()
    return stored


def _id(event_type: str, given: object) -> UUID:
    if not isinstance(given, UUID):
        raise InvalidInput(f"the id of event {event_type!r} must be a UUID, not {given!r}")
    return given


def _metadata(event_type: str, own: object, common: Mapping[str, Any] | None) -> Mapping[str, Any]:
    for given in (own, common):
        if given is not None and not isinstance(given, Mapping):
            raise InvalidInput(
                f"the metadata of event {event_type!r} must be a mapping, not {given!r}"
            )
    return {**(common or {}), **(own or {})}  # type: ignore[dict-item]


def _tags(given: object) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput(f"tags must be a sequence of texts key:value, not {given!r}")
    return sorted({check_name("tag", tag) for tag in given})


def _check_ids(parts: Iterable[Mapping[str, Any]]) -> None:
    seen = set()
    for part in parts:
        for event in part["events"]:
            if event["id"] in seen:
                raise InvalidInput(
                    f"event id {event['id']} stands twice in one call: give each event its own"
                )
            seen.add(event["id"])
