"""What differs between two values of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .json_tree import Literal

MOST_CHANGES = 200
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        path: where it is: `address.street`, `items[2].name`.
        kind: added, removed or changed.
        before: the value before, as JSON; empty if it was added.
        after: the value after, as JSON; empty if it was removed.
    """

    path: str
    kind: str
    before: str
    after: str


def differences(before: Any, after: Any) -> list[Change]:
    """Return the differences between two values, at most 200 of them.

    Args:
        before: a value, as `json_tree.parse` returns it.
        after: another one.
    """
    found = []
    for change in _differences("", before, after):
        found.append(change)
        if len(found) == MOST_CHANGES:
            break
    return found


def _differences(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differences(
                f"{path}.{key}" if path else key,
                before.get(key, _MISSING),
                after.get(key, _MISSING),
            )
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _differences(
                f"{path}[{index}]",
                before[index] if index < len(before) else _MISSING,
                after[index] if index < len(after) else _MISSING,
            )
    elif not _is_same(before, after):
        kind = "added" if before is _MISSING else "removed" if after is _MISSING else "changed"
        yield Change(path or "the value", kind, written(before), written(after))


def _is_same(before: Any, after: Any) -> bool:
    # A number and the text with its digits are no equals.
    return type(before) is type(after) and bool(before == after)


def written(value: Any) -> str:
    """Return a value as JSON on one line; a number with its digits."""
    match value:
        case _ if value is _MISSING:
            return ""
        case Literal():
            return str(value)
        case dict():
            return (
                "{" + ", ".join(f"{_text(key)}: {written(of)}" for key, of in value.items()) + "}"
            )
        case list():
            return "[" + ", ".join(written(each) for each in value) + "]"
        case _:
            return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
