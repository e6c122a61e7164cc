"""The six behaviours that the integration test of the seed article checks, by their names."""

from __future__ import annotations

import pytest

from indelible import EventStore, NewEvent, WrongExpectedVersion


def _event(number: int) -> NewEvent:
    return NewEvent("DeliveryUpdated", {"number": number})


def _numbers(store: EventStore) -> list[int]:
    return [event.data["number"] for event in store.read("delivery-1")]


def test_store_first(store: EventStore) -> None:
    result = store.append("delivery-1", _event(0), expected=-1)

    assert (result.stream, result.version) == ("delivery-1", 0)
    assert _numbers(store) == [0]


def test_store_succeeding_version(store: EventStore) -> None:
    store.append("delivery-1", _event(0), expected=-1)

    result = store.append("delivery-1", _event(1), expected=0)

    assert result.version == 1
    assert _numbers(store) == [0, 1]


def test_refuse_the_latest_version_again(store: EventStore) -> None:
    store.append("delivery-1", [_event(0), _event(1)], expected=-1)

    with pytest.raises(WrongExpectedVersion):
        store.append("delivery-1", _event(7), expected=0)

    assert _numbers(store) == [0, 1]


def test_refuse_an_older_version(store: EventStore) -> None:
    store.append("delivery-1", [_event(0), _event(1), _event(2)], expected=-1)

    with pytest.raises(WrongExpectedVersion):
        store.append("delivery-1", _event(7), expected=-1)

    assert _numbers(store) == [0, 1, 2]


def test_refuse_a_skipped_version(store: EventStore) -> None:
    store.append("delivery-1", _event(0), expected=-1)

    with pytest.raises(WrongExpectedVersion):
        store.append("delivery-1", _event(7), expected=1)

    assert _numbers(store) == [0]


def test_load_in_version_order(store: EventStore) -> None:
    for number in range(5):
        store.append("delivery-1", _event(number), expected=number - 1)
        store.append("delivery-2", _event(number), expected=number - 1)

    events = list(store.read("delivery-1"))

    assert [event.version for event in events] == [0, 1, 2, 3, 4]
    assert _numbers(store) == [0, 1, 2, 3, 4]
