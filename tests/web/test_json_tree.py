"""JSON as a tree, and the differences between two values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.server.web import json_tree
from indelible.server.web.diff import differences, written
from indelible.server.web.json_tree import Node, parse, tree

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


def _root(text: str) -> Node:
    root = tree(text).root
    assert root is not None
    return root


@pytest.mark.parametrize("number", ["9007199254740993", "1e400", "-0.10", "1" * 5_000])
def test_numbers_keep_their_digits(number: str) -> None:
    (child,) = _root(f'{{"n": {number}}}').children
    assert (child.key, child.kind, child.text + child.rest) == ("n", "number", number)


def test_each_kind_of_value_has_a_word() -> None:
    root = _root('{"a": null, "b": true, "c": "x", "d": [1, 2], "e": {}, "f": []}')
    assert [(each.key, each.kind, each.text) for each in root.children] == [
        ("a", "literal", "null"),
        ("b", "literal", "true"),
        ("c", "string", "x"),
        ("d", "array", "2 items"),
        ("e", "object", "{}"),
        ("f", "array", "[]"),
    ]
    assert root.text == "6 fields"


def test_what_is_too_deep_or_too_large_is_text() -> None:
    deep = tree("[" * 900 + "]" * 900)
    assert deep.root is None
    assert deep.text.startswith("[[[")
    deeper = tree("[" * 100_000 + "]" * 100_000)
    assert deeper.root is None
    large = tree(json.dumps("x" * (json_tree.MOST_BYTES + 1)))
    assert large.root is None
    assert len(large.text) == json_tree.SHOWN_BYTES
    assert tree("no json").root is None


def test_a_tree_has_a_bounded_number_of_nodes() -> None:
    def count(node: Node) -> int:
        return 1 + sum(map(count, node.children))

    root = _root(json.dumps([[number] * 100 for number in range(100)]))
    assert count(root) <= json_tree.MOST_NODES + json_tree.MOST_ITEMS
    wide = _root(json.dumps(list(range(250))))
    assert (len(wide.children), wide.left_out) == (100, 150)
    (text,) = _root(json.dumps(["y" * 3_000])).children
    assert (len(text.text), len(text.rest)) == (2_000, 1_000)


@given(value=_JSON)
def test_a_value_has_no_difference_from_itself(value: object) -> None:
    text = json.dumps(value)
    assert differences(parse(text), parse(text)) == []
    assert json.loads(written(parse(text))) == value


@given(before=_JSON, after=_JSON)
def test_unequal_values_differ(before: object, after: object) -> None:
    found = differences(parse(json.dumps(before)), parse(json.dumps(after)))
    assert bool(found) == (json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True))


def test_differences_name_their_place() -> None:
    before = parse('{"courier": "Ben", "items": [{"n": 1}], "gone": 1, "same": 1.0}')
    after = parse('{"courier": "Ann", "items": [{"n": 2}, 3], "new": null, "same": 1.0}')
    assert [
        (each.path, each.kind, each.before, each.after) for each in differences(before, after)
    ] == [
        ("courier", "changed", '"Ben"', '"Ann"'),
        ("items[0].n", "changed", "1", "2"),
        ("items[1]", "added", "", "3"),
        ("gone", "removed", "1", ""),
        ("new", "added", "", "null"),
    ]


def test_a_number_is_not_the_text_with_its_digits() -> None:
    (change,) = differences(parse("1"), parse('"1"'))
    assert (change.path, change.before, change.after) == ("the value", "1", '"1"')
