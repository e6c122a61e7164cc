"""Read a stream, and list streams."""

from __future__ import annotations

from typing import Any

import pytest

from indelible import (
    ANY,
    NO_STREAM,
    EventStore,
    InvalidInput,
    NewEvent,
    RecordedEvent,
    StreamAppend,
    StreamNotFound,
)
from indelible.admin import ChannelStats
from indelible.streams import StreamInfo
from tests.conftest import Connect

LONG = 6_500
"""More events than the first three pages hold."""
BIG = 1024 * 1024 - 64
"""Characters of data just below the size limit of an event."""


def happened(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


def versions(events: Any) -> list[int]:
    return [event.version for event in events]


@pytest.fixture
def ten(store: EventStore) -> EventStore:
    """A store with ten events in stream a-1, and others around them."""
    for number in range(10):
        store.append("a-1", happened(number), expected=number - 1)
        store.append("a-10", happened(100 + number), expected=ANY)
    return store


def test_a_stream_is_read_in_order_of_version(ten: EventStore) -> None:
    events = list(ten.read("a-1"))

    assert versions(events) == list(range(10))
    assert [event.data["number"] for event in events] == list(range(10))
    assert {event.stream for event in events} == {"a-1"}
    assert all(isinstance(event, RecordedEvent) for event in events)


PARTS: list[tuple[dict[str, Any], list[int]]] = [
    ({"from_version": 3}, [3, 4, 5, 6, 7, 8, 9]),
    ({"to_version": 3}, [0, 1, 2, 3]),
    ({"from_version": 3, "to_version": 5}, [3, 4, 5]),
    ({"from_version": 4, "to_version": 4}, [4]),
    ({"from_version": 5, "to_version": 4}, []),
    ({"from_version": 9}, [9]),
    ({"from_version": 10}, []),
    ({"from_version": 2**63 - 1}, []),
    ({"to_version": 2**63 - 1}, list(range(10))),
    ({"limit": 0}, []),
    ({"limit": 3}, [0, 1, 2]),
    ({"limit": 10}, list(range(10))),
    ({"limit": 11}, list(range(10))),
    ({"limit": 2**63 - 1}, list(range(10))),
    ({"from_version": 8, "limit": 1}, [8]),
    ({"backwards": True}, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ({"backwards": True, "limit": 1}, [9]),
    ({"backwards": True, "from_version": 7}, [9, 8, 7]),
    ({"backwards": True, "to_version": 2}, [2, 1, 0]),
    ({"backwards": True, "from_version": 1, "to_version": 8, "limit": 3}, [8, 7, 6]),
    ({"backwards": True, "from_version": 10}, []),
    ({"backwards": True, "to_version": 0}, [0]),
]


def test_a_part_of_a_stream(store: EventStore) -> None:
    store.append("a-1", [happened(number) for number in range(10)], expected=NO_STREAM)

    for options, expected in PARTS:
        assert versions(store.read("a-1", **options)) == expected, options


def test_the_last_event_is_one_read_away(ten: EventStore) -> None:
    last = next(ten.read("a-1", backwards=True, limit=1))

    assert last.version == 9


def test_a_stream_never_written_has_no_events(store: EventStore) -> None:
    assert list(store.read("a-1")) == []
    assert list(store.read("a-1", backwards=True)) == []


@pytest.mark.parametrize("backwards", [False, True])
def test_a_stream_that_must_exist(store: EventStore, *, backwards: bool) -> None:
    for options in ({}, {"limit": 0}, {"limit": 1}, {"from_version": 5}):
        with pytest.raises(StreamNotFound, match="'a-1'") as error:
            list(store.read("a-1", must_exist=True, backwards=backwards, **options))
        assert error.value.stream == "a-1"

    store.append("a-1", happened(), expected=NO_STREAM)

    assert len(list(store.read("a-1", must_exist=True, backwards=backwards))) == 1
    assert list(store.read("a-1", must_exist=True, backwards=backwards, limit=0)) == []
    assert list(store.read("a-1", must_exist=True, backwards=backwards, from_version=1)) == []


def test_a_stream_longer_than_any_page_is_read_whole(store: EventStore) -> None:
    """A stream longer than one page or batch must not be cut without a word."""
    store.append("a-1", [happened(number) for number in range(LONG)], expected=NO_STREAM)

    events = list(store.read("a-1"))

    assert versions(events) == list(range(LONG))
    assert all(event.data["number"] == event.version for event in events)
    assert list(store.read("a-1", backwards=True)) == events[::-1]


def test_a_stream_of_twelve_thousand_events(sync_store: EventStore) -> None:
    sync_store.append("a-1", [happened(number) for number in range(12_000)], expected=NO_STREAM)

    assert versions(sync_store.read("a-1")) == list(range(12_000))
    assert versions(sync_store.read("a-1", backwards=True)) == list(range(11_999, -1, -1))


def test_limits_and_bounds_at_the_borders_of_pages(sync_store: EventStore) -> None:
    sync_store.append("a-1", [happened() for _ in range(LONG)], expected=NO_STREAM)
    borders = {99, 100, 101, 1000, 1099, 1100, 1101, 6100, 6101, LONG}

    for limit in sorted(borders):
        assert versions(sync_store.read("a-1", limit=limit)) == list(range(limit))
        assert versions(sync_store.read("a-1", to_version=limit - 1)) == list(range(limit))
        assert versions(sync_store.read("a-1", backwards=True, limit=limit)) == list(
            range(LONG - 1, LONG - 1 - limit, -1)
        )
    assert versions(sync_store.read("a-1", from_version=LONG - 100)) == list(
        range(LONG - 100, LONG)
    )


@pytest.mark.parametrize("count", [100, 1_100])
def test_a_stream_as_long_as_its_pages_ends_there(store: EventStore, count: int) -> None:
    store.append("a-1", [happened() for _ in range(count)], expected=NO_STREAM)

    assert versions(store.read("a-1", must_exist=True)) == list(range(count))


def test_events_of_the_largest_size_are_paged(sync_store: EventStore) -> None:
    for number in range(12):
        sync_store.append("a-1", NewEvent("Big", f"{number:02}" + "x" * BIG), expected=number - 1)

    events = sync_store.read("a-1")
    assert [event.data[:2] for event in events] == [f"{number:02}" for number in range(12)]
    assert versions(sync_store.read("a-1", backwards=True)) == list(range(11, -1, -1))
    assert versions(sync_store.read_all(backwards=True)) == list(range(11, -1, -1))


def test_small_events_after_large_ones_are_all_read(sync_store: EventStore) -> None:
    """The size of a page follows what it held: from large events back to small ones."""
    large = NewEvent("Big", "x" * 500_000)
    sync_store.append("a-1", large, expected=NO_STREAM)
    sync_store.append("a-1", [happened() for _ in range(300)], expected=0)
    for number in range(4):
        sync_store.append("a-1", NewEvent("Big", "y" * 900_000), expected=300 + number)
    sync_store.append("a-1", [happened() for _ in range(300)], expected=304)

    assert versions(sync_store.read("a-1")) == list(range(605))
    assert versions(sync_store.read("a-1", backwards=True)) == list(range(604, -1, -1))


def test_events_appended_while_reading_come_too_or_not_but_nothing_is_missed(
    store: EventStore,
) -> None:
    store.append("a-1", [happened() for _ in range(150)], expected=NO_STREAM)
    events = store.read("a-1")
    first = next(events)

    store.append("a-1", [happened() for _ in range(10)], expected=149)

    assert versions([first, *events]) in (list(range(150)), list(range(160)))


def test_two_readings_at_once_do_not_disturb_each_other(store: EventStore) -> None:
    store.append("a-1", [happened(number) for number in range(250)], expected=NO_STREAM)
    store.append("b-1", [happened(number) for number in range(250)], expected=NO_STREAM)

    pairs = list(zip(store.read("a-1"), store.read("b-1", backwards=True), strict=True))

    assert [(a.version, b.version) for a, b in pairs] == [(n, 249 - n) for n in range(250)]


def test_a_reading_holds_no_connection_while_the_caller_handles_events(connect: Connect) -> None:
    store = connect(pool_size=1, timeout=5)
    store.append("a-1", [happened() for _ in range(300)], expected=NO_STREAM)

    for event in store.read("a-1"):
        if event.version % 60 == 0:
            store.append(f"b-{event.version}", happened(), expected=NO_STREAM)

    assert len(list(store.streams(prefix="b-"))) == 5


def test_a_reading_left_early_leaves_nothing_behind(connect: Connect) -> None:
    store = connect(pool_size=1, timeout=5)
    store.append("a-1", [happened() for _ in range(300)], expected=NO_STREAM)

    for _ in range(5):
        next(store.read("a-1"))

    assert len(list(store.read("a-1"))) == 300


def test_a_reading_is_an_iterator_that_ends_for_good(store: EventStore) -> None:
    store.append("a-1", happened(), expected=NO_STREAM)
    events = store.read("a-1")

    assert len(list(events)) == 1
    store.append("a-1", happened(), expected=0)
    assert list(events) == []


def test_an_event_cannot_be_changed(store: EventStore) -> None:
    store.append("a-1", happened(), expected=NO_STREAM)
    event = next(store.read("a-1"))

    with pytest.raises(AttributeError):
        event.version = 7  # type: ignore[misc]


WRONG: list[dict[str, Any]] = [
    {"from_version": -1},
    {"from_version": 1.0},
    {"from_version": "1"},
    {"from_version": None},
    {"from_version": True},
    {"from_version": 2**63},
    {"to_version": -1},
    {"to_version": 2.5},
    {"limit": -1},
    {"limit": 1.5},
    {"limit": "10"},
    {"limit": True},
]


def test_wrong_bounds_are_refused_at_once(store: EventStore) -> None:
    for options in WRONG:
        (name,) = options
        with pytest.raises(InvalidInput, match=name):
            store.read("a-1", **options)


# List streams ---------------------------------------------------------------------------------


def test_what_is_known_of_a_stream(ten: EventStore) -> None:
    events = list(ten.read("a-1"))

    assert ten.stream("a-1") == StreamInfo(
        stream="a-1",
        channel="a",
        version=9,
        position=events[-1].position,
        created_at=events[0].recorded_at,
        recorded_at=events[-1].recorded_at,
    )


def test_nothing_is_known_of_a_stream_never_written(store: EventStore) -> None:
    assert store.stream("a-1") is None


def test_streams_are_in_order_of_name(store: EventStore) -> None:
    for name in ("b-1", "a-2", "B-1", "a-10", "ä-1", "a-1"):
        store.append(name, happened(), expected=NO_STREAM)

    infos = list(store.streams())

    names = [info.stream for info in infos]
    assert names == sorted(names)
    assert len(names) == 6
    assert infos == [store.stream(name) for name in names]


def test_streams_by_channel_and_prefix(store: EventStore) -> None:
    for name in ("order-1", "order-2", "delivery-1", "orders-1"):
        store.append(name, happened(), expected=NO_STREAM)
    store.append("order-3", happened(), expected=NO_STREAM, channel="else")

    def names(**options: str) -> list[str]:
        return [info.stream for info in store.streams(**options)]

    assert names(channel="order") == ["order-1", "order-2"]
    assert names(prefix="order-") == ["order-1", "order-2", "order-3"]
    assert names(prefix="order") == ["order-1", "order-2", "order-3", "orders-1"]
    assert names(prefix="order-", channel="order") == ["order-1", "order-2"]
    assert names(prefix="order-1") == ["order-1"]
    assert names(channel="nobody") == []
    assert names(prefix="z") == []


def test_no_character_of_a_prefix_means_another(store: EventStore) -> None:
    prefixes = ["a%", "a_", "a\\", "%", "a'", "A", "ä", "a😀"]
    names = [*prefixes, *(prefix + "1" for prefix in prefixes), "abc", "axx", "a", "b%"]
    store.append_many([StreamAppend(name, happened(), NO_STREAM) for name in names])

    for prefix in prefixes:
        found = [info.stream for info in store.streams(prefix=prefix)]
        assert found == [prefix, prefix + "1"]


def test_more_streams_than_a_page_holds(store: EventStore) -> None:
    names = [f"a-{number:05}" for number in range(2_100)]
    store.append_many([StreamAppend(name, happened(), NO_STREAM) for name in reversed(names)])

    assert [info.stream for info in store.streams()] == names
    assert [info.stream for info in store.streams(prefix="a-02")] == names[2_000:]


def test_the_size_of_the_store(store: EventStore) -> None:
    empty = store.stats()
    assert (empty.streams, empty.events, empty.head, empty.last_position) == (0, 0, 0, 0)
    assert empty.channels == ()

    store.append("order-1", [happened(), happened()], expected=NO_STREAM)
    store.append("order-2", happened(), expected=NO_STREAM)
    store.append("delivery-1", happened(), expected=NO_STREAM)

    stats = store.stats()
    assert (stats.streams, stats.events, stats.head, stats.last_position) == (3, 4, 4, 4)
    assert stats.channels == (ChannelStats("delivery", 1, 1), ChannelStats("order", 2, 3))
    assert stats.bytes > 8192
