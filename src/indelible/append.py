"""Plans: append with an expected version, to one stream or to several.

The rules that must hold under concurrency live in the database (`sql/migrations`); here is what
can be said without it: what the arguments mean, and what an outcome means for the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from .codec import Codec
from .errors import (
    AppendConditionFailed,
    ChannelMismatch,
    ConnectionLost,
    Duplicate,
    DuplicateEvent,
    EpochMismatch,
    EventTooLarge,
    IndelibleError,
    InvalidInput,
    StreamClosed,
    VersionConflict,
    WrongExpectedVersion,
)
from .events import AppendResult, ExpectedVersion, NewEvent, StreamAppend, uuid7_hexes
from .moments import check_moment
from .names import check_name, check_new_name
from .parts import Part, PartEvent
from .plan import Call, Plan, Rows
from .query import AppendCondition
from .read import at_positions, items

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Writing:
    """What every append of a store has in common: its codec and its settings."""

    codec: Codec
    channel: str | None
    max_event_bytes: int


_MOST_SHARED_TAGS = 8
"""Each is a lock until the batch is committed, and a batch may be of hundreds of appends."""

Conditions = AppendCondition | Sequence[AppendCondition] | None


def append(
    writing: Writing,
    stream: str | None,
    events: Any,
    *,
    expected: int | ExpectedVersion | None,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
    condition: Conditions = None,
) -> Plan[AppendResult]:
    """Append to one stream; see `EventStore.append`."""
    if stream is None:
        return (yield from _append_alone(writing, events, expected, condition, channel, metadata))
    if expected is None:
        if condition is None:
            raise InvalidInput(
                f"expected must be said of stream {stream!r}: the version that you read, NO_STREAM,"
                " STREAM_EXISTS or ANY; only a condition may stand in its place"
            )
        expected = ExpectedVersion.ANY
    part = _check(writing, stream, events, expected, channel, metadata)
    if not part.events:
        raise InvalidInput(
            f"there is nothing to append to stream {stream!r}: pass at least one event; a pure"
            " check of a version is append_many with a StreamAppend without events"
        )
    return (yield from _append_part(writing, part, condition))


def _append_part(
    writing: Writing, part: Part, condition: Conditions, *, is_alone: bool = False
) -> Plan[AppendResult]:
    """Append to one stream, together with others that do so now, where that is possible."""
    _check_ids([part])
    conditions = _conditions(writing.codec, condition)
    parameters: dict[str, object] = {
        "stream": part.stream,
        "channel": part.channel,
        "expected": part.expected,
        "events": _json(writing, part.events, [part]),
    }
    if conditions:
        parameters["conditions"] = _encode(conditions).decode()
    statement = "append_if" if conditions else "append"
    lane = _lane(part, conditions, is_alone=is_alone)
    rows = yield from _write(statement, parameters, [part], lane=lane)
    outcome = _Outcome(0, *rows[0])
    yield from _check_outcomes(writing, [part], [outcome])
    return outcome.result(part)


def _lane(part: Part, conditions: Sequence[Mapping[str, Any]], *, is_alone: bool) -> str | None:
    """The lane of an append: its stream, or the tag that an event alone decides by.

    None where it must not go with others: an item without tags waits for every appender, and the
    server's table of locks is finite.
    """
    decided = [item["tags"] for condition in conditions for item in condition["items"]]
    carried = sum(len(event.tags) for event in part.events if event.tags)
    if not all(decided) or len(decided) + carried > _MOST_SHARED_TAGS:
        return None
    if is_alone and decided:
        return f"\x00{decided[0][0]}"  # the name of no stream
    return part.stream


def _append_alone(
    writing: Writing,
    events: Any,
    expected: object,
    condition: Conditions,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> Plan[AppendResult]:
    """Append events that belong to no stream: each gets one of its own, named by its id."""
    if expected not in (None, ExpectedVersion.ANY):
        raise InvalidInput(
            f"events without a stream have no version to expect, and {expected!r} was given: leave"
            " expected out, or name the stream"
        )
    given = events if isinstance(events, list | tuple) else [events]
    if not given:
        raise InvalidInput("there is nothing to append: pass at least one event")
    parts: list[Part] = []
    for event in given:
        try:
            part = _check(writing, "event", event, ExpectedVersion.ANY, channel, metadata)
        except InvalidInput as error:
            raise _placed(error, f"event {len(parts) + 1}", len(given)) from error.__cause__
        part.stream = f"event-{UUID(part.events[0].id)}"
        parts.append(part)
    if len(parts) == 1:
        return (yield from _append_part(writing, parts[0], condition, is_alone=True))
    _check_ids(parts)
    results = yield from _append_parts(writing, parts, condition)
    return results[-1]


def append_many(
    writing: Writing, appends: Iterable[StreamAppend], *, condition: Conditions = None
) -> Plan[list[AppendResult]]:
    """Append to several streams, all or none; see `EventStore.append_many`."""
    parts: list[Part] = []
    for append_ in appends:
        if not isinstance(append_, StreamAppend):
            raise InvalidInput(f"append_many takes StreamAppend values, not {append_!r}")
        stream, channel = append_.stream, append_.channel
        try:
            part = _check(writing, stream, append_.events, append_.expected, channel, None)
        except InvalidInput as error:
            raise error.placed(f"part {len(parts) + 1}") from error.__cause__
        parts.append(part)
    if not parts:
        return []
    _check_ids(parts)
    return (yield from _append_parts(writing, parts, condition))


def _append_parts(
    writing: Writing, parts: Sequence[Part], condition: Conditions
) -> Plan[list[AppendResult]]:
    """Append the parts, all or none, under conditions if there are any."""
    conditions = _conditions(writing.codec, condition)
    parameters: dict[str, object] = {"appends": _json(writing, parts, parts)}
    if conditions:
        parameters["conditions"] = _encode(conditions).decode()
    statement = "append_many_if" if conditions else "append_many"
    rows = yield from _write(statement, parameters, parts)
    outcomes = [_Outcome(place - 1, *row) for place, *row in rows]
    yield from _check_outcomes(writing, parts, outcomes)
    return [outcome.result(parts[outcome.place]) for outcome in outcomes]


def _check_outcomes(
    writing: Writing, parts: Sequence[Part], outcomes: Sequence[_Outcome]
) -> Plan[None]:
    """Raise the error that tells of a refusal, if there is one."""
    refused = [outcome for outcome in outcomes if outcome.is_refusal]
    if not refused:
        return
    if refused[0].outcome == "epoch_mismatch":
        raise _mismatch(refused[0].facts or b"[]")
    if refused[0].outcome == "condition_failed":
        positions = msgspec.json.decode(refused[0].facts or b"[]", type=list[int])
        raise AppendConditionFailed((yield from at_positions(writing.codec, positions)))
    raise _refusal(parts, refused)


def _conditions(codec: Codec, condition: object) -> list[dict[str, Any]]:
    given = condition if isinstance(condition, list | tuple) else [condition]
    found = []
    for one in given:
        if one is None:
            continue
        if not isinstance(one, AppendCondition):
            raise InvalidInput(f"condition must be an AppendCondition or several, not {one!r}")
        marker = one.marker
        given_condition: dict[str, Any] = {
            "items": items(codec.upcasting.stored(codec.check_query(one.query))),
            "after": marker.head,
            "seen": sorted(marker.seen),
        }
        if marker.epoch is not None and marker.head > 0:  # before the first event nothing is lost
            given_condition |= {"epoch": marker.epoch, "at": marker.event_id}
        found.append(given_condition)
    return found


class _LostMarker(msgspec.Struct):
    """A marker of a log that was cut back."""

    position: int
    epoch: UUID
    today: UUID
    id: UUID | None = None
    safe_through: int | None = None


def _mismatch(facts: bytes) -> EpochMismatch:
    lost = msgspec.json.decode(facts, type=list[_LostMarker])
    ids = [marker.id for marker in lost if marker.id is not None]
    first = lost[0]
    return EpochMismatch(first.position, first.safe_through, ids, first.epoch, first.today)


def _write(
    statement: str,
    parameters: Mapping[str, object],
    parts: Sequence[Part],
    *,
    lane: str | None = None,
) -> Plan[Rows]:
    try:
        return (yield Call(statement, parameters, appends=True, lane=lane, parts=parts))
    except ConnectionLost as lost:
        ids = [UUID(event.id) for part in parts for event in part.events]
        raise ConnectionLost(str(lost), ids) from lost


def appended_ids(call: Call, rows: Rows) -> list[str]:
    """The ids of the events that an append has just stored.

    Args:
        call: the append.
        rows: what the database answered.

    Returns:
        None where nothing was written, for it was refused, or stored before.
    """
    if call.statement in ("append", "append_if"):
        outcomes = [(0, rows[0][0])]
    else:
        outcomes = [(place - 1, outcome) for place, outcome, *_ in rows]
    return [
        event.id
        for place, outcome in outcomes
        if outcome == "appended"
        for event in call.parts[place].events
    ]


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    """A row of the functions that append."""

    place: int
    outcome: str
    last_version: int | None
    last_position: int | None
    recorded_at: datetime
    facts: bytes | None

    @property
    def is_refusal(self) -> bool:
        return self.outcome not in ("appended", "checked", "idempotent")

    def result(self, part: Part) -> AppendResult:
        return AppendResult(
            stream=part.stream,
            version=-1 if self.last_version is None else self.last_version,
            position=self.last_position or 0,
            recorded_at=self.recorded_at,
            idempotent=self.outcome == "idempotent",
        )


class LastEvent(msgspec.Struct):
    """What a wrong expected version is reported with."""

    id: UUID | None = None
    recorded_at: datetime | None = None


def _refusal(parts: Sequence[Part], refused: Sequence[_Outcome]) -> IndelibleError:
    """The error that says why an append was refused: what no retry can mend comes first."""
    for outcome in refused:
        part = parts[outcome.place]
        facts = outcome.facts or b"{}"
        if outcome.outcome == "channel_mismatch":
            actual = msgspec.json.decode(facts, type=dict[str, str])["channel"]
            assert part.channel is not None  # noqa: S101 - none is that of every stream
            return ChannelMismatch(part.stream, part.channel, actual)
    for outcome in refused:
        if outcome.outcome == "duplicate" and outcome.facts is not None:
            return DuplicateEvent(msgspec.json.decode(outcome.facts, type=list[Duplicate]))
    for outcome in refused:
        if outcome.outcome == "closed":
            closed_at = msgspec.json.decode(outcome.facts or b"{}", type=dict[str, datetime])
            version = -1 if outcome.last_version is None else outcome.last_version
            return StreamClosed(parts[outcome.place].stream, version, closed_at["closed_at"])
    conflicts = []
    for outcome in refused:
        part = parts[outcome.place]
        last = msgspec.json.decode(outcome.facts or b"{}", type=LastEvent)
        conflicts.append(
            VersionConflict(
                stream=part.stream,
                expected=as_given(part.expected),
                actual=-1 if outcome.last_version is None else outcome.last_version,
                last_event_id=last.id,
                last_recorded_at=last.recorded_at,
            )
        )
    return WrongExpectedVersion(conflicts)


def _check(
    writing: Writing,
    stream: str,
    events: Any,
    expected: object,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> Part:
    """Turn a stream's part into what the database takes, or say what is wrong with it."""
    stream = check_new_name("stream", stream)
    if not isinstance(events, list | tuple):
        events = [events]
    if events or channel is not None:  # a pure check may look at another service's stream
        channel = check_channel(writing, stream, channel)
    part = Part(stream, channel, check_expected(expected), [])
    ids = uuid7_hexes()
    try:
        for event in events:
            part.events.append(_event(writing, event, metadata, ids))
    except InvalidInput as error:
        raise _placed(error, f"event {len(part.events) + 1}", len(events)) from error.__cause__
    return part


