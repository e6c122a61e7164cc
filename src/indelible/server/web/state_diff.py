"""What differs between two states, as a tree: what is the same in it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .diff import written
from .json_tree import MOST_NODES, Node, TreeBuilder

Sign = Literal["same", "added", "removed", "changed"]
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class DiffNode:
    """One value of two states.

    Attributes:
        key: its name or index in what contains it; None for the root.
        sign: whether it is the same in both.
        before: the value before; None if there was none, or if only some of its members differ.
        after: the value after; the same.
        kind: object or array, if only some of its members differ; else empty.
        children: its members, if only some of them differ.
        changes: how many values in it differ.
        left_out: how many members are not shown, since there are too many.
    """

    key: str | None
    sign: Sign
    before: Node | None = None
    after: Node | None = None
    kind: str = ""
    children: tuple[DiffNode, ...] = ()
    changes: int = 0
    left_out: int = 0


def compare(before: Any, after: Any) -> DiffNode:
    """Compare two values, as `json_tree.parse` returns them. At most 2,000 values are shown.

    Args:
        before: a value.
        after: another one.
    """
    return _Comparison().node(None, before, after)


class _Comparison:
    def __init__(self) -> None:
        self._build = TreeBuilder().node
        self._left = MOST_NODES

    def node(self, key: str | None, before: Any, after: Any) -> DiffNode:
        self._left -= 1
        if before is _MISSING:
            return DiffNode(key, "added", None, self._build(key, after), changes=1)
        if after is _MISSING:
            return DiffNode(key, "removed", self._build(key, before), None, changes=1)
        if _written(before) == _written(after):
            return DiffNode(key, "same", None, self._build(key, after))
        if isinstance(before, dict) and isinstance(after, dict):
            return self._container(key, "object", list(_members(before, after)))
        if isinstance(before, list) and isinstance(after, list):
            return self._container(key, "array", list(_items(before, after)))
        return DiffNode(
            key, "changed", self._build(key, before), self._build(key, after), changes=1
        )

    def _container(self, key: str | None, kind: str, items: list[tuple[str, Any, Any]]) -> DiffNode:
        # What differs is shown first if not all of it can be shown.
        if len(items) > self._left:
            items.sort(key=lambda item: _written(item[1]) == _written(item[2]))
        shown = items[: max(self._left, 0)]
        children = tuple(self.node(*item) for item in shown)
        return DiffNode(
            key,
            "changed",
            kind=kind,
            children=children,
            changes=sum(child.changes for child in children),
            left_out=len(items) - len(shown),
        )


def _written(value: Any) -> str:
    """A number and the text with its digits are no equals; `written` tells them apart."""
    return "" if value is _MISSING else written(value)


def _members(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in [*after, *(key for key in before if key not in after)]:
        yield key, before.get(key, _MISSING), after.get(key, _MISSING)


def _items(before: list[Any], after: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Pair the items: those at the beginning and at the end that are equal, then one by one."""
    old, new = [_written(each) for each in before], [_written(each) for each in after]
    shortest = min(len(old), len(new))
    begin = next((n for n in range(shortest) if old[n] != new[n]), shortest)
    end = next((n for n in range(shortest - begin) if old[-1 - n] != new[-1 - n]), shortest - begin)
    for index in range(begin):
        yield str(index), before[index], after[index]
    for index in range(begin, max(len(before), len(after)) - end):
        yield (
            str(index),
            before[index] if index < len(before) - end else _MISSING,
            after[index] if index < len(after) - end else _MISSING,
        )
    for index in range(len(after) - end, len(after)):
        yield str(index), before[index - len(after)], after[index]
