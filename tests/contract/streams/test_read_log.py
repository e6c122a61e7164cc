"""Read the log: order, the head, filters, pages."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from indelible import ANY, NO_STREAM, EventStore, InvalidInput, NewEvent, Query, StreamAppend
from indelible.streams.query_parameters import items as query_items
from tests.conftest import Connect

LONG = 6_500
"""More events than the first three pages hold."""


def happened(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


def positions(events: Any) -> list[int]:
    return [event.position for event in events]


def streams(events: Any) -> list[str]:
    return [event.stream for event in events]


@pytest.fixture
def five(store: EventStore) -> EventStore:
    """A store with one event in each of five streams."""
    for number in range(1, 6):
        store.append(f"a-{number}", happened(number), expected=NO_STREAM)
    return store


# Order and head -------------------------------------------------------------------------------


def test_the_log_is_read_in_order_of_position(five: EventStore) -> None:
    log = five.read_all()

    assert [(event.position, event.stream) for event in log] == [
        (number, f"a-{number}") for number in range(1, 6)
    ]
    assert log.head == 5


def test_an_empty_log_has_head_0(store: EventStore) -> None:
    log = store.read_all()

    assert list(log) == []
    assert log.head == 0
    assert store.head() == 0


PARTS: list[tuple[dict[str, Any], list[int]]] = [
    ({"after": 0}, [1, 2, 3, 4, 5]),
    ({"after": 3}, [4, 5]),
    ({"after": 5}, []),
    ({"after": 6}, []),
    ({"after": 2**63 - 1}, []),
    ({"limit": 0}, []),
    ({"limit": 2}, [1, 2]),
    ({"limit": 2, "after": 1}, [2, 3]),
    ({"limit": 99}, [1, 2, 3, 4, 5]),
    ({"backwards": True}, [5, 4, 3, 2, 1]),
    ({"backwards": True, "after": 3}, [5, 4]),
    ({"backwards": True, "limit": 1}, [5]),
    ({"backwards": True, "after": 1, "limit": 3}, [5, 4, 3]),
    ({"backwards": True, "after": 2**63 - 1}, []),
    ({"backwards": True, "after": 5}, []),
]


def test_a_part_of_the_log(store: EventStore) -> None:
    store.append("a-1", [happened() for _ in range(5)], expected=NO_STREAM)
    queries = [
        None,
        Query(types="Happened"),
        Query(types="Happened") | Query(types="Other"),
        Query(types="Other") | Query(),
    ]

    for options, expected in PARTS:
        for query in queries:
            assert positions(store.read_all(query, **options)) == expected, (options, query)


def test_the_head_is_the_after_of_the_next_reading(store: EventStore) -> None:
    store.append("a-1", [happened(), happened()], expected=NO_STREAM)
    first = store.read_all()
    seen = positions(first)
    store.append("a-1", [happened(), happened()], expected=1)

    second = store.read_all(after=first.head)

    assert seen + positions(second) == [1, 2, 3, 4]
    assert positions(store.read_all(after=second.head)) == []


def test_the_head_is_known_before_the_first_event_is_taken(five: EventStore) -> None:
    log = five.read_all(Query(types="Nothing"))

    assert log.head == 5
    assert list(log) == []


def test_a_reading_ends_at_the_head_it_began_with(five: EventStore) -> None:
    log = five.read_all()
    first = next(log)
    five.append("b-1", happened(), expected=NO_STREAM)

    rest = positions(log)

    assert [first.position, *rest] == [1, 2, 3, 4, 5]
    assert log.head == 5
    assert five.head() == 6


def test_the_head_stands_below_what_is_not_settled(
    five: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """A lower position may be committed later: no reader may pass it."""
    with connection.transaction():
        connection.execute(f"LOCK {schema}.append_lock IN ROW EXCLUSIVE MODE")
        connection.execute(f"SELECT {schema}.lock_head()")
        five.append("b-1", happened(), expected=NO_STREAM)
        assert five.head() == 5
        assert positions(five.read_all()) == [1, 2, 3, 4, 5]
        assert positions(five.read_all(backwards=True, limit=1)) == [5]
        assert len(list(five.read("b-1"))) == 1
    assert five.head() == 6
    assert positions(five.read_all(after=5)) == [6]


def test_positions_that_were_rolled_back_hold_nobody_back(five: EventStore) -> None:
    with pytest.raises(ZeroDivisionError), five.transaction() as transaction:
        transaction.append("b-1", [happened(), happened()], expected=NO_STREAM)
        raise ZeroDivisionError
    five.append("b-2", happened(), expected=NO_STREAM)

    assert positions(five.read_all()) == [1, 2, 3, 4, 5, 8]
    assert five.head() == 8


def test_reading_may_begin_on_a_gap(five: EventStore) -> None:
    with pytest.raises(ZeroDivisionError), five.transaction() as transaction:
        transaction.append("b-1", [happened(), happened()], expected=NO_STREAM)
        raise ZeroDivisionError
    five.append("b-2", happened(), expected=NO_STREAM)

    assert positions(five.read_all(after=5)) == [8]
    assert positions(five.read_all(after=6)) == [8]
    assert positions(five.read_all(after=7)) == [8]
    assert positions(five.read_all(after=8)) == []


def test_an_open_transaction_elsewhere_holds_no_reader_back(
    five: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """A long writing transaction that has nothing to do with the store."""
    with connection.transaction():
        connection.execute(f"CREATE TABLE {schema}.something_else AS SELECT 1 AS x")
        five.append("b-1", happened(), expected=NO_STREAM)
        assert five.head() == 6
        assert positions(five.read_all(after=5)) == [6]


def test_what_was_read_once_is_read_again(five: EventStore) -> None:
    first = list(five.read_all())
    five.append("b-1", happened(), expected=NO_STREAM)

    assert list(five.read_all())[:5] == first


# Pages ----------------------------------------------------------------------------------------


def test_a_log_longer_than_any_page_is_read_whole(store: EventStore) -> None:
    store.append("a-1", [happened(number) for number in range(LONG)], expected=NO_STREAM)

    assert positions(store.read_all()) == list(range(1, LONG + 1))
    assert positions(store.read_all(backwards=True)) == list(range(LONG, 0, -1))


@pytest.mark.parametrize("count", [LONG, 12_000])
def test_a_long_log_is_filtered_whole(sync_store: EventStore, count: int) -> None:
    sync_store.append("a-1", [happened(number) for number in range(count)], expected=NO_STREAM)

    for query in (Query(types="Happened"), Query(types="Happened") | Query(types="Other")):
        assert positions(sync_store.read_all(query)) == list(range(1, count + 1))
        assert positions(sync_store.read_all(query, backwards=True)) == list(range(count, 0, -1))


def test_limits_at_the_borders_of_pages(sync_store: EventStore) -> None:
    sync_store.append("a-1", [happened() for _ in range(LONG)], expected=NO_STREAM)
    rare = Query(types="Happened", stream_prefix="a-")

    for limit in (99, 100, 101, 1000, 1100, 1101, 6100, 6101, LONG, LONG + 1):
        for query in (None, rare):
            found = positions(sync_store.read_all(query, limit=limit))
            assert found == list(range(1, LONG + 1))[:limit]
            found = positions(sync_store.read_all(query, limit=limit, backwards=True))
            assert found == list(range(LONG, 0, -1))[:limit]


def test_rare_events_far_apart_are_found(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Between them lie more positions than a reader looks at in one statement."""
    sync_store.append("a-1", NewEvent("Rare", 1), expected=NO_STREAM)
    for number, jump in enumerate((19_998, 39_999, 120_000, 1_000_000)):
        connection.execute(f"SELECT setval('{schema}.events_position', {jump})")
        sync_store.append("a-1", [NewEvent("Rare", 1), happened()], expected=ANY)
        assert sync_store.head() == jump + 2, number

    expected = [1, 19_999, 40_000, 120_001, 1_000_001]
    for query in (Query(types="Rare"), Query(types="Rare") | Query(types="Rarest")):
        assert positions(sync_store.read_all(query)) == expected
        assert positions(sync_store.read_all(query, backwards=True)) == expected[::-1]
        assert positions(sync_store.read_all(query, limit=2, after=1)) == expected[1:3]
        assert positions(sync_store.read_all(query, limit=2, backwards=True)) == expected[:2:-1]


