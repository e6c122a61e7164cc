"""Append to several streams: all or nothing, in the order of the list."""

from __future__ import annotations

from typing import Any

import pytest

from indelible import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.errors import ChannelMismatch, EncodingFailed
from indelible.events import ExpectedVersion
from tests.conftest import Connect

Expected = int | ExpectedVersion


def happened(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


def numbers(store: EventStore, stream: str) -> list[int]:
    return [event.data["number"] for event in store.read(stream)]


def handed_out(store: EventStore) -> int:
    return store.stats().last_position


def test_several_streams_are_appended_to_in_the_order_of_the_list(store: EventStore) -> None:
    store.append("b-1", happened(0), expected=NO_STREAM)

    results = store.append_many(
        [
            StreamAppend("c-1", [happened(1), happened(2)], NO_STREAM),
            StreamAppend("b-1", happened(3), 0),
            StreamAppend("a-1", (happened(4), happened(5)), ANY),
        ]
    )

    assert [(result.stream, result.version, result.position) for result in results] == [
        ("c-1", 1, 3),
        ("b-1", 1, 4),
        ("a-1", 1, 6),
    ]
    assert not any(result.idempotent for result in results)
    log = list(store.read_all(after=1))
    assert [event.data["number"] for event in log] == [1, 2, 3, 4, 5]
    assert [event.stream for event in log] == ["c-1", "c-1", "b-1", "a-1", "a-1"]
    assert [event.recorded_at for event in log if event.stream == "a-1"] == [
        results[2].recorded_at
    ] * 2


def test_an_empty_list_is_nothing_to_do(store: EventStore) -> None:
    assert store.append_many([]) == []
    assert store.append_many(iter(())) == []
    assert handed_out(store) == 0


def test_any_iterable_is_a_list(store: EventStore) -> None:
    results = store.append_many(StreamAppend(name, happened(), ANY) for name in ("a", "b"))

    assert [result.stream for result in results] == ["a", "b"]


def test_one_refused_stream_refuses_all(store: EventStore) -> None:
    store.append("b-1", happened(0), expected=NO_STREAM)

    with pytest.raises(WrongExpectedVersion) as refusal:
        store.append_many(
            [
                StreamAppend("a-1", happened(), NO_STREAM),
                StreamAppend("b-1", happened(), NO_STREAM),
                StreamAppend("c-1", happened(), ANY),
            ]
        )

    assert [conflict.stream for conflict in refusal.value.conflicts] == ["b-1"]
    assert [info.stream for info in store.streams()] == ["b-1"]
    assert numbers(store, "b-1") == [0]
    assert handed_out(store) == 1


def test_every_failed_check_is_reported(store: EventStore) -> None:
    last = happened(1)
    result = store.append("b-1", [happened(0), last], expected=NO_STREAM)

    with pytest.raises(WrongExpectedVersion) as refusal:
        store.append_many(
            [
                StreamAppend("d-1", happened(), STREAM_EXISTS),
                StreamAppend("b-1", happened(), 7),
                StreamAppend("c-1", happened(), ANY),
                StreamAppend("a-1", [], 3),
            ]
        )

    error = refusal.value
    assert [(c.stream, c.expected, c.actual) for c in error.conflicts] == [
        ("d-1", STREAM_EXISTS, -1),
        ("b-1", 7, 1),
        ("a-1", 3, -1),
    ]
    assert (error.stream, error.expected, error.actual) == ("d-1", STREAM_EXISTS, -1)
    assert error.conflicts[1].last_event_id == last.id
    assert error.conflicts[1].last_recorded_at == result.recorded_at
    assert error.conflicts[0].last_event_id is None
    for conflict in error.conflicts:
        assert str(conflict) in str(error)


def test_no_events_are_a_pure_check(store: EventStore) -> None:
    store.append("a-1", [happened(0), happened(1)], expected=NO_STREAM)
    hold: list[tuple[str, Expected]] = [
        ("a-1", 1),
        ("a-1", ANY),
        ("a-1", STREAM_EXISTS),
        ("b-1", NO_STREAM),
        ("b-1", ANY),
    ]

    for stream, expected in hold:
        (result,) = store.append_many([StreamAppend(stream, [], expected)])
        assert (result.stream, result.version) == (stream, 1 if stream == "a-1" else -1)
        assert (result.position, result.idempotent) == (0, False)

    assert store.stream("b-1") is None
    assert store.stats().streams == 1
    assert handed_out(store) == 2


def test_a_failed_pure_check_refuses_all(store: EventStore) -> None:
    store.append("a-1", [happened(0), happened(1)], expected=NO_STREAM)
    fail: list[tuple[str, Expected]] = [
        ("a-1", 0),
        ("a-1", 2),
        ("a-1", NO_STREAM),
        ("b-1", 0),
        ("b-1", STREAM_EXISTS),
    ]

    for stream, expected in fail:
        with pytest.raises(WrongExpectedVersion):
            store.append_many(
                [StreamAppend("c-1", happened(), ANY), StreamAppend(stream, [], expected)]
            )

    assert [info.stream for info in store.streams()] == ["a-1"]


def test_a_pure_check_may_look_at_a_stream_of_another_channel(connect: Connect) -> None:
    connect(channel="ordering").append("x-1", happened(), expected=NO_STREAM)
    store = connect(channel="delivery")

    results = store.append_many(
        [StreamAppend("x-1", [], 0), StreamAppend("y-1", happened(), NO_STREAM)]
    )

    assert [result.version for result in results] == [0, 0]


def test_a_pure_check_needs_no_channel(store: EventStore) -> None:
    (result,) = store.append_many([StreamAppend("-", [], NO_STREAM)])

    assert result.version == -1


def test_a_stream_may_stand_in_the_list_twice(store: EventStore) -> None:
    results = store.append_many(
        [
            StreamAppend("a-1", happened(0), NO_STREAM),
            StreamAppend("b-1", happened(1), NO_STREAM),
            StreamAppend("a-1", [happened(2), happened(3)], 0),
            StreamAppend("a-1", [], 2),
            StreamAppend("a-1", happened(4), STREAM_EXISTS),
        ]
    )

    assert [result.version for result in results] == [0, 0, 2, 2, 3]
    assert [event.data["number"] for event in store.read_all()] == [0, 1, 2, 3, 4]
    assert numbers(store, "a-1") == [0, 2, 3, 4]


def test_a_check_sees_what_stands_before_it_in_the_list(store: EventStore) -> None:
    with pytest.raises(WrongExpectedVersion) as refusal:
        store.append_many(
            [
                StreamAppend("a-1", happened(0), NO_STREAM),
                StreamAppend("a-1", happened(1), NO_STREAM),
            ]
        )

    (conflict,) = refusal.value.conflicts
    assert (conflict.stream, conflict.expected, conflict.actual) == ("a-1", NO_STREAM, 0)
    assert store.stream("a-1") is None


def test_a_conflict_with_the_list_itself_says_no_nonsense(store: EventStore) -> None:
    with pytest.raises(WrongExpectedVersion) as refusal:
        store.append_many(
            [StreamAppend("a-1", happened(0), NO_STREAM), StreamAppend("a-1", happened(1), 5)]
        )

    assert refusal.value.actual == 0
    assert "does not exist (version -1)" not in str(refusal.value)


def test_one_append_may_be_many(store: EventStore) -> None:
    (result,) = store.append_many([StreamAppend("a-1", happened(), NO_STREAM)])

    assert store.append("a-1", happened(), expected=result.version).version == 1


def test_channels_are_those_of_each_part(store: EventStore) -> None:
    store.append_many(
        [
            StreamAppend("a-1", happened(), ANY, channel="x"),
            StreamAppend("b-1", happened(), ANY),
        ]
    )

    assert [event.channel for event in store.read_all()] == ["x", "b"]


def test_another_channel_refuses_all(store: EventStore) -> None:
    store.append("b-1", happened(), expected=NO_STREAM, channel="ordering")

    with pytest.raises(ChannelMismatch) as refusal:
        store.append_many(
            [
                StreamAppend("a-1", happened(), NO_STREAM),
                StreamAppend("b-1", happened(), 0, channel="delivery"),
            ]
        )

    assert (refusal.value.stream, refusal.value.actual) == ("b-1", "ordering")
    assert store.stream("a-1") is None


def test_two_channels_for_a_new_stream_are_refused(store: EventStore) -> None:
    with pytest.raises(ChannelMismatch):
        store.append_many(
            [
                StreamAppend("a-1", happened(), ANY, channel="x"),
                StreamAppend("a-1", happened(), ANY, channel="y"),
            ]
        )

    assert store.stream("a-1") is None
    assert handed_out(store) == 0


def test_one_bad_event_refuses_all(store: EventStore) -> None:
    with pytest.raises(EncodingFailed):
        store.append_many(
            [
                StreamAppend("a-1", happened(), ANY),
                StreamAppend("b-1", NewEvent("Happened", object()), ANY),
            ]
        )

    assert list(store.streams()) == []


def test_an_id_twice_in_one_call_is_refused(store: EventStore) -> None:
    event = happened()

    with pytest.raises(InvalidInput, match=str(event.id)):
        store.append_many([StreamAppend("a-1", event, ANY), StreamAppend("b-1", event, ANY)])

    assert list(store.streams()) == []


def test_only_stream_appends_are_taken(store: EventStore) -> None:
    for wrong in ("a-1", ("a-1", [], ANY), None, {}):
        given: Any = wrong
        with pytest.raises(InvalidInput, match="StreamAppend"):
            store.append_many([given])


# Idempotent retries ---------------------------------------------------------------------------


def test_a_retry_over_several_streams_gives_the_first_results(store: EventStore) -> None:
    store.append("b-1", happened(0), expected=NO_STREAM)
    appends = [
        StreamAppend("c-1", [happened(1), happened(2)], NO_STREAM),
        StreamAppend("b-1", happened(3), 0),
        StreamAppend("a-1", happened(4), ANY),
        StreamAppend("b-1", happened(5), STREAM_EXISTS),
    ]
    first = store.append_many(appends)
    store.append("a-1", happened(6), expected=ANY)
    store.append("b-1", happened(7), expected=ANY)

    again = store.append_many(appends)

    assert all(result.idempotent for result in again)
    assert [(r.stream, r.version, r.position, r.recorded_at) for r in again] == [
        (r.stream, r.version, r.position, r.recorded_at) for r in first
    ]
    assert handed_out(store) == 8
    assert numbers(store, "b-1") == [0, 3, 5, 7]


def test_a_retry_with_a_pure_check_holds_although_the_stream_went_on(store: EventStore) -> None:
    """The check held when the append was made; that is what the retry asks for."""
    store.append("b-1", happened(0), expected=NO_STREAM)
    appends = [StreamAppend("a-1", happened(1), NO_STREAM), StreamAppend("b-1", [], 0)]
    store.append_many(appends)
    store.append("b-1", happened(2), expected=0)

    again = store.append_many(appends)

    assert again[0].idempotent
    assert len(again) == 2
    assert numbers(store, "a-1") == [1]


def test_append_and_append_many_know_each_others_events(store: EventStore) -> None:
    one, two = happened(1), happened(2)
    store.append("a-1", one, expected=NO_STREAM)
    store.append_many([StreamAppend("b-1", two, NO_STREAM)])

    assert store.append_many([StreamAppend("a-1", one, NO_STREAM)])[0].idempotent
    assert store.append("b-1", two, expected=NO_STREAM).idempotent


def test_a_part_that_is_new_makes_the_others_duplicates(store: EventStore) -> None:
    known = happened(0)
    store.append("a-1", known, expected=NO_STREAM)

    for expected in (NO_STREAM, ANY):
        with pytest.raises(DuplicateEvent) as refusal:
            store.append_many(
                [StreamAppend("a-1", known, expected), StreamAppend("b-1", happened(1), expected)]
            )
        assert [duplicate.id for duplicate in refusal.value.duplicates] == [known.id]

    assert store.stream("b-1") is None
    assert handed_out(store) == 1


def test_ids_in_exchanged_streams_are_duplicates(store: EventStore) -> None:
    one, two = happened(1), happened(2)
    store.append_many([StreamAppend("a-1", one, ANY), StreamAppend("b-1", two, ANY)])

    with pytest.raises(DuplicateEvent) as refusal:
        store.append_many([StreamAppend("a-1", two, ANY), StreamAppend("b-1", one, ANY)])

    assert len(refusal.value.duplicates) == 2


def test_parts_of_one_stream_in_another_order_are_duplicates(store: EventStore) -> None:
    """A retry has the same events in the same order: two parts of a stream, too."""
    one, two = happened(1), happened(2)
    store.append_many([StreamAppend("a-1", one, ANY), StreamAppend("a-1", two, ANY)])

    with pytest.raises(DuplicateEvent):
        store.append_many([StreamAppend("a-1", two, ANY), StreamAppend("a-1", one, ANY)])


def test_parts_of_one_stream_with_others_between_them_are_duplicates(store: EventStore) -> None:
    """A retry has its events at contiguous versions: over two parts of a stream, too."""
    one, two = happened(1), happened(2)
    store.append("a-1", [one, happened(7), two], expected=NO_STREAM)

    with pytest.raises(DuplicateEvent):
        store.append_many([StreamAppend("a-1", one, ANY), StreamAppend("a-1", two, ANY)])


def test_other_content_in_one_part_refuses_all(store: EventStore) -> None:
    one, two = happened(1), happened(2)
    store.append_many([StreamAppend("a-1", one, ANY), StreamAppend("b-1", two, ANY)])

    with pytest.raises(DuplicateEvent) as refusal:
        store.append_many(
            [StreamAppend("a-1", one, ANY), StreamAppend("b-1", happened(3, id=two.id), ANY)]
        )

    assert [d.same_content for d in refusal.value.duplicates] == [True, False]


def test_a_refused_call_burns_no_position_and_leaves_no_stream(store: EventStore) -> None:
    known = happened(0)
    store.append("a-1", known, expected=NO_STREAM)
    refused: list[tuple[type[Exception], list[StreamAppend]]] = [
        (WrongExpectedVersion, [StreamAppend("b", happened(), ANY), StreamAppend("c", [], 0)]),
        (DuplicateEvent, [StreamAppend("b", happened(), ANY), StreamAppend("c", known, ANY)]),
        (
            ChannelMismatch,
            [StreamAppend("b", happened(), ANY), StreamAppend("a-1", happened(), ANY, "z")],
        ),
    ]

    for error, appends in refused:
        with pytest.raises(error):
            store.append_many(appends)

    assert handed_out(store) == 1
    assert [info.stream for info in store.streams()] == ["a-1"]
    assert store.append("b", happened(), expected=NO_STREAM).position == 2


def test_two_thousand_streams_in_one_call_are_in_order(sync_store: EventStore) -> None:
    count = 2_000

    results = sync_store.append_many(
        StreamAppend(f"a-{number}", happened(number), NO_STREAM) for number in range(count)
    )

    assert [result.position for result in results] == list(range(1, count + 1))
    assert [event.data["number"] for event in sync_store.read_all()] == list(range(count))


def test_metadata_of_all_of_a_part_and_of_an_event(store: EventStore) -> None:
    store.append_many(
        [
            StreamAppend(
                "a-1", NewEvent("A", {}, metadata={"event": 1, "all": 3}), ANY, metadata={"part": 1}
            ),
            StreamAppend("b-1", NewEvent("B", {}), ANY, metadata={"all": 2}),
        ],
        metadata={"all": 1},
    )

    assert [event.metadata for event in store.read_all()] == [
        {"all": 3, "part": 1, "event": 1},
        {"all": 2},
    ]
    wrong: Any = ["part"]
    with pytest.raises(InvalidInput, match="metadata must be a mapping"):
        store.append_many([StreamAppend("c-1", NewEvent("C", {}), ANY)], metadata=wrong)
