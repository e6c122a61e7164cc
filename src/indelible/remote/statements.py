"""Answer the statements of operations by requests to a server.

The operations of the library yield statements, which an engine runs on a database. The functions
here return the same rows from a server. So a store over HTTP validates, encodes, decodes and
decides by the same code as one that is connected to the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from indelible.core.operation import Operation, Rows, Statement
from indelible.errors import EpochMismatch, NeedsDatabase, StreamNotFound
from indelible.events import AppendResult, Checkpoint
from indelible.streams.info import StreamChange, StreamInfo
from indelible.streams.recorded_time import LAST_POSITION
from indelible.streams.rows import valid_at_of

from . import groups
from .requests import (
    NDJSON,
    Request,
    StoredEvent,
    fetch,
    fetch_events,
    row_of,
    segment,
    version_text,
)

Parameters = Mapping[str, Any]
_INSTANT = timedelta(microseconds=1)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_decode_streams = msgspec.json.Decoder(StreamInfo, strict=False).decode_lines


def answer(statement: Statement) -> Operation[Rows]:
    """Return the rows of a statement, by requests to the server.

    Raises:
        NeedsDatabase: a server cannot answer this statement.
    """
    name = statement.name.removesuffix(".descending")
    found = _ANSWERS.get(name)
    if found is None:
        raise NeedsDatabase
    return (yield from found(statement.parameters, name != statement.name))


# Append --------------------------------------------------------------------------------------


def _append(given: Parameters, _: bool) -> Operation[Rows]:
    form = {
        "events": _raw(given["events"]),
        "expected": version_text(given["expected"]),
        "channel": given["channel"],
        "conditions": _conditions(given),
    }
    result = yield from fetch("POST", _path(given) + "/events", AppendResult, form=form)
    return [_outcome(result)]


class _Part(msgspec.Struct):
    stream: str
    channel: str | None
    expected: int
    events: msgspec.Raw


def _append_many(given: Parameters, _: bool) -> Operation[Rows]:
    parts = msgspec.json.decode(given["appends"], type=list[_Part])
    form = {
        "appends": [
            {**msgspec.structs.asdict(part), "expected": version_text(part.expected)}
            for part in parts
        ],
        "conditions": _conditions(given),
    }
    results = yield from fetch("POST", "/append", list[AppendResult], form=form)
    return [(number, *_outcome(result)) for number, result in enumerate(results, start=1)]


def _nothing(given: Parameters, _: bool) -> Operation[Rows]:
    """Answer a statement that is not needed: the server does its work by itself."""
    yield from ()
    return []


def _outcome(result: AppendResult) -> tuple[Any, ...]:
    outcome = "idempotent" if result.idempotent else "appended"
    return outcome, result.version, result.position, result.recorded_at, None


def _conditions(given: Parameters) -> list[dict[str, Any]]:
    return [
        {
            "query": _alternatives(condition["items"]),
            "after": {
                "head": str(condition["after"]),
                "seen": list(map(str, condition["seen"])),
                "epoch": condition.get("epoch"),
                "event_id": condition.get("at"),
            },
        }
        for condition in msgspec.json.decode(given.get("conditions", "[]"))
    ]


def _alternatives(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if value is not None} for item in items]


def _raw(json: str) -> msgspec.Raw:
    return msgspec.Raw(json.encode())


# Read ----------------------------------------------------------------------------------------


def _read_stream(given: Parameters, is_descending: bool) -> Operation[Rows]:
    selected = {**_selected(given, is_descending), "limit": given["limit"]}
    return (yield from _events_of_stream(given, selected))


def _read_stream_by_valid_time(given: Parameters, is_descending: bool) -> Operation[Rows]:
    def read(bounds: Parameters) -> Operation[Rows]:
        return _events_of_stream(given, {**_selected(given, is_descending), **bounds})

    return (yield from _by_valid_time(given, read))


def _read_log(given: Parameters, is_descending: bool) -> Operation[Rows]:
    selected = {
        "query": alternatives_json(given["items"]),
        "after": given["after"],
        "as_of": given["upto"],
        "backwards": is_descending or None,
        "limit": given["limit"],
    }
    return (yield from fetch_events("/events", selected))


def _read_log_by_valid_time(given: Parameters, is_descending: bool) -> Operation[Rows]:
    upto: object = given["upto"]
    if given["epoch"] is not None:
        upto = _checkpoint(given["upto"], given["epoch"], given["anchor"], given["anchor_id"])
    selected = {
        "query": alternatives_json(given["items"]),
        "after": given["after"],
        "as_of": upto,
        "backwards": is_descending or None,
    }

    def read(bounds: Parameters) -> Operation[Rows]:
        return fetch_events("/events", {**selected, **bounds})

    return (yield from _by_valid_time(given, read))


def _by_valid_time(
    given: Parameters, read: Callable[[Parameters], Operation[Rows]]
) -> Operation[Rows]:
    """Return the events between two keys of valid time and position.

    The server knows bounds of valid time only. So events with the valid time of a key are read
    again, and left out here.
    """
    above = given["above_valid_at"] or _FIRST, given["above_position"]
    below = given["below_valid_at"] or _LAST, given["below_position"]
    end = below[0] if below[0] == _LAST else below[0] + _INSTANT
    limit: int = given["limit"]
    asked = limit
    while True:
        rows = yield from read(
            {"valid_between": f"{above[0].isoformat()}/{end.isoformat()}", "limit": asked}
        )
        is_open = given["above_valid_at"] is None
        kept = [
            row
            for row in rows
            if (is_open or (valid_at_of(row), row[0]) > above)
            and (valid_at_of(row), row[0]) < below
        ]
        if len(kept) >= limit or len(rows) < asked:
            return kept[:limit]
        asked *= 2


def _whole_window(given: Parameters, _: bool) -> Operation[Rows]:
    """Answer that all the time to read is one window: the server makes windows by itself."""
    yield from ()
    return [(None,)]


def _no_more(given: Parameters, _: bool) -> Operation[Rows]:
    """Answer that no recorded time is left to index: the server indexes them by itself."""
    yield from ()
    return [(False,)]


def _version_at(given: Parameters, _: bool) -> Operation[Rows]:
    selected = {"as_of": given["position"], "backwards": True, "limit": 1}
    rows = yield from _events_of_stream(given, selected)
    return [(rows[0][2] if rows else -1,)]


class _Marker(msgspec.Struct):
    head: int
    epoch: UUID
    event_id: UUID | None


class _Matching(msgspec.Struct):
    events: list[StoredEvent]
    marker: _Marker


def _read_matching(given: Parameters, _: bool) -> Operation[Rows]:
    query = _alternatives(msgspec.json.decode(given["items"]))
    found = yield from fetch("POST", "/events/matching", _Matching, form={"query": query})
    marker = found.marker
    event_id = None if marker.event_id is None else marker.event_id.bytes
    about = (marker.head, None, None, event_id, None, None, None, None, str(marker.epoch), None)
    return [(*about, None), *(event.row() for event in found.events)]


def _load(given: Parameters, _: bool) -> Operation[Rows]:
    """Return the whole stream at once, with the row about it first."""
    selected = {
        "from_version": given["after_version"] + 1,
        "to_version": _bound(given["to_version"]),
    }
    rows = yield from _events_of_stream(given, selected)
    version = rows[-1][2] if rows else given["after_version"]
    if version < 0:
        return []
    command = given["command_event"]
    handled = (row[2] for row in rows if command is not None and row[3] == command.bytes)
    return [_about_stream(version, next(handled, None)), *rows]


def _load_by_valid_time(given: Parameters, _: bool) -> Operation[Rows]:
    if given["above_valid_at"] is not None:
        return []  # the first answer had all
    about = yield from _info(given, False)
    if not about:
        return []
    version = min(StreamInfo(*about[0]).version, given["to_version"])
    selected = {"to_version": version, "valid_at": given["moment"].isoformat()}
    return [_about_stream(version, None), *(yield from _events_of_stream(given, selected))]


def _about_stream(version: int, handled_at: int | None) -> tuple[Any, ...]:
    facts = b"\x01" + msgspec.json.encode({"version": version, "handled_at": handled_at})
    return (None, None, None, None, None, None, facts, None, None, None, None)


def _events_of_stream(given: Parameters, selected: Parameters) -> Operation[Rows]:
    to_version = selected.get("to_version")
    if to_version is not None and to_version < 0:
        return []
    try:
        return (yield from fetch_events(_path(given) + "/events", selected))
    except StreamNotFound:
        return []


def _selected(given: Parameters, is_descending: bool) -> dict[str, object]:
    return {
        "type": given["types"],
        "from_version": given["from_version"],
        "to_version": _bound(given["to_version"]),
        "backwards": is_descending or None,
    }


def _bound(version: int) -> int | None:
    return None if version == LAST_POSITION else version


def alternatives_json(items: str | None) -> str | None:
    """Return the items of a query as the server takes them; None if every event matches."""
    if items is None:
        return None
    return msgspec.json.encode(_alternatives(msgspec.json.decode(items))).decode()


# The head ------------------------------------------------------------------------------------


class _Head(msgspec.Struct):
    position: int
    epoch: UUID
    event_id: UUID | None


def _head_state(given: Parameters, _: bool) -> Operation[Rows]:
    return [msgspec.structs.astuple((yield from fetch("GET", "/head", _Head)))]


def _head(given: Parameters, _: bool) -> Operation[Rows]:
    return [((yield from fetch("GET", "/head", _Head)).position,)]


def _epoch(given: Parameters, _: bool) -> Operation[Rows]:
    return [((yield from fetch("GET", "/head", _Head)).epoch,)]


def _check_checkpoint(given: Parameters, _: bool) -> Operation[Rows]:
    known = _checkpoint(
        given["position"], given["epoch"], given["anchor_position"], given["anchor_id"]
    )
    try:
        head = yield from fetch("GET", "/head", _Head, parameters={"checkpoint": known})
    except EpochMismatch as error:
        return [(False, error.epoch, error.safe_through, None)]
    return [(True, head.epoch, None, None)]


class _Position(msgspec.Struct):
    position: int
    is_final: bool


def _position_at(given: Parameters, _: bool) -> Operation[Rows]:
    moment = given["moment"].isoformat()
    found = yield from fetch("GET", "/position-at", _Position, parameters={"moment": moment})
    return [msgspec.structs.astuple(found)]


def _checkpoint(
    position: int, epoch: UUID, anchor: int | None, anchor_id: UUID | None
) -> Checkpoint:
    known = None if anchor is None or anchor_id is None else (anchor, anchor_id)
    return Checkpoint(position, epoch, anchor=known)


# Streams -------------------------------------------------------------------------------------


def _info(given: Parameters, _: bool) -> Operation[Rows]:
    try:
        return [row_of((yield from fetch("GET", _path(given), StreamInfo)))]
    except StreamNotFound:
        return []


def _list_streams(given: Parameters, _: bool) -> Operation[Rows]:
    selected = {name: given[name] or None for name in ("channel", "prefix", "after", "limit")}
    kept = {name: value for name, value in selected.items() if value is not None}
    ((body, _),) = yield Request("GET", kept, path="/streams", accept=NDJSON)
    return [row_of(found) for found in _decode_streams(body)]


def _changes(given: Parameters, _: bool) -> Operation[Rows]:
    path = _path(given) + "/changes"
    found = yield from fetch("GET", path, list[StreamChange])
    return [row_of(change) for change in found]


def _change(operation: str, *rest: None) -> Callable[[Parameters, bool], Operation[Rows]]:
    def change(given: Parameters, _: bool) -> Operation[Rows]:
        form = {"reason": given["reason"]}
        if "expected" in given:
            form["expected"] = version_text(given["expected"])
        yield from fetch("POST", f"{_path(given)}/{operation}", StreamInfo, form=form)
        return [("done", *rest)]

    return change


def _path(given: Parameters) -> str:
    return f"/streams/{segment(given['stream'])}"


_ANSWERS: dict[str, Callable[[Parameters, bool], Operation[Rows]]] = {
    "streams.append": _append,
    "streams.append_conditional": _append,
    "streams.append_many": _append_many,
    "streams.append_many_conditional": _append_many,
    "streams.wait_at_commit": _nothing,
    "streams.read_stream": _read_stream,
    "streams.read_stream_by_valid_time": _read_stream_by_valid_time,
    "streams.version_at": _version_at,
    "remote.read_log": _read_log,
    "streams.read_log_by_valid_time": _read_log_by_valid_time,
    "streams.valid_time_window": _whole_window,
    "dcb.read_matching": _read_matching,
    "aggregates.load": _load,
    "aggregates.load_by_valid_time": _load_by_valid_time,
    "streams.head": _head,
    "streams.head_state": _head_state,
    "streams.epoch": _epoch,
    "streams.check_checkpoint": _check_checkpoint,
    "streams.position_at": _position_at,
    "streams.index_recorded_times": _no_more,
    "streams.info": _info,
    "streams.list": _list_streams,
    "streams.changes": _changes,
    "streams.close": _change("close", None, None),
    "streams.reopen": _change("reopen"),
    "streams.archive": _change("archive"),
    "streams.erase": _change("erase"),
    **groups.ANSWERS,
}
