"""Decisions across streams: read several models, and append with their joint condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import (
    ANY,
    NO_STREAM,
    AppendConditionFailed,
    DecisionModel,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.errors import UnregisteredEventClass
from tests.conftest import Connect


def happened(number: int = 0, *tags: str, kind: str = "Happened") -> NewEvent:
    return NewEvent(kind, {"number": number}, tags=tags)


def numbers_of(tag: str, kind: str = "Happened") -> DecisionModel[tuple[int, ...]]:
    """The numbers of all events of a kind with a tag."""
    return DecisionModel(
        Query(types=kind, tags=tag),
        (),
        lambda numbers, event: (*numbers, event.data["number"]),
    )


def numbers(store: EventStore) -> list[int]:
    return [event.data["number"] for event in store.read_all()]


@pytest.fixture
def rival(sync_store: EventStore) -> EventStore:
    """Another client of the same store."""
    return sync_store


# Reading the models -------------------------------------------------------------------------------


def test_the_states_of_models_are_read_without_a_decision(store: EventStore) -> None:
    store.append("s-0", happened(1, "a:1"), expected=NO_STREAM)
    store.append("s-1", happened(2, "b:1"), expected=NO_STREAM)

    states = store.read_states(numbers_of("a:1"), numbers_of("b:1"))

    assert_type(states, tuple[tuple[int, ...], tuple[int, ...]])
    assert states == ((1,), (2,))
    with store.transaction() as transaction:
        assert transaction.read_states(numbers_of("a:1")) == ((1,),)
    with pytest.raises(InvalidInput):
        store.read_states()


def test_each_model_sees_the_events_of_its_own_query_in_order(store: EventStore) -> None:
    for number, tags in enumerate([["a:1"], ["b:1"], ["a:1", "b:1"], [], ["a:2"]]):
        store.append(f"s-{number}", happened(number, *tags), expected=NO_STREAM)
    store.append("s-9", happened(9, "a:1", kind="Other"), expected=NO_STREAM)

    with store.decide(
        numbers_of("a:1"), numbers_of("b:1"), numbers_of("c:1"), numbers_of("a:1", kind="Other")
    ) as decision:
        assert decision.states == ((0, 2), (1, 2), (), (9,))


def test_the_states_have_the_types_of_the_models(store: EventStore) -> None:
    """What is said here is checked with the types of the tests."""
    is_there = DecisionModel(Query(tags="b:1"), False, lambda _, event: True)

    with store.decide(numbers_of("a:1"), is_there) as decision:
        assert_type(decision.states, tuple[tuple[int, ...], bool])
        assert decision.states == ((), False)


def test_the_same_model_may_stand_in_a_decision_twice(store: EventStore) -> None:
    store.append("s-1", happened(1, "a:1"), expected=NO_STREAM)

    with store.decide(numbers_of("a:1"), numbers_of("a:1")) as decision:
        assert decision.states == ((1,), (1,))
        decision.append(None, happened(2, "a:1"))

    assert numbers(store) == [1, 2]


def test_a_model_may_ask_for_a_channel_for_streams_and_for_everything(store: EventStore) -> None:
    def count(query: Query) -> DecisionModel[int]:
        return DecisionModel(query, 0, lambda n, event: n + 1)

    for stream in ("a-1", "a-2", "b-1"):
        store.append(stream, happened(), expected=NO_STREAM)

    with store.decide(
        count(Query(channel="a")), count(Query(stream_prefix="b-")), count(Query())
    ) as decision:
        assert decision.states == (2, 1, 3)


def test_an_evolve_that_changes_what_it_is_given_leaves_the_model_as_it_was(
    store: EventStore,
) -> None:
    def add(numbers: list[int], event: RecordedEvent) -> list[int]:
        numbers.append(event.data["number"])
        return numbers

    model = DecisionModel(Query(tags="a:1"), list[int](), add)
    store.append("s-1", happened(1, "a:1"), expected=NO_STREAM)

    for _ in range(2):
        with store.decide(model) as decision:
            assert decision.states == ([1],)
    assert model.initial == []


LOG = [
    ("a-1", "Rose", ["x:1"]),
    ("a-1", "Fell", ["x:1", "y:1"]),
    ("a-2", "Rose", []),
    ("ab", "Rose", ["y:1"]),
    ("b-1", "Rested", ["x:1", "y:1", "z:1"]),
    ("ä%_-1", "Fell", ["x:1%"]),
]
ITEMS = st.builds(
    Query,
    types=st.lists(st.sampled_from(["Rose", "Fell", "Rested", "rose", "%"]), max_size=2),
    tags=st.lists(st.sampled_from(["x:1", "y:1", "z:1", "x:1%", "x"]), max_size=2),
    channel=st.sampled_from([None, None, "a", "b", "ä%_", "A"]),
    stream=st.sampled_from([None, None, None, "a-1", "a-", "ä%_-1"]),
    stream_prefix=st.sampled_from([None, None, "a", "a-", "b-1", "ä%", "%", "a_"]),
)


def test_a_query_says_of_an_event_what_the_store_says(sync_store: EventStore) -> None:
    for number, (stream, kind, tags) in enumerate(LOG):
        sync_store.append(stream, happened(number, *tags, kind=kind), expected=ANY)
    log = list(sync_store.read_all())
    answers = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ITEMS, min_size=1, max_size=3))
    def agrees(queries: list[Query]) -> None:
        query = queries[0]
        for other in queries[1:]:
            query |= other
        matching = [event for event in log if query.matches(event)]
        assert matching == list(sync_store.read_all(query))
        assert matching == list(sync_store.read_matching(query).events)
        answers.add(len(matching))

    agrees()
    assert answers >= {0, 1, 2, 3}, "the examples are too much alike"


# The block ----------------------------------------------------------------------------------------


def test_what_a_block_decided_is_there_when_it_ends(store: EventStore) -> None:
    with store.decide(numbers_of("a:1")) as decision:
        decision.append("s-1", [happened(1, "a:1"), happened(2)], expected=NO_STREAM)
        decision.append(None, happened(3))
        decision.append("s-2", happened(4), channel="c")
        decision.append("s-1", happened(5))
        assert numbers(store) == []
        assert decision.results == []

    assert numbers(store) == [1, 2, 3, 4, 5]
    assert [event.data["number"] for event in store.read("s-1")] == [1, 2, 5]
    assert next(store.read("s-2")).channel == "c"
    assert len(decision.results) == 4
    assert (decision.results[0].stream, decision.results[0].version) == ("s-1", 1)
    assert decision.results[-1].version == 2


def test_an_event_that_a_model_would_have_seen_is_in_the_way(
    store: EventStore, rival: EventStore
) -> None:
    for place, tag in enumerate(["a:1", "b:1"]):
        with pytest.raises(AppendConditionFailed) as refusal:
            with store.decide(numbers_of("a:1"), numbers_of("b:1")) as decision:
                came = rival.append(f"r-{place}", happened(place, tag), expected=NO_STREAM)
                decision.append("s-1", happened(9))
        assert [event.position for event in refusal.value.events] == [came.position]
        assert decision.results == []

    assert numbers(store) == [0, 1]


def test_an_event_that_no_model_would_have_seen_is_in_nobodys_way(
    store: EventStore, rival: EventStore
) -> None:
    with store.decide(numbers_of("a:1"), numbers_of("b:1")) as decision:
        rival.append("r-1", happened(0, "c:1"), expected=NO_STREAM)
        rival.append("r-2", happened(1, "a:1", kind="Other"), expected=NO_STREAM)
        decision.append(None, happened(2, "a:1", "b:1"))

    assert numbers(store) == [0, 1, 2]


def test_a_block_that_decided_nothing_sends_nothing(store: EventStore, rival: EventStore) -> None:
    with store.decide(numbers_of("a:1")) as decision:
        rival.append("r-1", happened(1, "a:1"), expected=NO_STREAM)

    assert decision.results == []
    assert numbers(store) == [1]


def test_an_error_in_the_block_sends_nothing(store: EventStore) -> None:
    with pytest.raises(LookupError):
        with store.decide(numbers_of("a:1")) as decision:
            decision.append(None, happened(1))
            raise LookupError

    assert numbers(store) == []


def test_a_wrong_version_beside_the_condition_is_refused_and_nothing_is_there(
    store: EventStore,
) -> None:
    store.append("s-1", happened(1), expected=NO_STREAM)

    with pytest.raises(WrongExpectedVersion):
        with store.decide(numbers_of("a:1")) as decision:
            decision.append("s-2", happened(2))
            decision.append("s-1", happened(3), expected=NO_STREAM)

    assert numbers(store) == [1]


def test_what_is_wrong_with_an_event_is_said_when_the_block_ends(store: EventStore) -> None:
    with pytest.raises(InvalidInput):
        with store.decide(numbers_of("a:1")) as decision:
            decision.append(None, happened(1))
            decision.append("", happened(2))

    assert numbers(store) == []


@pytest.mark.parametrize("expected", [-1, 0, NO_STREAM, None])
def test_events_without_a_stream_have_no_version_to_expect(
    store: EventStore, expected: Any
) -> None:
    with store.decide(numbers_of("a:1")) as decision:
        with pytest.raises(InvalidInput, match="no version to expect"):
            decision.append(None, happened(1), expected=expected)


def test_an_instance_of_a_class_that_is_not_registered_is_refused(store: EventStore) -> None:
    with store.decide(numbers_of("a:1")) as decision:
        with pytest.raises(UnregisteredEventClass):
            decision.append(None, object())


@dataclass(frozen=True)
class SeatTaken:
    event_tags = ("flight:{flight}",)
    flight: str


def test_an_instance_of_a_registered_class_needs_no_stream(connect: Connect) -> None:
    store = connect(events=[SeatTaken])
    seats = DecisionModel(Query(tags="flight:LH400"), 0, lambda taken, event: taken + 1)

    with store.decide(seats) as decision:
        decision.append(None, [SeatTaken("LH400"), SeatTaken("LH400"), SeatTaken("LH401")])

    assert [result.stream for result in decision.results] == [
        f"event-{event.id}" for event in store.read_all()
    ]
    with store.decide(seats) as decision:
        assert decision.states == (2,)


def test_a_decision_in_a_transaction_ends_with_it(store: EventStore) -> None:
    with pytest.raises(LookupError):
        with store.transaction() as transaction:
            with transaction.decide(numbers_of("a:1")) as decision:
                decision.append(None, happened(1, "a:1"))
            with transaction.decide(numbers_of("a:1")) as decision:
                assert decision.states == ((1,),)
                decision.append(None, happened(2, "a:1"))
            assert numbers(store) == []
            raise LookupError

    assert numbers(store) == []


def test_an_append_of_the_transactions_own_is_in_the_way_too(store: EventStore) -> None:
    with store.transaction() as transaction:
        with pytest.raises(AppendConditionFailed):
            with transaction.decide(numbers_of("a:1")) as decision:
                transaction.append("s-1", happened(1, "a:1"), expected=NO_STREAM)
                decision.append(None, happened(2))

    assert numbers(store) == [1]


# With a function ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        (None, []),
        ([], []),
        (happened(1), [1]),
        ([happened(1), happened(2)], [1, 2]),
        (StreamAppend("s-1", [happened(1), happened(2)], ANY), [1, 2]),
        ((StreamAppend("s-1", happened(1), NO_STREAM), happened(2)), [1, 2]),
    ],
    ids=["nothing", "an empty list", "an event", "events", "a part", "parts and events"],
)
def test_a_function_says_what_to_append(
    store: EventStore, decided: Any, expected: list[int]
) -> None:
    results = store.decide_with(lambda numbers: decided, numbers_of("a:1"))

    assert numbers(store) == expected
    if expected:
        assert results[-1].position == store.head()
    else:
        assert results == []


def test_a_function_is_given_what_each_model_says(store: EventStore) -> None:
    store.append("s-1", happened(1, "a:1"), expected=NO_STREAM)

    store.decide_with(
        lambda a, b: happened(len(a) * 10 + len(b)), numbers_of("a:1"), numbers_of("b:1")
    )

    assert numbers(store) == [1, 10]


def test_where_somebody_was_faster_the_function_decides_anew(
    store: EventStore, rival: EventStore
) -> None:
    seen = []

    def decide(before: tuple[int, ...]) -> NewEvent:
        seen.append(before)
        if len(seen) < 3:
            rival.append("r-1", happened(len(seen), "a:1"), expected=ANY)
        return happened(9, "a:1")

    store.decide_with(decide, numbers_of("a:1"))

    assert seen == [(), (1,), (1, 2)]
    assert numbers(store) == [1, 2, 9]


@pytest.mark.parametrize("attempts", [1, 3])
def test_after_so_many_attempts_the_refusal_is_the_callers(
    store: EventStore, rival: EventStore, attempts: int
) -> None:
    seen = []

    def decide(before: tuple[int, ...]) -> NewEvent:
        seen.append(before)
        rival.append("r-1", happened(len(seen), "a:1"), expected=ANY)
        return happened(9, "a:1")

    with pytest.raises(AppendConditionFailed) as refusal:
        store.decide_with(decide, numbers_of("a:1"), attempts=attempts)

    assert len(seen) == attempts
    assert [event.data["number"] for event in refusal.value.events] == [attempts]
    assert numbers(store) == list(range(1, attempts + 1))


def test_an_error_of_the_function_is_no_reason_to_ask_it_again(store: EventStore) -> None:
    asked = []

    def decide(before: tuple[int, ...]) -> NewEvent:
        asked.append(before)
        raise LookupError

    with pytest.raises(LookupError):
        store.decide_with(decide, numbers_of("a:1"))

    assert len(asked) == 1
    assert numbers(store) == []


def test_inside_a_transaction_a_function_decides_anew_too(
    store: EventStore, rival: EventStore
) -> None:
    seen = []

    def decide(before: tuple[int, ...]) -> NewEvent:
        seen.append(before)
        if len(seen) == 1:
            rival.append("r-1", happened(1, "a:1"), expected=ANY)
        return happened(2, "a:1")

    with store.transaction() as transaction:
        transaction.decide_with(decide, numbers_of("a:1"))

    assert seen == [(), (1,)]
    assert numbers(store) == [1, 2]


def test_a_coroutine_function_is_refused(store: EventStore) -> None:
    async def decide(before: tuple[int, ...]) -> NewEvent:
        return happened(1)

    with pytest.raises(InvalidInput, match="plain function"):
        store.decide_with(decide, numbers_of("a:1"))

    assert numbers(store) == []


# Rejected decisions -------------------------------------------------------------------------------


@pytest.mark.parametrize("models", [(), ("Happened",), (Query(types="Happened"),), (None,)])
def test_what_is_no_model_is_refused(store: EventStore, models: Any) -> None:
    with pytest.raises(InvalidInput, match="DecisionModel"):
        with store.decide(*models):
            pass
    with pytest.raises(InvalidInput, match="DecisionModel"):
        store.decide_with(lambda *states: None, *models)


@pytest.mark.parametrize("attempts", [0, -1, 1.5, True, None, "3"])
def test_what_is_no_number_of_attempts_is_refused(store: EventStore, attempts: Any) -> None:
    with pytest.raises(InvalidInput, match="attempts"):
        store.decide_with(lambda numbers: None, numbers_of("a:1"), attempts=attempts)
