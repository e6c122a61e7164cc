"""Queries as values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import InvalidInput, Query


def test_a_query_is_the_same_whatever_order_its_names_have() -> None:
    assert Query(types=["B", "A", "B"], tags=["y:1", "x:1"]) == Query(
        types=("A", "B"), tags={"x:1", "y:1"}
    )
    assert hash(Query(types=["B", "A"])) == hash(Query(types=["A", "B"]))


def test_one_name_needs_no_list() -> None:
    assert Query(types="A", tags="x:1") == Query(types=["A"], tags=["x:1"])


def test_a_query_cannot_be_changed() -> None:
    query = Query(types="A")

    with pytest.raises(AttributeError):
        query.items = ()  # type: ignore[misc]


def test_queries_are_joined_in_order_and_once() -> None:
    a, b, c = Query(types="A"), Query(channel="b"), Query(stream_prefix="c-")

    assert (a | b).items == a.items + b.items
    assert (a | b) | c == a | (b | c)
    assert (a | b | a).items == (a | b).items
    assert a | a == a


def test_a_query_joins_only_with_a_query() -> None:
    query: Any = Query(types="A")

    for other in ("B", None, 7, ["B"]):
        with pytest.raises(TypeError):
            query | other


def test_a_query_that_names_nothing_matches_everything() -> None:
    assert Query().matches_everything
    assert (Query(types="A") | Query()).matches_everything
    assert not Query(types="A").matches_everything
    assert not (Query(types="A") | Query(tags="x:1")).matches_everything
    assert Query(types=[], tags=()) == Query()


NAMES = ("types", "tags", "channel", "stream", "stream_prefix")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", "a\x00b", "\ud800", 7, b"A", 1.5, True], ids=ascii)
def test_what_is_no_name_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}

    with pytest.raises(InvalidInput, match=name):
        Query(**options)


@pytest.mark.parametrize("name", ["types", "tags"])
@pytest.mark.parametrize("value", [None, [None], [7], ["A", ""], [["A"]], len], ids=ascii)
def test_what_is_no_list_of_names_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}

    with pytest.raises(InvalidInput, match=name):
        Query(**options)


@pytest.mark.parametrize("name", ["channel", "stream", "stream_prefix"])
@pytest.mark.parametrize("value", [["a"], ("a", "b"), {"a"}], ids=ascii)
def test_a_channel_a_stream_and_a_prefix_are_one(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}

    with pytest.raises(InvalidInput, match=name):
        Query(**options)


def text() -> st.SearchStrategy[str]:
    return st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=5
    )


@given(st.lists(text(), max_size=4), st.lists(text(), max_size=4))
def test_any_text_is_a_name(types: list[str], tags: list[str]) -> None:
    (item,) = Query(types=types, tags=tags).items

    assert set(item.types) == set(types)
    assert set(item.tags) == set(tags)