def test_every_page_is_full_and_nothing_comes_twice(store: EventStore) -> None:
    store.append("a-1", [happened() for _ in range(250)], expected=NO_STREAM)
    store.append_many(
        StreamAppend(f"b-{number}", NewEvent("Other", number), NO_STREAM) for number in range(250)
    )
    after, found = 0, []

    while page := list(store.read_all(Query(types="Other"), after=after, limit=7)):
        found += [event.data for event in page]
        after = page[-1].position

    assert found == list(range(250))


def test_a_reading_of_the_log_holds_no_connection(connect: Connect) -> None:
    store = connect(pool_size=1, timeout=5)
    store.append("a-1", [happened() for _ in range(300)], expected=NO_STREAM)

    for event in store.read_all():
        if event.version % 60 == 0:
            store.append(f"b-{event.version}", happened(), expected=NO_STREAM)

    assert store.head() == 305


# Filters --------------------------------------------------------------------------------------


@pytest.fixture
def mixed(sync_store: EventStore) -> EventStore:
    """Streams o-1 and d-1, d-2 of two channels; types A, B, C; tags."""
    sync_store.append_many(
        [
            StreamAppend("o-1", NewEvent("A", 1, tags=["x:1"]), NO_STREAM),
            StreamAppend("o-1", NewEvent("B", 2, tags=["x:1", "y:1"]), ANY),
            StreamAppend("d-1", NewEvent("A", 3, tags=["y:1"]), NO_STREAM),
            StreamAppend("d-1", NewEvent("C", 4), ANY),
            StreamAppend("d-2", NewEvent("B", 5, tags=["x:2", "y:1", "z:1"]), NO_STREAM, "o"),
        ]
    )
    return sync_store