def check_channel(writing: Writing, stream: str, channel: str | None) -> str | None:
    """Check the channel that a stream is appended to under; None for that of its name.

    Raises:
        InvalidInput: it is no name, or the stream's name says none.
    """
    channel = writing.channel if channel is None else channel
    if channel is not None:
        return check_name("channel", channel)
    if stream.startswith("-"):
        raise InvalidInput(
            f"stream {stream!r} has nothing before its first '-' that could be its channel:"
            " pass channel=…"
        )
    return None


def as_given(expected: int) -> int | ExpectedVersion:
    """An expected version as the caller gives it, of what the functions in the database take."""
    return expected if expected >= 0 else ExpectedVersion(expected)


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


def _event(
    writing: Writing, given: object, common: Mapping[str, Any] | None, ids: Iterator[str]
) -> PartEvent:
    codec = writing.codec
    if isinstance(given, NewEvent):
        event_type = check_new_name("event type", given.type)
        data, metadata = written(writing, event_type, given.data, given.metadata, common)
        event = PartEvent(check_id(event_type, given.id).hex, event_type, msgspec.Raw(data))
        tags = [*codec.tags_of(event_type, given.data, data), *given_tags(given.tags)]
        if given.valid_at is not None:
            event.valid_at = check_moment("valid_at", given.valid_at).isoformat()
    else:
        known = codec.known.get(type(given)) or codec.known_as(given)
        event = PartEvent(next(ids), known.type, given)  # written together with its neighbours
        tags = known.tags_of(given) if known.tags else []
        metadata = None
        if common is not None or not known.exactness.is_exact(given):
            data, metadata = written(writing, known.type, given, None, common)
            event.data = msgspec.Raw(data)
    if metadata:
        event.metadata = msgspec.Raw(metadata)
    if tags:
        event.tags = check_tags(tags)
    return event


