"""One event by its id, and the times of a stream's events."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from indelible import NO_STREAM, EventStore, InvalidInput, NewEvent
from indelible.streams.look_up import events_at, stream_times

_EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


def _filled(store: EventStore) -> list[NewEvent]:
    events = [NewEvent("Happened", {"n": n}, valid_at=_EARLIER if n else None) for n in range(5)]
    store.append("a-1", events, expected=NO_STREAM)
    return events


def test_an_event_is_found_by_its_id(store: EventStore) -> None:
    events = _filled(store)
    found = store.event(events[3].id)
    assert found is not None
    assert (found.stream, found.version, found.data) == ("a-1", 3, {"n": 3})
    assert found == list(store.read("a-1"))[3]


def test_there_is_no_event_with_another_id(store: EventStore) -> None:
    _filled(store)
    assert store.event(uuid4()) is None


def test_an_archived_event_is_found(store: EventStore) -> None:
    events = _filled(store)
    store.close_stream("a-1", expected=4)
    store.archive_stream("a-1")
    found = store.event(events[0].id)
    assert found is not None
    assert found.version == 0


def test_an_id_is_a_uuid(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="id must be a UUID"):
        store.event("a-1")


def test_the_times_of_a_stream_are_those_of_its_events(sync_store: EventStore) -> None:
    _filled(sync_store)
    run = sync_store._engine.run
    times = run(stream_times("a-1", from_version=1, to_version=3))
    assert times == [
        (event.version, event.position, event.recorded_at, event.valid_at, event.type)
        for event in list(sync_store.read("a-1"))[1:4]
    ]
    every_second = run(stream_times("a-1", from_version=0, to_version=4, step=2))
    assert [each.version for each in every_second] == [0, 2, 4]
    assert run(stream_times("b-1", from_version=0, to_version=4)) == []


def test_events_are_found_at_their_positions(sync_store: EventStore) -> None:
    _filled(sync_store)
    codec = sync_store._append_settings.codec
    found = sync_store._engine.run(events_at(codec, [4, 2, 999]))
    assert [event.position for event in found] == [2, 4]
