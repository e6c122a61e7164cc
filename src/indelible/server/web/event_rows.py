"""Rows of events: what a list shows of each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from indelible.events import RecordedEvent

from .json_tree import Literal as Number
from .json_tree import parse

_LINE = 160
_LARGEST_PARSED = 64 * 1024


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row.

    Attributes:
        position, stream, version, type, tags, channel, recorded_at, valid_at: those of the event.
        line: the first line of its data; None if it was erased.
        leaning: `late` if the fact holds from before it was recorded, `ahead` if from later.
        by: how far the two times are apart.
    """

    position: int
    stream: str
    version: int
    type: str
    tags: tuple[str, ...]
    channel: str
    recorded_at: datetime
    valid_at: datetime
    line: str | None
    leaning: Literal["late", "ahead"] | None
    by: timedelta


def rows_of(events: Iterable[RecordedEvent]) -> list[EventRow]:
    """Return the rows of some events."""
    return [
        EventRow(
            event.position,
            event.stream,
            event.version,
            event.type,
            event.tags,
            event.channel,
            event.recorded_at,
            event.valid_at,
            None if event.is_erased else first_line(stored_json(event)),
            _leaning(event),
            event.valid_at - event.recorded_at,
        )
        for event in events
    ]


def stored_json(event: RecordedEvent) -> bytes:
    """Return the data of an event as the server reads it: JSON that no class has decoded."""
    return bytes(event.data)


def kind_of(value: Any) -> str:
    """Return the kind of a value that `parse` returned, in the words of JSON."""
    match value:
        case Number():
            return "number"
        case str():
            return "text"
        case bool():
            return "true or false"
        case None:
            return "null"
        case dict():
            return "object"
        case _:
            return "list"


def first_line(data: bytes) -> str:
    """Return the beginning of some data as one line: `reason "her phone…" · attempts 2`."""
    if len(data) > _LARGEST_PARSED:
        return _cut(data[: 4 * _LINE].decode(errors="replace"))
    try:
        value = parse(data)
    except RecursionError:
        return _cut(data.decode())
    if not isinstance(value, dict):
        return _cut(_text(value))
    parts, length = [], 0
    for name, each in value.items():
        parts.append(f"{name[:_LINE]} {_text(each)}")
        length += len(parts[-1])
        if length > _LINE:
            break
    return _cut(" · ".join(parts))


def _text(value: Any) -> str:
    match value:
        case Number():
            return str(value)
        case str():
            return json.dumps(value[: 2 * _LINE], ensure_ascii=False)
        case {}:
            return "{…}" if value else "{}"
        case [*_]:
            return "[…]" if value else "[]"
        case _:
            return json.dumps(value)


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"


def _leaning(event: RecordedEvent) -> Literal["late", "ahead"] | None:
    if event.valid_at == event.recorded_at:
        return None
    return "late" if event.valid_at < event.recorded_at else "ahead"
