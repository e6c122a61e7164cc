"""JSON as a tree for a page: each number keeps its digits, and nothing grows without bound."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1024 * 1024
"""JSON that is longer is shown as text, and only its beginning."""
SHOWN_BYTES = 64 * 1024
MOST_DEPTH = 40
MOST_NODES = 2_000
MOST_ITEMS = 100
"""Items of a list, or members of an object, that are shown at once."""
MOST_CHARACTERS = 2_000


class Literal(str):
    """A number as it is written: 9007199254740993 and 1e400 stay what they are."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a tree.

    Attributes:
        key: its name or index in what contains it; None for the root.
        kind: object, array, string, number or literal (true, false, null).
        text: how it is written, without quotes; of an object or array, what it contains.
        children: what it contains.
        rest: the part of a long text that is shown on demand.
        left_out: how many members are not shown, since the tree is too large.
    """

    key: str | None
    kind: str
    text: str
    children: tuple[Node, ...] = ()
    rest: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """JSON for a page.

    Attributes:
        root: the tree; None if it is too large or too deep, or no JSON.
        text: the beginning of the text, if there is no tree.
        size: the length of the whole text in bytes.
    """

    root: Node | None
    text: str
    size: int


def parse(text: bytes | str) -> Any:
    """Parse JSON; numbers become `Literal`.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is too deep.
    """
    return json.loads(text, parse_int=Literal, parse_float=Literal, parse_constant=Literal)


def tree(text: bytes | str) -> Tree:
    """Return JSON as a tree, or as text if it is too large or too deep.

    Args:
        text: the JSON.
    """
    content = text.encode() if isinstance(text, str) else text
    if len(content) <= MOST_BYTES:
        try:
            value = parse(content)
        except (ValueError, RecursionError):
            value = None
        else:
            if _depth(value) <= MOST_DEPTH:
                return Tree(TreeBuilder().node(None, value), "", len(content))
    return Tree(None, content[:SHOWN_BYTES].decode(errors="replace"), len(content))


class TreeBuilder:
    """Makes nodes, as long as there are not too many of them."""

    def __init__(self) -> None:
        self._left = MOST_NODES

    def node(self, key: str | None, value: Any) -> Node:
        """Return the node of a value."""
        self._left -= 1
        match value:
            case dict():
                return self._container(
                    key, "object", [(str(of), item) for of, item in value.items()]
                )
            case list():
                return self._container(
                    key, "array", [(str(index), item) for index, item in enumerate(value)]
                )
            case Literal():
                return _cut(key, "number", str(value))
            case str():
                return _cut(key, "string", value)
            case True | False | None:
                return Node(key, "literal", {True: "true", False: "false", None: "null"}[value])
            case _:
                return _cut(key, "number", str(value))

    def _container(self, key: str | None, kind: str, items: list[tuple[str, Any]]) -> Node:
        shown = items[: min(max(self._left, 0), MOST_ITEMS)]
        children = tuple(self.node(of, item) for of, item in shown)
        return Node(key, kind, _contents(kind, len(items)), children, "", len(items) - len(shown))


def _contents(kind: str, count: int) -> str:
    if kind == "object":
        return "{}" if count == 0 else f"{count:,} {'field' if count == 1 else 'fields'}"
    return "[]" if count == 0 else f"{count:,} {'item' if count == 1 else 'items'}"


def _cut(key: str | None, kind: str, text: str) -> Node:
    return Node(key, kind, text[:MOST_CHARACTERS], rest=text[MOST_CHARACTERS:])


def _depth(value: Any) -> int:
    """Return how deep a value is nested, without recursion."""
    deepest, level = 0, [value]
    while level and deepest <= MOST_DEPTH:
        deepest += 1
        level = [
            item
            for each in level
            for item in (
                each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            )
        ]
    return deepest
