"""What types of events there are, and whether the code of today can read them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from indelible import ANY, EventStore, InvalidInput, NewEvent, Upcaster
from tests.conftest import Connect

# What is tried here is in plans and faces; the statements are those of other reads.
pytestmark = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")


@dataclass(frozen=True)
class Ordered:
    price: float


def append(store: EventStore, event_type: str, *data: object) -> list[int]:
    return [
        store.append("order-1", NewEvent(event_type, one), expected=ANY).position for one in data
    ]


def test_every_type_is_counted_over_all_windows(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.event_types._WINDOW", 2)
    store = connect(
        events=[Ordered, Upcaster("Old", into="Ordered"), Upcaster("Gone", into=())],
    )
    plain = connect()
    ordered = append(plain, "Ordered", {"price": 1}, {"price": 2})
    append(plain, "Gone", {})
    old = append(plain, "Old", {"price": 3}, {"price": 4}, {"price": 5})
    times = {event.position: event.recorded_at for event in plain.read_all()}

    gone, older, current = store.types()

    assert (gone.type, gone.upcasters, gone.is_registered) == ("Gone", ("Gone -> nothing",), False)
    assert (older.type, older.events, older.is_registered) == ("Old", 3, False)
    assert (older.first_position, older.first_recorded_at) == (old[0], times[old[0]])
    assert (older.last_position, older.last_recorded_at) == (old[-1], times[old[-1]])
    assert (current.type, current.events, current.upcasters) == ("Ordered", 2, ())
    assert (current.first_position, current.is_registered) == (ordered[0], True)


def test_what_cannot_be_read_is_told_with_its_place_and_reason(connect: Connect) -> None:
    store = connect(events=[Ordered, Upcaster("Old", into="Ordered")])
    plain = connect()
    append(plain, "Ordered", *({"price": n} for n in range(8)))
    first, *_, last = append(plain, "Old", {}, *({"price": n} for n in range(5)), {})
    append(plain, "Lost", {})

    lost, old, ordered = store.check_types(samples=3)

    assert (ordered.events, ordered.failures) == (8, ())
    assert 3 <= ordered.checked <= 5
    assert [failure.position for failure in old.failures] == [first, last]
    assert old.failures[0].stream == "order-1"
    assert "price" in old.failures[0].reason
    assert "no registered class" in lost.failures[0].reason


def test_without_classes_there_is_nothing_to_check(connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="events="):
        connect().check_types()
