"""Append events: operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.operation import AppendStatement, Operation, Rows
from indelible.core.stream_write import EventPayload, StreamWrite
from indelible.errors import ConnectionLost, InvalidInput
from indelible.events import AppendResult, ExpectedVersion, StreamAppend
from indelible.query import AppendCondition
from indelible.serialization.codec import Codec

from .append_input import (
    AppendSettings,
    check_append,
    check_ids,
    check_size,
    locate,
    merge_metadata,
)
from .append_result import AppendOutcome, check_outcomes
from .query_parameters import items

_encode = msgspec.json.Encoder().encode


_MOST_SHARED_TAGS = 8
"""Each tag is a lock until the batch is committed, and a batch may have hundreds of appends."""

Conditions = AppendCondition | Sequence[AppendCondition] | None


def append(
    settings: AppendSettings,
    stream: str | None,
    events: Any,
    *,
    expected: int | ExpectedVersion | None,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
    condition: Conditions = None,
) -> Operation[AppendResult]:
    """Append to one stream; see `EventStore.append`."""
    if stream is None:
        return (yield from _append_alone(settings, events, expected, condition, channel, metadata))
    if expected is None:
        if condition is None:
            raise InvalidInput(
                f"expected is required for stream {stream!r}: pass the version that you read,"
                " NO_STREAM, STREAM_EXISTS or ANY, or pass a condition"
            )
        expected = ExpectedVersion.ANY
    write = check_append(settings, stream, events, expected, channel, metadata)
    if not write.events:
        raise InvalidInput(
            f"no events to append to stream {stream!r}: pass at least one event; to only check a"
            " version, use append_many with a StreamAppend without events"
        )
    return (yield from _append_write(settings, write, condition))


def _append_write(
    settings: AppendSettings, write: StreamWrite, condition: Conditions, *, is_alone: bool = False
) -> Operation[AppendResult]:
    """Append to one stream, in one batch with concurrent appends if possible."""
    check_ids([write])
    conditions = _conditions(settings.codec, condition)
    parameters: dict[str, object] = {
        "stream": write.stream,
        "channel": write.channel,
        "expected": write.expected,
        "events": _json(settings, write.events, [write]),
    }
    if conditions:
        parameters["conditions"] = _encode(conditions).decode()
    statement = "streams.append_conditional" if conditions else "streams.append"
    ordering_key = _ordering_key(write, conditions, is_alone=is_alone)
    rows = yield from _write(statement, parameters, [write], ordering_key=ordering_key)
    outcome = AppendOutcome(0, *rows[0])
    yield from check_outcomes(settings, [write], [outcome])
    return outcome.result(write)


def _ordering_key(
    write: StreamWrite, conditions: Sequence[Mapping[str, Any]], *, is_alone: bool
) -> str | None:
    """Return the ordering key of an append: its stream, or the first tag of its condition.

    The tag is the key of an event without a stream that has a condition.

    Returns:
        The key. None if the append must not join a batch: an item without tags waits for every
        appender, and the server's lock table is finite.
    """
    condition_tags = [item["tags"] for condition in conditions for item in condition["items"]]
    tag_count = sum(len(event.tags) for event in write.events if event.tags)
    if not all(condition_tags) or len(condition_tags) + tag_count > _MOST_SHARED_TAGS:
        return None
    if is_alone and condition_tags:
        return f"\x00{condition_tags[0][0]}"  # never the name of a stream
    return write.stream


def _append_alone(
    settings: AppendSettings,
    events: Any,
    expected: object,
    condition: Conditions,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> Operation[AppendResult]:
    """Append events without a stream: each gets its own stream, named by its id."""
    if expected not in (None, ExpectedVersion.ANY):
        raise InvalidInput(
            f"expected={expected!r} needs a stream: events without a stream have no version; omit"
            " expected, or name the stream"
        )
    event_list = events if isinstance(events, list | tuple) else [events]
    if not event_list:
        raise InvalidInput("no events to append: pass at least one event")
    writes: list[StreamWrite] = []
    for event in event_list:
        try:
            write = check_append(settings, "event", event, ExpectedVersion.ANY, channel, metadata)
        except InvalidInput as error:
            locate(error, f"event {len(writes) + 1}", len(event_list))
            raise
        write.stream = f"event-{UUID(write.events[0].id)}"
        writes.append(write)
    if len(writes) == 1:
        return (yield from _append_write(settings, writes[0], condition, is_alone=True))
    check_ids(writes)
    results = yield from _append_writes(settings, writes, condition)
    return results[-1]


def append_many(
    settings: AppendSettings,
    appends: Iterable[StreamAppend],
    *,
    condition: Conditions = None,
    metadata: Mapping[str, Any] | None = None,
) -> Operation[list[AppendResult]]:
    """Append to several streams, all or none; see `EventStore.append_many`."""
    writes: list[StreamWrite] = []
    for append_ in appends:
        if not isinstance(append_, StreamAppend):
            raise InvalidInput(f"append_many takes StreamAppend values, not {append_!r}")
        stream, channel = append_.stream, append_.channel
        try:
            write = check_append(
                settings,
                stream,
                append_.events,
                append_.expected,
                channel,
                merge_metadata(metadata, append_.metadata),
            )
        except InvalidInput as error:
            error.add_location(f"part {len(writes) + 1}")
            raise
        writes.append(write)
    if not writes:
        return []
    check_ids(writes)
    return (yield from _append_writes(settings, writes, condition))


def _append_writes(
    settings: AppendSettings, writes: Sequence[StreamWrite], condition: Conditions
) -> Operation[list[AppendResult]]:
    """Append to the streams, all or none, under conditions if there are any."""
    conditions = _conditions(settings.codec, condition)
    parameters: dict[str, object] = {"appends": _json(settings, writes, writes)}
    if conditions:
        parameters["conditions"] = _encode(conditions).decode()
    statement = "streams.append_many_conditional" if conditions else "streams.append_many"
    rows = yield from _write(statement, parameters, writes)
    outcomes = [AppendOutcome(number - 1, *row) for number, *row in rows]
    yield from check_outcomes(settings, writes, outcomes)
    return [outcome.result(writes[outcome.index]) for outcome in outcomes]


def _conditions(codec: Codec, condition: object) -> list[dict[str, Any]]:
    conditions = condition if isinstance(condition, list | tuple) else [condition]
    parameters = []
    for append_condition in conditions:
        if append_condition is None:
            continue
        if not isinstance(append_condition, AppendCondition):
            raise InvalidInput(
                "condition must be an AppendCondition or a sequence of them, not"
                f" {append_condition!r}"
            )
        marker = append_condition.marker
        encoded: dict[str, Any] = {
            "items": items(codec.upcasting.stored(codec.check_query(append_condition.query))),
            "after": marker.head,
            "seen": sorted(marker.seen),
        }
        if marker.epoch is not None and marker.head > 0:  # an empty log has no events to lose
            encoded |= {"epoch": marker.epoch, "at": marker.event_id}
        parameters.append(encoded)
    return parameters


def _write(
    statement: str,
    parameters: Mapping[str, object],
    writes: Sequence[StreamWrite],
    *,
    ordering_key: str | None = None,
) -> Operation[Rows]:
    try:
        return (
            yield AppendStatement(statement, parameters, writes=writes, ordering_key=ordering_key)
        )
    except ConnectionLost as error:
        ids = [UUID(event.id) for write in writes for event in write.events]
        raise ConnectionLost(str(error), ids) from error


def appended_ids(statement: AppendStatement, rows: Rows) -> list[str]:
    """Return the ids of the events that an append has just stored.

    Args:
        statement: the append.
        rows: the result rows of the statement.

    Returns:
        The ids; none if no event was written, because the append was rejected or stored before.
    """
    if statement.name in ("streams.append", "streams.append_conditional"):
        outcomes = [(0, rows[0][0])]
    else:
        outcomes = [(index - 1, outcome) for index, outcome, *_ in rows]
    return [
        event.id
        for index, outcome in outcomes
        if outcome == "appended"
        for event in statement.writes[index].events
    ]


def _json(settings: AppendSettings, values: Sequence[object], writes: Sequence[StreamWrite]) -> str:
    """Encode appends, or the events of one append, as JSON for the database.

    Args:
        settings: the settings of all appends.
        values: the values to encode.
        writes: the appends that the values are, or belong to.

    Raises:
        InvalidInput: an event cannot be stored, or is too large.
    """
    text = settings.codec.encode_together(values)
    if text is None or len(text) > settings.max_event_bytes:
        for number, write in enumerate(writes, start=1):
            try:
                _encode_each(settings, write.events)
            except InvalidInput as error:
                locate(error, f"part {number}", len(writes))
                raise
        text = _encode(values)
    return text.decode()


def _encode_each(settings: AppendSettings, events: Sequence[EventPayload]) -> None:
    for number, event in enumerate(events, start=1):
        if isinstance(event.data, msgspec.Raw):
            continue
        try:
            data = settings.codec.encode(event.type, event.data)
            check_size(settings, event.type, len(data))
        except InvalidInput as error:
            locate(error, f"event {number}", len(events))
            raise
        event.data = msgspec.Raw(data)
