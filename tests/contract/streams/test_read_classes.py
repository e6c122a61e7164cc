"""Read events by class, so that a type checker knows the type of their data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import pytest

from indelible import (
    ANY,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamNotFound,
    Upcaster,
)
from indelible.errors import UnregisteredEventClass
from tests.conftest import Connect

_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True)
class Unknown:
    amount: int


@pytest.fixture
def store(connect: Connect) -> EventStore:
    """A store with events of three classes, one of them stored under an earlier name."""
    # Stored by another version of the application.
    earlier = connect()
    earlier.append(
        "account-1",
        [
            NewEvent("Opened", {"owner": "ann"}, valid_at=_MONDAY),
            NewEvent("PaidIn", {"amount": 1}, valid_at=_MONDAY + timedelta(days=2)),
            NewEvent("Withdrawn", {"amount": 1}, valid_at=_MONDAY + timedelta(days=1)),
            NewEvent("Deposited", {"amount": 2}, valid_at=_MONDAY),
            NewEvent("Withdrawn", {"amount": 2}, valid_at=_MONDAY),
        ],
        expected=ANY,
    )
    earlier.append("account-10", NewEvent("Deposited", {"amount": 9}), expected=ANY)
    return connect(events=[Opened, Deposited, Withdrawn, Upcaster("PaidIn", into="Deposited")])


def told(events: Any) -> list[tuple[int, object]]:
    return [(event.version, event.data) for event in events]


def test_a_stream_is_read_for_the_events_of_a_class(store: EventStore) -> None:
    events = store.read("account-1", Deposited)

    assert_type(next(events), RecordedEvent[Deposited])
    assert told(events) == [(3, Deposited(2))]


def test_a_stream_is_read_for_the_events_of_several_classes(store: EventStore) -> None:
    events = store.read("account-1", Deposited | Opened, backwards=True)

    assert told(events) == [(3, Deposited(2)), (1, Deposited(1)), (0, Opened("ann"))]


def test_a_limit_counts_the_events_of_the_class_alone(store: EventStore) -> None:
    assert told(store.read("account-1", Withdrawn, limit=1)) == [(2, Withdrawn(1))]
    assert told(store.read("account-1", Withdrawn, limit=1, backwards=True)) == [(4, Withdrawn(2))]
    assert told(store.read("account-1", Withdrawn, from_version=3)) == [(4, Withdrawn(2))]


def test_by_valid_time_too(store: EventStore) -> None:
    until_tuesday = _MONDAY + timedelta(days=1)

    assert told(store.read("account-1", Withdrawn, valid_at=until_tuesday)) == [
        (4, Withdrawn(2)),
        (2, Withdrawn(1)),
    ]
    assert told(store.read("account-1", Deposited, valid_at=until_tuesday)) == [(3, Deposited(2))]


def test_more_than_a_page_of_them_by_valid_time(connect: Connect) -> None:
    store = connect(events=[Deposited, Withdrawn])
    store.append(
        "account-2",
        [
            event
            for n in range(150)
            for event in (
                NewEvent("Deposited", Deposited(n), valid_at=_MONDAY - timedelta(minutes=n)),
                NewEvent("Withdrawn", Withdrawn(n), valid_at=_MONDAY - timedelta(minutes=n)),
            )
        ],
        expected=ANY,
    )

    read = store.read("account-2", Withdrawn, valid_at=_MONDAY)
    assert [event.data.amount for event in read] == list(reversed(range(150)))


def test_a_stream_without_any_of_them_exists_all_the_same(store: EventStore) -> None:
    assert told(store.read("account-10", Opened, must_exist=True)) == []
    with pytest.raises(StreamNotFound):
        told(store.read("account-11", Opened, must_exist=True))


def test_the_log_is_read_and_followed_for_the_events_of_a_class(store: EventStore) -> None:
    log = store.read_all(Deposited)
    assert_type(next(log).data.amount, int)
    assert [event.data for event in log] == [Deposited(2), Deposited(9)]
    assert [event.data for event in store.read_all(Opened | Deposited, limit=2)] == [
        Opened("ann"),
        Deposited(1),
    ]
    with store.subscribe(Withdrawn) as subscription:
        assert_type(next(subscription), RecordedEvent[Withdrawn])
        assert next(subscription).data == Withdrawn(2)


def test_what_is_no_class_of_the_store_is_refused(store: EventStore) -> None:
    wrong: Any = "Deposited"
    for read in (
        lambda kind: store.read("account-1", kind),
        store.read_all,
        store.subscribe,
    ):
        with pytest.raises(UnregisteredEventClass):
            next(read(Unknown))
        with pytest.raises(InvalidInput, match="an event class or a union of event classes"):
            next(read(wrong))
    with pytest.raises(InvalidInput):
        next(store.read("account-1", Query(types="Deposited")))  # type: ignore[call-overload]
