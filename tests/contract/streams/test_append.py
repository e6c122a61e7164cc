"""Append to one stream: expected versions, idempotent retries, channels, positions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from indelible import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    RecordedEvent,
    WrongExpectedVersion,
)
from indelible.errors import ChannelMismatch
from indelible.events import ExpectedVersion
from tests.conftest import Connect

Expected = int | ExpectedVersion


def happened(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


def numbers(store: EventStore, stream: str) -> list[int]:
    return [event.data["number"] for event in store.read(stream)]


def handed_out(store: EventStore) -> int:
    return store.stats().last_position


# What is stored -------------------------------------------------------------------------------


def test_an_event_comes_back_as_it_was_given(store: EventStore) -> None:
    valid_at = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5)))
    event = NewEvent(
        "DeliveryCanceled",
        {"reason": "no driver", "items": [1, 2.5, None, True, "ä\u2028😀"], "nested": {"": {}}},
        metadata={"by": "ann", "trace": [1, {"a": None}]},
        tags=["order:17", "city:köln"],
        valid_at=valid_at,
    )

    result = store.append("delivery-1", event, expected=NO_STREAM)

    (stored,) = store.read("delivery-1")
    assert stored == RecordedEvent(
        position=1,
        stream="delivery-1",
        version=0,
        id=event.id,
        type="DeliveryCanceled",
        data=event.data,
        metadata=dict(event.metadata),
        tags=("city:köln", "order:17"),
        channel="delivery",
        recorded_at=result.recorded_at,
        valid_at=valid_at,
    )
    assert list(store.read_all()) == [stored]


def test_what_is_not_given_has_a_default(store: EventStore) -> None:
    store.append("delivery-1", NewEvent("Happened", None), expected=NO_STREAM)

    (stored,) = store.read("delivery-1")
    assert stored.data is None
    assert stored.metadata == {}
    assert stored.tags == ()
    assert stored.valid_at == stored.recorded_at
    assert stored.recorded_at.tzinfo is UTC
    assert stored.id.version == 7


def test_any_json_is_data(store: EventStore) -> None:
    given: list[Any] = ["", "text", 0, -1, 1.5, True, [], {}, [[]], {"": ""}, None]

    store.append("a-1", [NewEvent("Happened", data) for data in given], expected=ANY)

    stored = [event.data for event in store.read("a-1")]
    assert stored == given
    assert [type(data) for data in stored] == [type(data) for data in given]


def test_the_time_of_recording_is_that_of_the_append(store: EventStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)

    result = store.append("a-1", happened(), expected=NO_STREAM)

    assert before < result.recorded_at < datetime.now(UTC) + timedelta(seconds=1)


def test_metadata_of_the_call_is_that_of_each_event_and_its_own_wins(store: EventStore) -> None:
    store.append(
        "a-1",
        [happened(), happened(metadata={"by": "bob", "why": 1})],
        expected=NO_STREAM,
        metadata={"by": "ann", "trace": "t"},
    )

    assert [event.metadata for event in store.read("a-1")] == [
        {"by": "ann", "trace": "t"},
        {"by": "bob", "trace": "t", "why": 1},
    ]


def test_tags_are_kept_once_and_in_order(store: EventStore) -> None:
    tags = ["b:2", "a:1", "b:2", 'odd:{"x",\\ NULL}', "NULL", "ü:1"]

    store.append("a-1", happened(tags=tags), expected=NO_STREAM)

    (stored,) = store.read("a-1")
    assert stored.tags == tuple(sorted(set(tags)))


def test_the_result_is_that_of_the_last_event(store: EventStore) -> None:
    result = store.append("a-1", [happened(0), happened(1), happened(2)], expected=NO_STREAM)

    assert (result.stream, result.version, result.position) == ("a-1", 2, 3)
    assert result.idempotent is False
    assert [event.recorded_at for event in store.read("a-1")] == [result.recorded_at] * 3


def test_a_long_list_keeps_its_order_and_its_positions_follow_each_other(
    store: EventStore,
) -> None:
    store.append("b-1", happened(), expected=NO_STREAM)

    result = store.append("a-1", [happened(number) for number in range(2_500)], expected=NO_STREAM)

    events = list(store.read("a-1"))
    assert [event.data["number"] for event in events] == list(range(2_500))
    assert [event.version for event in events] == list(range(2_500))
    assert [event.position for event in events] == list(range(2, 2_502))
    assert (result.version, result.position) == (2_499, 2_501)


def test_lists_and_tuples_are_many_events(store: EventStore) -> None:
    store.append("a-1", (happened(0), happened(1)), expected=NO_STREAM)

    assert numbers(store, "a-1") == [0, 1]


def test_positions_start_at_1_and_go_on_over_all_streams(store: EventStore) -> None:
    positions = [
        store.append(stream, happened(), expected=ANY).position for stream in ("a", "b", "a", "c")
    ]

    assert positions == [1, 2, 3, 4]


ODD_NAMES = [
    "a",
    "with space",
    "quote'\"`",
    "back\\slash",
    "100%_sure",
    "semi;--colon",
    "ünï-😀",
    "-",
    "x" * 255,
    "😀" * 255,
    "1$ %s %(a)s {b}",
    " lead and trail ",
]


def test_odd_names_are_names(store: EventStore) -> None:
    for name in ODD_NAMES:
        store.append(name, NewEvent(name, {}, tags=[name]), expected=NO_STREAM, channel=name)

    for name in ODD_NAMES:
        (stored,) = store.read(name)
        assert (stored.stream, stored.type, stored.tags, stored.channel) == (
            name,
            name,
            (name,),
            name,
        )
        info = store.stream(name)
        assert info is not None
        assert info.stream == name
    assert sorted(info.stream for info in store.streams()) == sorted(ODD_NAMES)


def test_names_that_differ_in_case_or_composition_are_different_streams(store: EventStore) -> None:
    names = ["a", "A", "a ", "\u00e9", "e\u0301"]

    for number, name in enumerate(names):
        store.append(name, happened(number), expected=NO_STREAM)

    assert [numbers(store, name) for name in names] == [[0], [1], [2], [3], [4]]


# Expected versions ----------------------------------------------------------------------------


def test_the_expected_version_has_no_default(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="expected is required"):
        store.append("a-1", happened())
    assert numbers(store, "a-1") == []


def test_a_stream_never_written_takes_its_first_event_at_version_0(store: EventStore) -> None:
    for expected in (-1, NO_STREAM, ANY):
        assert store.append(f"a{expected}", happened(), expected=expected).version == 0


def test_a_stream_never_written_refuses_what_expects_events(store: EventStore) -> None:
    for expected in (0, 1, 7, 2**62, 2**63 - 1, STREAM_EXISTS):
        with pytest.raises(WrongExpectedVersion) as refusal:
            store.append("a-1", happened(), expected=expected)
        error = refusal.value
        assert (error.stream, error.actual) == ("a-1", -1)
        assert (error.last_event_id, error.last_recorded_at) == (None, None)
        assert store.stream("a-1") is None


def test_a_stream_takes_what_expects_its_version(store: EventStore) -> None:
    store.append("a-1", [happened(0), happened(1)], expected=NO_STREAM)

    for number, expected in enumerate((1, ANY, STREAM_EXISTS, 4), start=2):
        assert store.append("a-1", happened(number), expected=expected).version == number

    assert numbers(store, "a-1") == [0, 1, 2, 3, 4, 5]


def test_a_stream_refuses_what_expects_another_version(store: EventStore) -> None:
    last = happened(1)
    result = store.append("a-1", [happened(0), last], expected=NO_STREAM)
    attempts: list[tuple[Expected, Expected]] = [
        (-1, NO_STREAM),
        (NO_STREAM, NO_STREAM),
        (0, 0),
        (2, 2),
        (2**63 - 1, 2**63 - 1),
    ]

    for expected, said in attempts:
        with pytest.raises(WrongExpectedVersion) as refusal:
            store.append("a-1", [happened(2), happened(3)], expected=expected)
        error = refusal.value
        assert (error.stream, error.expected, error.actual) == ("a-1", said, 1)
        assert (error.last_event_id, error.last_recorded_at) == (last.id, result.recorded_at)
        assert len(error.conflicts) == 1
        for fact in (
            "'a-1'",
            said.name if isinstance(said, ExpectedVersion) else str(said),
            "version 1",
            str(last.id),
            "Nothing of this append was stored",
        ):
            assert fact in str(error)

    assert numbers(store, "a-1") == [0, 1]


def test_what_a_conflict_says_is_what_the_next_attempt_needs(store: EventStore) -> None:
    store.append("a-1", [happened(0), happened(1)], expected=NO_STREAM)

    with pytest.raises(WrongExpectedVersion) as refusal:
        store.append("a-1", happened(9), expected=0)
    store.append("a-1", happened(2), expected=refusal.value.actual)

    assert numbers(store, "a-1") == [0, 1, 2]


def test_a_stream_never_written_needs_no_special_case(store: EventStore) -> None:
    """The version read (-1 for no events) goes straight back in."""
    version = -1
    for event in store.read("a-1"):
        version = event.version

    assert store.append("a-1", happened(), expected=version).version == 0


def test_a_refused_append_burns_no_position(store: EventStore) -> None:
    first = happened(0)
    store.append("a-1", first, expected=NO_STREAM)

    for expected in (NO_STREAM, 1, 3):
        with pytest.raises(WrongExpectedVersion):
            store.append("a-1", [happened(), happened()], expected=expected)
    with pytest.raises(DuplicateEvent):
        store.append("a-1", [happened(), first], expected=0)
    with pytest.raises(DuplicateEvent):
        store.append("b-1", [first, happened()], expected=ANY)
    with pytest.raises(ChannelMismatch):
        store.append("a-1", happened(), expected=ANY, channel="other")
    store.append("a-1", first, expected=NO_STREAM)

    assert handed_out(store) == 1
    assert store.append("b-1", happened(), expected=ANY).position == 2
    assert store.stream("a-1") is not None
    assert [event.position for event in store.read_all()] == [1, 2]


def test_a_refused_append_leaves_no_stream_behind(store: EventStore) -> None:
    known = happened()
    store.append("a-1", known, expected=NO_STREAM)

    for expected in (0, STREAM_EXISTS):
        with pytest.raises(WrongExpectedVersion):
            store.append("b-1", happened(), expected=expected)
    for attempt in (-1, ANY):
        with pytest.raises(DuplicateEvent):
            store.append("b-1", known, expected=attempt)

    assert [info.stream for info in store.streams()] == ["a-1"]
    assert store.stats().streams == 1


def test_an_append_with_a_bad_event_at_its_end_stores_none_of_it(store: EventStore) -> None:
    """A list append that fails in the middle must not leave a part behind."""
    with pytest.raises(InvalidInput):
        store.append("a-1", [happened(0), happened(1), NewEvent("", {})], expected=NO_STREAM)

    assert store.stream("a-1") is None


# Idempotent retries ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_a_retry_gives_the_first_result_and_writes_nothing(store: EventStore, count: int) -> None:
    made: list[tuple[int, Expected]] = [
        (0, -1),
        (0, NO_STREAM),
        (0, ANY),
        (2, 1),
        (2, ANY),
        (2, STREAM_EXISTS),
    ]
    for place, (before, expected) in enumerate(made):
        stream = f"a-{place}"
        if before:
            store.append(stream, [happened() for _ in range(before)], expected=NO_STREAM)
        events = [
            happened(number, metadata={"n": number}, tags=[f"n:{number}"])
            for number in range(count)
        ]
        first = store.append(stream, events, expected=expected)
        last_position = handed_out(store)

        again = store.append(stream, events, expected=expected)

        assert first.idempotent is False
        assert again == replace(first, idempotent=True)
        assert handed_out(store) == last_position
        assert len(list(store.read(stream))) == before + count
        info = store.stream(stream)
        assert info is not None
        assert info.version == before + count - 1


def test_a_retry_is_known_although_the_stream_went_on(store: EventStore) -> None:
    for number, expected in enumerate((0, ANY, STREAM_EXISTS)):
        stream = f"a-{number}"
        store.append(stream, happened(0), expected=NO_STREAM)
        events = [happened(1), happened(2)]
        first = store.append(stream, events, expected=expected)
        store.append(stream, [happened(3), happened(4)], expected=2)

        assert store.append(stream, events, expected=expected) == replace(first, idempotent=True)

        assert numbers(store, stream) == [0, 1, 2, 3, 4]


def test_a_retry_may_follow_a_retry(store: EventStore) -> None:
    event = happened()
    results = [store.append("a-1", event, expected=ANY) for _ in range(4)]

    assert [result.idempotent for result in results] == [False, True, True, True]
    assert len({result.position for result in results}) == 1


def test_after_a_retry_the_version_is_what_it_was(store: EventStore) -> None:
    """The attempt's lock on the stream must leave its version as it found it."""
    event = happened(0)
    store.append("a-1", event, expected=ANY)
    store.append("a-1", event, expected=ANY)

    store.append("a-1", happened(1), expected=0)

    assert [stored.version for stored in store.read("a-1")] == [0, 1]


