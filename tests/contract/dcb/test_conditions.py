"""Append conditions, tags, and reads for a decision (G9)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    AppendConditionFailed,
    ConsistencyMarker,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.errors import UnsupportedIsolationLevel
from tests.conftest import Connect

COURSE = Query(tags="course:c1")


def tagged(*tags: str, kind: str = "Happened") -> NewEvent:
    return NewEvent(kind, {}, tags=tags)


def streams(store: EventStore) -> list[str]:
    return [event.stream for event in store.read_all()]


# Reads for a decision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(tags="course:c1"), [1, 2, 4]),
        (Query(tags=["course:c1", "student:s1"]), [2]),
        (Query(tags="course:c1", types="Other"), [4]),
        (Query(tags="course:c1") | Query(tags="student:s2"), [1, 2, 3, 4]),
        (Query(tags="course:c1", channel="b"), [2]),
        (Query(tags="course:c1", stream_prefix="b-"), [2]),
        (Query(tags="course:c1", stream="b-1"), [2]),
        (Query(tags="course:c1", stream="b-"), []),
        (Query(stream="b-1") | Query(tags="student:s2"), [2, 3]),
        (Query(tags="course:none"), []),
        (Query(types="Other"), [4, 5]),
        (Query(types="Other") | Query(tags="student:s1"), [2, 4, 5]),
        (Query(), [1, 2, 3, 4, 5]),
    ],
)
def test_what_matches_is_read_for_a_decision_and_from_the_log(
    store: EventStore, query: Query, found: list[int]
) -> None:
    store.append("a-1", tagged("course:c1"), expected=ANY)
    store.append("b-1", tagged("course:c1", "student:s1"), expected=ANY)
    store.append("a-1", tagged("student:s2"), expected=ANY)
    store.append("a-1", tagged("course:c1", kind="Other"), expected=ANY)
    store.append("a-1", tagged(kind="Other"), expected=ANY)

    matching = store.read_matching(query)

    assert [event.position for event in matching] == found
    assert len(matching) == len(found)
    assert matching.marker == ConsistencyMarker(5)
    assert [event.position for event in store.read_all(query)] == found
    assert [event.position for event in store.read_all(query, backwards=True)] == found[::-1]
    assert [event.position for event in store.read_all(query, limit=2)] == found[:2]
    assert [event.position for event in store.read_all(query, after=2)] == [
        position for position in found if position > 2
    ]


def test_the_marker_of_an_empty_store_is_before_everything(store: EventStore) -> None:
    assert store.read_matching(COURSE).marker == ConsistencyMarker(0)


def test_what_stands_above_the_head_is_read_and_in_the_marker(
    store: EventStore, url: str, connect: Connect
) -> None:
    store.append("a-1", tagged("course:c1"), expected=ANY)
    with psycopg.connect(url) as other:
        held = connect_sync(url, connect).bind(other)
        held.append("slow-1", tagged("course:c2"), expected=ANY)
        store.append("a-1", tagged("course:c1"), expected=ANY)
        matching = store.read_matching(COURSE)
    assert [event.version for event in matching] == [0, 1]
    assert matching.marker == ConsistencyMarker(1, frozenset({3}))


def connect_sync(url: str, connect: Connect) -> EventStore:
    return EventStore.connect(url, schema=connect._schema, pool_size=1)


# Conditions ---------------------------------------------------------------------------------------


def test_an_append_whose_condition_holds_is_stored(store: EventStore) -> None:
    store.append("a-1", tagged("course:c1"), expected=ANY)
    marker = store.read_matching(COURSE).marker
    store.append("a-1", tagged("course:c2"), expected=ANY)

    result = store.append(
        "a-2", tagged("course:c1"), condition=AppendCondition(COURSE, after=marker)
    )

    assert (result.stream, result.version) == ("a-2", 0)


def test_an_append_whose_condition_does_not_hold_stores_nothing_and_says_what_came(
    store: EventStore,
) -> None:
    marker = store.read_matching(COURSE).marker
    other = store.append("a-1", tagged("course:c1"), expected=ANY)
    before = store.stats().last_position

    with pytest.raises(AppendConditionFailed) as refusal:
        store.append("a-2", tagged("course:c1"), condition=AppendCondition(COURSE, after=marker))

    (in_the_way,) = refusal.value.events
    assert (in_the_way.position, in_the_way.stream) == (other.position, "a-1")
    assert "a-1" in str(refusal.value)
    assert streams(store) == ["a-1"]
    assert store.stats().last_position == before


@pytest.mark.parametrize(
    "query",
    [
        Query(tags="course:c1"),
        Query(tags=["student:s1", "course:c1"]),
        Query(tags="course:c1", types="Happened"),
        Query(tags="course:c1", channel="a", stream_prefix="a-"),
        Query(tags="course:c1", stream="a-1"),
        Query(stream="a-1"),
        Query(types="Happened"),
        Query(channel="a"),
        Query(),
        Query(tags="x:y") | Query(tags="student:s1"),
        Query(types="Other") | Query(tags="student:s1"),
    ],
)
def test_a_condition_sees_whatever_its_query_matches(store: EventStore, query: Query) -> None:
    condition = AppendCondition(query, after=store.read_matching(query).marker)
    store.append("a-1", tagged("course:c1", "student:s1"), expected=ANY)
    with pytest.raises(AppendConditionFailed):
        store.append("b-1", tagged(), condition=condition)
    store.append("b-1", tagged(), condition=AppendCondition(query, after=store.head()))


@pytest.mark.parametrize(
    "query",
    [
        Query(tags=["course:c1", "student:s2"]),
        Query(tags="course:c1", types="Other"),
        Query(tags="course:c1", channel="b"),
        Query(types="Other"),
        Query(stream_prefix="b"),
        Query(stream="a-"),
        Query(tags="course:c1", stream="a-10"),
    ],
)
def test_a_condition_is_not_failed_by_what_its_query_does_not_match(
    store: EventStore, query: Query
) -> None:
    store.append("a-1", tagged("course:c1", "student:s1"), expected=ANY)
    assert store.append("c-1", tagged(), condition=AppendCondition(query, after=0)).version == 0


def test_after_0_says_that_there_is_no_such_event_at_all(store: EventStore) -> None:
    taken = AppendCondition(Query(tags="name:ann"), after=0)
    store.append(None, tagged("name:ann"), condition=taken)
    with pytest.raises(AppendConditionFailed):
        store.append(None, tagged("name:ann"), condition=taken)


def test_each_of_several_conditions_must_hold(store: EventStore) -> None:
    store.append("a-1", tagged("course:c1"), expected=ANY)
    free = AppendCondition(Query(tags="course:c2"), after=0)
    taken = AppendCondition(COURSE, after=0)
    assert store.append("b-1", tagged(), condition=[free]).version == 0
    for conditions in ([free, taken], [taken, free]):
        with pytest.raises(AppendConditionFailed):
            store.append("b-1", tagged(), condition=conditions)


def test_a_condition_stands_beside_an_expected_version_and_several_streams(
    store: EventStore,
) -> None:
    free = AppendCondition(COURSE, after=0)
    with pytest.raises(WrongExpectedVersion):
        store.append("a-1", tagged(), expected=3, condition=free)
    results = store.append_many(
        [
            StreamAppend("a-1", tagged("course:c1"), NO_STREAM),
            StreamAppend("b-1", [tagged(), tagged()], ANY),
        ],
        condition=free,
    )
    assert [(result.stream, result.version) for result in results] == [("a-1", 0), ("b-1", 1)]
    with pytest.raises(AppendConditionFailed):
        store.append_many([StreamAppend("c-1", tagged(), ANY)], condition=free)
    assert store.stream("c-1") is None


def test_what_was_seen_above_the_head_is_not_held_against_the_decision(
    store: EventStore, url: str, connect: Connect
) -> None:
    with psycopg.connect(url) as other:
        held = connect_sync(url, connect).bind(other)
        held.append("slow-1", tagged("course:c2"), expected=ANY)
        store.append("a-1", tagged("course:c1"), expected=ANY)
        matching = store.read_matching(COURSE)
        condition = AppendCondition(COURSE, after=matching.marker)
        store.append("a-1", tagged("course:c1"), condition=condition)
        with pytest.raises(AppendConditionFailed):
            store.append("a-1", tagged("course:c1"), condition=condition)


def test_a_retry_of_a_conditional_append_is_the_same_success(store: EventStore) -> None:
    event = tagged("course:c1")
    condition = AppendCondition(COURSE, after=0)
    first = store.append("a-1", event, condition=condition)
    again = store.append("a-1", event, condition=condition)
    assert (again.position, again.version, again.idempotent) == (first.position, 0, True)
    assert store.append("a-1", event, expected=NO_STREAM, condition=condition).idempotent
    with pytest.raises(DuplicateEvent):
        store.append("b-1", event, condition=condition)
    with pytest.raises(DuplicateEvent):
        store.append("a-1", [event, tagged()], condition=condition)


def test_a_refusal_inside_a_transaction_leaves_it_usable(store: EventStore) -> None:
    with store.transaction() as transaction:
        transaction.append("a-1", tagged("course:c1"), expected=ANY)
        with pytest.raises(AppendConditionFailed):
            transaction.append("a-2", tagged(), condition=AppendCondition(COURSE, after=0))
        marker = transaction.read_matching(COURSE).marker
        transaction.append("a-3", tagged(), condition=AppendCondition(COURSE, after=marker))
    assert streams(store) == ["a-1", "a-3"]


@pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]
)
def test_a_condition_is_refused_where_the_snapshot_may_be_stale(
    sync_store: EventStore, url: str, level: psycopg.IsolationLevel
) -> None:
    with psycopg.connect(url) as connection:
        connection.isolation_level = level
        bound = sync_store.bind(connection)
        with pytest.raises(UnsupportedIsolationLevel):
            bound.append("a-1", tagged(), condition=AppendCondition(COURSE, after=0))
    assert streams(sync_store) == []


# Events without a stream --------------------------------------------------------------------------


def test_events_without_a_stream_each_get_one_of_their_own(store: EventStore) -> None:
    one, two = tagged("course:c1"), tagged("course:c1")
    result = store.append(None, [one, two])
    assert result.stream == f"event-{two.id}"
    assert streams(store) == [f"event-{one.id}", f"event-{two.id}"]
    assert {event.channel for event in store.read_all()} == {"event"}
    assert store.append(None, [one, two]).idempotent
    assert store.append(None, tagged(), channel="courses").version == 0


def test_what_makes_no_sense_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="expected is required"):
        store.append("a-1", tagged())
    with pytest.raises(InvalidInput, match="without a stream have no version"):
        store.append(None, tagged(), expected=3)
    with pytest.raises(InvalidInput, match="at least one event"):
        store.append(None, [])
    with pytest.raises(InvalidInput, match="AppendCondition"):
        store.append("a-1", tagged(), condition="x")
    with pytest.raises(InvalidInput, match="Query"):
        store.read_matching(None)
    with pytest.raises(InvalidInput, match="Query"):
        AppendCondition("course:c1", after=0)
    for after in (-1, True, "5", None):
        with pytest.raises(InvalidInput, match="ConsistencyMarker"):
            AppendCondition(COURSE, after=after)
    assert streams(store) == []


# Tags of a class ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscribed:
    course: str
    student: int
    coupon: str | None = None

    event_tags = ("course:{course}", "student:{student}", "coupon:{coupon}")


def test_a_class_declares_the_tags_of_its_events(connect: Connect) -> None:
    store = connect(events=[Subscribed])
    store.append("a-1", Subscribed("c1", 7), expected=ANY)
    store.append(
        "a-1", NewEvent("Subscribed", Subscribed("c1", 8, "x"), tags=["own:1"]), expected=ANY
    )
    assert [event.tags for event in store.read("a-1")] == [
        ("course:c1", "student:7"),
        ("coupon:x", "course:c1", "own:1", "student:8"),
    ]
    assert len(store.read_matching(Query(tags=["course:c1", "student:8"]))) == 1


def test_a_tag_that_names_no_field_is_refused(connect: Connect) -> None:
    @dataclass(frozen=True)
    class Wrong:
        course: str
        event_tags = ("course:{kourse}",)

    with pytest.raises(InvalidInput, match="kourse"):
        connect(events=[Wrong])


# Conditions that are probably mistakes ----------------------------------------------------------


@pytest.mark.parametrize("query", [COURSE, Query(types="Happened")], ids=["tags", "types"])
def test_a_condition_after_a_position_that_was_never_handed_out_is_refused(
    store: EventStore, query: Query
) -> None:
    store.append("a-1", tagged("course:c1"), expected=ANY)
    beyond = AppendCondition(query, after=10**9)

    for append in (
        lambda: store.append("a-2", tagged("course:c1"), condition=beyond),
        lambda: store.append_many([StreamAppend("a-2", tagged(), ANY)], condition=beyond),
    ):
        with pytest.raises(InvalidInput, match=r"after position 1000000000, but .* is 1"):
            append()
    assert streams(store) == ["a-1"]


def condition_of(**changes: object) -> list[dict[str, object]]:
    """A condition of one item, with some of its parts changed, or left out where they are `...`."""
    condition = {"items": [{"tags": ["course:c1"]}], "after": 0, "seen": [], **changes}
    return [{name: part for name, part in condition.items() if part is not ...}]


UNCLEAR_CONDITIONS: dict[str, object] = {
    "no list": condition_of()[0],
    "null": None,
    "a list in the list": [condition_of()],
    "a text": ["course:c1"],
    "no items": condition_of(items=...),
    "an empty list of items": condition_of(items=[]),
    "items that are no list": condition_of(items={"tags": ["course:c1"]}),
    "an item that is no object": condition_of(items=["course:c1"]),
    "items in a list": condition_of(items=[[{"tags": ["course:c1"]}]]),
    "an unknown key in an item": condition_of(items=[{"tag": ["course:c1"]}]),
    "an unknown key beside others": condition_of(items=[{"tags": ["course:c1"], "type": ["A"]}]),
    "tags that are a text": condition_of(items=[{"tags": "course:c1"}]),
    "an empty list of tags": condition_of(items=[{"tags": []}]),
    "a tag that is no text": condition_of(items=[{"tags": ["course:c1", 1]}]),
    "a tag that is null": condition_of(items=[{"tags": [None]}]),
    "tags in a list": condition_of(items=[{"tags": [["course:c1"]]}]),
    "an empty list of types": condition_of(items=[{"tags": ["course:c1"], "types": []}]),
    "types that are an object": condition_of(items=[{"tags": ["course:c1"], "types": {}}]),
    "a channel that is no text": condition_of(items=[{"tags": ["course:c1"], "channel": 1}]),
    "a prefix that is a list": condition_of(items=[{"tags": ["c:1"], "stream_prefix": ["a"]}]),
    "no after": condition_of(after=...),
    "an after that is null": condition_of(after=None),
    "an after that is a text": condition_of(after="0"),
    "an after below zero": condition_of(after=-1),
    "an after beyond the log": condition_of(after=7),
    "an after in a list": condition_of(after=[0]),
    "no seen": condition_of(seen=...),
    "a seen that is null": condition_of(seen=None),
    "a seen that is a number": condition_of(seen=1),
    "a seen position that is a text": condition_of(seen=["1"]),
    "an unknown key": condition_of(afters=1),
}


@pytest.mark.parametrize("conditions", UNCLEAR_CONDITIONS.values(), ids=UNCLEAR_CONDITIONS.keys())
def test_a_condition_that_is_not_clear_is_refused_by_the_functions(
    connection: psycopg.Connection, schema: str, conditions: object
) -> None:
    append = {"stream": "a-1", "channel": None, "expected": -2}
    append["events"] = [{"id": str(NewEvent("x", {}).id), "type": "T", "data": 1}]  # type: ignore[assignment]
    together = json.dumps([append | {"conditions": conditions}])
    for call, sent in (
        ("append_conditional(%s, %s)", [json.dumps([append]), json.dumps(conditions)]),
        ("append_batch(%s)", [together]),
    ):
        with pytest.raises(psycopg.DatabaseError) as refusal:
            connection.execute(f"SELECT * FROM {schema}.{call}", sent)
        assert refusal.value.sqlstate == "IND04"
        assert refusal.value.diag.message_hint is not None
    assert connection.execute(f"SELECT * FROM {schema}.events").fetchall() == []


def test_a_batch_takes_no_condition_without_tags(
    connection: psycopg.Connection, schema: str
) -> None:
    """It would have to lock out all others; alone it does."""
    append = {"stream": "a-1", "channel": None, "expected": -2}
    append["events"] = [{"id": str(NewEvent("x", {}).id), "type": "T", "data": 1}]  # type: ignore[assignment]
    conditions = condition_of(items=[{"tags": ["k:1"]}, {"types": ["Other"]}])
    together = json.dumps([append | {"conditions": conditions}])
    with pytest.raises(psycopg.DatabaseError, match="names no tags") as refusal:
        connection.execute(f"SELECT * FROM {schema}.append_batch(%s)", [together])
    assert refusal.value.sqlstate == "IND04"
    (row,) = connection.execute(
        f"SELECT outcome FROM {schema}.append_conditional(%s, %s)",
        [json.dumps([append]), json.dumps(conditions)],
    )
    assert row == ("appended",)


# The index ----------------------------------------------------------------------------------------


def test_the_index_of_tags_has_what_events_have_whatever_way_they_came(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store.append("a-1", [tagged("k:1", "k:2"), tagged(), tagged("k:1")], expected=ANY)
    store.append_many(
        [StreamAppend("a-2", tagged("k:1"), ANY), StreamAppend("a-3", tagged("k:3"), ANY)]
    )
    store.append("a-4", tagged("k:4"), condition=AppendCondition(Query(tags="k:4"), after=0))
    connection.execute(
        f"SELECT * FROM {schema}.append_batch(%s)",
        [
            '[{"stream":"a-5","channel":null,"expected":-2,"events":[{"id":'
            f'"{NewEvent("x", {}).id}","type":"T","data":1,"tags":["k:1","k:5"]}}]}},'
            '{"stream":"a-6","channel":null,"expected":-2,"events":[{"id":'
            f'"{NewEvent("x", {}).id}","type":"T","data":1}}]}}]'
        ],
    )
    indexed = connection.execute(
        f"SELECT position, tag FROM {schema}.event_tags ORDER BY position, tag"
    ).fetchall()
    expected = [(event.position, tag) for event in store.read_all() for tag in event.tags]
    assert indexed == expected
    assert len(expected) == 8


def test_the_index_of_tags_is_immutable(connection: psycopg.Connection, schema: str) -> None:
    for change in ("DELETE FROM", "TRUNCATE"):
        with pytest.raises(psycopg.DatabaseError) as refusal:
            connection.execute(f"{change} {schema}.event_tags")
        assert refusal.value.sqlstate == "IND01"


def test_positions_of_moments_in_time_zones_do_not_matter(store: EventStore) -> None:
    event = NewEvent("Happened", {}, tags=["k:1"], valid_at=datetime(2024, 1, 1, tzinfo=UTC))
    store.append("a-1", event, condition=AppendCondition(Query(tags="k:1"), after=0))
    assert [found.valid_at for found in store.read_matching(Query(tags="k:1"))] == [event.valid_at]
