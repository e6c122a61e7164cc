"""Compare expected and actual events field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from indelible.events import NewEvent
from indelible.serialization.event_classes import field_names


def difference(expected: Sequence[Any], actual: Sequence[Any]) -> str:
    """Return the unified diff of two lists of events; empty if they are equal.

    Two `NewEvent` values are equal if all but their ids are equal. A `NewEvent` also equals its
    data, if plain data is expected.
    """
    actual = [
        event.data if isinstance(event, NewEvent) and not isinstance(wanted, NewEvent) else event
        for event, wanted in _beside(actual, expected)
    ]
    if [_comparable(event) for event in expected] == [_comparable(event) for event in actual]:
        return ""
    lines = unified_diff(
        [line for event in expected for line in _lines(event)],
        [line for event in actual for line in _lines(event)],
        "expected",
        "actual",
        n=1_000,
        lineterm="",
    )
    shown_lines = [line for line in lines if not line.startswith("@@")]
    if shown_lines:
        return "\n".join(shown_lines)
    return "They look the same but are not equal: define __eq__ in their classes"


def shown(value: object) -> str:
    """Return an event or an error as one line of text."""
    return f"{type(value).__qualname__}: {value}" if isinstance(value, Exception) else repr(value)


def _beside(actual: Sequence[Any], expected: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    for place, event in enumerate(actual):
        yield event, expected[place] if place < len(expected) else None


def _comparable(event: Any) -> Any:
    if not isinstance(event, NewEvent):
        return event
    return event.type, event.data, dict(event.metadata), sorted(event.tags), event.valid_at


def _lines(value: Any, name: str = "", depth: int = 0) -> Iterator[str]:
    """Yield a value as lines: its type, then its parts with a deeper indentation."""
    before = "    " * depth + (f"{name} = " if name else "")
    parts: list[tuple[str, Any]]
    if isinstance(value, NewEvent):
        kind = f"NewEvent {value.type}"
        parts = [
            (field, getattr(value, field))
            for field in ("data", "metadata", "tags", "valid_at")
            if getattr(value, field) not in (None, {}, ())
        ]
    elif isinstance(value, Mapping) and value:
        kind, parts = type(value).__qualname__, [(repr(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple) and value:
        kind = type(value).__qualname__
        parts = [(f"[{place}]", part) for place, part in enumerate(value)]
    elif not isinstance(value, type) and (names := field_names(value)) is not None:
        kind = type(value).__qualname__
        parts = [(field, getattr(value, field)) for field in names]
    else:
        yield before + repr(value)
        return
    yield before + kind
    for part_name, part in parts:
        yield from _lines(part, part_name, depth + 1)