def test_a_retry_with_everything_that_an_event_may_have_is_known(store: EventStore) -> None:
    event = NewEvent(
        "Happened",
        {"b": 1e300, "a": [1.0, 0.0, 10**25], "z": None, "ä": {"y": 1, "x": 2}},
        metadata={"n": 1.5, "none": None},
        tags=["b:1", "a:1"],
        valid_at=datetime(1900, 1, 1, 1, 2, 3, 456_789, tzinfo=timezone(timedelta(hours=-11))),
    )
    store.append("a-1", event, expected=NO_STREAM, metadata={"by": "ann"})

    again = NewEvent(
        event.type,
        dict(reversed(event.data.items())),
        metadata=dict(event.metadata),
        id=UUID(str(event.id)),
        tags=["a:1", "b:1", "a:1"],
        valid_at=event.valid_at and event.valid_at.astimezone(UTC),
    )

    assert store.append("a-1", again, expected=NO_STREAM, metadata={"by": "ann"}).idempotent


def test_a_retry_with_a_set_is_known_whatever_order_the_set_has(store: EventStore) -> None:
    """The same values come out of a set in another order in another process."""
    id_ = uuid4()
    store.append("a-1", NewEvent("Happened", {"of": {0, 8}}, id=id_), expected=NO_STREAM)

    again = store.append("a-1", NewEvent("Happened", {"of": {8, 0}}, id=id_), expected=NO_STREAM)

    assert list({0, 8}) != list({8, 0}), "the example is none"
    assert again.idempotent