MATCHES = [
    (Query(), [1, 2, 3, 4, 5]),
    (Query(types="A"), [1, 3]),
    (Query(types=["A", "C"]), [1, 3, 4]),
    (Query(types=("A", "A", "Nothing")), [1, 3]),
    (Query(types="Nothing"), []),
    (Query(types="a"), []),
    (Query(tags="y:1"), [2, 3, 5]),
    (Query(tags=["x:1", "y:1"]), [2]),
    (Query(tags=["y:1", "x:1"]), [2]),
    (Query(tags=["x:1", "x:2"]), []),
    (Query(tags="x"), []),
    (Query(channel="o"), [1, 2, 5]),
    (Query(channel="d"), [3, 4]),
    (Query(stream_prefix="d-"), [3, 4, 5]),
    (Query(stream_prefix="d-2"), [5]),
    (Query(stream_prefix="d-1x"), []),
    (Query(types="B", tags="y:1", channel="o", stream_prefix="d"), [5]),
    (Query(types="B", channel="d"), []),
    (Query(types="A") | Query(types="B"), [1, 2, 3, 5]),
    (Query(types="A", channel="o") | Query(tags="z:1"), [1, 5]),
    (Query(types="C") | Query(stream_prefix="o-") | Query(tags=["z:1", "y:1"]), [1, 2, 4, 5]),
    (Query(types="Nothing") | Query(tags="nothing"), []),
    (Query(types="A") | Query(), [1, 2, 3, 4, 5]),
    (Query(types="A") | Query(types="A"), [1, 3]),
    (Query(channel="o") | Query(channel="d"), [1, 2, 3, 4, 5]),
]


def test_a_query_gives_what_matches_it(mixed: EventStore) -> None:
    for query, expected in MATCHES:
        assert [event.data for event in mixed.read_all(query)] == expected, query
        found = [event.data for event in mixed.read_all(query, backwards=True)]
        assert found == expected[::-1], query
        assert [event.data for event in mixed.read_all(query, limit=2)] == expected[:2], query
        found = [event.data for event in mixed.read_all(query, after=2)]
        assert found == [number for number in expected if number > 2], query


