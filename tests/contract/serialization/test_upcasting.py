"""Every kind of reader returns stored events of earlier types and shapes as current ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg
import pytest

from indelible import (
    ANY,
    AppendCondition,
    AppendConditionFailed,
    Checkpoint,
    DecisionModel,
    EventStore,
    NewEvent,
    Query,
    Upcaster,
)
from indelible.errors import UpcastingFailed
from tests.conftest import Connect

LONG = 20.0

# This tests operations and client APIs; other tests cover the statements.
pytestmark = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")


def with_reason(data: dict) -> dict:
    return {"order": data["order"], "reason": data.get("reason", "unknown")}


def split(data: dict) -> list:
    return [("Canceled", {"order": data["order"], "reason": "closed"}), ("Refunded", data)]


@dataclass(frozen=True)
class Canceled:
    event_upcasters: ClassVar = (
        Upcaster("Stopped", into="Aborted"),
        Upcaster("Aborted", with_reason),
    )
    order: int
    reason: str


@dataclass(frozen=True)
class Refunded:
    order: int


@dataclass(frozen=True)
class Placed:
    order: int


EVENTS = [
    Placed,
    Canceled,
    Refunded,
    Upcaster("Closed", split, into=("Canceled", "Refunded")),
    Upcaster("Heartbeat", into=()),
]


def append(store: EventStore, stream: str, *types: str, **facts: Any) -> list[int]:
    """Append events of these types, each with a number of its own; return their positions."""
    found = []
    for number, event_type in enumerate(types):
        event = NewEvent(event_type, {"order": number}, **facts)
        found.append(store.append(stream, event, expected=ANY).position)
    return found


def before(moment: datetime, store: EventStore) -> Checkpoint:
    """A start from which events of a valid time come when due, even if that time has passed."""
    return Checkpoint(0, store.epoch(), due=(moment - timedelta(seconds=1), 0))


@pytest.fixture
def upcasting(connect: Connect) -> EventStore:
    """A store that has the upcasters; append what is old with `store`."""
    return connect(events=EVENTS)


def test_events_are_read_as_what_they_are_today_and_stay_as_they_are_stored(
    store: EventStore, upcasting: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    append(store, "order-1", "Placed", "Stopped", "Aborted", "Closed", "Heartbeat")
    written = f"SELECT type, data::text FROM {schema}.recorded_events ORDER BY position"
    before = connection.execute(written).fetchall()

    expected = [
        (0, Placed(0)),
        (1, Canceled(1, "unknown")),
        (2, Canceled(2, "unknown")),
        (3, Canceled(3, "closed")),
        (3, Refunded(3)),
    ]
    reading = upcasting.read("order-1")
    assert [(event.version, event.data) for event in reading] == expected
    assert reading.version == 4
    assert [(event.version, event.data) for event in upcasting.read_all()] == expected
    assert [event.data for event in upcasting.read("order-1", backwards=True)] == [
        data for _, data in reversed(expected)
    ]
    assert [event.data for event in upcasting.read_all(backwards=True, valid_at=NEVER)] == [
        data for _, data in reversed(expected)
    ]
    assert connection.execute(written).fetchall() == before

    # A decision on the whole stream may expect the version after its last event.
    assert upcasting.append("order-1", Placed(9), expected=reading.version).version == 5


NEVER = datetime(9000, 1, 1, tzinfo=UTC)


def test_a_limit_counts_what_is_left_and_keeps_together_what_was_one(
    store: EventStore, upcasting: EventStore
) -> None:
    append(store, "order-1", "Closed", *["Heartbeat"] * 120, "Closed", "Placed")
    bounded = upcasting.read("order-1", limit=2)
    assert [event.version for event in bounded] == [0, 0, 121, 121]
    assert bounded.version == 121
    for read in (
        lambda **options: upcasting.read("order-1", **options),
        upcasting.read_all,
        lambda **options: upcasting.read("order-1", valid_at=NEVER, **options),
        lambda **options: upcasting.read_all(valid_at=NEVER, **options),
    ):
        names = [type(event.data).__name__ for event in read(limit=2)]
        assert names == ["Canceled", "Refunded", "Canceled", "Refunded"]
        names = [type(event.data).__name__ for event in read(limit=2, backwards=True)]
        assert names == ["Placed", "Refunded", "Canceled"]


def test_a_query_of_a_type_finds_what_was_stored_under_its_old_names(
    store: EventStore, upcasting: EventStore
) -> None:
    append(store, "order-1", "Placed", "Stopped", "Closed", "Heartbeat", tags=["order:1"])
    for query in (
        Query(types="Canceled"),
        Query(types="Stopped"),
        Query(types="Canceled", tags="order:1"),
        Query(types="Canceled", channel="order") | Query(types="Aborted", stream_prefix="x"),
    ):
        expected = [Canceled(1, "unknown"), Canceled(2, "closed")]
        assert [event.data for event in upcasting.read_all(query)] == expected
        assert [event.data for event in upcasting.read_all(query, valid_at=NEVER)] == expected
        assert [event.data for event in upcasting.read_matching(query)] == expected
        with upcasting.subscribe(query) as subscription:
            assert [next(subscription).data for _ in expected] == expected


def test_a_subscription_to_what_is_due_knows_old_names(
    store: EventStore, upcasting: EventStore
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    start = before(soon, upcasting)
    append(store, "order-1", "Heartbeat", "Closed", "Stopped", valid_at=soon)
    query = Query(types="Canceled")
    with upcasting.subscribe(query, deliver_when_valid=True, after=start) as subscription:
        assert next(subscription).data == Canceled(1, "closed")
        assert next(subscription).data == Canceled(2, "unknown")


def test_conditions_and_decisions_see_old_names(store: EventStore, upcasting: EventStore) -> None:
    append(store, "order-1", "Closed", tags=["order:1"])
    query = Query(types="Refunded", tags="order:1")
    with pytest.raises(AppendConditionFailed) as refused:
        upcasting.append(None, Placed(1), condition=AppendCondition(query, after=0))
    assert Refunded(0) in [event.data for event in refused.value.events]

    def count(types: str) -> DecisionModel[int]:
        query = Query(types=types, tags="order:1")
        return DecisionModel(query, initial=0, evolve=lambda count, _: count + 1)

    with upcasting.decide(count("Refunded"), count("Aborted"), count("Heartbeat")) as decision:
        assert decision.states == (1, 1, 0)
        # The upcaster drops the event, but the decision has not seen it: it conflicts.
        append(store, "order-1", "Heartbeat", tags=["order:1"])
        decision.append(None, NewEvent("Placed", Placed(1), tags=["order:1"]))
        with pytest.raises(AppendConditionFailed):
            upcasting.append(None, Placed(2), condition=decision.condition)
        decision._appends.clear()  # type: ignore[attr-defined]


def test_what_was_seen_is_not_in_the_way_though_nothing_of_it_is_left(
    store: EventStore, upcasting: EventStore, url: str, schema: str, connect: Connect
) -> None:
    """An append in flight holds the head below: then each event above has to be known as seen."""
    with store.transaction() as slow:
        slow.append("other-1", NewEvent("Other", {}), expected=ANY)
        append(store, "order-1", "Heartbeat", tags=["order:1"])
        found = upcasting.read_matching(Query(types="Heartbeat", tags="order:1"))
        assert not list(found.events)
        condition = AppendCondition(Query(types="Heartbeat", tags="order:1"), after=found.marker)
        upcasting.append(None, Placed(1), condition=condition)


# Readers that follow the log -------------------------------------------------------------------


def test_a_checkpoint_moves_past_a_split_event_with_its_last_part_and_past_what_is_gone(
    store: EventStore, upcasting: EventStore
) -> None:
    first, last = append(store, "order-1", "Placed", "Closed")
    with upcasting.subscribe() as subscription:
        seen = []
        for _ in range(3):
            event = next(subscription)
            seen.append((type(event.data).__name__, subscription.position))
        assert seen == [("Placed", first), ("Canceled", last - 1), ("Refunded", last)]
        assert subscription.checkpoint == Checkpoint(last, upcasting.epoch())

    (gone,) = append(store, "order-1", "Heartbeat")
    with upcasting.subscribe(after=last) as subscription:
        for batch in subscription.batches():
            assert not batch.events
            if batch.position >= gone:
                break


def test_the_checkpoint_of_what_is_due_stands_before_a_split_event_until_its_last_part(
    store: EventStore, upcasting: EventStore
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    _, position = append(store, "order-1", "Placed", "Closed", valid_at=soon)
    start = before(soon, upcasting)
    with upcasting.subscribe(deliver_when_valid=True, after=start) as subscription:
        assert next(subscription).data == Placed(0)
        assert next(subscription).data == Canceled(1, "closed")
        between = Checkpoint.parse(str(subscription.checkpoint))
    assert between.due == (soon, position - 1)
    with upcasting.subscribe(deliver_when_valid=True, after=between) as subscription:
        assert next(subscription).data == Canceled(1, "closed")
        assert next(subscription).data == Refunded(1)


def test_a_group_handles_the_parts_of_an_event_in_order_and_finishes_it_with_the_last(
    store: EventStore, upcasting: EventStore
) -> None:
    positions = append(store, "order-1", "Heartbeat", "Closed", "Placed", "Heartbeat")
    group = upcasting.group("orders")
    group.create(retry_after=0)
    handled = []
    with group.consume() as consumer:
        for attempt, failing in [(1, "Refunded"), (2, None)]:
            for name in ("Canceled", "Refunded"):
                delivery = consumer.take(LONG)
                assert delivery is not None
                assert (delivery.position, delivery.attempt) == (positions[1], attempt)
                with delivery:
                    assert delivery.type == name
                    assert group.info().checkpoint < positions[1]
                    if name == failing:
                        raise ValueError(failing)
                    handled.append(name)
        placed = consumer.take(LONG)
        assert placed is not None
        with placed, placed.transaction():
            assert placed.data == Placed(2)
        assert group.wait_for(positions[-1], timeout=LONG) >= positions[-1]
    assert handled == ["Canceled", "Canceled", "Refunded"]


def test_a_part_that_committed_by_itself_does_not_finish_the_event(
    store: EventStore, upcasting: EventStore
) -> None:
    append(store, "order-1", "Closed")
    group = upcasting.group("orders")
    group.create()
    for _ in range(2):  # the second worker begins where the first one left off
        with group.consume() as consumer:
            delivery = consumer.take(LONG)
            assert delivery is not None
            with delivery, delivery.transaction():
                assert delivery.type == "Canceled"


def test_a_group_that_asks_for_a_type_gets_what_was_stored_under_old_names(
    store: EventStore, upcasting: EventStore
) -> None:
    *_, last = append(store, "order-1", "Stopped", "Closed", "Heartbeat", "Placed")
    group = upcasting.group("orders")
    group.create(Query(types="Canceled"))
    assert group.info().lag_events == 2
    with group.consume() as consumer:
        for expected in (Canceled(0, "unknown"), Canceled(1, "closed")):
            delivery = consumer.take(LONG)
            assert delivery is not None
            with delivery, delivery.transaction():
                assert delivery.data == expected
        assert group.wait_for(last, timeout=LONG) >= last


def test_an_upcaster_that_fails_is_an_error_to_readers_and_parks_the_event_of_a_group(
    store: EventStore, connect: Connect
) -> None:
    def broken(data: dict) -> dict:
        raise ValueError("no such order")

    (position,) = append(store, "order-1", "Stopped")
    upcasting = connect(events=[Canceled, Upcaster("Broken", broken, into="Canceled")])
    append(store, "order-2", "Broken")
    with pytest.raises(UpcastingFailed, match="no such order"):
        list(upcasting.read("order-2"))
    group = upcasting.group("orders")
    group.create()
    with group.consume() as consumer:
        delivery = consumer.take(LONG)
        assert delivery is not None
        with delivery:
            assert delivery.position == position
        assert group.wait_for(position + 1, timeout=LONG)
    (parked,) = group.parked()
    assert "no such order" in (parked.error or "")