def test_a_retry_at_another_expected_version_is_a_duplicate(store: EventStore) -> None:
    store.append("a-1", happened(0), expected=NO_STREAM)
    event = happened(1)
    store.append("a-1", event, expected=0)

    for expected in (-1, 1, 5):
        with pytest.raises(DuplicateEvent):
            store.append("a-1", event, expected=expected)

    assert numbers(store, "a-1") == [0, 1]


def test_an_id_is_not_taken_again_because_the_version_is_right(store: EventStore) -> None:
    event = happened(0)
    store.append("a-1", event, expected=NO_STREAM)

    with pytest.raises(DuplicateEvent) as refusal:
        store.append("a-1", event, expected=0)

    (duplicate,) = refusal.value.duplicates
    assert (duplicate.id, duplicate.stream, duplicate.version) == (event.id, "a-1", 0)
    assert duplicate.same_content
    assert str(event.id) in str(refusal.value)
    assert numbers(store, "a-1") == [0]


def test_an_id_is_not_taken_in_a_second_stream(store: EventStore) -> None:
    event = happened(0)
    store.append("a-1", event, expected=NO_STREAM)

    for expected in (NO_STREAM, ANY):
        with pytest.raises(DuplicateEvent) as refusal:
            store.append("b-1", event, expected=expected)
        (duplicate,) = refusal.value.duplicates
        assert (duplicate.stream, duplicate.version) == ("a-1", 0)
        assert store.stream("b-1") is None