def _json(writing: Writing, given: Sequence[object], parts: Sequence[Part]) -> str:
    """Write parts, or the events of one, as the database takes them.

    Args:
        writing: what all appends have in common.
        given: what to write.
        parts: the parts that it is or is of.

    Raises:
        InvalidInput: an event cannot be stored, or is too large.
    """
    text = writing.codec.encode_together(given)
    if text is None or len(text) > writing.max_event_bytes:
        for number, part in enumerate(parts, start=1):
            try:
                _encode_each(writing, part.events)
            except InvalidInput as error:
                raise _placed(error, f"part {number}", len(parts)) from error.__cause__
        text = _encode(given)
    return text.decode()


def _encode_each(writing: Writing, events: Sequence[PartEvent]) -> None:
    for number, event in enumerate(events, start=1):
        if isinstance(event.data, msgspec.Raw):
            continue
        try:
            data = writing.codec.encode(event.type, event.data)
            check_size(writing, event.type, len(data))
        except InvalidInput as error:
            raise _placed(error, f"event {number}", len(events)) from error.__cause__
        event.data = msgspec.Raw(data)


def _placed(error: InvalidInput, where: str, of: int) -> InvalidInput:
    """Say where in a list it went wrong; of one there is nothing to say."""
    return error.placed(where) if of > 1 else error