@pytest.mark.usefixtures("mixed")
def test_every_function_that_is_asked_for_a_query_finds_the_same(
    connection: psycopg.Connection, schema: str
) -> None:
    """Those that look by tags, or stop early, say themselves what matches."""
    for number, (query, expected) in enumerate(MATCHES):
        items = json.dumps(query_items(query))
        condition = json.dumps([{"items": query_items(query), "after": 0, "seen": []}])
        row = connection.execute(
            f"""
            SELECT
                ARRAY(
                    SELECT recorded.position FROM {schema}.recorded_events AS recorded
                    WHERE EXISTS (
                        SELECT
                        FROM {schema}.matching_items(
                            %(items)s, recorded.type, recorded.tags, recorded.channel,
                            recorded.stream
                        )
                    )
                    ORDER BY recorded.position
                ),
                ARRAY(
                    SELECT position FROM {schema}.read_matching(%(items)s)
                    WHERE stream IS NOT NULL
                ),
                {schema}.conflicting_events(%(condition)s)
            """,
            {"items": items, "condition": condition},
        ).fetchone()
        assert row == (expected, expected, expected), query
        built = connection.execute(
            f"SELECT state FROM {schema}.projection_register("
            "%s, 1, 'tables', 'inline', %s, 1::smallint, '{}')",
            [f"inline-{number}", items],
        ).fetchone()
        assert built == ("building" if expected else "serving",), query


def test_a_query_gives_whole_events_in_both_variants(store: EventStore) -> None:
    store.append("a-1", happened(1, tags=["t:1"], metadata={"by": "ann"}), expected=NO_STREAM)
    (whole,) = store.read("a-1")

    for query in (Query(tags="t:1"), Query(types="Other") | Query(channel="a")):
        assert list(store.read_all(query)) == [whole]
        assert list(store.read_all(query, backwards=True)) == [whole]


ODD = ["%", "_", "\\", "'", '"', "{", "}", ",", "a b", "NULL", "ü", "😀", "$1", "%s", "%(a)s", "|"]


def test_no_character_of_a_query_means_another(store: EventStore) -> None:
    for odd in ODD:
        name = f"a{odd}!"
        store.append_many(
            [
                StreamAppend(name, NewEvent(name, name, tags=[name, "z"]), NO_STREAM, name),
                StreamAppend(name + "1", NewEvent("axx", name + "1", tags=["axx"]), ANY, "c"),
            ]
        )
    store.append("abc", NewEvent("abc", 0, tags=["abc", "a", "x"]), expected=NO_STREAM)

    def found(query: Query) -> list[str]:
        both = query | Query(types="none")
        assert list(store.read_all(both)) == list(store.read_all(query))
        return [event.data for event in store.read_all(query)]

    for odd in ODD:
        name = f"a{odd}!"
        assert found(Query(types=name)) == [name]
        assert found(Query(tags=name)) == [name]
        assert found(Query(channel=name)) == [name]
        assert found(Query(stream_prefix=name)) == [name, name + "1"]


WRONG: list[dict[str, Any]] = [
    {"after": -1},
    {"after": 1.0},
    {"after": None},
    {"after": True},
    {"after": 2**63},
    {"limit": -1},
    {"limit": 0.5},
    {"limit": "3"},
]


def test_wrong_bounds_are_refused_at_once(store: EventStore) -> None:
    for options in WRONG:
        (name,) = options
        with pytest.raises(InvalidInput, match=name):
            store.read_all(**options)


def test_only_a_query_is_a_query(store: EventStore) -> None:
    for wrong in ("Happened", {"types": ["A"]}, 3, ["A"]):
        query: Any = wrong
        with pytest.raises(InvalidInput, match="Query"):
            store.read_all(query)


def test_half_a_surrogate_pair_in_a_query_is_refused(sync_store: EventStore) -> None:
    for make in (
        lambda half: Query(types=half),
        lambda half: Query(tags=half),
        lambda half: Query(channel=half),
        lambda half: Query(stream_prefix=half),
    ):
        with pytest.raises(InvalidInput):
            list(sync_store.read_all(make("\ud800")))