EVERY_EXPECTATION: list[Expected] = [NO_STREAM, ANY, STREAM_EXISTS, -1, 0, 1, 2]


def test_some_ids_there_and_some_not_are_duplicates(store: EventStore) -> None:
    for number, known in enumerate([[0], [1], [0, 1], [1, 2]]):
        stream = f"a-{number}"
        events = [happened(number) for number in range(3)]
        store.append(stream, [events[number] for number in known], expected=NO_STREAM)

        for expected in EVERY_EXPECTATION:
            with pytest.raises(DuplicateEvent) as refusal:
                store.append(stream, events, expected=expected)
            assert [duplicate.id for duplicate in refusal.value.duplicates] == [
                events[number].id for number in known
            ]

        assert numbers(store, stream) == known


def test_the_same_ids_in_another_order_are_duplicates(store: EventStore) -> None:
    events = [happened(number) for number in range(3)]
    store.append("a-1", events, expected=NO_STREAM)

    for order in ([1, 0, 2], [2, 1, 0], [0, 2, 1], [0, 2], [2, 0]):
        for expected in EVERY_EXPECTATION:
            with pytest.raises(DuplicateEvent):
                store.append("a-1", [events[number] for number in order], expected=expected)

    assert numbers(store, "a-1") == [0, 1, 2]