def written(
    writing: Writing,
    event_type: str,
    data: object,
    metadata: object,
    common: Mapping[str, Any] | None = None,
) -> tuple[bytes, bytes | None]:
    """Write an event's data and metadata as JSON.

    Raises:
        InvalidInput: one of them cannot be stored, or both are too large.
    """
    codec = writing.codec
    registered = codec.registered_type(data)
    if registered is not None and codec.classes.get(event_type) is not type(data):
        raise InvalidInput(
            f"a {type(data).__qualname__} is registered as {registered!r} and cannot be"
            f" appended as {event_type!r}"
        )
    written_data = codec.encode(event_type, data)
    known = _metadata(event_type, metadata, common)
    written_metadata = codec.encode(event_type, known, field="metadata") if known else None
    check_size(writing, event_type, len(written_data) + len(written_metadata or b""))
    return written_data, written_metadata


def check_size(writing: Writing, event_type: str, size: int) -> None:
    """Check that an event is not too large.

    Raises:
        EventTooLarge: it is.
    """
    if size > writing.max_event_bytes:
        raise EventTooLarge(event_type, size, writing.max_event_bytes)


def check_id(event_type: str, given: object) -> UUID:
    """Check that the id of an event is a UUID.

    Raises:
        InvalidInput: it is something else.
    """
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


def given_tags(given: object) -> Iterable[str]:
    """Check that the tags that an event was given are a sequence.

    Raises:
        InvalidInput: they are something else.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput(f"tags must be a sequence of texts key:value, not {given!r}")
    return given


def check_tags(given: object) -> list[str]:
    """Check the tags of an event.

    Returns:
        Them in order, each once.

    Raises:
        InvalidInput: they are no sequence of tags.
    """
    return sorted({check_name("tag", tag) for tag in given_tags(given)})


def _check_ids(parts: Iterable[Part]) -> None:
    ids = [event.id for part in parts for event in part.events]
    if len(set(ids)) < len(ids):
        twice = next(given for given in ids if ids.count(given) > 1)
        raise InvalidInput(
            f"event id {UUID(twice)} stands twice in one call: give each event its own"
        )