def test_ids_that_do_not_stand_next_to_each_other_are_duplicates(store: EventStore) -> None:
    first, second = happened(0), happened(2)
    store.append("a-1", first, expected=NO_STREAM)
    store.append("a-1", happened(1), expected=0)
    store.append("a-1", second, expected=1)

    for expected in EVERY_EXPECTATION:
        with pytest.raises(DuplicateEvent):
            store.append("a-1", [first, second], expected=expected)


CONTENT: dict[str, Any] = {
    "type": "Happened",
    "data": {"number": 1},
    "metadata": {"by": "ann"},
    "tags": ["a:1", "b:2"],
    "valid_at": datetime(2024, 1, 1, tzinfo=UTC),
}
OTHER_CONTENT: list[dict[str, Any]] = [
    {"type": "Other"},
    {"data": {"number": 2}},
    {"data": {"number": "1"}},
    {"data": {"number": 1, "more": None}},
    {"data": None},
    {"metadata": {"by": "bob"}},
    {"metadata": {}},
    {"tags": ["a:1"]},
    {"tags": ["a:1", "b:2", "c:3"]},
    {"tags": []},
    {"valid_at": datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
    {"valid_at": None},
]


def test_other_content_under_the_same_id_is_a_duplicate(store: EventStore) -> None:
    id_ = uuid4()
    store.append("a-1", NewEvent(**CONTENT, id=id_), expected=NO_STREAM)

    for other in OTHER_CONTENT:
        for expected in EVERY_EXPECTATION:
            with pytest.raises(DuplicateEvent) as refusal:
                store.append("a-1", NewEvent(**{**CONTENT, **other}, id=id_), expected=expected)
            (duplicate,) = refusal.value.duplicates
            assert not duplicate.same_content, other
            assert "with other content" in str(refusal.value)

    assert numbers(store, "a-1") == [1]


def test_a_retry_of_a_part_from_the_front_is_a_retry(store: EventStore) -> None:
    """All ids are there, in order, from the expected version on: nothing more is asked."""
    events = [happened(number) for number in range(3)]
    store.append("a-1", events, expected=NO_STREAM)

    again = store.append("a-1", events[:2], expected=NO_STREAM)

    assert again.idempotent
    assert (again.version, again.position) == (1, 2)


# Channels -------------------------------------------------------------------------------------


def test_a_channel_is_the_name_up_to_the_first_dash(store: EventStore) -> None:
    channels = {
        "delivery-1": "delivery",
        "delivery": "delivery",
        "delivery-1-2": "delivery",
        "lieferung zu spät-1": "lieferung zu spät",
        "delivery-": "delivery",
    }

    for stream, channel in channels.items():
        store.append(stream, happened(), expected=NO_STREAM)
        info = store.stream(stream)
        assert info is not None
        assert info.channel == channel
        assert next(store.read(stream)).channel == channel


def test_the_first_append_fixes_the_channel(store: EventStore) -> None:
    store.append("a-1", happened(0), expected=NO_STREAM, channel="ordering")

    store.append("a-1", happened(1), expected=0)
    store.append("a-1", happened(2), expected=1, channel="ordering")

    assert {event.channel for event in store.read("a-1")} == {"ordering"}


def test_another_channel_is_refused_whatever_is_expected(store: EventStore) -> None:
    store.append("a-1", happened(0), expected=NO_STREAM, channel="ordering")

    for expected in EVERY_EXPECTATION:
        with pytest.raises(ChannelMismatch) as refusal:
            store.append("a-1", happened(1), expected=expected, channel="delivery")
        error = refusal.value
        assert (error.stream, error.channel, error.actual) == ("a-1", "delivery", "ordering")

    assert numbers(store, "a-1") == [0]


def test_the_channel_of_a_store_is_that_of_its_streams(connect: Connect) -> None:
    store = connect(channel="billing")

    store.append("order-1", happened(0), expected=NO_STREAM)
    store.append("order-2", happened(0), expected=NO_STREAM, channel="else")

    assert next(store.read("order-1")).channel == "billing"
    assert next(store.read("order-2")).channel == "else"


def test_a_store_of_one_channel_refuses_the_streams_of_another(connect: Connect) -> None:
    connect(channel="ordering").append("x-1", happened(0), expected=NO_STREAM)

    with pytest.raises(ChannelMismatch, match="'ordering'"):
        connect(channel="delivery").append("x-1", happened(1), expected=0)


def test_a_retry_under_another_channel_is_refused(store: EventStore) -> None:
    event = happened()
    store.append("a-1", event, expected=NO_STREAM, channel="ordering")

    with pytest.raises(ChannelMismatch):
        store.append("a-1", event, expected=NO_STREAM, channel="delivery")


def test_an_event_at_the_size_limit_is_taken(connect: Connect) -> None:
    store = connect(max_event_bytes=1_000)

    store.append("a-1", NewEvent("Happened", "x" * 998), expected=NO_STREAM)

    assert next(store.read("a-1")).data == "x" * 998


def test_numbers_beyond_32_bits_are_versions_and_positions(
    store: EventStore, schema: str, connection: Any
) -> None:
    """Numbers of 32 bits run out; these have 64."""
    connection.execute(f"SELECT setval('{schema}.events_position', {2**53})")
    store.append("a-1", happened(0), expected=NO_STREAM)
    connection.execute(f"UPDATE {schema}.streams SET version = {2**40} WHERE name = 'a-1'")

    result = store.append("a-1", happened(1), expected=2**40)

    assert (result.version, result.position) == (2**40 + 1, 2**53 + 2)
    assert [e.version for e in store.read("a-1", from_version=2**40)] == [2**40 + 1]
    assert [e.position for e in store.read_all(after=2**53 + 1)] == [2**53 + 2]
    assert store.head() == 2**53 + 2


def test_many_appends_of_any_are_all_there(store: EventStore) -> None:
    """`ANY` reports no conflict and drops nothing."""
    results = [store.append("a-1", happened(number), expected=ANY) for number in range(20)]

    assert [result.version for result in results] == list(range(20))
    assert numbers(store, "a-1") == list(range(20))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": {"by": "ann"}},
        {"tags": ["b:2", "a:1"]},
        {"tags": []},
        {"valid_at": datetime(2020, 1, 2, tzinfo=UTC)},
        {"metadata": {"by": "ann"}, "tags": ["a:1"], "valid_at": datetime(2020, 1, 2, tzinfo=UTC)},
    ],
)
def test_one_event_is_stored_as_it_is_in_front_of_another(
    store: EventStore, connection: Any, schema: str, options: dict[str, Any]
) -> None:
    """The server writes one event without tags and valid time by another statement."""
    store.append("a-1", happened(7, **options), expected=NO_STREAM)
    store.append("a-2", [happened(7, **options), happened(8)], expected=NO_STREAM)

    alone, in_front = connection.execute(
        "SELECT version, type, data, metadata, tags, valid_at, erasure, recorded_at <= now(),"
        f" ARRAY(SELECT tag FROM {schema}.event_tags AS tags WHERE tags.position = events.position"
        " ORDER BY tag)"
        f" FROM {schema}.events WHERE version = 0 ORDER BY position"
    ).fetchall()
    assert alone == in_front


def test_the_row_of_a_stream_is_not_locked_apart_from_its_update(
    store: EventStore, connection: Any, schema: str
) -> None:
    """A `BEFORE UPDATE` trigger of each row locks the row first, with a WAL record."""
    rows = connection.execute(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass"
        " AND tgtype & 1 <> 0 AND tgtype & 2 <> 0 AND tgtype & 16 <> 0",
        [f"{schema}.streams"],
    ).fetchall()

    assert rows == []
